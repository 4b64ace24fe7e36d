//! The operations that decide what a request costs, each by itself, for `benches/micro.rs` (time) and
//! `src/bin/instructions.rs` (instructions). Results and how to run both: README.md of this folder.
//!
//! | file | what |
//! |---|---|
//! | `frames.rs` | requests and appends to bytes and back |
//! | `consensus.rs` | a group of three in memory: from proposal to committed on all |
//! | `log.rs` | the log on a real disk |
//! | `store.rs` | the state machine |
//! | `node.rs` | one node as a whole, without disk and sockets |

mod commands;
pub mod consensus;
pub mod frames;
pub mod log;
pub mod node;
pub mod store;

/// One operation, to be called again and again. What it needs was made before.
pub type Operation = Box<dyn FnMut()>;

/// Makes an operation, with what it needs.
pub type Make = fn() -> Operation;

/// Entries in one batch: about what waits at a leader under 256 clients.
pub const BATCH: usize = 64;

/// Operations that only compute, by name. Disks have no instructions to count.
pub const COUNTED: [(&str, Make); 8] = [
    ("encode_put", frames::encode_put),
    ("decode_put", frames::decode_put),
    ("encode_append", frames::encode_append),
    ("decode_append", frames::decode_append),
    ("commit_batch", consensus::commit_batch),
    ("store_apply", store::apply),
    ("store_get", store::get),
    ("node_put", node::put),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_can_be_repeated() {
        for (name, make) in COUNTED {
            let mut operation = make();
            for _ in 0..3 {
                operation();
            }
            println!("{name} ran");
        }
    }
}
