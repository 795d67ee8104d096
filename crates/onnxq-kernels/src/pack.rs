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

/// Bytes that [`pack`] needs for `columns` × `segments` × `depth` weights.
pub fn packed_len(columns: usize, segments: usize, depth: usize) -> usize {
    columns.div_ceil(COLUMNS) * segments * depth.div_ceil(STEP) * STEP_BYTES
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
}

impl Packed<'_> {
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
pub fn pack<'a>(weights: &Weights<'_>, to: &'a mut [u8], sums: &mut [i32]) -> Packed<'a> {
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
    let flip = if weights.signed { 0 } else { 0x80 };
    let [column_stride, segment_stride, outer_stride, inner_stride] = weights.strides;
    let block_bytes = segments * depth.div_ceil(STEP) * STEP_BYTES;
    let segment_bytes = depth.div_ceil(STEP) * STEP_BYTES;
    for (column, sum) in sums.iter_mut().enumerate() {
        let block = &mut to[column / COLUMNS * block_bytes..][..block_bytes];
        for segment in 0..segments {
            let from = &weights.data[column * column_stride + segment * segment_stride..];
            let to = &mut block[segment * segment_bytes..][..segment_bytes];
            for outer in 0..weights.depth[0] {
                for inner in 0..weights.depth[1] {
                    let k = outer * weights.depth[1] + inner;
                    let w = from[outer * outer_stride + inner * inner_stride] ^ flip;
                    to[k / 4 * STEP + column % COLUMNS * 4 + k % 4] = w;
                    *sum += i32::from(w as i8);
                }
            }
        }
    }
    Packed {
        data: to,
        columns,
        segments,
        depth,
    }
}
