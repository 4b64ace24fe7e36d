//! Names of history's files.

use crate::store::{GenerationNumber, StoreNumber};

/// What a file of history holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    Events,
    Images,
}

impl Content {
    fn ending(self) -> &'static str {
        match self {
            Content::Events => "events",
            Content::Images => "images",
        }
    }
}

/// Which file of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId {
    pub(super) store: StoreNumber,
    pub(super) generation: GenerationNumber,
    pub(super) content: Content,
}

impl FileId {
    pub(super) fn name(self) -> String {
        let FileId {
            store,
            generation,
            content,
        } = self;
        format!("{:04}-{:016}.{}", store.0, generation.0, content.ending())
    }

    /// `None` for a file that is not history's: only what [`FileId::name`] writes is.
    pub(super) fn parse(name: &str) -> Option<FileId> {
        let (stem, ending) = name.split_once('.')?;
        let content = [Content::Events, Content::Images]
            .into_iter()
            .find(|content| content.ending() == ending)?;
        let (store, generation) = stem.split_once('-')?;
        let id = FileId {
            store: StoreNumber(store.parse().ok()?),
            generation: GenerationNumber(generation.parse().ok()?),
            content,
        };
        (id.name() == name).then_some(id)
    }
}

/// The store whose history this file belongs to; `None` for a file of something else. Whoever gives a store up removes
/// its files: history looks at its own store's only.
#[must_use]
pub fn store_of(name: &str) -> Option<StoreNumber> {
    FileId::parse(name).map(|id| id.store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_left_alone() {
        for content in [Content::Events, Content::Images] {
            let id = FileId {
                store: StoreNumber(3),
                generation: GenerationNumber(77),
                content,
            };
            assert_eq!(FileId::parse(&id.name()), Some(id));
        }
        assert_eq!(store_of("0001-0000000000000002.events"), Some(StoreNumber(1)));
        for name in [
            "0000000000000001.raftlog",
            "1-2.events",
            "0001-0000000000000002.event",
            "0001-+000000000000002.events",
            "0001-0000000000000002.events.old",
            "",
        ] {
            assert_eq!(store_of(name), None, "{name}");
        }
    }
}
