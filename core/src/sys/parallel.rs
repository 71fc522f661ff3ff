//! Parallel reading.

use std::sync::OnceLock;
use std::thread;

/// The cost of an item, as the number of items that take as long as starting a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemCost {
    /// Reading one or two files.
    Quick = 64,
    /// Reading and evaluating a few files.
    Slow = 6,
}

/// Applies `work` to parts of a list, one part per processor; the results have the list's order.
pub fn parts<T: Sync, R: Send>(items: &[T], each: ItemCost, work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    if items.len() < each as usize {
        return vec![work(items)];
    }
    let work = &work;
    thread::scope(|scope| {
        let mut parts = items.chunks(items.len().div_ceil(processors()));
        // This thread processes the first part: waking another processor takes longer than an idle hook's few reads.
        let own = parts.next().unwrap_or_default();
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        let end = |thread: thread::ScopedJoinHandle<'_, R>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let own = work(own);
        std::iter::once(own).chain(threads.into_iter().map(end)).collect()
    })
}

/// The number of available processors. Cached, because the standard library reads several files for it.
fn processors() -> usize {
    static KNOWN: OnceLock<usize> = OnceLock::new();
    *KNOWN.get_or_init(|| thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_whatever_the_number() {
        for each in [ItemCost::Quick, ItemCost::Slow] {
            for length in [0, 1, each as usize - 1, each as usize, 1000] {
                let items: Vec<usize> = (0..length).collect();
                assert_eq!(parts(&items, each, <[usize]>::to_vec).concat(), items);
            }
        }
    }
}
