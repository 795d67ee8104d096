//! NEON with `smmla` and `usmmla`: 8 depths of 2 rows by those of 2 columns, in one instruction.
//!
//! ```text
//!                                   columns 0 1   columns 2 3   ...   columns 14 15
//!                                   k0..k7        k0..k7
//! rows 0 1   k0..k7 of each row     2 x 2 sums    2 x 2 sums          2 x 2 sums
//! rows 2 3   k0..k7                 2 x 2 sums    ...
//! rows 4 5   k0..k7                 2 x 2 sums
//! ```
//!
//! Six rows by 16 columns are 24 registers of sums. Packed weights have 4 depths of a column together where the
//! instruction wants 8: two of their rows are interleaved, once for all rows of the left operand, in a
//! buffer that stays in the first-level cache. One or two rows are not worth that: they are left to
//! [`sdot`](super::dotprod).

use core::{
    arch::{
        aarch64::{
            int8x16_t, int32x4_t, uint8x16_t, vaddq_s32, vcombine_u8, vdupq_n_s32, vld1_u8,
            vld1q_s8, vld1q_s32, vreinterpretq_s8_s32, vreinterpretq_s32_s8, vreinterpretq_s32_s64,
            vreinterpretq_s64_s32, vst1q_s8, vst1q_s32, vzip1q_s32, vzip1q_s64, vzip2q_s32,
            vzip2q_s64,
        },
        asm,
    },
    array,
    mem::MaybeUninit,
};

use super::{Block, ROWS, Tile, dotprod, nothing, weights_bytes};
use crate::{
    Isa,
    pack::{STEP, STEP_BYTES},
};

/// Steps that are interleaved at a time.
const STEPS: usize = 8;

pub(super) const TILE: Tile = Tile {
    isa: Isa::I8mm,
    groups: 3,
    blocks: 1,
    unsigned: false,
    multiply: [multiply::<false>, multiply::<true>],
    sweep: None,
    begin: nothing,
    end: nothing,
};

#[expect(unsafe_code, reason = "instructions that the tier promises")]
unsafe fn multiply<const SIGNED: bool>(x: &Block) {
    if x.rows() <= 2 {
        // SAFETY: the tier includes that of dot products, and the caller's guarantees are handed on.
        return unsafe { dotprod::multiply::<SIGNED>(x) };
    }
    // SAFETY: the tile is chosen where the processor has the tier, and the caller's guarantees
    // are handed on.
    unsafe { parts::<SIGNED>(x) }
}

/// The block cut in parts of at most 24 registers of sums, for a few steps at a time.
///
/// # Safety
/// See [`Block`].
#[target_feature(enable = "neon,i8mm")]
#[expect(unsafe_code, reason = "parts read at strides")]
unsafe fn parts<const SIGNED: bool>(x: &Block) {
    let mut weights = [MaybeUninit::<u8>::uninit(); STEPS * STEP_BYTES];
    let weights = weights.as_mut_ptr().cast::<i8>();
    for block in 0..x.blocks {
        for done in (0..x.steps).step_by(STEPS) {
            let x = Block {
                first_step: x.first_step + done,
                steps: STEPS.min(x.steps - done),
                accumulate: x.accumulate || done > 0,
                ..*x
            };
            // SAFETY: the caller's guarantee on the weights; the buffer has room for these steps.
            unsafe { interleave(&x, block, weights) }
            let mut row = 0;
            while row < x.rows() {
                // Parts of rows end where groups do: 6 + 6 + 4. A row that nobody wants may be the last of a pair.
                let rest = (x.rows() - row).min(ROWS - row % ROWS);
                type Part = unsafe fn(&Block, usize, usize, *const i8);
                let (part, rows): (Part, usize) = match rest {
                    5.. => (part::<3, SIGNED>, 6),
                    3.. => (part::<2, SIGNED>, 4),
                    _ => (part::<1, SIGNED>, 2),
                };
                // SAFETY: these are rows of the block, and the weights have been written.
                unsafe { part(&x, row, block, weights) }
                row += rows;
            }
        }
    }
}

/// Writes the weights of the block's steps with 8 depths of each column together.
///
/// # Safety
/// See [`Block`] on the weights; `to` has room for them.
#[target_feature(enable = "neon,i8mm")]
#[expect(unsafe_code, reason = "reads and writes what the caller guarantees")]
unsafe fn interleave(x: &Block, block: usize, mut to: *mut i8) {
    let offset = block * x.block_stride + weights_bytes(x.first_step);
    let mut from = x.b.wrapping_add(offset).cast::<i8>();
    for _ in 0..x.steps * (STEP / 8) {
        for i in 0..4 {
            let half = |n: usize| {
                // SAFETY: the caller's guarantee on the weights.
                let w = unsafe { vld1q_s8(from.wrapping_add(n * STEP + i * 16)) };
                vreinterpretq_s32_s8(w)
            };
            let (low, high) = (half(0), half(1));
            let pair = |n: usize| to.wrapping_add((2 * i + n) * 16);
            // SAFETY: the caller's guarantee on `to`.
            unsafe { vst1q_s8(pair(0), vreinterpretq_s8_s32(vzip1q_s32(low, high))) }
            // SAFETY: as above.
            unsafe { vst1q_s8(pair(1), vreinterpretq_s8_s32(vzip2q_s32(low, high))) }
        }
        from = from.wrapping_add(2 * STEP);
        to = to.wrapping_add(2 * STEP);
    }
}

/// `P` pairs of rows from `row` on, of one group, by one block of columns.
///
/// # Safety
/// See [`Block`]; `weights` are those of its steps, interleaved.
#[target_feature(enable = "neon,i8mm")]
#[expect(unsafe_code, reason = "reads at strides that the caller guarantees")]
unsafe fn part<const P: usize, const SIGNED: bool>(
    x: &Block,
    row: usize,
    block: usize,
    weights: *const i8,
) {
    let mut sums = [[vdupq_n_s32(0); 8]; P];
    let mut b = weights;
    let a = x.a[row / ROWS].wrapping_add(row % ROWS * x.row_stride);
    for (offset, _, steps) in x.stretches() {
        let mut a = a.wrapping_add(offset);
        for _ in 0..steps * (STEP / 8) {
            let pairs: [uint8x16_t; P] = array::from_fn(|p| {
                let half = |r: usize| {
                    // SAFETY: the caller's guarantee on the left operand.
                    unsafe { vld1_u8(a.wrapping_add((2 * p + r) * x.row_stride)) }
                };
                vcombine_u8(half(0), half(1))
            });
            for i in 0..8 {
                // SAFETY: the caller's guarantee on the weights.
                let w = unsafe { vld1q_s8(b.wrapping_add(i * 16)) };
                for (sums, &a) in sums.iter_mut().zip(&pairs) {
                    sums[i] = mmla::<SIGNED>(sums[i], a, w);
                }
            }
            a = a.wrapping_add(8);
            b = b.wrapping_add(2 * STEP);
        }
    }
    for (p, sums) in sums.iter().enumerate() {
        for (i, pairs) in sums.chunks_exact(2).enumerate() {
            let (left, right) = (
                vreinterpretq_s64_s32(pairs[0]),
                vreinterpretq_s64_s32(pairs[1]),
            );
            let rows = [vzip1q_s64(left, right), vzip2q_s64(left, right)];
            for (r, sum) in rows.into_iter().enumerate() {
                let to = x.c(block, row + 2 * p + r).wrapping_add(4 * i);
                let mut sum = vreinterpretq_s32_s64(sum);
                if x.accumulate {
                    // SAFETY: the caller's guarantee on `c`.
                    sum = vaddq_s32(sum, unsafe { vld1q_s32(to) });
                }
                // SAFETY: as above.
                unsafe { vst1q_s32(to, sum) }
            }
        }
    }
}

/// `sum[2r + c] + Σ a[8r + k] · w[8c + k]`.
#[target_feature(enable = "neon,i8mm")]
#[expect(unsafe_code, reason = "instructions without a stable intrinsic")]
fn mmla<const SIGNED: bool>(mut sum: int32x4_t, a: uint8x16_t, w: int8x16_t) -> int32x4_t {
    macro_rules! instruction {
        ($name:literal) => {
            // SAFETY: an instruction on registers, which the function enables.
            unsafe {
                asm!(
                    concat!($name, " {sum:v}.4s, {a:v}.16b, {w:v}.16b"),
                    sum = inout(vreg) sum,
                    a = in(vreg) a,
                    w = in(vreg) w,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
        };
    }
    match SIGNED {
        true => instruction!("smmla"),
        false => instruction!("usmmla"),
    }
    sum
}
