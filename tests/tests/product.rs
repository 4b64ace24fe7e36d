//! The product holds no planted bug.
//!
//! A planted bug is switched on by its name, so a binary that can be made to misbehave contains the name. The same
//! search must find the names in a binary that does have them, or it would show nothing.

use std::path::Path;

use raftkv_tests::harness::Binaries;

fn mutants() -> Vec<&'static str> {
    let lists = [
        raftkv_raft::simulation::MUTANTS,
        raftkv_server::replica::MUTANTS,
        raftkv_server::log::simulation::MUTANTS,
        raftkv_server::recovery::MUTANTS,
    ];
    lists.into_iter().flatten().map(|(name, _)| *name).collect()
}

/// The binary as text, in which names that stand in it stand as they are.
fn text_of(binary: &Path) -> String {
    let bytes = std::fs::read(binary).expect("a binary that can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn product_holds_no_planted_bug_and_this_test_does() {
    let names = mutants();
    assert!(names.len() >= 20, "{} planted bugs", names.len());
    let own = text_of(&std::env::current_exe().expect("this test's own binary"));
    let product = text_of(&Binaries::get().server);
    for name in &names {
        assert!(own.contains(name), "{name} should be in this binary");
        assert!(
            !product.contains(name),
            "{name} is in {}",
            Binaries::get().server.display()
        );
    }
    println!(
        "{} planted bugs, none of them in {}",
        names.len(),
        Binaries::get().server.display()
    );
}
