//! Packing: how the views are written as bytes, and read from them again.
//!
//! The bytes of one state are always the same: sets and maps are written in order of their keys.
//! Nothing here is checked against damage, which is the caller's part; but bytes that are not a
//! packed value are refused or read as another one, without a panic and without more memory than
//! they are worth.

use core::hash::{BuildHasher, Hash};
use core::num::NonZeroU32;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use alloc::sync::Arc;
use hashbrown::HashMap;
use smallvec::{Array, SmallVec};

use crate::ground::table::Table;

/// The bytes that are given to the caller at once, about.
const PIECE_BYTES: usize = 1 << 20;

/// The items for which there is room at once, before the first of them is read.
const AHEAD_MAX: usize = 1024;

/// A value with a packed form.
pub(crate) trait Pack: Sized {
    /// Writes it.
    fn pack(&self, to: &mut Packer<'_>);

    /// Reads one; `None` if the bytes are not one, or end too soon.
    fn unpack(from: &mut Unpacker<'_>) -> Option<Self>;
}

/// Implements [`Pack`] for a struct as all its fields, one after the other. A field that is not
/// named here does not compile. A struct around one value is written `Name(value)`.
macro_rules! pack_fields {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl $crate::ground::pack::Pack for $type {
            fn pack(&self, to: &mut $crate::ground::pack::Packer<'_>) {
                let $type { $($field),* } = self;
                $( $crate::ground::pack::Pack::pack($field, to); )*
            }

            fn unpack(from: &mut $crate::ground::pack::Unpacker<'_>) -> Option<Self> {
                $( let $field = $crate::ground::pack::Pack::unpack(from)?; )*
                Some($type { $($field),* })
            }
        }
    };
    ($type:ident($value:ident)) => {
        impl $crate::ground::pack::Pack for $type {
            fn pack(&self, to: &mut $crate::ground::pack::Packer<'_>) {
                let $type($value) = self;
                $crate::ground::pack::Pack::pack($value, to);
            }

            fn unpack(from: &mut $crate::ground::pack::Unpacker<'_>) -> Option<Self> {
                $crate::ground::pack::Pack::unpack(from).map($type)
            }
        }
    };
}

/// Implements [`Pack`] for an enum as the number of the variant, and its value if it has one.
macro_rules! pack_variants {
    ($type:ident {
        $($variant:ident $(($value:ident))? $({ $field:ident })? = $code:literal),* $(,)?
    }) => {
        impl $crate::ground::pack::Pack for $type {
            fn pack(&self, to: &mut $crate::ground::pack::Packer<'_>) {
                match self { $(
                    $type::$variant $(($value))? $({ $field })? => {
                        <u8 as $crate::ground::pack::Pack>::pack(&$code, to);
                        $( $crate::ground::pack::Pack::pack($value, to); )?
                        $( $crate::ground::pack::Pack::pack($field, to); )?
                    }
                )* }
            }

            fn unpack(from: &mut $crate::ground::pack::Unpacker<'_>) -> Option<Self> {
                match <u8 as $crate::ground::pack::Pack>::unpack(from)? {
                    $( $code => {
                        $( let $value = $crate::ground::pack::Pack::unpack(from)?; )?
                        $( let $field = $crate::ground::pack::Pack::unpack(from)?; )?
                        Some($type::$variant $(($value))? $({ $field })?)
                    } )*
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use pack_fields;
pub(crate) use pack_variants;

/// Takes packed values, and gives their bytes on in pieces.
pub(crate) struct Packer<'a> {
    piece: Vec<u8>,
    write: &'a mut dyn FnMut(&[u8]),
}

impl<'a> Packer<'a> {
    pub(crate) fn new(write: &'a mut dyn FnMut(&[u8])) -> Packer<'a> {
        Packer { piece: Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4), write }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        (self.write)(&self.piece);
        self.piece.clear();
    }

    /// Writes the number of the items that follow.
    pub(crate) fn count(&mut self, count: usize) {
        (count as u32).pack(self);
    }

    /// Writes items after their number.
    pub(crate) fn all<'v, T: Pack + 'v>(
        &mut self,
        items: impl IntoIterator<Item = &'v T, IntoIter: ExactSizeIterator>,
    ) {
        let items = items.into_iter();
        self.count(items.len());
        items.for_each(|item| item.pack(self));
    }

    /// Writes a text.
    pub(crate) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.put(text.as_bytes());
    }

    /// Gives on what is left.
    pub(crate) fn finish(mut self) {
        if !self.piece.is_empty() {
            self.flush();
        }
    }
}

/// Reads packed values from bytes that come in pieces.
pub(crate) struct Unpacker<'a> {
    piece: Vec<u8>,
    at: usize,
    read: &'a mut dyn FnMut(&mut Vec<u8>) -> bool,
}

impl<'a> Unpacker<'a> {
    /// `read` adds the next bytes to those that it is given, and returns false if there are none.
    pub(crate) fn new(read: &'a mut dyn FnMut(&mut Vec<u8>) -> bool) -> Unpacker<'a> {
        Unpacker { piece: Vec::new(), at: 0, read }
    }

    /// Reads more until there are `count` bytes; `None` if there are fewer.
    #[cold]
    fn read_more(&mut self, count: usize) -> Option<()> {
        self.piece.drain(..self.at);
        self.at = 0;
        while self.piece.len() < count {
            if !(self.read)(&mut self.piece) {
                return None;
            }
        }
        Some(())
    }

    // Most values are a number of a few bytes, and a start reads hundreds of millions of bytes.
    #[inline]
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        if self.piece.len() - self.at < count {
            self.read_more(count)?;
        }
        let end = self.at + count;
        let taken = self.piece.get(self.at..end);
        self.at = end;
        taken
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// Reads the number of the items that follow.
    pub(crate) fn count(&mut self) -> Option<usize> {
        u32::unpack(self).map(|count| count as usize)
    }

    /// Reads items behind their number, and shows each.
    pub(crate) fn each<T: Pack>(&mut self, mut each: impl FnMut(T)) -> Option<()> {
        for _ in 0..self.count()? {
            each(T::unpack(self)?);
        }
        Some(())
    }

    /// Reads a text.
    pub(crate) fn text(&mut self) -> Option<&str> {
        let count = self.count()?;
        core::str::from_utf8(self.take(count)?).ok()
    }

    /// Tells if all bytes were read.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.take(1).is_none()
    }
}

macro_rules! pack_numbers {
    ($($type:ident),*) => { $(
        impl Pack for $type {
            #[inline]
            fn pack(&self, to: &mut Packer<'_>) {
                to.put(&self.to_le_bytes());
            }

            #[inline]
            fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
                from.array().map($type::from_le_bytes)
            }
        }
    )* };
}

pack_numbers!(u8, u16, u32, u64, u128, i16, i32, i64);

impl Pack for usize {
    fn pack(&self, to: &mut Packer<'_>) {
        (*self as u64).pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        u64::unpack(from)?.try_into().ok()
    }
}

impl Pack for bool {
    fn pack(&self, to: &mut Packer<'_>) {
        u8::from(*self).pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        match u8::unpack(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Pack for NonZeroU32 {
    fn pack(&self, to: &mut Packer<'_>) {
        self.get().pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        NonZeroU32::new(u32::unpack(from)?)
    }
}

impl<const N: usize> Pack for [u8; N] {
    fn pack(&self, to: &mut Packer<'_>) {
        to.put(self);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        from.array()
    }
}

impl<T: Pack> Pack for Option<T> {
    fn pack(&self, to: &mut Packer<'_>) {
        self.is_some().pack(to);
        if let Some(value) = self {
            value.pack(to);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        match bool::unpack(from)? {
            true => Some(Some(T::unpack(from)?)),
            false => Some(None),
        }
    }
}

impl<T: Pack> Pack for Box<T> {
    fn pack(&self, to: &mut Packer<'_>) {
        T::pack(self, to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        T::unpack(from).map(Box::new)
    }
}

impl<T: Pack> Pack for Arc<T> {
    fn pack(&self, to: &mut Packer<'_>) {
        T::pack(self, to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        T::unpack(from).map(Arc::new)
    }
}

impl<T: Pack> Pack for Vec<T> {
    fn pack(&self, to: &mut Packer<'_>) {
        to.all(self);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let count = from.count()?;
        let mut list = Vec::with_capacity(count.min(AHEAD_MAX));
        for read in 0..count {
            if read == list.capacity() {
                list.reserve_exact(read.min(count - read));
            }
            list.push(T::unpack(from)?);
        }
        Some(list)
    }
}

impl<T: Pack> Pack for Table<T> {
    fn pack(&self, to: &mut Packer<'_>) {
        to.count(self.len());
        self.iter().for_each(|item| item.pack(to));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let mut table = Table::default();
        from.each(|item| table.push(item))?;
        Some(table)
    }
}

impl<A: Array<Item: Pack>> Pack for SmallVec<A> {
    fn pack(&self, to: &mut Packer<'_>) {
        to.all(self);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let count = from.count()?;
        let mut list = SmallVec::new();
        list.reserve_exact(count.min(AHEAD_MAX));
        for _ in 0..count {
            list.push(A::Item::unpack(from)?);
        }
        Some(list)
    }
}

macro_rules! pack_texts {
    ($($type:ty),*) => { $(
        impl Pack for $type {
            fn pack(&self, to: &mut Packer<'_>) {
                to.text(self);
            }

            fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
                from.text().map(Into::into)
            }
        }
    )* };
}

pack_texts!(String, Box<str>, Arc<str>);

impl<T: Pack> Pack for Arc<[T]> {
    fn pack(&self, to: &mut Packer<'_>) {
        to.all(self.iter());
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Vec::unpack(from).map(Into::into)
    }
}

impl<A: Pack, B: Pack> Pack for (A, B) {
    fn pack(&self, to: &mut Packer<'_>) {
        self.0.pack(to);
        self.1.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Some((A::unpack(from)?, B::unpack(from)?))
    }
}

impl<A: Pack, B: Pack, C: Pack> Pack for (A, B, C) {
    fn pack(&self, to: &mut Packer<'_>) {
        self.0.pack(to);
        self.1.pack(to);
        self.2.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Some((A::unpack(from)?, B::unpack(from)?, C::unpack(from)?))
    }
}

impl<T: Pack + Ord> Pack for BTreeSet<T> {
    fn pack(&self, to: &mut Packer<'_>) {
        to.all(self);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Vec::unpack(from).map(BTreeSet::from_iter)
    }
}

impl<T: Pack + Ord + Hash, S: BuildHasher + Default> Pack for HashSet<T, S> {
    fn pack(&self, to: &mut Packer<'_>) {
        let mut items: Vec<&T> = self.iter().collect();
        items.sort_unstable();
        to.all(items);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let mut set = HashSet::default();
        from.each(|item| {
            set.insert(item);
        })?;
        Some(set)
    }
}

/// Implements [`Pack`] for a kind of map, as its pairs in order of their keys.
macro_rules! pack_map {
    ($map:path) => {
        impl<K: Pack + Ord + Hash, V: Pack, S: BuildHasher + Default> Pack for $map {
            fn pack(&self, to: &mut Packer<'_>) {
                let mut pairs: Vec<(&K, &V)> = self.iter().collect();
                pairs.sort_unstable_by_key(|(key, _)| *key);
                to.count(pairs.len());
                for (key, value) in pairs {
                    key.pack(to);
                    value.pack(to);
                }
            }

            fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
                let mut map = Self::default();
                from.each(|(key, value)| drop(map.insert(key, value)))?;
                Some(map)
            }
        }
    };
}

pack_map!(HashMap<K, V, S>);
pack_map!(std::collections::HashMap<K, V, S>);

impl<K: Pack + Ord, V: Pack> Pack for BTreeMap<K, V> {
    fn pack(&self, to: &mut Packer<'_>) {
        to.count(self.len());
        for (key, value) in self {
            key.pack(to);
            value.pack(to);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Vec::<(K, V)>::unpack(from).map(BTreeMap::from_iter)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Packs a value.
    pub(crate) fn packed(value: &impl Pack) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut write = |piece: &[u8]| bytes.extend_from_slice(piece);
        let mut packer = Packer::new(&mut write);
        value.pack(&mut packer);
        packer.finish();
        bytes
    }

    /// Unpacks a value from bytes that come a few at a time.
    pub(crate) fn unpacked<T: Pack>(bytes: &[u8]) -> Option<T> {
        let mut pieces = bytes.chunks(3);
        let mut read =
            |piece: &mut Vec<u8>| pieces.next().map(|next| piece.extend_from_slice(next)).is_some();
        let mut unpacker = Unpacker::new(&mut read);
        let value = T::unpack(&mut unpacker)?;
        unpacker.is_at_end().then_some(value)
    }

    #[test]
    fn values_come_back_from_bytes_in_small_pieces() {
        let list: Vec<(u32, Option<i64>, String)> =
            (0..3000).map(|n| (n, (n % 3 > 0).then_some(-i64::from(n)), format!("é{n}"))).collect();
        assert_eq!(unpacked(&packed(&list)), Some(list));
        let set: BTreeSet<(u32, u32)> = (0..100).map(|n| (n * 37 % 100, n)).collect();
        assert_eq!(unpacked(&packed(&set)), Some(set));
        let small: SmallVec<[u16; 2]> = (0..9).collect();
        assert_eq!(unpacked(&packed(&small)), Some(small));
    }

    #[test]
    fn a_map_has_the_same_bytes_however_it_was_filled() {
        let filled = |numbers: &mut dyn Iterator<Item = u32>| {
            let map: HashMap<u32, u8, rustc_hash::FxBuildHasher> =
                numbers.map(|n| (n, n as u8)).collect();
            packed(&map)
        };
        assert_eq!(filled(&mut (0..500)), filled(&mut (0..500).rev()));
    }

    #[test]
    fn bytes_that_end_too_soon_or_claim_too_much_are_refused() {
        let bytes = packed(&vec![1_u64, 2, 3]);
        for end in 0..bytes.len() {
            assert_eq!(unpacked::<Vec<u64>>(&bytes[..end]), None, "{end}");
        }
        let mut claims = packed(&vec![1_u64]);
        claims[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(unpacked::<Vec<u64>>(&claims), None);
        assert_eq!(unpacked::<String>(&claims), None);
        assert_eq!(unpacked::<bool>(&[2]), None);
        assert_eq!(unpacked::<String>(&[1, 0, 0, 0, 0xff]), None);
        assert_eq!(unpacked::<u8>(&[1, 1]), None);
    }
}
