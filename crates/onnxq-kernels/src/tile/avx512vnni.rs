//! AVX-512 VNNI: `vpdpbusd` multiplies 4 depths of one row by those of 16 columns.
//!
//! ```text
//!                 16 columns    16 columns       each one register: 4 depths of each column
//! row 0, 4 bytes  sums          sums             broadcast to a register
//! row 1, 4 bytes  sums          sums
//! ...
//! row 7           sums          sums
//! ```
//!
//! Eight rows by two blocks of columns, or fewer rows by four: 16 registers of sums, more than the
//! latency of the instruction takes to hide, and 10 loads for 16 products.
//!
//! The left factor of the instruction is unsigned. Signed bytes arrive plus 128, and 128 times the sum of
//! each column, which the same instruction finds, is taken off.

use core::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_set1_epi8, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_sub_epi32,
};

use super::{Block, ROWS, Tile, nothing, weights_bytes};
use crate::{Isa, pack::STEP};

pub(super) const TILE: Tile = Tile {
    isa: Isa::Avx512Vnni,
    groups: 3,
    blocks: 4,
    unsigned: true,
    multiply: [multiply::<false>, multiply::<true>],
    sweep: None,
    begin: nothing,
    end: nothing,
};

#[expect(unsafe_code, reason = "instructions that the tier promises")]
unsafe fn multiply<const SIGNED: bool>(x: &Block) {
    // SAFETY: the tile is chosen where the processor has the tier, and the caller's guarantees
    // are handed on.
    unsafe { parts::<SIGNED>(x) }
}

/// The block cut in parts of at most 16 registers of sums.
///
/// # Safety
/// See [`Block`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[expect(unsafe_code, reason = "parts read at strides")]
unsafe fn parts<const SIGNED: bool>(x: &Block) {
    let few = x.rows() <= 4;
    let mut block = 0;
    while block < x.blocks {
        let columns = match x.blocks - block {
            4.. if few => 4,
            2.. => 2,
            _ => 1,
        };
        let mut row = 0;
        while row < x.rows() {
            // Parts of rows end where groups do.
            let rest = (x.rows() - row).min(ROWS - row % ROWS);
            let (part, rows): (unsafe fn(&Block, usize, usize), usize) = match (columns, rest) {
                (4, 4..) => (part::<4, 4, SIGNED>, 4),
                (4, 2..) => (part::<2, 4, SIGNED>, 2),
                (4, _) => (part::<1, 4, SIGNED>, 1),
                (2, 8..) => (part::<8, 2, SIGNED>, 8),
                (2, 4..) => (part::<4, 2, SIGNED>, 4),
                (2, 2..) => (part::<2, 2, SIGNED>, 2),
                (2, _) => (part::<1, 2, SIGNED>, 1),
                (_, 8..) => (part::<8, 1, SIGNED>, 8),
                (_, 4..) => (part::<4, 1, SIGNED>, 4),
                (_, 2..) => (part::<2, 1, SIGNED>, 2),
                _ => (part::<1, 1, SIGNED>, 1),
            };
            // SAFETY: these are rows and columns of the block.
            unsafe { part(x, row, block) }
            row += rows;
        }
        block += columns;
    }
}

/// `R` rows from `row` on, of one group, by `C` blocks of columns.
///
/// # Safety
/// See [`Block`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[expect(unsafe_code, reason = "reads at strides that the caller guarantees")]
unsafe fn part<const R: usize, const C: usize, const SIGNED: bool>(
    x: &Block,
    row: usize,
    block: usize,
) {
    let mut sums = [[_mm512_setzero_si512(); C]; R];
    let mut shifts = [_mm512_setzero_si512(); C];
    let shift = _mm512_set1_epi8(-128);
    let a = x.a[row / ROWS].wrapping_add(row % ROWS * x.row_stride);
    let b = x.b.wrapping_add(block * x.block_stride);
    for (offset, step, steps) in x.stretches() {
        let mut a = a.wrapping_add(offset);
        let mut b = b.wrapping_add(weights_bytes(step));
        for _ in 0..steps * (STEP / 4) {
            let mut w = [_mm512_setzero_si512(); C];
            for (c, w) in w.iter_mut().enumerate() {
                let b = b.wrapping_add(c * x.block_stride).cast::<__m512i>();
                // SAFETY: the caller's guarantee on the weights.
                *w = unsafe { b.read_unaligned() };
                if SIGNED {
                    shifts[c] = _mm512_dpbusd_epi32(shifts[c], shift, *w);
                }
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = a.wrapping_add(r * x.row_stride).cast::<i32>();
                // SAFETY: the caller's guarantee on the left operand.
                let a = _mm512_set1_epi32(unsafe { a.read_unaligned() });
                for (sum, &w) in sums.iter_mut().zip(&w) {
                    *sum = _mm512_dpbusd_epi32(*sum, a, w);
                }
            }
            a = a.wrapping_add(4);
            b = b.wrapping_add(STEP);
        }
    }
    for (c, &shift) in shifts.iter().enumerate() {
        for (r, sums) in sums.iter().enumerate() {
            let to = x.c(block + c, row + r).cast::<__m512i>();
            let mut sum = sums[c];
            if SIGNED {
                sum = _mm512_sub_epi32(sum, shift);
            }
            if x.accumulate {
                // SAFETY: the caller's guarantee on `c`.
                sum = _mm512_add_epi32(sum, unsafe { to.read_unaligned() });
            }
            // SAFETY: as above.
            unsafe { to.write_unaligned(sum) }
        }
    }
}
