//! AVX2: bytes widened to 16 bits, whose products `vpmaddwd` adds in pairs, exactly.
//!
//! `vpmaddubsw` would multiply bytes, but its sums of two products saturate.
//!
//! A register holds 4 depths of 4 columns, 16 bits each; the sums are kept for each pair of
//! depths, and the two of a column are added in the end:
//!
//! ```text
//! weights      c0k0 c0k1 c0k2 c0k3 | c1k0 c1k1 c1k2 c1k3 | c2k0 ... | c3k0 ...     16 bits each
//! one row        k0   k1   k2   k3 |   k0   k1   k2   k3 |   k0 ... |   k0 ...
//! sums            c0        c0     |    c1        c1     |    c2 .. |    c3 ..     32 bits each
//! ```
//!
//! Six rows by eight columns are twelve registers of sums. The rows are widened step by step into a
//! buffer, from where each product's factor is one load.

use core::arch::x86_64::{
    __m128i, __m256i, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_cvtepu8_epi16,
    _mm256_hadd_epi32, _mm256_madd_epi16, _mm256_permute4x64_epi64, _mm256_set1_epi64x,
    _mm256_setzero_si256,
};

use super::{Block, ROWS, Tile, nothing, weights_bytes};
use crate::{Isa, pack::STEP};

pub(super) const TILE: Tile = Tile {
    isa: Isa::Avx2,
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
    // SAFETY: the tile is chosen where the processor has the tier, and the caller's guarantees
    // are handed on.
    unsafe { parts::<SIGNED>(x) }
}

/// The block cut in parts of at most twelve registers of sums.
///
/// # Safety
/// See [`Block`].
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "parts read at strides")]
unsafe fn parts<const SIGNED: bool>(x: &Block) {
    for half in 0..2 * x.blocks {
        let mut row = 0;
        while row < x.rows() {
            // Parts of rows end where groups do: 6 + 5 + 5.
            let rest = (x.rows() - row).min(ROWS - row % ROWS);
            let (part, rows): (unsafe fn(&Block, usize, usize), usize) = match rest {
                5 | 10 => (part::<5, SIGNED>, 5),
                6.. => (part::<6, SIGNED>, 6),
                3 => (part::<3, SIGNED>, 3),
                4 => (part::<4, SIGNED>, 4),
                2 => (part::<2, SIGNED>, 2),
                _ => (part::<1, SIGNED>, 1),
            };
            // SAFETY: these are rows and columns of the block.
            unsafe { part(x, row, half) }
            row += rows;
        }
    }
}

/// `R` rows from `row` on, of one group, by half a block of columns.
///
/// # Safety
/// See [`Block`].
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "reads at strides that the caller guarantees")]
unsafe fn part<const R: usize, const SIGNED: bool>(x: &Block, row: usize, half: usize) {
    let (block, columns) = (half / 2, half % 2 * 8);
    let mut sums = [[_mm256_setzero_si256(); 2]; R];
    let mut wide = [[_mm256_setzero_si256(); STEP / 16]; R];
    let a = x.a[row / ROWS].wrapping_add(row % ROWS * x.row_stride);
    let b =
        x.b.wrapping_add(block * x.block_stride + columns * 4)
            .cast::<__m128i>();
    for (offset, step, steps) in x.stretches() {
        for s in 0..steps {
            for (r, wide) in wide.iter_mut().enumerate() {
                let a = a.wrapping_add(r * x.row_stride + offset + s * STEP);
                for (i, wide) in wide.iter_mut().enumerate() {
                    let a = a.cast::<__m128i>().wrapping_add(i);
                    // SAFETY: the caller's guarantee on the left operand.
                    let a = unsafe { a.read_unaligned() };
                    *wide = match SIGNED {
                        true => _mm256_cvtepi8_epi16(a),
                        false => _mm256_cvtepu8_epi16(a),
                    };
                }
            }
            let b = b.wrapping_byte_add(weights_bytes(step + s));
            for k in 0..STEP / 4 {
                for i in 0..2 {
                    let b = b.wrapping_byte_add(k * STEP + i * 16);
                    // SAFETY: the caller's guarantee on the weights.
                    let w = _mm256_cvtepi8_epi16(unsafe { b.read_unaligned() });
                    for (sums, wide) in sums.iter_mut().zip(&wide) {
                        let a = wide.as_ptr().cast::<i64>().wrapping_add(k);
                        // SAFETY: `wide` has 64 numbers of 16 bits.
                        let a = _mm256_set1_epi64x(unsafe { a.read() });
                        sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(a, w));
                    }
                }
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let to = x.c(block, row + r).wrapping_add(columns).cast::<__m256i>();
        // Columns 0 1 4 5 2 3 6 7.
        let pairs = _mm256_hadd_epi32(sums[0], sums[1]);
        let mut sum = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
        if x.accumulate {
            // SAFETY: the caller's guarantee on `c`.
            sum = _mm256_add_epi32(sum, unsafe { to.read_unaligned() });
        }
        // SAFETY: as above.
        unsafe { to.write_unaligned(sum) }
    }
}
