//! The tile registers, by assembly: the compiler does not know them.

use core::arch::{
    asm,
    x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch},
};

use crate::{pack::STEP, tile::ROWS};

/// How weights come to their register.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// From the second-level cache, and past the first one, where they would push out the rows.
    Past,
    /// The same, from further away: fetched to the second-level cache so many bytes ahead.
    Fetched(usize),
    /// Fetched to the first-level cache, where that has room.
    Kept(usize),
}

/// Loads the sums of a group.
///
/// # Safety
/// 16 rows of 64 bytes can be read, as far apart as said; the registers are configured.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "tile registers, which the compiler does not know"
)]
pub(super) unsafe fn load(group: usize, (from, stride): (*const i32, usize)) {
    macro_rules! load {
        ($register:literal) => {
            // SAFETY: the caller's guarantee.
            unsafe {
                asm!(
                    concat!("tileloadd ", $register, ", [{from} + {stride}]"),
                    from = in(reg) from,
                    stride = in(reg) stride,
                    options(nostack, readonly, preserves_flags),
                )
            }
        };
    }
    match group {
        0 => load!("tmm0"),
        1 => load!("tmm1"),
        _ => load!("tmm2"),
    }
}

/// Stores the sums of a group.
///
/// # Safety
/// 16 rows of 64 bytes can be written; the registers are configured.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "tile registers, which the compiler does not know"
)]
pub(super) unsafe fn store(group: usize, to: *mut i32) {
    macro_rules! store {
        ($register:literal) => {
            // SAFETY: the caller's guarantee.
            unsafe {
                asm!(
                    concat!("tilestored [{to} + {stride}], ", $register),
                    to = in(reg) to,
                    stride = in(reg) STEP,
                    options(nostack, preserves_flags),
                )
            }
        };
    }
    match group {
        0 => store!("tmm0"),
        1 => store!("tmm1"),
        _ => store!("tmm2"),
    }
}

/// Fetches the weights of a step.
#[inline(always)]
#[expect(unsafe_code, reason = "a hint")]
fn fetch<const HINT: i32>(b: *const u8) {
    for line in 0..ROWS {
        // SAFETY: a hint, of any address.
        unsafe { _mm_prefetch::<HINT>(b.wrapping_add(line * STEP).cast()) };
    }
}

/// Multiplies one step of one group; with the first one, loads the weights.
///
/// # Safety
/// The rows and the weights can be read; the registers are configured.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "tile registers, which the compiler does not know"
)]
pub(super) unsafe fn product<const SIGNED: bool>(
    group: usize,
    a: *const u8,
    b: *const u8,
    row_stride: usize,
    way: Way,
) {
    macro_rules! product {
        ($instruction:literal, $sum:literal) => {
            // SAFETY: the caller's guarantee.
            unsafe {
                asm!(
                    "tileloadd tmm3, [{a} + {stride}]",
                    concat!($instruction, " ", $sum, ", tmm3, tmm4"),
                    a = in(reg) a,
                    stride = in(reg) row_stride,
                    options(nostack, readonly, preserves_flags),
                )
            }
        };
    }
    if group == 0 {
        macro_rules! weights {
            ($load:literal) => {
                // SAFETY: the caller's guarantee.
                unsafe {
                    asm!(
                        concat!($load, " tmm4, [{b} + {row}]"),
                        b = in(reg) b,
                        row = in(reg) STEP,
                        options(nostack, readonly, preserves_flags),
                    )
                }
            };
        }
        match way {
            Way::Past => weights!("tileloaddt1"),
            Way::Fetched(ahead) => {
                fetch::<_MM_HINT_T1>(b.wrapping_add(ahead));
                weights!("tileloaddt1")
            }
            Way::Kept(ahead) => {
                fetch::<_MM_HINT_T0>(b.wrapping_add(ahead));
                weights!("tileloadd")
            }
        }
    }
    match (group, SIGNED) {
        (0, false) => product!("tdpbusd", "tmm0"),
        (0, true) => product!("tdpbssd", "tmm0"),
        (1, false) => product!("tdpbusd", "tmm1"),
        (1, true) => product!("tdpbssd", "tmm1"),
        (_, false) => product!("tdpbusd", "tmm2"),
        (_, true) => product!("tdpbssd", "tmm2"),
    }
}

/// Multiplies so many steps, at least one, and moves on.
///
/// # Safety
/// The rows and the weights can be read; the registers are configured.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "tile registers, which the compiler does not know"
)]
pub(super) unsafe fn products<const G: usize, const SIGNED: bool>(
    a: &mut [*const u8; G],
    b: &mut *const u8,
    steps: usize,
    row_stride: usize,
    way: Way,
) {
    macro_rules! products {
        ($instruction:literal: $($rest:tt)+) => {
            match way {
                Way::Past => products!("tileloaddt1", [], [], $instruction: $($rest)+),
                Way::Fetched(ahead) => {
                    products!("tileloaddt1", "prefetcht1", ahead, $instruction: $($rest)+)
                }
                Way::Kept(ahead) => {
                    products!("tileloadd", "prefetcht0", ahead, $instruction: $($rest)+)
                }
            }
        };
        ($load:literal, $fetch:literal, $ahead:ident, $($rest:tt)+) => {
            products!(
                $load,
                [
                    concat!($fetch, " [{b} + {ahead}]"),
                    concat!($fetch, " [{b} + {ahead} + 64]"),
                    concat!($fetch, " [{b} + {ahead} + 128]"),
                    concat!($fetch, " [{b} + {ahead} + 192]"),
                    concat!($fetch, " [{b} + {ahead} + 256]"),
                    concat!($fetch, " [{b} + {ahead} + 320]"),
                    concat!($fetch, " [{b} + {ahead} + 384]"),
                    concat!($fetch, " [{b} + {ahead} + 448]"),
                    concat!($fetch, " [{b} + {ahead} + 512]"),
                    concat!($fetch, " [{b} + {ahead} + 576]"),
                    concat!($fetch, " [{b} + {ahead} + 640]"),
                    concat!($fetch, " [{b} + {ahead} + 704]"),
                    concat!($fetch, " [{b} + {ahead} + 768]"),
                    concat!($fetch, " [{b} + {ahead} + 832]"),
                    concat!($fetch, " [{b} + {ahead} + 896]"),
                    concat!($fetch, " [{b} + {ahead} + 960]"),
                ],
                [ahead = in(reg) $ahead,],
                $($rest)+
            )
        };
        (
            $load:literal, [$($fetch:expr,)*], [$($ahead:tt)*],
            $instruction:literal: $($sum:literal $name:ident $group:literal),+
        ) => {
            // SAFETY: the caller's guarantee.
            unsafe {
                asm!(
                    "2:",
                    $($fetch,)*
                    concat!($load, " tmm4, [{b} + {row}]"),
                    $(
                        concat!("tileloadd tmm3, [{", stringify!($name), "} + {stride}]"),
                        concat!($instruction, " ", $sum, ", tmm3, tmm4"),
                        concat!("add {", stringify!($name), "}, 64"),
                    )+
                    "add {b}, 1024",
                    "dec {steps}",
                    "jnz 2b",
                    $($name = inout(reg) a[$group],)+
                    b = inout(reg) *b,
                    steps = inout(reg) steps => _,
                    row = in(reg) STEP,
                    stride = in(reg) row_stride,
                    $($ahead)*
                    options(nostack, readonly),
                )
            }
        };
    }
    match (G, SIGNED) {
        (1, false) => products!("tdpbusd": "tmm0" a0 0),
        (1, true) => products!("tdpbssd": "tmm0" a0 0),
        (2, false) => products!("tdpbusd": "tmm0" a0 0, "tmm1" a1 1),
        (2, true) => products!("tdpbssd": "tmm0" a0 0, "tmm1" a1 1),
        (_, false) => products!("tdpbusd": "tmm0" a0 0, "tmm1" a1 1, "tmm2" a2 2),
        (_, true) => products!("tdpbssd": "tmm0" a0 0, "tmm1" a1 1, "tmm2" a2 2),
    }
}
