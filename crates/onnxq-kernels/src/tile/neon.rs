//! NEON: `smull` multiplies bytes to 16 bits, and `sadalp` adds the products in pairs to sums of 32 bits.
//!
//! Both are exact; a second product added in 16 bits would not be: `2 · (-128)² = 2^15`.
//!
//! ```text
//! weights    c0k0 c0k1 c0k2 c0k3 | c1k0 c1k1 c1k2 c1k3 | c2k0 ... | c3k0 ...     8 bits each
//! one row      k0   k1   k2   k3 |   k0   k1   k2   k3 |   k0 ... |   k0 ...
//! sums            c0        c0   |      c1        c1   | then c2 .. | c3 ..      32 bits each, two registers
//! ```
//!
//! Two rows by 16 columns are 16 registers of sums; the two sums of a column are added in the end.
//!
//! Both factors are signed. Unsigned bytes of a row are taken minus 128, and 128 times the sum of each column is
//! added, which the first rows of a block find along the way.

use core::{
    arch::aarch64::{
        int8x16_t, int32x4_t, vaddq_s32, vdupq_n_s8, vdupq_n_s32, veorq_s8, vget_low_s8,
        vld1q_dup_s32, vld1q_s8, vld1q_s32, vmull_high_s8, vmull_s8, vpadalq_s16, vpaddlq_s8,
        vpaddq_s32, vreinterpretq_s8_s32, vshlq_n_s32, vst1q_s32,
    },
    array,
};

use super::{Block, ROWS, Tile, nothing, weights_bytes};
use crate::{Isa, pack::STEP};

pub(super) const TILE: Tile = Tile {
    isa: Isa::Neon,
    groups: 3,
    blocks: 1,
    unsigned: false,
    multiply: [multiply::<false>, multiply::<true>],
    sweep: None,
    begin: nothing,
    end: nothing,
};

/// The block cut in parts of at most 16 registers of sums.
#[expect(unsafe_code, reason = "parts read at strides")]
unsafe fn multiply<const SIGNED: bool>(x: &Block) {
    for block in 0..x.blocks {
        // SAFETY: the architecture has NEON.
        let mut column_sums = [unsafe { vdupq_n_s32(0) }; 4];
        let mut row = 0;
        while row < x.rows() {
            // Parts of rows end where groups do, which is at an even row.
            let rest = x.rows() - row;
            let first = !SIGNED && row == 0;
            type Part = unsafe fn(&Block, usize, usize, &mut [int32x4_t; 4]);
            let (part, rows): (Part, usize) = match (first, rest) {
                (false, 2..) => (part::<2, SIGNED, false>, 2),
                (false, _) => (part::<1, SIGNED, false>, 1),
                (true, 2..) => (part::<2, SIGNED, true>, 2),
                (true, _) => (part::<1, SIGNED, true>, 1),
            };
            // SAFETY: these are rows of the block, and the caller's guarantees are handed on.
            unsafe { part(x, row, block, &mut column_sums) }
            row += rows;
        }
    }
}

/// `R` rows from `row` on, of one group, by one block of columns. `column_sums` are the sums of each column, or
/// become that, if the part is the `FIRST`.
///
/// # Safety
/// See [`Block`].
#[target_feature(enable = "neon")]
#[expect(unsafe_code, reason = "reads at strides that the caller guarantees")]
unsafe fn part<const R: usize, const SIGNED: bool, const FIRST: bool>(
    x: &Block,
    row: usize,
    block: usize,
    column_sums: &mut [int32x4_t; 4],
) {
    let mut sums = [[[vdupq_n_s32(0); 2]; 4]; R];
    let mut columns = *column_sums;
    let a = x.a[row / ROWS].wrapping_add(row % ROWS * x.row_stride);
    let b = x.b.wrapping_add(block * x.block_stride);
    for (offset, step, steps) in x.stretches() {
        let mut a = a.wrapping_add(offset);
        let mut b = b.wrapping_add(weights_bytes(step)).cast::<i8>();
        for _ in 0..steps * (STEP / 4) {
            let bytes: [int8x16_t; R] = array::from_fn(|r| {
                let a = a.wrapping_add(r * x.row_stride).cast::<i32>();
                // SAFETY: the caller's guarantee on the left operand.
                let a = vreinterpretq_s8_s32(unsafe { vld1q_dup_s32(a) });
                match SIGNED {
                    true => a,
                    false => veorq_s8(a, vdupq_n_s8(-128)),
                }
            });
            for i in 0..4 {
                // SAFETY: the caller's guarantee on the weights.
                let w = unsafe { vld1q_s8(b.wrapping_add(i * 16)) };
                if FIRST {
                    columns[i] = vpadalq_s16(columns[i], vpaddlq_s8(w));
                }
                for (sums, &a) in sums.iter_mut().zip(&bytes) {
                    let [low, high] = &mut sums[i];
                    *low = vpadalq_s16(*low, vmull_s8(vget_low_s8(w), vget_low_s8(a)));
                    *high = vpadalq_s16(*high, vmull_high_s8(w, a));
                }
            }
            a = a.wrapping_add(4);
            b = b.wrapping_add(STEP);
        }
    }
    if FIRST {
        *column_sums = columns;
    }
    for (r, sums) in sums.iter().enumerate() {
        for (i, &[low, high]) in sums.iter().enumerate() {
            let to = x.c(block, row + r).wrapping_add(4 * i);
            let mut sum = vpaddq_s32(low, high);
            if !SIGNED {
                sum = vaddq_s32(sum, vshlq_n_s32::<7>(columns[i]));
            }
            if x.accumulate {
                // SAFETY: the caller's guarantee on `c`.
                sum = vaddq_s32(sum, unsafe { vld1q_s32(to) });
            }
            // SAFETY: as above.
            unsafe { vst1q_s32(to, sum) }
        }
    }
}
