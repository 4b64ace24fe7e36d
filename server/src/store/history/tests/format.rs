//! The bytes of format version 1 do not change.

use bytes::Bytes;
use raftkv_protocol::Revision;

use super::basics::{STORE, open};
use crate::disk::{DurableImage, SimulatedDisk};
use crate::store::history::{EventBuffer, KeyRange};
use crate::store::{GenerationNumber, Lineage, SlotRef, StoreError, Stored};

const EVENTS: &str = "0001-0000000000000001.events";
const IMAGES: &str = "0001-0000000000000001.images";
const GOLDEN_EVENTS: &[u8] = include_bytes!("version_1.events");
const GOLDEN_IMAGES: &[u8] = include_bytes!("version_1.images");

/// Each kind of event and image, two batches.
fn golden() -> DurableImage {
    let disk = SimulatedDisk::new(1);
    let history = open(&disk, 0).unwrap();
    let mut buffer = EventBuffer::default();
    let put = |revision, lineage, deadline_us| SlotRef::Live {
        value: b"value",
        mod_revision: Revision(revision),
        lineage,
        deadline_us,
        lease: None,
    };
    let over = Lineage::Over {
        first: Revision(2),
        writes: 1,
    };
    let known = Lineage::Known {
        create_revision: Revision(1),
        version: 7,
    };
    buffer.push(b"blind", put(2, over, None));
    buffer.push(b"known", put(3, known, Some(77)));
    history.push(buffer.take(GenerationNumber(1), 1000).unwrap());
    // One transaction.
    buffer.push(b"gone", SlotRef::Deleted(Revision(4)));
    buffer.push(b"known", put(4, known, None));
    history.push(buffer.take(GenerationNumber(1), 2000).unwrap());
    history.seal(GenerationNumber(1)).unwrap();
    let mut writer = history.image_writer(GenerationNumber(1), None).unwrap();
    let stored = Stored {
        value: Bytes::from_static(b"before"),
        mod_revision: Revision(1),
        lineage: known,
        deadline_us: Some(5),
        lease: None,
    };
    writer.push(b"blind", Revision(2), None).unwrap();
    writer.push(b"gone", Revision(4), Some(&stored)).unwrap();
    writer.push(b"known", Revision(3), None).unwrap();
    writer.finish().unwrap();
    disk.durable_image()
}

#[test]
fn version_1_is_written_as_ever() {
    let image = golden();
    for (name, golden) in [(EVENTS, GOLDEN_EVENTS), (IMAGES, GOLDEN_IMAGES)] {
        let written = &image.files[name];
        let differs = written.iter().zip(golden).position(|(now, then)| now != then);
        assert_eq!(differs, None, "first differing byte of {name}");
        assert_eq!(written.len(), golden.len(), "length of {name}");
    }
}

#[test]
fn version_1_is_read_for_ever() {
    let files = [
        (EVENTS.to_owned(), GOLDEN_EVENTS.to_vec()),
        (IMAGES.to_owned(), GOLDEN_IMAGES.to_vec()),
    ];
    let disk = SimulatedDisk::with_image(1, DurableImage { files: files.into() });
    let history = open(&disk, 1).unwrap();
    let view = history.view();
    let events = view.events(Revision(1), Revision(9), KeyRange::all()).unwrap();
    let keys: Vec<(u64, u64, Bytes)> = events
        .map(|event| {
            event
                .map(|event| (event.revision.0, event.log_time_us, event.key))
                .unwrap()
        })
        .collect();
    let expected = [
        (2, 1000, "blind"),
        (3, 1000, "known"),
        (4, 2000, "gone"),
        (4, 2000, "known"),
    ];
    assert_eq!(
        keys,
        expected.map(|(revision, time, key)| (revision, time, Bytes::from(key)))
    );
    let image = view
        .first_image_after(b"gone", Revision(3))
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!((image.value, image.deadline_us), (Bytes::from("before"), Some(5)));
    assert_eq!(view.first_image_after(b"blind", Revision(1)).unwrap(), Some(None));
    assert_eq!(view.first_image_after(b"blind", Revision(2)).unwrap(), None);
    let newest = view.newest_event(b"known", Revision(3)).unwrap().unwrap();
    assert_eq!(newest.live().unwrap().deadline_us, Some(77));
    assert_eq!(STORE.0, 1);
}

/// A later version is refused as such, not as damage; both frames.
#[test]
fn a_newer_format_is_refused() {
    for (frame, length) in [(0, 64), (GOLDEN_EVENTS.len() - 128, 128)] {
        let mut image = golden();
        let bytes = image.files.get_mut(EVENTS).unwrap();
        let frame = &mut bytes[frame..frame + length];
        frame[8] = 2;
        frame[12..16].fill(0);
        let checksum = crc32c::crc32c(frame);
        frame[12..16].copy_from_slice(&checksum.to_le_bytes());
        let refused = open(&SimulatedDisk::with_image(1, image), 1).err();
        assert!(
            matches!(
                refused,
                Some(StoreError::NewerFormat {
                    found: 2,
                    supported: 1,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
}

/// Every bit of both files is guarded by something.
#[test]
fn no_flipped_bit_goes_unseen() {
    let image = golden();
    for name in [EVENTS, IMAGES] {
        for offset in 0..image.files[name].len() {
            let mut image = image.clone();
            image.files.get_mut(name).unwrap()[offset] ^= 1 << (offset % 8);
            let seen = read_all(&SimulatedDisk::with_image(1, image));
            assert!(
                matches!(
                    seen,
                    Err(StoreError::Damaged { .. } | StoreError::NewerFormat { .. })
                ),
                "byte {offset} of {name}"
            );
        }
    }
}

fn read_all(disk: &SimulatedDisk) -> Result<(), StoreError> {
    let history = open(disk, 1)?;
    let view = history.view();
    let events = view.events(Revision(1), Revision(9), KeyRange::all()).unwrap();
    events.collect::<Result<Vec<_>, _>>()?;
    for key in [b"blind", &b"known"[..], b"gone"] {
        view.newest_event(key, Revision(4))?;
        view.first_image_after(key, Revision(1))?;
    }
    let range = KeyRange::all();
    for keys in view.image_keys_after(Revision(1), &range, crate::store::history::Direction::Ascending)? {
        keys.collect::<Result<Vec<_>, _>>()?;
    }
    Ok(())
}

#[test]
#[ignore = "writes the fixtures anew: for a new format version only"]
fn write_fixtures() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/history/tests");
    let image = golden();
    for (name, fixture) in [(EVENTS, "version_1.events"), (IMAGES, "version_1.images")] {
        std::fs::write(folder.join(fixture), &image.files[name]).unwrap();
    }
}
