//! The random salts of records, drawn from the operating system for several records at once: a call
//! for each would take a third of the time of a record's hash.

use std::cell::RefCell;

use rustix::process::{Pid, getpid};
use zeroize::Zeroize;

/// A salt.
type Salt = [u8; 16];

/// The salts that are drawn at once: as many bytes as the system gives without a pause that a signal
/// could end.
const SALTS: usize = 16;

thread_local! {
    static DRAWN: RefCell<Block> = const { RefCell::new(Block::empty()) };
}

/// Draws a salt. No other call returns its bytes, on any thread.
///
/// # Errors
/// If the operating system gives no random bytes.
pub(super) fn draw() -> Result<Salt, getrandom::Error> {
    // A thread that ends has no block any more.
    DRAWN.try_with(|block| block.borrow_mut().take()).unwrap_or_else(|_| Block::empty().take())
}

/// Salts that are drawn and not used yet.
struct Block {
    salts: [Salt; SALTS],
    unused: usize,
    /// The process that drew them. A fork would use them again.
    drawn_by: Option<Pid>,
}

impl Block {
    const fn empty() -> Block {
        Block { salts: [[0; 16]; SALTS], unused: 0, drawn_by: None }
    }

    /// Takes a salt out of it, and wipes it here.
    fn take(&mut self) -> Result<Salt, getrandom::Error> {
        let process = Some(getpid());
        if self.unused == 0 || self.drawn_by != process {
            self.unused = 0;
            getrandom::fill(self.salts.as_flattened_mut())?;
            (self.unused, self.drawn_by) = (SALTS, process);
        }
        self.unused -= 1;
        let place = self.salts.get_mut(self.unused).ok_or(getrandom::Error::UNEXPECTED)?;
        let salt = *place;
        place.zeroize();
        Ok(salt)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.salts.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread;

    use super::*;

    #[test]
    fn no_salt_is_drawn_twice_on_any_thread() {
        let draw_some = || (0..100).map(|_| draw().unwrap()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| thread::spawn(draw_some)).collect();
        let salts: Vec<Salt> = threads.into_iter().flat_map(|one| one.join().unwrap()).collect();
        assert_eq!(salts.iter().collect::<BTreeSet<_>>().len(), 400);
        assert!(!salts.contains(&[0; 16]));
    }

    #[test]
    fn a_salt_is_wiped_once_it_is_taken() {
        let mut block = Block::empty();
        for taken in 1..=SALTS {
            let salt = block.take().unwrap();
            assert!(!block.salts.contains(&salt));
            assert_eq!(block.salts.iter().filter(|place| **place == [0; 16]).count(), taken);
        }
        block.take().unwrap();
        assert_eq!(block.unused, SALTS - 1);
    }

    #[test]
    fn what_another_process_drew_is_not_used() {
        let mut block = Block::empty();
        block.take().unwrap();
        let (drawn, unused) = (block.salts, block.unused);
        block.drawn_by = rustix::process::getppid();
        let salt = block.take().unwrap();
        assert!(!drawn.contains(&salt));
        assert_eq!((block.unused, block.drawn_by), (unused, Some(getpid())));
        assert!(block.salts.iter().all(|place| !drawn[..unused].contains(place)));
    }
}
