//! Micro-benchmarks and comparisons; see README.md of this folder.
