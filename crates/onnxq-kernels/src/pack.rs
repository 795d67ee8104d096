//! Weights in the layout that every tile reads.
//!
//! The columns of the right operand are cut in blocks of [`COLUMNS`], its depth (per segment) in steps of
//! [`STEP`]. A step of a block is 1 KiB: 16 rows of 64 bytes, each with 4 consecutive depths of 16
//! columns. That is a tile of AMX, 16 registers of AVX-512 VNNI, 32 of AVX2, 64 of `sdot`:
//!
//! ```text
//! row 0   c0k0 c0k1 c0k2 c0k3 | c1k0 c1k1 c1k2 c1k3 | ... | c15k0 .. c15k3
//! row 1   c0k4 c0k5 c0k6 c0k7 | c1k4 ...
//! ...
//! row 15  c0k60 ...
//! ```
//!
//! Unsigned weights are stored minus 128: their zero point moves along, and one signedness of
//! weights is left. What lies beyond the columns or the depth is zero.

use core::ops::Range;

use crate::{Cpu, tiers::tiers};

/// Columns of a block.
pub(crate) const COLUMNS: usize = 16;

/// Depth of a step, in bytes.
pub(crate) const STEP: usize = 64;

/// Bytes of one step of one block.
pub(crate) const STEP_BYTES: usize = COLUMNS * STEP;

/// Unpacked weights: `columns` × `segments` × `depth` bytes, at any strides.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// The bytes, from the first element on.
    pub data: &'a [u8],
    /// Whether they are `i8`.
    pub signed: bool,
    /// How many columns (output channels).
    pub columns: usize,
    /// How many segments (kernel positions whose bytes of the left operand are not contiguous).
    pub segments: usize,
    /// Depth of one segment, as `outer` × `inner` (kernel positions × input channels).
    pub depth: [usize; 2],
    /// Bytes between columns, between segments, and between depths of `outer` and `inner`.
    pub strides: [usize; 4],
}

impl<'a> Weights<'a> {
    /// A matrix of `depth` × `columns` in row-major order.
    pub fn matrix(data: &'a [u8], signed: bool, depth: usize, columns: usize) -> Weights<'a> {
        Weights {
            data,
            signed,
            columns,
            segments: 1,
            depth: [1, depth],
            strides: [1, 0, 0, columns],
        }
    }

    /// A matrix of `columns` × `depth` in row-major order, that is, transposed.
    pub fn transposed(data: &'a [u8], signed: bool, depth: usize, columns: usize) -> Weights<'a> {
        Weights {
            data,
            signed,
            columns,
            segments: 1,
            depth: [1, depth],
            strides: [depth, 0, 0, 1],
        }
    }

    /// Depth of one segment.
    pub fn segment_depth(&self) -> usize {
        self.depth[0] * self.depth[1]
    }
}

/// Steps of a product whose rows have so many segments of so many bytes: what its time grows with.
pub fn product_steps(segments: usize, depth: usize) -> usize {
    segments * depth.div_ceil(STEP)
}

/// Bytes that [`pack`] needs for `columns` × `segments` × `depth` weights.
pub fn packed_len(columns: usize, segments: usize, depth: usize) -> usize {
    columns.div_ceil(COLUMNS) * product_steps(segments, depth) * STEP_BYTES
}

/// Packed weights.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    /// As [`pack`] wrote them; aligned to 64 bytes they are read fastest.
    pub data: &'a [u8],
    /// How many columns.
    pub columns: usize,
    /// How many segments.
    pub segments: usize,
    /// Depth of one segment, in bytes.
    pub depth: usize,
    /// Bytes of all weights that are used in turn, these among them: if the second-level cache has no room for them, they are
    /// fetched ahead.
    pub among: usize,
}

impl<'a> Packed<'a> {
    /// Some of the columns, whole blocks of 16 but for the last.
    ///
    /// # Panics
    /// The range begins within a block, or there are not as many columns.
    pub fn columns(&self, range: Range<usize>) -> Packed<'a> {
        let fits = range.start <= range.end && range.end <= self.columns;
        assert!(fits && range.start.is_multiple_of(COLUMNS), "columns");
        Packed {
            data: &self.data[range.start / COLUMNS * self.block_bytes()..],
            columns: range.len(),
            ..*self
        }
    }

    /// Steps of one segment.
    pub(crate) fn steps(&self) -> usize {
        self.depth.div_ceil(STEP)
    }

    /// Bytes of one block of columns.
    pub(crate) fn block_bytes(&self) -> usize {
        self.segments * self.steps() * STEP_BYTES
    }
}

/// Packs `weights` into `to`, and adds up each column into `sums`: the sum of what is stored, which
/// is that of the weights, minus 128 for each unsigned one.
///
/// # Panics
/// `to` has not [`packed_len`] bytes, `sums` not one element for each column, or the strides pass the end of
/// the data.
pub fn pack<'a>(cpu: Cpu, weights: &Weights<'_>, to: &'a mut [u8], sums: &mut [i32]) -> Packed<'a> {
    let Weights {
        columns, segments, ..
    } = *weights;
    let depth = weights.segment_depth();
    assert_eq!(
        to.len(),
        packed_len(columns, segments, depth),
        "memory for packed weights"
    );
    assert_eq!(sums.len(), columns, "a sum for each column");
    to.fill(0);
    sums.fill(0);
    let block_bytes = segments * depth.div_ceil(STEP) * STEP_BYTES;
    let blocks = to.chunks_exact_mut(block_bytes.max(1));
    for (i, (to, sums)) in blocks.zip(sums.chunks_mut(COLUMNS)).enumerate() {
        pack_block(cpu, weights, i * COLUMNS, to, sums);
    }
    Packed {
        among: to.len(),
        data: to,
        columns,
        segments,
        depth,
    }
}

tiers! {
    /// The columns from `first` on.
    fn pack_block(weights: &Weights<'_>, first: usize, to: &mut [u8], sums: &mut [i32]) {
        let block = Block { first, to };
        // Contiguous columns and contiguous rows are packed by words and by lines: that happens in runs too.
        match weights.strides {
            [_, _, _, 1] if weights.depth[0] == 1 => block.columns(weights, sums),
            [1, ..] if weights.depth[0] == 1 => block.rows(weights, sums),
            _ => block.any(weights, sums),
        }
    }
}

/// Columns from `first` on, and where they go.
struct Block<'a> {
    first: usize,
    to: &'a mut [u8],
}

/// What unsigned weights are changed by.
fn flip(weights: &Weights<'_>) -> u8 {
    if weights.signed { 0 } else { 0x80 }
}

impl Block<'_> {
    /// Each segment of this block, with its number.
    #[inline(always)]
    fn segments(&mut self, count: usize) -> impl Iterator<Item = (usize, &mut [u8])> {
        let bytes = self.to.len() / count.max(1);
        self.to.chunks_exact_mut(bytes.max(1)).enumerate()
    }

    /// Weights at any strides.
    #[inline(always)]
    fn any(mut self, weights: &Weights<'_>, sums: &mut [i32]) {
        let (first, flip) = (self.first, flip(weights));
        let [column_stride, segment_stride, outer_stride, inner_stride] = weights.strides;
        let [outer, inner] = weights.depth;
        for (segment, to) in self.segments(weights.segments) {
            for (column, sum) in sums.iter_mut().enumerate() {
                let from =
                    &weights.data[(first + column) * column_stride + segment * segment_stride..];
                for outer in 0..outer {
                    let from = &from[outer * outer_stride..];
                    let at = outer * inner;
                    *sum += match at % 4 + inner % 4 {
                        0 => strided_words(
                            from,
                            inner_stride,
                            flip,
                            &mut to[at / 4 * STEP..][..inner / 4 * STEP],
                            column,
                        ),
                        _ => strided_bytes(from, inner_stride, flip, to, at..at + inner, column),
                    };
                }
            }
        }
    }

    /// Columns that are contiguous.
    #[inline(always)]
    fn columns(mut self, weights: &Weights<'_>, sums: &mut [i32]) {
        let (first, depth) = (self.first, weights.depth[1]);
        let [column_stride, segment_stride, ..] = weights.strides;
        for (segment, to) in self.segments(weights.segments) {
            let mut columns = [&[][..]; COLUMNS];
            for (i, column) in columns.iter_mut().enumerate().take(sums.len()) {
                let at = (first + i) * column_stride + segment * segment_stride;
                *column = &weights.data[at..][..depth];
            }
            let mut totals = [0; COLUMNS];
            let lines = to.chunks_exact_mut(STEP).take(depth.div_ceil(4));
            for (k, line) in (0..depth).step_by(4).zip(lines) {
                let mut words = [0; COLUMNS];
                for (word, column) in words.iter_mut().zip(&columns[..sums.len()]) {
                    *word = match column[k..].first_chunk() {
                        Some(whole) => u32::from_le_bytes(*whole),
                        None => last_word(&column[k..]),
                    };
                }
                let flips = flips(weights, sums.len(), depth - k);
                write_line(&words, &flips, line, &mut totals);
            }
            add(sums, totals);
        }
    }

    /// Rows that are contiguous.
    #[inline(always)]
    fn rows(mut self, weights: &Weights<'_>, sums: &mut [i32]) {
        let (first, depth) = (self.first, weights.depth[1]);
        let [_, segment_stride, _, row_stride] = weights.strides;
        for (segment, to) in self.segments(weights.segments) {
            let mut totals = [0; COLUMNS];
            let lines = to.chunks_exact_mut(STEP).take(depth.div_ceil(4));
            for (k, line) in (0..depth).step_by(4).zip(lines) {
                let mut rows = [[0; COLUMNS]; 4];
                for (i, row) in rows.iter_mut().enumerate().take(depth - k) {
                    let at = segment * segment_stride + (k + i) * row_stride + first;
                    match weights.data[at..].first_chunk() {
                        Some(whole) if sums.len() == COLUMNS => *row = *whole,
                        _ => row[..sums.len()].copy_from_slice(&weights.data[at..][..sums.len()]),
                    }
                }
                let mut words = [0; COLUMNS];
                for i in 0..COLUMNS {
                    words[i] = u32::from(rows[0][i])
                        | u32::from(rows[1][i]) << 8
                        | u32::from(rows[2][i]) << 16
                        | u32::from(rows[3][i]) << 24;
                }
                let flips = flips(weights, sums.len(), depth - k);
                write_line(&words, &flips, line, &mut totals);
            }
            add(sums, totals);
        }
    }
}

/// What changes four depths of so many columns, of which so many are left.
#[inline(always)]
fn flips(weights: &Weights<'_>, columns: usize, depth: usize) -> [u32; COLUMNS] {
    let all = u32::from_le_bytes([flip(weights); 4]);
    let all = match depth {
        4.. => all,
        rest => all & ((1 << (8 * rest)) - 1),
    };
    core::array::from_fn(|i| if i < columns { all } else { 0 })
}

/// The depths of a column that do not fill a word.
fn last_word(from: &[u8]) -> u32 {
    let mut word = [0; 4];
    word[..from.len()].copy_from_slice(from);
    u32::from_le_bytes(word)
}

/// Writes four depths of all columns, and adds them up.
#[inline(always)]
fn write_line(
    words: &[u32; COLUMNS],
    flips: &[u32; COLUMNS],
    line: &mut [u8],
    totals: &mut [i32; COLUMNS],
) {
    let line = &mut line.as_chunks_mut().0[..COLUMNS];
    for i in 0..COLUMNS {
        let word = words[i] ^ flips[i];
        line[i] = word.to_le_bytes();
        let byte = |shift: u32| (word << shift) as i32 >> 24;
        totals[i] += byte(0) + byte(8) + byte(16) + byte(24);
    }
}

fn add(sums: &mut [i32], totals: [i32; COLUMNS]) {
    for (sum, total) in sums.iter_mut().zip(totals) {
        *sum += total;
    }
}

/// Bytes at a stride to as many depths of a column, whole words of it; gives the sum of what is stored.
fn strided_words(from: &[u8], stride: usize, flip: u8, to: &mut [u8], column: usize) -> i32 {
    let mut sum = 0;
    for (i, line) in to.chunks_exact_mut(STEP).enumerate() {
        let at = 4 * i * stride;
        let from = &from[at..=at + 3 * stride];
        let word = [from[0], from[stride], from[2 * stride], from[3 * stride]].map(|w| w ^ flip);
        line[column * 4..][..4].copy_from_slice(&word);
        sum += word.iter().map(|&w| i32::from(w as i8)).sum::<i32>();
    }
    sum
}

/// The same, byte by byte, to the depths `range`.
fn strided_bytes(
    from: &[u8],
    stride: usize,
    flip: u8,
    to: &mut [u8],
    range: core::ops::Range<usize>,
    column: usize,
) -> i32 {
    let mut sum = 0;
    for (i, k) in range.enumerate() {
        let w = from[i * stride] ^ flip;
        to[k / 4 * STEP + column * 4 + k % 4] = w;
        sum += i32::from(w as i8);
    }
    sum
}
