//! The programs under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::HarnessError;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The server.
    pub server: PathBuf,
    /// The command line client.
    pub kvctl: PathBuf,
    /// The load generator.
    pub kvbench: PathBuf,
}

impl Binaries {
    /// The programs in `RAFTKV_BIN_DIR`; without it, the product of this tree, built on first use.
    ///
    /// # Panics
    /// When there is nothing to test.
    #[must_use]
    pub fn get() -> &'static Binaries {
        static BINARIES: OnceLock<Binaries> = OnceLock::new();
        BINARIES.get_or_init(|| match find_or_build() {
            Ok(binaries) => binaries,
            Err(error) => panic!("{error}"),
        })
    }
}

fn find_or_build() -> Result<Binaries, HarnessError> {
    let directory = match std::env::var_os("RAFTKV_BIN_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => build()?,
    };
    let binary = |name: &str| {
        let path = directory.join(name);
        if path.is_file() {
            Ok(path)
        } else {
            Err(HarnessError::NoBinary { path })
        }
    };
    Ok(Binaries {
        server: binary("server")?,
        kvctl: binary("kvctl")?,
        kvbench: binary("kvbench")?,
    })
}

/// Builds the product's crates alone: with this crate among them, cargo would unify its feature `simulation` into them. In the
/// target directory of the tests, most of whose parts serve both; of the programs cargo puts there the one asked for last.
fn build() -> Result<PathBuf, HarnessError> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."));
    let target = target_directory(workspace);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // A build script that looks at what cargo tells the tests of their own crate (ring's does) would take it for a change, and
    // all that stands on its crate would be built again: now, and once more for whoever builds without it.
    let of_this_crate = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    });
    for name in of_this_crate {
        cargo.env_remove(name);
    }
    let status = cargo
        .args([
            "build",
            "--quiet",
            "-p",
            "raftkv-server",
            "-p",
            "raftkv-client",
            "--bins",
        ])
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()
        .map_err(HarnessError::system("starting cargo"))?;
    if status.success() {
        Ok(target.join("debug"))
    } else {
        Err(HarnessError::Build { status })
    }
}

/// The target directory that this test itself was built into: `TARGET/debug/deps/test-binary`.
fn target_directory(workspace: &Path) -> PathBuf {
    let own = std::env::current_exe().ok();
    own.as_deref()
        .and_then(|path| path.ancestors().nth(3))
        .map_or_else(|| workspace.join("target"), Path::to_path_buf)
}
