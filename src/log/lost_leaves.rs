//! The leaves of lost records, in files next to the segments of an archive. docs/format.md specifies
//! them.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use rollcall_projections::Seq;
use serde::{Deserialize, Serialize};

use super::archive::FileDamage;
use super::merkle::Hash;
use super::place::{ArchivePlace, ListedFile, PlaceError};

/// The most leaves of a file: it stays smaller than the largest file that is read.
const LEAVES_MAX: usize = 1_000_000;

/// The leaves of lost records, by their seqs.
pub(crate) type LostLeaves = BTreeMap<Seq, Hash>;

/// A line of a file.
#[derive(Serialize, Deserialize)]
struct Line {
    seq: Seq,
    leaf: String,
}

/// Returns the leaves of lost records from those of all records.
pub(super) fn among(lost: &[(Seq, Seq)], leaves: &[Hash]) -> LostLeaves {
    let seqs = lost.iter().flat_map(|(first, last)| *first..=*last);
    let leaf = |seq: Seq| Some((seq, *leaves.get(usize::try_from(seq.checked_sub(1)?).ok()?)?));
    seqs.filter_map(leaf).collect()
}

/// Encodes leaves as files whose names are not among `taken`.
///
/// # Errors
/// None that is known.
pub(crate) fn encode(leaves: &LostLeaves, taken: &[String]) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = (1_u32..).map(name).filter(|name| !taken.contains(name));
    let leaves: Vec<_> = leaves.iter().collect();
    let files = leaves.chunks(LEAVES_MAX).map(|leaves| {
        let mut lines = Vec::new();
        for (seq, leaf) in leaves {
            serde_json::to_writer(&mut lines, &Line { seq: **seq, leaf: hex::encode(leaf) })?;
            lines.push(b'\n');
        }
        Ok((names.next().unwrap_or_default(), lines))
    });
    files.collect()
}

/// Writes leaves into new files of `place`; none without a leaf.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn write(place: &ArchivePlace, leaves: &LostLeaves) -> Result<(), PlaceError> {
    if leaves.is_empty() {
        return Ok(());
    }
    let failed = |error: io::Error| PlaceError { at: place.to_string(), what: error.to_string() };
    for (name, lines) in encode(leaves, &place.files()?).map_err(failed)? {
        place.create(&name, &lines)?;
    }
    Ok(())
}

/// Reads the leaves in all files of `place`.
///
/// # Errors
/// If it cannot be listed; the damage to a file.
pub(super) fn read(place: &ArchivePlace) -> Result<LostLeaves, FileDamage> {
    read_among(place, &place.list()?)
}

/// Reads the leaves in all of these files of `place` that hold some.
///
/// # Errors
/// The damage to a file.
pub(crate) fn read_among(
    place: &ArchivePlace,
    files: &[ListedFile],
) -> Result<LostLeaves, FileDamage> {
    let mut leaves = LostLeaves::new();
    for (name, _) in files.iter().filter(|(name, _)| is_of_leaves(name)) {
        let damaged = |what| FileDamage { at: place.located(name), what };
        let bytes = place.read(name).map_err(|error| damaged(error.what))?.unwrap_or_default();
        for line in bytes.lines() {
            let line = line.map_err(|error| damaged(error.to_string()))?;
            let Line { seq, leaf } =
                serde_json::from_str(&line).map_err(|error| damaged(error.to_string()))?;
            let leaf = hex::decode(leaf).ok().and_then(|bytes| bytes.try_into().ok());
            let leaf =
                leaf.ok_or_else(|| damaged(format!("the leaf of record {seq} is not one")))?;
            if leaves.insert(seq, leaf).is_some_and(|other| other != leaf) {
                return Err(damaged(format!("record {seq} has another leaf in another file")));
            }
        }
    }
    Ok(leaves)
}

/// Returns whether a file of this name holds leaves of lost records.
pub(crate) fn is_of_leaves(file: &str) -> bool {
    let number = file.strip_prefix("lost-leaves").and_then(|rest| rest.strip_suffix(".ndjson"));
    let number = number.and_then(|number| match number {
        "" => Some(1),
        number => number.strip_prefix('-')?.parse().ok(),
    });
    number.is_some_and(|number| name(number) == file)
}

fn name(number: u32) -> String {
    match number {
        1 => "lost-leaves.ndjson".to_owned(),
        number => format!("lost-leaves-{number}.ndjson"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_added_in_files_of_their_own_and_read_from_all_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let place = ArchivePlace::Folder(folder.path().to_owned());
        assert_eq!(read(&place), Ok(LostLeaves::new()));
        let all = LostLeaves::from([(2, [2; 32]), (9, [9; 32]), (5, [5; 32])]);
        for seqs in [[2, 9], [5, 5]] {
            let some = seqs.into_iter().map(|seq| (seq, all[&seq])).collect();
            for (name, bytes) in encode(&some, &place.files().unwrap()).unwrap() {
                assert!(place.create(&name, &bytes).unwrap(), "{name}");
            }
        }
        let mut files = place.files().unwrap();
        files.sort();
        assert_eq!(files, ["lost-leaves-2.ndjson", "lost-leaves.ndjson"]);
        assert_eq!(read(&place), Ok(all));
        // Two files that contradict each other are of no use.
        place
            .create("lost-leaves-3.ndjson", &encode(&[(5, [6; 32])].into(), &[]).unwrap()[0].1)
            .unwrap();
        let damage = read(&place).unwrap_err();
        assert!(damage.what.contains("record 5 has another leaf"), "{damage:?}");
    }

    #[test]
    fn only_the_names_of_these_files_are_taken_for_them() {
        for name in ["lost-leaves.ndjson", "lost-leaves-2.ndjson", "lost-leaves-17.ndjson"] {
            assert!(is_of_leaves(name), "{name}");
        }
        for name in [
            "lost-leaves-1.ndjson",
            "lost-leaves-02.ndjson",
            "lost-leaves-.ndjson",
            "lost-leaves.json",
            "00000000000000000001-00000000000000000009.ndjson.zst",
        ] {
            assert!(!is_of_leaves(name), "{name}");
        }
    }

    #[test]
    fn the_leaves_of_lost_records_are_picked_from_all() {
        let leaves = [[1; 32], [2; 32], [3; 32], [4; 32]];
        let found = among(&[(1, 1), (3, 5)], &leaves);
        assert_eq!(found, LostLeaves::from([(1, [1; 32]), (3, [3; 32]), (4, [4; 32])]));
    }
}
