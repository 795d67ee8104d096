//! Work on samples, side by side.

use std::{
    num::NonZero,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
};

use super::{Data, DataError, Sample};

impl Data {
    /// Calls `f` for each of `samples` on `threads` threads (as many as there are cores if not
    /// given), each with a state of its own from `start`, and tells `done` of the results as they
    /// come in, on the calling thread.
    ///
    /// Samples are read one at a time and begun in the order of `samples`.
    ///
    /// # Errors
    /// That of the first sample, in this order, that failed; none is begun after it.
    pub fn for_each<S, T: Send, E: From<DataError> + Send>(
        &self,
        samples: impl ExactSizeIterator<Item = usize> + Send,
        threads: Option<usize>,
        start: impl Fn() -> S + Sync,
        f: impl Fn(&mut S, usize, Sample) -> Result<T, E> + Sync,
        done: &mut dyn FnMut(usize, T),
    ) -> Result<(), E> {
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = threads.unwrap_or_else(cores).clamp(1, samples.len().max(1));
        let queue = Mutex::new(Some(samples.enumerate()));
        let next = || {
            let mut queue = lock(&queue);
            let (order, sample) = queue.as_mut()?.next()?;
            Some((order, sample, self.sample(sample)))
        };
        let (results, finished) = mpsc::channel();
        let work = |results: mpsc::Sender<_>| {
            let mut state = start();
            while let Some((order, sample, inputs)) = next() {
                let result = inputs
                    .map_err(E::from)
                    .and_then(|inputs| f(&mut state, sample, inputs));
                if result.is_err() {
                    *lock(&queue) = None;
                }
                // Nobody listens where the caller has panicked.
                if results.send((order, sample, result)).is_err() {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let (work, results) = (&work, results.clone());
                scope.spawn(move || work(results));
            }
            drop(results);
            // Samples are begun in order, so the first that fails is among those that ran.
            let mut failed: Option<(usize, E)> = None;
            for (order, sample, result) in finished {
                match result {
                    Ok(value) => done(sample, value),
                    Err(e) if failed.as_ref().is_none_or(|&(first, _)| order < first) => {
                        failed = Some((order, e));
                    }
                    Err(_) => {}
                }
            }
            failed.map_or(Ok(()), |(_, e)| Err(e))
        })
    }

    /// The results of `f` for the samples in `range`, in order, computed on `threads` threads (as
    /// many as there are cores if not given).
    ///
    /// # Errors
    /// That of the first sample that failed.
    pub fn map<T: Send, E: From<DataError> + Send>(
        &self,
        range: Range<usize>,
        threads: Option<usize>,
        f: impl Fn(usize, Sample) -> Result<T, E> + Sync,
    ) -> Result<Vec<T>, E> {
        let mut results: Vec<Option<T>> = Vec::new();
        results.resize_with(range.len(), || None);
        let first = range.start;
        let run = |_: &mut (), sample, inputs| f(sample, inputs);
        self.for_each(range, threads, || (), run, &mut |sample, result| {
            results[sample - first] = Some(result);
        })?;
        Ok(results.into_iter().flatten().collect())
    }
}

/// No thread panics while it holds the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
