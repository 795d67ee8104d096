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
    match way {
        Way::Past => {}
        Way::Fetched(ahead) => fetch::<_MM_HINT_T1>(from.wrapping_add(ahead)),
        Way::Kept(ahead) => fetch::<_MM_HINT_T0>(from.wrapping_add(ahead)),
    }
    match (way, block) {
        (Way::Kept(_), 0) => load!("tileloadd", "tmm5"),
        (Way::Kept(_), _) => load!("tileloadd", "tmm6"),
        (_, 0) => load!("tileloaddt1", "tmm5"),
        (_, _) => load!("tileloaddt1", "tmm6"),
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
    macro_rules! products {
        (
            @ $load:literal, $multiply:literal, $ahead:tt,
            $b0:ident $($b1:ident)?; $($group:literal $a:ident $s0:literal $($s1:literal)?),+
        ) => {
            products!(
                @@ $load, $multiply, $ahead, $ahead,
                [0 $b0 "tmm5"] $([1 $b1 "tmm6"])?;
                $([$group $a "tmm5" $s0 $("tmm6" $s1)?])+
            )
        };
        (
            @@ $load:literal, $multiply:literal, [], $ahead:tt, $($rest:tt)+
        ) => {
            products!(@@@ $load, $multiply, [], [], $($rest)+)
        };
        (
            @@ $load:literal, $multiply:literal, [$fetch:literal $ahead:ident], $again:tt,
            $([$block:literal $b:ident $w:literal])+; $($rest:tt)+
        ) => {
            products!(
                @@@ $load, $multiply, [$(fetch!($fetch, $b),)+], [ahead = in(reg) $ahead,],
                $([$block $b $w])+; $($rest)+
            )
        };
        (
            @@@ $load:literal, $multiply:literal, [$($fetch:expr,)*], [$($ahead:tt)*],
            $([$block:literal $b:ident $w:literal])+;
            $([$group:literal $a:ident $($weights:literal $sums:literal)+])+
        ) => {
            // SAFETY: the caller's guarantee.
            unsafe {
                asm!(
                    "2:",
                    $($fetch,)*
                    $(concat!($load, " ", $w, ", [{", stringify!($b), "} + {row}]"),)+
                    $(
                        concat!("tileloadd tmm4, [{", stringify!($a), "} + {stride}]"),
                        $(concat!($multiply, " ", $sums, ", tmm4, ", $weights),)+
                        concat!("add {", stringify!($a), "}, 64"),
                    )+
                    $(concat!("add {", stringify!($b), "}, 1024"),)+
                    "dec {steps}",
                    "jnz 2b",
                    $($a = inout(reg) a[$group],)+
                    $($b = inout(reg) b[$block],)+
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
        (1, 1) => products!(b0; 0 a0 "tmm0"),
        (2, 1) => products!(b0; 0 a0 "tmm0", 1 a1 "tmm1"),
        (_, 1) => products!(b0; 0 a0 "tmm0", 1 a1 "tmm1", 2 a2 "tmm2"),
        (1, _) => products!(b0 b1; 0 a0 "tmm0" "tmm1"),
        (_, _) => products!(b0 b1; 0 a0 "tmm0" "tmm1", 1 a1 "tmm2" "tmm3"),
    }
}
