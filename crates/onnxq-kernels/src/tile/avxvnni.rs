//! AVX-VNNI: `vpdpbusd` on registers of 32 bytes, 4 depths of one row by those of 8 columns.
//!
//! Six rows by one block of 16 columns fill twelve of the sixteen registers with sums, two with
//! weights and one with the bytes of a row.
//!
//! As with [AVX-512](super::avx512vnni), signed bytes arrive plus 128.

use core::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_dpbusd_avx_epi32, _mm256_set1_epi8, _mm256_set1_epi32,
    _mm256_setzero_si256, _mm256_sub_epi32,
};

use super::{Block, ROWS, Tile, nothing, weights_bytes};
use crate::{Isa, pack::STEP};

pub(super) const TILE: Tile = Tile {
    isa: Isa::AvxVnni,
    groups: 3,
    blocks: 1,
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

/// The block cut in parts of at most twelve registers of sums.
///
/// # Safety
/// See [`Block`].
#[target_feature(enable = "avx2,avxvnni")]
#[expect(unsafe_code, reason = "parts read at strides")]
unsafe fn parts<const SIGNED: bool>(x: &Block) {
    for block in 0..x.blocks {
        let mut shifts = [_mm256_setzero_si256(); 2];
        if SIGNED {
            // SAFETY: the caller's guarantee on the weights.
            shifts = unsafe { column_sums(x, block) };
        }
        let mut row = 0;
        while row < x.rows() {
            // Parts of rows end where groups do: 6 + 5 + 5.
            let rest = (x.rows() - row).min(ROWS - row % ROWS);
            type Part = unsafe fn(&Block, usize, usize, [__m256i; 2]);
            let (part, rows): (Part, usize) = match rest {
                5 | 10 => (part::<5>, 5),
                6.. => (part::<6>, 6),
                3 => (part::<3>, 3),
                4 => (part::<4>, 4),
                2 => (part::<2>, 2),
                _ => (part::<1>, 1),
            };
            // SAFETY: these are rows of the block.
            unsafe { part(x, row, block, shifts) }
            row += rows;
        }
    }
}

/// 128 times the sum of each column, for the steps of the block.
///
/// # Safety
/// See [`Block`].
#[target_feature(enable = "avx2,avxvnni")]
#[expect(unsafe_code, reason = "reads what the caller guarantees")]
unsafe fn column_sums(x: &Block, block: usize) -> [__m256i; 2] {
    let mut sums = [_mm256_setzero_si256(); 2];
    let b =
        x.b.wrapping_add(block * x.block_stride + weights_bytes(x.first_step))
            .cast::<[__m256i; 2]>();
    for i in 0..x.steps * (STEP / 4) {
        // SAFETY: the caller's guarantee on the weights.
        let w = unsafe { b.wrapping_add(i).read_unaligned() };
        for (sum, w) in sums.iter_mut().zip(w) {
            *sum = _mm256_dpbusd_avx_epi32(*sum, _mm256_set1_epi8(-128), w);
        }
    }
    sums
}

/// `R` rows from `row` on, of one group, by one block of columns.
///
/// # Safety
/// See [`Block`].
#[target_feature(enable = "avx2,avxvnni")]
#[expect(unsafe_code, reason = "reads at strides that the caller guarantees")]
unsafe fn part<const R: usize>(x: &Block, row: usize, block: usize, shifts: [__m256i; 2]) {
    let mut sums = [[_mm256_setzero_si256(); 2]; R];
    let a = x.a[row / ROWS].wrapping_add(row % ROWS * x.row_stride);
    let b = x.b.wrapping_add(block * x.block_stride);
    for (offset, step, steps) in x.stretches() {
        let mut a = a.wrapping_add(offset);
        let mut b = b.wrapping_add(weights_bytes(step)).cast::<[__m256i; 2]>();
        for _ in 0..steps * (STEP / 4) {
            // SAFETY: the caller's guarantee on the weights.
            let w = unsafe { b.read_unaligned() };
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = a.wrapping_add(r * x.row_stride).cast::<i32>();
                // SAFETY: the caller's guarantee on the left operand.
                let a = _mm256_set1_epi32(unsafe { a.read_unaligned() });
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = _mm256_dpbusd_avx_epi32(*sum, a, w);
                }
            }
            a = a.wrapping_add(4);
            b = b.wrapping_add(1);
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let to = x.c(block, row + r).cast::<[__m256i; 2]>();
        let mut old = [_mm256_setzero_si256(); 2];
        if x.accumulate {
            // SAFETY: the caller's guarantee on `c`.
            old = unsafe { to.read_unaligned() };
        }
        let sum = |i: usize| _mm256_add_epi32(_mm256_sub_epi32(sums[i], shifts[i]), old[i]);
        // SAFETY: as above.
        unsafe { to.write_unaligned([sum(0), sum(1)]) }
    }
}
