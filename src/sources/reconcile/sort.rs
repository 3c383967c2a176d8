//! Lists that may be larger than the memory: written to files of a temporary folder, sorted, and
//! read again from the start to the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The bytes of entries that are sorted in memory.
const SORTED_BYTES_MAX: usize = 8 << 20;

/// The bytes that are read or written at once.
pub(super) const BUFFER_BYTES: usize = 64 << 10;

/// The overhead of an entry in memory, about.
const ENTRY_BYTES: usize = 64;

/// An entry of a list: a key and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) key: Vec<u8>,
    /// The place in which it was added: of several with one key the last counts.
    added: u64,
    pub(crate) value: Vec<u8>,
}

/// A list that is being written; its entries come in any order.
pub(crate) struct Unsorted<'f> {
    folder: &'f Path,
    entries: Vec<Entry>,
    bytes: usize,
    added: u64,
    runs: Vec<File>,
}

/// A list in order of key, each key once.
#[derive(Debug)]
pub(crate) struct Sorted {
    file: File,
    /// The number of its entries.
    pub(crate) count: u64,
}

impl<'f> Unsorted<'f> {
    pub(crate) fn new(folder: &'f Path) -> Unsorted<'f> {
        Unsorted { folder, entries: Vec::new(), bytes: 0, added: 0, runs: Vec::new() }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(crate) fn add(&mut self, key: Vec<u8>, value: Vec<u8>) -> io::Result<()> {
        self.bytes += key.len() + value.len() + ENTRY_BYTES;
        self.entries.push(Entry { key, added: self.added, value });
        self.added += 1;
        if self.bytes > SORTED_BYTES_MAX {
            let run = self.write_run()?;
            self.runs.push(run);
        }
        Ok(())
    }

    /// Writes the entries in memory to a file, in order.
    fn write_run(&mut self) -> io::Result<File> {
        self.entries.sort_unstable();
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, tempfile::tempfile_in(self.folder)?);
        for entry in self.entries.drain(..) {
            write_entry(&mut file, &entry)?;
        }
        self.bytes = 0;
        Ok(file.into_inner()?)
    }

    /// Sorts the list.
    ///
    /// # Errors
    /// If a file cannot be written or read.
    pub(crate) fn sort(mut self) -> io::Result<Sorted> {
        let last = self.write_run()?;
        self.runs.push(last);
        let mut runs = self.runs.into_iter().map(Entries::of).collect::<io::Result<Vec<_>>>()?;
        let mut heads = BinaryHeap::new();
        for (number, run) in runs.iter_mut().enumerate() {
            heads.extend(run.next().transpose()?.map(|entry| Reverse((entry, number))));
        }
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, tempfile::tempfile_in(self.folder)?);
        let (mut held, mut count): (Option<Entry>, u64) = (None, 0);
        while let Some(Reverse((entry, number))) = heads.pop() {
            if let Some(run) = runs.get_mut(number) {
                heads.extend(run.next().transpose()?.map(|entry| Reverse((entry, number))));
            }
            if let Some(before) = held.replace(entry)
                && held.as_ref().is_some_and(|entry| entry.key != before.key)
            {
                write_entry(&mut file, &before)?;
                count += 1;
            }
        }
        if let Some(last) = held {
            write_entry(&mut file, &last)?;
            count += 1;
        }
        Ok(Sorted { file: file.into_inner()?, count })
    }
}

impl Sorted {
    /// Reads the list from its start.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub(crate) fn entries(&self) -> io::Result<Entries> {
        Entries::of(self.file.try_clone()?)
    }
}

/// A list that is being written in its order.
#[derive(Debug)]
pub(crate) struct Spool {
    file: BufWriter<File>,
    count: u64,
}

impl Spool {
    pub(crate) fn new(folder: &Path) -> io::Result<Spool> {
        let file = tempfile::tempfile_in(folder)?;
        Ok(Spool { file: BufWriter::with_capacity(BUFFER_BYTES, file), count: 0 })
    }

    /// Adds an entry, whose key is after all before it.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.count += 1;
        write_entry(&mut self.file, &Entry { key: key.into(), added: 0, value: value.into() })
    }

    /// Ends the list.
    pub(crate) fn finish(self) -> io::Result<Sorted> {
        Ok(Sorted { file: self.file.into_inner()?, count: self.count })
    }
}

/// The entries of a file, in its order. Only one reader of a file may be used at a time.
pub(crate) struct Entries {
    file: BufReader<File>,
}

impl Entries {
    fn of(mut file: File) -> io::Result<Entries> {
        file.seek(SeekFrom::Start(0))?;
        Ok(Entries { file: BufReader::with_capacity(BUFFER_BYTES, file) })
    }
}

impl Iterator for Entries {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<io::Result<Entry>> {
        read_entry(&mut self.file).transpose()
    }
}

fn write_entry(file: &mut impl Write, Entry { key, added, value }: &Entry) -> io::Result<()> {
    file.write_all(&(key.len() as u32).to_le_bytes())?;
    file.write_all(&(value.len() as u32).to_le_bytes())?;
    file.write_all(&added.to_le_bytes())?;
    file.write_all(key)?;
    file.write_all(value)
}

/// Reads the next entry; `None` at the end of the file.
fn read_entry(file: &mut impl Read) -> io::Result<Option<Entry>> {
    let mut head = [0; 16];
    match file.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let [a, b, c, d, e, f, g, h, added @ ..] = head;
    let bytes = |length: [u8; 4]| vec![0; u32::from_le_bytes(length) as usize];
    let (mut key, mut value) = (bytes([a, b, c, d]), bytes([e, f, g, h]));
    file.read_exact(&mut key)?;
    file.read_exact(&mut value)?;
    Ok(Some(Entry { key, added: u64::from_le_bytes(added), value }))
}

/// A file that only grows, and what waits in memory to be written to it.
pub(super) struct Appended {
    file: File,
    in_file: u64,
    waiting: Vec<u8>,
}

impl Appended {
    /// Begins with nothing.
    ///
    /// # Errors
    /// If a file cannot be made.
    pub(super) fn new(folder: &Path) -> io::Result<Appended> {
        Ok(Appended { file: tempfile::tempfile_in(folder)?, in_file: 0, waiting: Vec::new() })
    }

    /// Returns the number of bytes that were added.
    pub(super) fn len(&self) -> u64 {
        self.in_file + self.waiting.len() as u64
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= BUFFER_BYTES {
            self.file.write_all_at(&self.waiting, self.in_file)?;
            self.in_file = self.len();
            self.waiting.clear();
        }
        Ok(())
    }

    /// Reads bytes that were added together.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn read_exact(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let Some(after) = at.checked_sub(self.in_file) else {
            return self.file.read_exact_at(bytes, at);
        };
        let first = usize::try_from(after).unwrap_or(usize::MAX);
        let waiting = self.waiting.get(first..).and_then(|rest| rest.get(..bytes.len()));
        bytes.copy_from_slice(waiting.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Texts that are written once and read at their places.
pub(crate) struct Texts {
    file: Appended,
}

/// The place of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextPlace {
    pub(crate) at: u64,
    pub(crate) bytes: u32,
}

impl Texts {
    /// Begins with none.
    ///
    /// # Errors
    /// If a file cannot be made.
    pub(crate) fn new(folder: &Path) -> io::Result<Texts> {
        Ok(Texts { file: Appended::new(folder)? })
    }

    /// Writes a text.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn add(&mut self, text: &str) -> io::Result<TextPlace> {
        let place = TextPlace { at: self.file.len(), bytes: text.len() as u32 };
        self.file.add(text.as_bytes())?;
        Ok(place)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn read(&self, TextPlace { at, bytes }: TextPlace) -> io::Result<String> {
        let mut text = vec![0; bytes as usize];
        self.file.read_exact(&mut text, at)?;
        String::from_utf8(text).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_list_comes_back_in_order_and_the_last_of_a_key_counts() {
        let folder = folder();
        let mut list = Unsorted::new(folder.path());
        for (key, value) in [("b", "1"), ("a", "2"), ("b", "3"), ("", "4"), ("ab", "")] {
            list.add(key.into(), value.into()).unwrap();
        }
        let sorted = list.sort().unwrap();
        assert_eq!(sorted.count, 4);
        for _ in 0..2 {
            let entries: Vec<(Vec<u8>, Vec<u8>)> = sorted
                .entries()
                .unwrap()
                .map(|entry| entry.map(|entry| (entry.key, entry.value)).unwrap())
                .collect();
            let expected = [("", "4"), ("a", "2"), ("ab", ""), ("b", "3")];
            assert_eq!(entries, expected.map(|(key, value)| (key.into(), value.into())));
        }
        let empty = Unsorted::new(folder.path()).sort().unwrap();
        assert!(empty.entries().unwrap().next().is_none());
    }

    #[test]
    fn a_list_that_is_larger_than_its_memory_is_sorted_all_the_same() {
        let folder = folder();
        let mut list = Unsorted::new(folder.path());
        let count: u64 = 60_000;
        // Each key comes twice, in an order that is far from theirs.
        for step in 0..2 * count {
            let number = step.wrapping_mul(7919) % count;
            let key = format!("{number:06}").into_bytes();
            list.add(key, [&step.to_le_bytes()[..], &[0; 100]].concat()).unwrap();
        }
        assert!(list.runs.len() > 1, "{}", list.runs.len());
        let sorted = list.sort().unwrap();
        for (at, entry) in sorted.entries().unwrap().enumerate() {
            let entry = entry.unwrap();
            assert_eq!(entry.key, format!("{at:06}").into_bytes());
            let step = u64::from_le_bytes(entry.value[..8].try_into().unwrap());
            assert!(step >= count, "the later of the two counts: {step}");
        }
        assert_eq!(sorted.entries().unwrap().count() as u64, count);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "files have no names");
    }

    #[test]
    fn texts_are_read_at_their_places() {
        let folder = folder();
        let mut texts = Texts::new(folder.path()).unwrap();
        let long = "x".repeat(BUFFER_BYTES + 1);
        let places: Vec<TextPlace> =
            ["", "a", &long, "zoë"].iter().map(|text| texts.add(text).unwrap()).collect();
        for (place, text) in places.iter().zip(["", "a", &long, "zoë"]).rev() {
            assert_eq!(texts.read(*place).unwrap(), text);
        }
        texts.add("more").unwrap();
        assert_eq!(texts.read(places[1]).unwrap(), "a");
    }
}
