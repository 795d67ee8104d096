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

/// The sums of a block, and what is still to be added to them.
#[derive(Clone, Copy)]
struct Sums<'a> {
    /// 16 for each row.
    sums: &'a [i32],
    /// Where the result rows begin, `usize::MAX` for those that nobody wants; and the sums of the rows of the left operand.
    rows: &'a [usize],
    row_sums: &'a [i32],
    columns: Columns,
    offset: [i32; COLUMNS],
    /// Where zero points are not all 0.
    zero: Option<[i32; COLUMNS]>,
}

impl Sums<'_> {
    /// The case that matters: all 16 columns are wanted, and their zero points are 0.
    fn is_whole(&self) -> bool {
        self.columns.count == COLUMNS && self.zero.is_none()
    }

    /// Where the result of a row begins, if anyone wants it, and its sums.
    #[inline(always)]
    fn row<const WHOLE: bool>(&self, i: usize) -> Option<(usize, [i32; COLUMNS])> {
        let row = self.rows[i];
        if row == usize::MAX {
            return None;
        }
        let (from, mut sums) = (&self.sums[i * COLUMNS..][..COLUMNS], [0; COLUMNS]);
        for j in 0..COLUMNS {
            sums[j] = from[j].wrapping_add(self.offset[j]);
        }
        if let (false, Some(zero)) = (WHOLE, self.zero) {
            let row_sum = self.row_sums[i];
            for (sum, zero) in sums.iter_mut().zip(zero) {
                *sum = sum.wrapping_sub(row_sum.wrapping_mul(zero));
            }
        }
        Some((row + self.columns.first, sums))
    }

    /// How many columns are wanted.
    #[inline(always)]
    fn count<const WHOLE: bool>(&self) -> usize {
        match WHOLE {
            true => COLUMNS,
            false => self.columns.count,
        }
    }

    #[inline(always)]
    fn sums<const WHOLE: bool>(&self, y: &mut [i32]) {
        for i in 0..self.rows.len() {
            if let Some((at, sums)) = self.row::<WHOLE>(i) {
                let count = self.count::<WHOLE>();
                y[at..][..count].copy_from_slice(&sums[..count]);
            }
        }
    }

    #[inline(always)]
    fn bytes<const WHOLE: bool>(
        &self,
        scales: &[f32; COLUMNS],
        zero: i32,
        bounds: [i32; 2],
        y: &mut [u8],
    ) {
        for i in 0..self.rows.len() {
            if let Some((at, sums)) = self.row::<WHOLE>(i) {
                let y = &mut y[at..][..self.count::<WHOLE>()];
                for (j, y) in y.iter_mut().enumerate() {
                    *y = quantized(sums[j] as f32 * scales[j], zero, bounds) as u8;
                }
            }
        }
    }

    #[inline(always)]
    fn floats<const WHOLE: bool>(
        &self,
        scales: &[f32; COLUMNS],
        bias: Option<&[f32; COLUMNS]>,
        activation: Activation,
        y: &mut [f32],
    ) {
        for i in 0..self.rows.len() {
            if let Some((at, sums)) = self.row::<WHOLE>(i) {
                let mut values = [0.0; COLUMNS];
                for j in 0..COLUMNS {
                    values[j] = sums[j] as f32 * scales[j];
                }
                if let Some(bias) = bias {
                    for j in 0..COLUMNS {
                        values[j] += bias[j];
                    }
                }
                activate(activation, &mut values);
                let count = self.count::<WHOLE>();
                y[at..][..count].copy_from_slice(&values[..count]);
            }
        }
    }
}

tiers! {
    fn to_sums(x: &Sums<'_>, y: &mut [i32]) {
        match x.is_whole() {
            true => x.sums::<true>(y),
            false => x.sums::<false>(y),
        }
    }

    fn to_bytes(x: &Sums<'_>, scales: &[f32; COLUMNS], zero: i32, bounds: [i32; 2], y: &mut [u8]) {
        match x.is_whole() {
            true => x.bytes::<true>(scales, zero, bounds, y),
            false => x.bytes::<false>(scales, zero, bounds, y),
        }
    }

    fn to_floats(
        x: &Sums<'_>, scales: &[f32; COLUMNS], bias: Option<&[f32; COLUMNS]>, activation: Activation,
        y: &mut [f32],
    ) {
        match x.is_whole() {
            true => x.floats::<true>(scales, bias, activation, y),
            false => x.floats::<false>(scales, bias, activation, y),
        }
    }
}

/// What becomes of the sums of some rows, while they are computed block by block.
pub(crate) struct Finish<'a, 'y> {
    pub(crate) cpu: crate::Cpu,
    /// Where the result rows begin, and the sum of each row of the left operand: see [`Sums`].
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
        let (cpu, epilogue, columns) = (self.cpu, self.epilogue, self.block(at));
        let sums = Sums {
            sums,
            rows: &self.rows[rows.clone()],
            row_sums: &self.row_sums[rows],
            columns,
            offset: columns.of(epilogue.offset),
            zero: (!epilogue.zero.is_empty()).then(|| columns.of(epilogue.zero)),
        };
        match self.output {
            Output::Sums(y) => to_sums(cpu, &sums, y),
            // A residual is added when all columns of a row are there.
            Output::Bytes(y, to) => {
                let scales = columns.of(to.scale);
                to_bytes(cpu, &sums, &scales, to.zero, to.bounds, y);
            }
            Output::Floats {
                y,
                scale,
                bias,
                activation,
            } => {
                let scales = columns.of(scale);
                let bias = (!bias.is_empty()).then(|| columns.of(bias));
                to_floats(cpu, &sums, &scales, bias.as_ref(), *activation, y);
            }
        }
    }
}
