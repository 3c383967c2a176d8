//! Parallel work whose results are taken in order.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::mpsc::sync_channel;
use std::thread;

/// The number of items that may wait before each worker, and of results behind it.
const WAITING_MAX: usize = 2;

/// The cores that work may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cores {
    /// All.
    All,
    /// All but one, which other work uses. At least one.
    AllButOne,
}

impl Cores {
    fn count(self) -> usize {
        let all = thread::available_parallelism().map_or(1, NonZero::get);
        match self {
            Cores::All => all,
            Cores::AllButOne => all.saturating_sub(1).max(1),
        }
    }
}

/// Applies `work` to each of `items` on all cores and passes the results to `take` in the order of
/// the items, until it breaks off or there are no more. The items are made on a thread of their
/// own. A panic in any of these is passed on once all threads have ended.
pub(super) fn in_order<T: Send, R: Send>(
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> R + Sync,
    take: impl FnMut(R) -> ControlFlow<()>,
) {
    in_order_on(Cores::All, items, work, take);
}

/// Does the same on some cores.
pub(super) fn in_order_on<T: Send, R: Send>(
    cores: Cores,
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> R + Sync,
    mut take: impl FnMut(R) -> ControlFlow<()>,
) {
    let work = &work;
    thread::scope(|scope| {
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for _ in 0..cores.count() {
            let (input, waiting) = sync_channel::<T>(WAITING_MAX);
            let (done, output) = sync_channel::<R>(WAITING_MAX);
            scope
                .spawn(move || waiting.into_iter().try_for_each(|item| done.send(work(item)).ok()));
            inputs.push(input);
            outputs.push(output);
        }
        // Items are dealt in turn, and so are their results: the order needs no numbers.
        scope.spawn(move || {
            items.zip(inputs.iter().cycle()).try_for_each(|(item, input)| input.send(item).ok())
        });
        for output in outputs.iter().cycle() {
            let Ok(result) = output.recv() else { break };
            if take(result).is_break() {
                break;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_however_long_each_takes() {
        let mut results = Vec::new();
        let work = |item: u64| (0..item * 7919 % 5000).fold(item, |a, _| std::hint::black_box(a));
        in_order(0..500, work, |result| {
            results.push(result);
            ControlFlow::Continue(())
        });
        assert_eq!(results, (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn breaking_off_ends_the_work_soon() {
        let (made, mut taken) = (AtomicUsize::new(0), 0);
        let items = (0..u64::MAX).inspect(|_| {
            made.fetch_add(1, Ordering::SeqCst);
        });
        in_order(
            items,
            |item| item,
            |item| {
                taken += 1;
                if item == 9 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        );
        assert_eq!(taken, 10);
        let cores = thread::available_parallelism().unwrap().get();
        assert!(made.load(Ordering::SeqCst) <= 10 + cores * (2 * WAITING_MAX + 2) + 1);
    }
}
