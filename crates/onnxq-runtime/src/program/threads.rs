//! Threads that a step is spread over.

use std::ops::Range;

/// A pool of threads, or none.
pub(super) struct Threads {
    pool: Option<rayon::ThreadPool>,
    count: usize,
}

impl Threads {
    /// As many threads, the caller's among them.
    pub(super) fn new(count: usize) -> Result<Threads, rayon::ThreadPoolBuildError> {
        let pool = match count {
            0 | 1 => None,
            _ => Some(rayon::ThreadPoolBuilder::new().num_threads(count).build()?),
        };
        Ok(Threads {
            pool,
            count: count.max(1),
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Runs `f` where it can be spread.
    pub(super) fn enter<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }

    /// Runs the parts, at the same time where there are threads.
    pub(super) fn run<P: Send>(&self, parts: Vec<P>, f: impl Fn(P) + Sync) {
        if self.pool.is_none() || parts.len() <= 1 {
            parts.into_iter().for_each(f);
            return;
        }
        let f = &f;
        rayon::scope(|scope| {
            let mut parts = parts.into_iter();
            let first = parts.next();
            for part in parts {
                scope.spawn(move |_| f(part));
            }
            first.into_iter().for_each(f);
        });
    }
}

/// `0..len` in at most `parts` ranges of about one length, each but the last a multiple of `unit`.
pub(super) fn cut(len: usize, parts: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let units = len.div_ceil(unit);
    let parts = parts.min(units).max(1);
    (0..parts).map(move |i| {
        let at = |i: usize| (units * i / parts * unit).min(len);
        at(i)..at(i + 1)
    })
}
