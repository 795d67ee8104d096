//! NEON with `sdot`: 4 depths of 4 columns by those of one row, which a lane of its register holds.
//!
//! ```text
//!                 4 columns   4 columns   4 columns   4 columns      each one register: 4 depths of each column
//! row 0, lane k   sums        sums        sums        sums
//! row 1, lane k   sums        sums        sums        sums
//! row 2, lane k   sums        sums        sums        sums
//! row 3, lane k   sums        sums        sums        sums
//! ```
//!
//! Sixteen registers of sums, and for 16 depths 20 loads for 64 products.
//!
//! Both factors of the instruction are signed, or both unsigned. Unsigned bytes of a row are taken minus 128
//! (one exclusive or for 16 products), and 128 times the sum of each column is where the sums begin. The first rows
//! of a block find these sums along the way.

use core::{
    arch::{
        aarch64::{
            int8x16_t, int32x4_t, vaddq_s32, vdupq_n_s8, vdupq_n_s32, veorq_s8, vld1q_s8,
            vld1q_s32, vst1q_s32, vsubq_s32,
        },
        asm,
    },
    array,
};

use super::{Block, ROWS, Tile, nothing, weights_bytes};
use crate::{Isa, pack::STEP};

pub(super) const TILE: Tile = Tile {
    isa: Isa::Dotprod,
    groups: 3,
    blocks: 1,
    unsigned: false,
    multiply: [multiply::<false>, multiply::<true>],
    sweep: None,
    begin: nothing,
    end: nothing,
};

#[expect(unsafe_code, reason = "instructions that the tier promises")]
pub(super) unsafe fn multiply<const SIGNED: bool>(x: &Block) {
    // SAFETY: the tile is chosen where the processor has the tier, and the caller's guarantees
    // are handed on.
    unsafe { parts::<SIGNED>(x) }
}

/// The block cut in parts of at most 16 registers of sums.
///
/// # Safety
/// See [`Block`].
#[target_feature(enable = "neon,dotprod")]
#[expect(unsafe_code, reason = "parts read at strides")]
unsafe fn parts<const SIGNED: bool>(x: &Block) {
    for block in 0..x.blocks {
        let mut shifts = [vdupq_n_s32(0); 4];
        let mut row = 0;
        while row < x.rows() {
            // Parts of rows end where groups do, which is at a multiple of 4.
            let rest = x.rows() - row;
            let first = !SIGNED && row == 0;
            type Part = unsafe fn(&Block, usize, usize, &mut [int32x4_t; 4]);
            let (part, rows): (Part, usize) = match (first, rest) {
                (false, 4..) => (part::<4, SIGNED, false>, 4),
                (false, 3) => (part::<3, SIGNED, false>, 3),
                (false, 2) => (part::<2, SIGNED, false>, 2),
                (false, _) => (part::<1, SIGNED, false>, 1),
                (true, 4..) => (part::<4, SIGNED, true>, 4),
                (true, 3) => (part::<3, SIGNED, true>, 3),
                (true, 2) => (part::<2, SIGNED, true>, 2),
                (true, _) => (part::<1, SIGNED, true>, 1),
            };
            // SAFETY: these are rows of the block.
            unsafe { part(x, row, block, &mut shifts) }
            row += rows;
        }
    }
}

/// `R` rows from `row` on, of one group, by one block of columns. `shifts` are -128 times the sum of each column,
/// or become that, if the part is the `FIRST`.
///
/// # Safety
/// See [`Block`].
#[target_feature(enable = "neon,dotprod")]
#[expect(unsafe_code, reason = "reads at strides that the caller guarantees")]
unsafe fn part<const R: usize, const SIGNED: bool, const FIRST: bool>(
    x: &Block,
    row: usize,
    block: usize,
    shifts: &mut [int32x4_t; 4],
) {
    let mut sums = [[vdupq_n_s32(0); 4]; R];
    let mut shift = *shifts;
    let flip = vdupq_n_s8(-128);
    let a = x.a[row / ROWS].wrapping_add(row % ROWS * x.row_stride);
    let b = x.b.wrapping_add(block * x.block_stride);
    for (offset, step, steps) in x.stretches() {
        let mut a = a.wrapping_add(offset).cast::<i8>();
        let mut b = b.wrapping_add(weights_bytes(step)).cast::<i8>();
        for _ in 0..steps * (STEP / 16) {
            let mut bytes: [int8x16_t; R] = array::from_fn(|r| {
                // SAFETY: the caller's guarantee on the left operand.
                unsafe { vld1q_s8(a.wrapping_add(r * x.row_stride)) }
            });
            if !SIGNED {
                bytes = bytes.map(|a| veorq_s8(a, flip));
            }
            macro_rules! lanes {
                ($($lane:literal)*) => {$(
                    for i in 0..4 {
                        // SAFETY: the caller's guarantee on the weights.
                        let w = unsafe { vld1q_s8(b.wrapping_add($lane * STEP + i * 16)) };
                        if FIRST {
                            shift[i] = sdot::<0>(shift[i], w, flip);
                        }
                        for (sums, &a) in sums.iter_mut().zip(&bytes) {
                            sums[i] = sdot::<$lane>(sums[i], w, a);
                        }
                    }
                )*};
            }
            lanes!(0 1 2 3);
            a = a.wrapping_add(16);
            b = b.wrapping_add(4 * STEP);
        }
    }
    if FIRST {
        *shifts = shift;
    }
    for (r, sums) in sums.iter().enumerate() {
        for (i, &sum) in sums.iter().enumerate() {
            let to = x.c(block, row + r).wrapping_add(4 * i);
            let mut sum = match SIGNED {
                true => sum,
                false => vsubq_s32(sum, shift[i]),
            };
            if x.accumulate {
                // SAFETY: the caller's guarantee on `c`.
                sum = vaddq_s32(sum, unsafe { vld1q_s32(to) });
            }
            // SAFETY: as above.
            unsafe { vst1q_s32(to, sum) }
        }
    }
}

/// `sum[i] + Σ w[4i + k] · a[4 · LANE + k]`.
#[target_feature(enable = "neon,dotprod")]
#[expect(unsafe_code, reason = "an instruction without a stable intrinsic")]
fn sdot<const LANE: usize>(mut sum: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: an instruction on registers, which the function enables.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {w:v}.16b, {a:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            w = in(vreg) w,
            a = in(vreg) a,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
