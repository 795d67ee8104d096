//! What becomes of the sums of a product: bytes or floats, with bias, residual and clamp.
//!
//! The arithmetic is that of the specification of the integer operators, in `f32`, step by step:
//!
//! ```text
//! sum = Σ a·b + offset[n] - Σa · zero[n]                          (i32, wrapping)
//! y   = clamp(rne(f32(sum) · scale[n]) + zero_point)              (bytes)
//! y   = f32(sum) · scale[n] + bias[n], activated                  (floats)
//! ```

use crate::{activation::activate, pack::COLUMNS, tiers::tiers};

/// How sums become results.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// Added to the sums, by column: the bias, and what the zero points of the left operand takes
    /// (`-zero · Σb`).
    pub offset: &'a [i32],
    /// Zero points of the packed weights, by column; empty where all are 0.
    pub zero: &'a [i32],
}

/// A function of one float, at the end of a product.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum Activation {
    /// None.
    #[default]
    Identity,
    /// Between two bounds.
    Clamp(f32, f32),
    /// Gelu by the error function.
    Gelu,
    /// Gelu by tanh.
    GeluTanh,
    /// `x · sigmoid(x)`.
    Silu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
}

/// Sums to bytes: `clamp(rne(f32(sum) · scale[n]) + zero, low, high)`.
#[derive(Clone, Copy, Debug)]
pub struct Requantize<'a> {
    /// By column.
    pub scale: &'a [f32],
    /// The zero point of the result.
    pub zero: i32,
    /// Bounds of the result: those of its type, or tighter. As integers, `-128..=127` for `i8`,
    /// `0..=255` for `u8`.
    pub bounds: [i32; 2],
    /// Another tensor to add, which makes the above an intermediate result.
    pub residual: Option<Residual<'a>>,
}

/// A quantized sum: `clamp(rne((f32(q - zero) · scale + f32(r - other_zero) · other_scale) / sum_scale) + sum_zero)`,
/// where `q` is the requantized product and `r` the other tensor at the same place.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a> {
    /// The other tensor, in the places of the result; `None` where the result has it before.
    pub data: Option<&'a [u8]>,
    /// Whether `data` is one row, which each row of the result has added.
    pub row: bool,
    /// Whether it is `i8`.
    pub signed: bool,
    /// Scales of the product, of the other tensor, and of the sum.
    pub scales: [f32; 3],
    /// Zero points of the other tensor and of the sum.
    pub zeros: [i32; 2],
    /// Bounds of the sum.
    pub bounds: [i32; 2],
    /// The same without a division, if there is such a form.
    pub steps: Option<SumSteps>,
}

/// A quantized sum in steps of the result: `rne(fma(q - zero, factor, fma(r, other_factor, start))) + sum_zero`. Whoever
/// makes one has tried that it equals the definition of [`Residual`] for all bytes `q` and `r`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SumSteps {
    /// Of the product.
    pub factor: f32,
    /// Of the other tensor.
    pub other_factor: f32,
    /// What zero points come to.
    pub start: f32,
}

/// Where the results go: row by row at a stride that [`Product`](crate::Product) names.
#[derive(Debug)]
pub enum Output<'a> {
    /// The sums as they are.
    Sums(&'a mut [i32]),
    /// `u8` or `i8`.
    Bytes(&'a mut [u8], Requantize<'a>),
    /// `f32(sum) · scale[n] + bias[n]`, activated. The bias may be empty.
    Floats {
        /// The results.
        y: &'a mut [f32],
        /// By column.
        scale: &'a [f32],
        /// By column, or empty.
        bias: &'a [f32],
        /// Applied last but for `other`.
        activation: Activation,
    },
}

/// At this size the spacing of floats is 1, so that adding it rounds.
pub(crate) const SHIFT: f32 = 12_582_912.0;

/// Rounds to the nearest integer, ties to even, for `|x| < 2^22`.
#[inline(always)]
pub(crate) fn round(x: f32) -> i32 {
    (x + SHIFT).to_bits() as i32 - SHIFT.to_bits() as i32
}

/// `clamp(rne(x) + zero)`. The bounds are integers, so that clamping first changes nothing; a NaN
/// becomes the lower bound.
#[inline(always)]
pub(crate) fn quantized(x: f32, zero: i32, bounds: [i32; 2]) -> i32 {
    let (low, high) = ((bounds[0] - zero) as f32, (bounds[1] - zero) as f32);
    let x = if x > low { x } else { low };
    let x = if x < high { x } else { high };
    round(x) + zero
}

/// One block of 16 columns: `columns` of them wanted, the first being column `first`.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    pub(crate) first: usize,
    pub(crate) count: usize,
}

impl Columns {
    /// The numbers of the columns, of one for each of all.
    #[inline(always)]
    fn of<T: Copy + Default>(self, all: &[T]) -> [T; COLUMNS] {
        let all = &all[self.first..];
        match all.first_chunk() {
            Some(whole) if self.count == COLUMNS => *whole,
            _ => {
                let mut some = [T::default(); COLUMNS];
                some[..self.count].copy_from_slice(&all[..self.count]);
                some
            }
        }
    }
}

/// `rows` are where the result rows begin (`usize::MAX` for rows that nobody wants), `sums` has 16
/// columns for each of them, and `row_sums` one number.
pub(crate) fn finish(
    cpu: crate::Cpu,
    sums: &[i32],
    rows: &[usize],
    row_sums: &[i32],
    columns: Columns,
    epilogue: &Epilogue<'_>,
    output: &mut Output<'_>,
) {
    let offset = columns.of(epilogue.offset);
    let zeros = !epilogue.zero.is_empty();
    let zero = match zeros {
        true => columns.of(epilogue.zero),
        false => [0; COLUMNS],
    };
    match output {
        Output::Sums(y) => match columns.count == COLUMNS && !zeros {
            true => to_sums_whole(cpu, sums, rows, columns.first, &offset, y),
            false => to_sums(cpu, sums, rows, row_sums, columns, &offset, &zero, y),
        },
        Output::Bytes(y, to) => {
            let scales = columns.of(to.scale);
            // The residual is added when all columns of a row are there.
            match columns.count == COLUMNS && !zeros {
                true => to_bytes_whole(
                    cpu,
                    sums,
                    rows,
                    columns.first,
                    &offset,
                    &scales,
                    to.zero,
                    to.bounds,
                    y,
                ),
                false => to_bytes(
                    cpu, sums, rows, row_sums, columns, &offset, &zero, &scales, to, y,
                ),
            }
        }
        Output::Floats {
            y,
            scale,
            bias,
            activation,
        } => {
            let scales = columns.of(scale);
            let biases = (!bias.is_empty()).then(|| columns.of(bias));
            match columns.count == COLUMNS && !zeros {
                true => to_floats_whole(
                    cpu,
                    sums,
                    rows,
                    columns.first,
                    &offset,
                    &scales,
                    biases.as_ref(),
                    *activation,
                    y,
                ),
                false => to_floats(
                    cpu,
                    sums,
                    rows,
                    row_sums,
                    columns,
                    &offset,
                    &zero,
                    &scales,
                    biases.as_ref(),
                    *activation,
                    y,
                ),
            }
        }
    }
}

/// What becomes of the sums of some rows, while they are computed block by block.
pub(crate) struct Finish<'a, 'y> {
    pub(crate) cpu: crate::Cpu,
    /// Where the result rows begin, and the sum of each row of the left operand: see [`finish`].
    pub(crate) rows: &'a [usize],
    pub(crate) row_sums: &'a [i32],
    /// Columns in all.
    pub(crate) columns: usize,
    /// From a row of the output to the one at its place in the next turn.
    pub(crate) next_turn: usize,
    pub(crate) epilogue: &'a Epilogue<'a>,
    pub(crate) output: &'a mut Output<'y>,
    /// Whether these are the last steps of the depth, so that the sums are complete.
    pub(crate) last: bool,
    /// The quick way to bytes, for outputs that allow it.
    #[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
    pub(crate) quick: Option<crate::requantize::Quick<'a>>,
}

impl Finish<'_, '_> {
    /// The columns of a block.
    #[inline]
    pub(crate) fn block(&self, at: usize) -> Columns {
        let first = at * COLUMNS;
        Columns {
            first,
            count: COLUMNS.min(self.columns - first),
        }
    }

    /// Sums of a block, of the rows from `first` on.
    pub(crate) fn some(&mut self, at: usize, first: usize, sums: &[i32]) {
        let rows = first..first + sums.len() / COLUMNS;
        finish(
            self.cpu,
            sums,
            &self.rows[rows.clone()],
            &self.row_sums[rows],
            self.block(at),
            self.epilogue,
            self.output,
        );
    }
}

/// The sum of one place, with what zero points take from it.
#[inline(always)]
fn corrected(sum: i32, offset: i32, row_sum: i32, zero: i32) -> i32 {
    sum.wrapping_add(offset)
        .wrapping_sub(row_sum.wrapping_mul(zero))
}

tiers! {
    /// The case that matters: all 16 columns, no zero points of weights.
    fn to_sums_whole(
        sums: &[i32], rows: &[usize], first: usize, offset: &[i32; COLUMNS], y: &mut [i32],
    ) {
        for (sums, &row) in sums.chunks_exact(COLUMNS).zip(rows) {
            if row == usize::MAX {
                continue;
            }
            let y = &mut y[row + first..][..COLUMNS];
            for j in 0..COLUMNS {
                y[j] = sums[j].wrapping_add(offset[j]);
            }
        }
    }

    fn to_sums(
        sums: &[i32], rows: &[usize], row_sums: &[i32], columns: Columns,
        offset: &[i32; COLUMNS], zero: &[i32; COLUMNS], y: &mut [i32],
    ) {
        for ((sums, &row), &row_sum) in sums.chunks_exact(COLUMNS).zip(rows).zip(row_sums) {
            if row == usize::MAX {
                continue;
            }
            let y = &mut y[row + columns.first..][..columns.count];
            for (j, y) in y.iter_mut().enumerate() {
                *y = corrected(sums[j], offset[j], row_sum, zero[j]);
            }
        }
    }

    /// The same for bytes.
    fn to_bytes_whole(
        sums: &[i32], rows: &[usize], first: usize, offset: &[i32; COLUMNS],
        scales: &[f32; COLUMNS], zero: i32, bounds: [i32; 2], y: &mut [u8],
    ) {
        for (sums, &row) in sums.chunks_exact(COLUMNS).zip(rows) {
            if row == usize::MAX {
                continue;
            }
            let y = &mut y[row + first..][..COLUMNS];
            for j in 0..COLUMNS {
                let sum = sums[j].wrapping_add(offset[j]);
                y[j] = quantized(sum as f32 * scales[j], zero, bounds) as u8;
            }
        }
    }

    fn to_bytes(
        sums: &[i32], rows: &[usize], row_sums: &[i32], columns: Columns,
        offset: &[i32; COLUMNS], zero: &[i32; COLUMNS], scales: &[f32; COLUMNS],
        to: &Requantize<'_>, y: &mut [u8],
    ) {
        for ((sums, &row), &row_sum) in sums.chunks_exact(COLUMNS).zip(rows).zip(row_sums) {
            if row == usize::MAX {
                continue;
            }
            let y = &mut y[row + columns.first..][..columns.count];
            for (j, y) in y.iter_mut().enumerate() {
                let sum = corrected(sums[j], offset[j], row_sum, zero[j]);
                *y = quantized(sum as f32 * scales[j], to.zero, to.bounds) as u8;
            }
        }
    }

    /// The case that matters, see above.
    fn to_floats_whole(
        sums: &[i32], rows: &[usize], first: usize, offset: &[i32; COLUMNS],
        scales: &[f32; COLUMNS], bias: Option<&[f32; COLUMNS]>, activation: Activation, y: &mut [f32],
    ) {
        for (sums, &row) in sums.chunks_exact(COLUMNS).zip(rows) {
            if row == usize::MAX {
                continue;
            }
            let mut values = [0.0; COLUMNS];
            for j in 0..COLUMNS {
                values[j] = sums[j].wrapping_add(offset[j]) as f32 * scales[j];
            }
            if let Some(bias) = bias {
                for j in 0..COLUMNS {
                    values[j] += bias[j];
                }
            }
            activate(activation, &mut values);
            y[row + first..][..COLUMNS].copy_from_slice(&values);
        }
    }

    fn to_floats(
        sums: &[i32], rows: &[usize], row_sums: &[i32], columns: Columns,
        offset: &[i32; COLUMNS], zero: &[i32; COLUMNS], scales: &[f32; COLUMNS],
        bias: Option<&[f32; COLUMNS]>, activation: Activation, y: &mut [f32],
    ) {
        for ((sums, &row), &row_sum) in sums.chunks_exact(COLUMNS).zip(rows).zip(row_sums) {
            if row == usize::MAX {
                continue;
            }
            let mut values = [0.0; COLUMNS];
            for j in 0..COLUMNS {
                values[j] = corrected(sums[j], offset[j], row_sum, zero[j]) as f32 * scales[j];
            }
            if let Some(bias) = bias {
                for j in 0..COLUMNS {
                    values[j] += bias[j];
                }
            }
            activate(activation, &mut values);
            y[row + columns.first..][..columns.count].copy_from_slice(&values[..columns.count]);
        }
    }
}
