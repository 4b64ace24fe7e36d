//! What a node's data directory tells about the work of its storage.

use std::fs;
use std::path::Path;

/// Names and numbers of files, as far as tests use them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataFiles {
    /// Stores whose base is there, ascending. More than one: a snapshot has come or comes.
    pub stores: Vec<u64>,
    /// Generations whose history is there: store and number, ascending.
    pub generations: Vec<(u64, u64)>,
    /// Segments of the log, ascending.
    pub segments: Vec<u64>,
    /// Tables of the newest base: how many there are, and the highest number.
    pub tables: (usize, u64),
    /// Bytes of all files.
    pub bytes: u64,
}

impl DataFiles {
    /// What is there now. Files come and go while it looks.
    #[must_use]
    pub fn of(directory: &Path) -> DataFiles {
        let mut files = DataFiles::default();
        for (name, bytes) in names(directory) {
            files.bytes += bytes;
            if let Some(number) = name.strip_prefix("base-").and_then(|number| number.parse().ok()) {
                files.stores.push(number);
            }
            if let Some(number) = name
                .strip_suffix(".raftlog")
                .and_then(|number| number.parse().ok())
            {
                files.segments.push(number);
            }
            let generation = name.strip_suffix(".events").and_then(|name| name.split_once('-'));
            let numbers = generation.map(|(store, number)| (store.parse(), number.parse()));
            if let Some((Ok(store), Ok(number))) = numbers {
                files.generations.push((store, number));
            }
        }
        files.stores.sort_unstable();
        files.generations.sort_unstable();
        files.segments.sort_unstable();
        for store in &files.stores {
            let tables = names(&directory.join(format!("base-{store:04}")).join("tables"));
            files.bytes += tables.iter().map(|(_, bytes)| bytes).sum::<u64>();
            let newest = tables.iter().filter_map(|(name, _)| name.parse().ok()).max();
            files.tables = (tables.len(), newest.unwrap_or(0));
        }
        files
    }
}

fn names(directory: &Path) -> Vec<(String, u64)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let named = |entry: fs::DirEntry| {
        let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
        Some((entry.file_name().into_string().ok()?, bytes))
    };
    entries.filter_map(named).collect()
}
