//! Whether products may use most of the tile registers.
//!
//! Processors have been seen whose tile unit is slow at times, presumably while the other thread of the core uses it too: two
//! by two products, which keep seven registers or eight, fall to a fifth of their speed then, those that keep five to half
//! of it. Nothing tells but the time that products take, so that it is measured now and then: two short loops, a few
//! microseconds every 16 milliseconds or so.

use core::{
    arch::x86_64::{__rdtscp, _mm_lfence},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    begin, end,
    registers::{Way, products},
};
use crate::{Cpu, Line};

/// Ticks of the time stamp counter, which makes 2 or 3 of them a nanosecond, from one measurement to the next.
const INTERVAL: u64 = 1 << 25;

/// For each core by its number, for as many as there may be here: when it was measured last, and in the lowest bit what was
/// found.
static MEASURED: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];

/// Whether products of two blocks side by side are fast on this core.
#[expect(unsafe_code, reason = "reads the time stamp counter")]
pub(super) fn is_fast(cpu: Cpu) -> bool {
    let mut core = 0;
    // SAFETY: every processor with AMX has this instruction, as `detect` has seen.
    let now = unsafe { __rdtscp(&mut core) };
    let measured = &MEASURED[core as usize % MEASURED.len()];
    let before = measured.load(Ordering::Relaxed);
    if before != 0 && now.wrapping_sub(before) < INTERVAL {
        return before & 1 == 1;
    }
    let is_fast = measure(cpu);
    measured.store(now & !1 | u64::from(is_fast), Ordering::Relaxed);
    is_fast
}

fn measure(cpu: Cpu) -> bool {
    begin(cpu);
    // What is interrupted takes longer, so that the shortest of some counts.
    let mut shortest = [u64::MAX; 2];
    for _ in 0..3 {
        shortest[0] = shortest[0].min(ticks::<3, 1>());
        shortest[1] = shortest[1].min(ticks::<2, 2>());
    }
    end(cpu);
    let [few, most] = shortest;
    pays([few, 3], [most, 4])
}

/// Whether products with most registers are faster, or nearly so, than those with few, of ticks and numbers of products.
fn pays([few, few_products]: [u64; 2], [most, most_products]: [u64; 2]) -> bool {
    // Half as much again is far from both: 5 / 4 at most where nothing is wrong, 2 and more in the slow mode.
    2 * most * few_products < 3 * few * most_products
}

/// The time of some products of `G` groups by `B` blocks.
#[expect(unsafe_code, reason = "tile registers")]
fn ticks<const G: usize, const B: usize>() -> u64 {
    const STEPS: usize = 4;
    static ZEROS: [Line; STEPS * 16] = [Line::ZERO; STEPS * 16];
    let zeros: *const u8 = ZEROS.as_ptr().cast();
    // SAFETY: as in `is_fast`; what comes after it waits.
    let start = unsafe { __rdtscp(&mut 0) };
    // SAFETY: every processor of this architecture has it.
    unsafe { _mm_lfence() }
    for _ in 0..3 {
        // SAFETY: there are so many steps of weights, and a line for each step of the rows, all of which are the same; the
        // registers are configured.
        unsafe {
            products::<G, B, false>(&mut [zeros; G], &mut [zeros; B], STEPS, 0, Way::Past);
        }
    }
    // SAFETY: as in `is_fast`.
    unsafe { __rdtscp(&mut 0) - start }
}

#[cfg(test)]
mod tests {
    use super::pays;

    #[test]
    fn most_registers_pay_unless_they_are_far_slower() {
        // As many ticks for each product, a fifth more, and what the slow mode makes of them.
        assert!(pays([600, 3], [800, 4]));
        assert!(pays([600, 3], [960, 4]));
        assert!(!pays([1200, 3], [4000, 4]));
    }
}
