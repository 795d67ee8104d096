//! Time that kernels take, for the examples that measure them.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

/// Seconds that so many calls of each part take, one thread for each: processor time where there is one.
pub(crate) fn rounds<P: FnMut() + Send>(parts: &mut [P], calls: usize) -> f64 {
    if let [part] = parts {
        let start = thread_seconds();
        (0..calls).for_each(|_| part());
        return thread_seconds() - start;
    }
    let (threads, arrived) = (parts.len(), AtomicUsize::new(0));
    let wait = &|turn: usize| {
        arrived.fetch_add(1, Ordering::AcqRel);
        let mut spins = 0;
        while arrived.load(Ordering::Acquire) < turn * threads {
            spins += 1;
            match spins % 1000 {
                // Another thread may be waiting for this processor.
                0 => thread::yield_now(),
                _ => std::hint::spin_loop(),
            }
        }
    };
    thread::scope(|scope| {
        let mut handles = Vec::new();
        for part in parts {
            handles.push(scope.spawn(move || {
                wait(1);
                let start = Instant::now();
                for call in 0..calls {
                    part();
                    wait(call + 2);
                }
                start.elapsed().as_secs_f64()
            }));
        }
        let each = handles
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        each.fold(0.0, f64::max)
    })
}

/// The time that this thread has run, without what others ran in between.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "std has no such clock")]
fn thread_seconds() -> f64 {
    #[repr(C)]
    struct Time {
        seconds: i64,
        nanoseconds: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Time) -> i32;
    }
    const THREAD: i32 = 3;
    let mut time = Time {
        seconds: 0,
        nanoseconds: 0,
    };
    // SAFETY: the function writes one such structure.
    unsafe { clock_gettime(THREAD, &mut time) };
    time.seconds as f64 + time.nanoseconds as f64 * 1e-9
}

#[cfg(not(target_os = "linux"))]
fn thread_seconds() -> f64 {
    use std::time::SystemTime;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |time| time.as_secs_f64())
}
