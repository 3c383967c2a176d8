//! A long list that grows without being copied: in chunks of about 32 KiB.

use crate::ground::memory;

/// About the bytes of a chunk. An allocator takes it out of what it has, so that a growing list
/// leaves no holes of its former sizes.
const CHUNK_BYTES: usize = 32 << 10;

/// Items by number, from 0.
pub(crate) struct Table<T> {
    /// All are full but the last.
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { chunks: Vec::new() }
    }
}

impl<T> Table<T> {
    /// The number of bits of a number that tell the place in a chunk.
    const BITS: u32 = (CHUNK_BYTES / size_of::<T>()).ilog2();
    const CHUNK: usize = 1 << Self::BITS;

    pub(crate) fn len(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::len);
        (self.chunks.len().saturating_sub(1) << Self::BITS) + last
    }

    pub(crate) fn push(&mut self, item: T) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < Self::CHUNK => last.push(item),
            // The first chunk of a short list takes only what it needs.
            None => self.chunks.push(vec![item]),
            Some(_) => {
                let mut chunk = Vec::with_capacity(Self::CHUNK);
                chunk.push(item);
                self.chunks.push(chunk);
            }
        }
    }

    pub(crate) fn get(&self, number: usize) -> Option<&T> {
        self.chunks.get(number >> Self::BITS)?.get(number & (Self::CHUNK - 1))
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.chunks.get_mut(number >> Self::BITS)?.get_mut(number & (Self::CHUNK - 1))
    }

    /// Iterates over all items in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// Returns about the bytes of memory that it takes, without what its items own.
    pub(crate) fn heap_bytes(&self) -> usize {
        memory::of_vec(&self.chunks) + self.chunks.iter().map(memory::of_vec).sum::<usize>()
    }
}

impl<T: Default> Table<T> {
    /// Returns an item after adding empty ones up to it.
    pub(crate) fn at_mut(&mut self, number: usize) -> Option<&mut T> {
        while self.len() <= number {
            self.push(T::default());
        }
        self.get_mut(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_at_their_numbers_across_chunks() {
        let mut table: Table<[u32; 3]> = Table::default();
        assert_eq!((table.len(), table.get(0)), (0, None));
        let count = 2 * Table::<[u32; 3]>::CHUNK + 1;
        for number in 0..count {
            assert_eq!(table.len(), number);
            table.push([number as u32; 3]);
        }
        if let Some(item) = table.get_mut(count - 1) {
            item[0] = 7;
        }
        assert_eq!(table.get(count - 1), Some(&[7, count as u32 - 1, count as u32 - 1]));
        assert_eq!(table.get(count), None);
        let middle = count / 2;
        assert_eq!(table.get(middle), Some(&[middle as u32; 3]));
        assert!(table.iter().take(count - 1).map(|item| item[0]).eq(0..count as u32 - 1));
        assert_eq!(table.iter().count(), count);
        assert_eq!(table.at_mut(count + 5).map(|item| *item), Some([0; 3]));
        assert_eq!(table.len(), count + 6);
    }
}
