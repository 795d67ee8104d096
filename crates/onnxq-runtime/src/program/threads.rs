//! Threads that a step is spread over.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// What a part of a step must take for a thread of its own: a good deal more than it takes to wake
/// one.
const WORTH_NANOSECONDS: u64 = 8_000;

/// How often a thread looks for something to do before it lets others go first.
const PATIENCE: u32 = 1_000;

/// A pool of threads, or none.
pub(super) struct Threads {
    pool: Option<rayon::ThreadPool>,
    count: usize,
}

impl Threads {
    /// As many threads.
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

    /// Runs `f`, which takes about so long, where its steps can be spread, if that is worth it. The other
    /// threads look for parts of steps all the while: to wake one takes as long as many a step.
    pub(super) fn enter<R: Send>(&self, nanoseconds: u64, f: impl FnOnce() -> R + Send) -> R {
        let Some(pool) = &self.pool else {
            return f();
        };
        if nanoseconds / WORTH_NANOSECONDS <= 16 {
            return f();
        }
        pool.install(|| {
            let run = Arc::new(AtomicBool::new(true));
            let (running, main) = (Running(run.clone()), rayon::current_thread_index());
            pool.spawn_broadcast(move |thread| {
                if Some(thread.index()) != main {
                    help(&run);
                }
            });
            let result = f();
            drop(running);
            result
        })
    }

    /// How many parts to cut a step in that takes about so long on one thread.
    pub(super) fn parts(&self, nanoseconds: u64) -> usize {
        let worth = (nanoseconds / WORTH_NANOSECONDS).max(1);
        self.count.min(usize::try_from(worth).unwrap_or(self.count))
    }

    /// Runs `f` with parts of `y`, each but the last a multiple of `unit` elements long, and with where
    /// they begin; at the same time if that is worth it for so many elements.
    pub(super) fn spread<T: Send>(
        &self,
        y: &mut [T],
        unit: usize,
        f: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let count = self.parts(elementwise(y.len()));
        if count <= 1 {
            return f(0, y);
        }
        let mut parts = Vec::new();
        let (mut rest, mut at) = (y, 0);
        for range in cut(rest.len(), count, unit.max(1)) {
            let (part, tail) = rest.split_at_mut(range.len());
            parts.push((at, part));
            (rest, at) = (tail, range.end);
        }
        self.run(parts, |(at, part)| f(at, part));
    }

    /// Runs the parts, at the same time in a pool that has been [entered](Threads::enter).
    pub(super) fn run<P: Send>(&self, parts: Vec<P>, f: impl Fn(P) + Sync) {
        if parts.len() <= 1 || rayon::current_thread_index().is_none() || self.pool.is_none() {
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

/// A run in progress, until it is dropped.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Does what there is to do as long as there is a run.
fn help(run: &AtomicBool) {
    let mut idle = 0u32;
    while run.load(Ordering::Acquire) {
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => idle = 0,
            // Whoever else wants the processor is to have it.
            _ if idle > PATIENCE => std::thread::yield_now(),
            _ => {
                idle += 1;
                std::hint::spin_loop();
            }
        }
    }
}

/// About how long a function of so many elements takes.
pub(super) fn elementwise(len: usize) -> u64 {
    len as u64 / 2
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
