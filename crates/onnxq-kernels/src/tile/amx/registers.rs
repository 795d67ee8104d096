//! The tile registers, by assembly: the compiler does not know them.
//!
//! Sums are in `tmm0` to `tmm3`, rows in `tmm4`, the weights of one block or two in `tmm5` and `tmm6`.

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

/// Loads sums.
///
/// # Safety
/// 16 rows of 64 bytes can be read, as far apart as said; the registers are configured.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "tile registers, which the compiler does not know"
)]
pub(super) unsafe fn load_sums(register: usize, (from, stride): (*const i32, usize)) {
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
    match register {
        0 => load!("tmm0"),
        1 => load!("tmm1"),
        2 => load!("tmm2"),
        _ => load!("tmm3"),
    }
}

/// Stores sums.
///
/// # Safety
/// 16 rows of 64 bytes can be written; the registers are configured.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "tile registers, which the compiler does not know"
)]
pub(super) unsafe fn store_sums(register: usize, to: *mut i32) {
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
    match register {
        0 => store!("tmm0"),
        1 => store!("tmm1"),
        2 => store!("tmm2"),
        _ => store!("tmm3"),
    }
}

/// Loads a step of the rows of a group.
///
/// # Safety
/// The rows can be read; the registers are configured.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "tile registers, which the compiler does not know"
)]
pub(super) unsafe fn load_rows(from: *const u8, stride: usize) {
    // SAFETY: the caller's guarantee.
    unsafe {
        asm!(
            "tileloadd tmm4, [{from} + {stride}]",
            from = in(reg) from,
            stride = in(reg) stride,
            options(nostack, readonly, preserves_flags),
        )
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

/// Loads a step of the weights of the first or the second block.
///
/// # Safety
/// The weights can be read; the registers are configured.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "tile registers, which the compiler does not know"
)]
pub(super) unsafe fn load_weights(block: usize, from: *const u8, way: Way) {
    macro_rules! load {
        ($load:literal, $register:literal) => {
            // SAFETY: the caller's guarantee.
            unsafe {
                asm!(
                    concat!($load, " ", $register, ", [{from} + {row}]"),
                    from = in(reg) from,
                    row = in(reg) STEP,
                    options(nostack, readonly, preserves_flags),
                )
            }
        };
    }
    if !matches!(way, Way::Past) {
        core::hint::cold_path();
        match way {
            Way::Past => {}
            Way::Fetched(ahead) => fetch::<_MM_HINT_T1>(from.wrapping_add(ahead)),
            Way::Kept(ahead) => fetch::<_MM_HINT_T0>(from.wrapping_add(ahead)),
        }
    }
    match block {
        0 => load!("tileloaddt1", "tmm5"),
        _ => load!("tileloaddt1", "tmm6"),
    }
}

/// Adds to sums the product of the rows with the weights of the first or the second block.
///
/// # Safety
/// The registers are configured.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "tile registers, which the compiler does not know"
)]
pub(super) unsafe fn multiply<const SIGNED: bool>(sums: usize, block: usize) {
    macro_rules! multiply {
        ($sums:literal, $weights:literal) => {
            // SAFETY: the caller's guarantee.
            unsafe {
                match SIGNED {
                    false => asm!(
                        concat!("tdpbusd ", $sums, ", tmm4, ", $weights),
                        options(nostack, nomem, preserves_flags),
                    ),
                    true => asm!(
                        concat!("tdpbssd ", $sums, ", tmm4, ", $weights),
                        options(nostack, nomem, preserves_flags),
                    ),
                }
            }
        };
    }
    match (sums, block) {
        (0, 0) => multiply!("tmm0", "tmm5"),
        (1, 0) => multiply!("tmm1", "tmm5"),
        (2, 0) => multiply!("tmm2", "tmm5"),
        (0, _) => multiply!("tmm0", "tmm6"),
        (1, _) => multiply!("tmm1", "tmm6"),
        (2, _) => multiply!("tmm2", "tmm6"),
        (_, _) => multiply!("tmm3", "tmm6"),
    }
}

/// Multiplies so many steps of `G` groups by `B` blocks, at least one, and moves on. The sums of group `g` and block `b` are
/// in register `g * B + b`.
///
/// # Safety
/// The rows and the weights can be read; the registers are configured.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "tile registers, which the compiler does not know"
)]
pub(super) unsafe fn products<const G: usize, const B: usize, const SIGNED: bool>(
    a: &mut [*const u8; G],
    b: &mut [*const u8; B],
    steps: usize,
    row_stride: usize,
    way: Way,
) {
    // The lines of a step, so far ahead.
    macro_rules! fetch {
        ($fetch:literal, $b:ident) => {
            fetch!($fetch, $b: 0 64 128 192 256 320 384 448 512 576 640 704 768 832 896 960)
        };
        ($fetch:literal, $b:ident: $($line:literal)+) => {
            concat!($($fetch, " [{", stringify!($b), "} + {ahead} + ", $line, "]\n",)+)
        };
    }
    // What is asked of the ports for loads, and of the unit that multiplies, in turn.
    macro_rules! products {
        (@ $load:literal, $multiply:literal, [], $($shape:tt)+) => {
            products!(@@ $load, $multiply, [], [], $($shape)+)
        };
        (
            @ $load:literal, $multiply:literal, [$fetch:literal $ahead:ident],
            $b0:ident $($b1:ident)?; $($groups:tt)+
        ) => {
            products!(
                @@ $load, $multiply,
                [fetch!($fetch, $b0), $(fetch!($fetch, $b1),)?], [ahead = in(reg) $ahead,],
                $b0 $($b1)?; $($groups)+
            )
        };
        (
            @@ $load:literal, $multiply:literal, [$($fetch:expr,)*], [$($ahead:tt)*],
            $b0:ident $($b1:ident)?; $a0:ident $s00:literal $($s01:literal)?
            $(, $group:literal $a:ident $s0:literal $($s1:literal)?)*
        ) => {
            // SAFETY: the caller's guarantee.
            unsafe {
                asm!(
                    "2:",
                    $($fetch,)*
                    concat!($load, " tmm5, [{", stringify!($b0), "} + {row}]"),
                    concat!("tileloadd tmm4, [{", stringify!($a0), "} + {stride}]"),
                    concat!($multiply, " ", $s00, ", tmm4, tmm5"),
                    $(
                        concat!($load, " tmm6, [{", stringify!($b1), "} + {row}]"),
                        concat!($multiply, " ", $s01, ", tmm4, tmm6"),
                        concat!("add {", stringify!($b1), "}, 1024"),
                    )?
                    $(
                        concat!("tileloadd tmm4, [{", stringify!($a), "} + {stride}]"),
                        concat!($multiply, " ", $s0, ", tmm4, tmm5"),
                        $(concat!($multiply, " ", $s1, ", tmm4, tmm6"),)?
                        concat!("add {", stringify!($a), "}, 64"),
                    )*
                    concat!("add {", stringify!($a0), "}, 64"),
                    concat!("add {", stringify!($b0), "}, 1024"),
                    "dec {steps}",
                    "jnz 2b",
                    $a0 = inout(reg) a[0],
                    $($a = inout(reg) a[$group],)*
                    $b0 = inout(reg) b[0],
                    $($b1 = inout(reg) b[1],)?
                    steps = inout(reg) steps => _,
                    row = in(reg) STEP,
                    stride = in(reg) row_stride,
                    $($ahead)*
                    options(nostack, readonly),
                )
            }
        };
        ($($shape:tt)+) => {
            match (way, SIGNED) {
                (Way::Past, false) => products!(@ "tileloaddt1", "tdpbusd", [], $($shape)+),
                (Way::Past, true) => products!(@ "tileloaddt1", "tdpbssd", [], $($shape)+),
                (Way::Fetched(ahead), false) => {
                    products!(@ "tileloaddt1", "tdpbusd", ["prefetcht1" ahead], $($shape)+)
                }
                (Way::Fetched(ahead), true) => {
                    products!(@ "tileloaddt1", "tdpbssd", ["prefetcht1" ahead], $($shape)+)
                }
                (Way::Kept(ahead), false) => {
                    products!(@ "tileloadd", "tdpbusd", ["prefetcht0" ahead], $($shape)+)
                }
                (Way::Kept(ahead), true) => {
                    products!(@ "tileloadd", "tdpbssd", ["prefetcht0" ahead], $($shape)+)
                }
            }
        };
    }
    match (G, B) {
        (1, 1) => products!(b0; a0 "tmm0"),
        (2, 1) => products!(b0; a0 "tmm0", 1 a1 "tmm1"),
        (_, 1) => products!(b0; a0 "tmm0", 1 a1 "tmm1", 2 a2 "tmm2"),
        (1, _) => products!(b0 b1; a0 "tmm0" "tmm1"),
        (_, _) => products!(b0 b1; a0 "tmm0" "tmm1", 1 a1 "tmm2" "tmm3"),
    }
}
