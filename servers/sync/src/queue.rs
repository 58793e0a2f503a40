//! Work for a pool of threads: one queue, from which each thread takes a fair share of what waits.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A queue that some threads empty.
pub struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
    threads: usize,
}

struct State<T> {
    items: VecDeque<T>,
    stopped: bool,
}

impl<T> Queue<T> {
    /// Empty, for so many threads.
    pub fn new(threads: usize) -> Self {
        let state = Mutex::new(State { items: VecDeque::new(), stopped: false });
        Self { state, wake: Condvar::new(), threads: threads.max(1) }
    }

    /// Adds work; gives it back once the queue is stopped.
    pub fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.stopped {
            return Err(item);
        }
        state.items.push_back(item);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Waits for work and moves a thread's share of it to `into`, oldest first, at most `most`; `false` once the
    /// queue is stopped and empty.
    pub fn take(&self, into: &mut Vec<T>, most: usize) -> bool {
        let state = self.wake.wait_while(self.lock(), |state| state.items.is_empty() && !state.stopped);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let share = state.items.len().div_ceil(self.threads).min(most);
        into.extend(state.items.drain(..share));
        share > 0
    }

    /// How much waits.
    pub fn len(&self) -> usize {
        self.lock().items.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes no more work; the threads end when they have done what is there.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.wake.notify_all();
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> std::fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_takes_its_share_and_no_more_than_it_may() {
        let queue = Queue::new(2);
        (0..10).for_each(|number| queue.push(number).unwrap());
        let mut taken = Vec::new();
        assert!(queue.take(&mut taken, 4));
        assert_eq!(taken, [0, 1, 2, 3]);
        assert!(queue.take(&mut taken, 4));
        assert_eq!(taken, [0, 1, 2, 3, 4, 5, 6], "half of the six that waited");
    }

    #[test]
    fn a_stopped_queue_is_emptied_and_takes_nothing() {
        let queue = Queue::new(1);
        queue.push(1).unwrap();
        queue.stop();
        assert_eq!(queue.push(2), Err(2));
        let mut taken = Vec::new();
        assert!(queue.take(&mut taken, 8));
        assert!(!queue.take(&mut taken, 8));
        assert_eq!(taken, [1]);
    }

    #[test]
    fn everything_is_taken_once() {
        let queue = Queue::new(4);
        let sum: u64 = std::thread::scope(|scope| {
            let work = || {
                let (mut sum, mut taken) = (0, Vec::new());
                while queue.take(&mut taken, 8) {
                    sum += taken.drain(..).sum::<u64>();
                }
                sum
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            (1..=10_000).for_each(|number| queue.push(number).unwrap());
            queue.stop();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(sum, 50_005_000);
    }
}
