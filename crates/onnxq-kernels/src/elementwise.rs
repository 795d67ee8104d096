//! Functions of single elements: floats to bytes and back, sums and products of quantized tensors.
//!
//! All follow the operators QuantizeLinear, DequantizeLinear, QLinearAdd and QLinearMul step by
//! step in `f32`, so that results are equal bit for bit.

use crate::{Cpu, Residual, epilogue::quantized, residual, tiers::tiers};

/// Elements that are computed together.
pub(crate) const CHUNK: usize = 64;

/// How floats become bytes: `clamp(rne(x / scale) + zero)`, where NaN becomes `zero`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Quantize {
    /// The scale.
    pub scale: f32,
    /// The zero point, of the type of the result.
    pub zero: i32,
    /// Bounds of the result: `-128..=127` for `i8`, `0..=255` for `u8`, or tighter.
    pub bounds: [i32; 2],
}

impl Quantize {
    /// To `i8` or `u8`.
    pub fn new(scale: f32, zero: i32, signed: bool) -> Quantize {
        Quantize {
            scale,
            zero,
            bounds: bounds(signed),
        }
    }

    /// Quantizes all of `x`.
    ///
    /// # Panics
    /// `y` is not as long.
    pub fn run(&self, cpu: Cpu, x: &[f32], y: &mut [u8]) {
        assert_eq!(x.len(), y.len(), "the result");
        quantize(cpu, x, *self, y);
    }

    /// One element.
    #[inline(always)]
    pub(crate) fn exact(self, x: f32) -> u8 {
        self.rounded(x / self.scale)
    }

    /// One element that has been divided by the scale.
    #[inline(always)]
    pub(crate) fn rounded(self, x: f32) -> u8 {
        let x = if x.is_nan() { 0.0 } else { x };
        quantized(x, self.zero, self.bounds) as u8
    }

    /// Divisions are slow. A product by the reciprocal rounds to the same integer unless it is
    /// close to the middle between two, within the error of a few roundings.
    #[inline(always)]
    pub(crate) fn chunk(self, x: &[f32; CHUNK], y: &mut [u8; CHUNK]) {
        if !self.approximate(self.scale, x, y) {
            for i in 0..CHUNK {
                y[i] = self.exact(x[i]);
            }
        }
    }

    /// Quantizes by the reciprocal of `scale`, and says whether all results are certain: those of
    /// any way to compute the same with an error under 4e-4.
    #[inline(always)]
    pub(crate) fn approximate(self, scale: f32, x: &[f32; CHUNK], y: &mut [u8; CHUNK]) -> bool {
        // At this size the spacing of floats is 1, and the lowest byte of zero is 0.
        const SHIFT: f32 = 12_582_912.0;
        const FAR: f32 = 0.4995;
        let reciprocal = 1.0 / scale;
        // The error is bounded where neither is subnormal.
        let mut certain = scale > 1e-37 && scale < 1e37;
        let low = (self.bounds[0] - self.zero) as f32;
        let high = (self.bounds[1] - self.zero) as f32;
        let mut distances = [0f32; CHUNK];
        for i in 0..CHUNK {
            // NaN passes both, and is far from all integers.
            let v = x[i] * reciprocal;
            let v = if v < low { low } else { v };
            let v = if v > high { high } else { v };
            let shifted = v + SHIFT;
            distances[i] = (v - (shifted - SHIFT)).abs();
            y[i] = (shifted.to_bits() as u8).wrapping_add(self.zero as u8);
        }
        for distance in distances {
            certain &= distance < FAR;
        }
        certain
    }
}

/// The bounds of a type of bytes.
fn bounds(signed: bool) -> [i32; 2] {
    if signed { [-128, 127] } else { [0, 255] }
}

/// What the bytes of a tensor stand for: `(q - zero) · scale`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Quantized {
    /// The scale.
    pub scale: f32,
    /// The zero point.
    pub zero: i32,
    /// Whether the bytes are `i8`.
    pub signed: bool,
}

impl Quantized {
    /// What a byte stands for.
    #[inline(always)]
    pub fn real(self, byte: u8) -> f32 {
        self.centered(byte) as f32 * self.scale
    }

    /// `q - zero`, without a condition in the loop.
    #[inline(always)]
    fn centered(self, byte: u8) -> i32 {
        let flip = if self.signed { 0x80 } else { 0 };
        i32::from(byte ^ flip) - (i32::from(flip) + self.zero)
    }

    /// Floats for all of `x`.
    ///
    /// # Panics
    /// `y` is not as long.
    pub fn dequantize(&self, cpu: Cpu, x: &[u8], y: &mut [f32]) {
        assert_eq!(x.len(), y.len(), "the result");
        dequantize(cpu, x, *self, y);
    }
}

/// Floats for 32-bit integers: `(x - zero) · scale`.
///
/// # Panics
/// `y` is not as long.
pub fn dequantize_integers(cpu: Cpu, x: &[i32], scale: f32, zero: i32, y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "the result");
    integers(cpu, x, scale, zero, y);
}

/// Scales and zero points along one axis.
#[derive(Clone, Copy, Debug)]
pub struct AxisScales<'a> {
    /// Scales.
    pub scales: &'a [f32],
    /// As many zero points, or none where all are 0.
    pub zeros: &'a [i32],
    /// Elements after one step on the axis: 1 for columns.
    pub inner: usize,
}

impl AxisScales<'_> {
    fn check(&self, x: usize, y: usize) {
        let count = self.scales.len();
        assert!(
            self.zeros.is_empty() || self.zeros.len() == count,
            "a zero point for each scale"
        );
        assert_eq!(x, y, "the result");
        let row = count * self.inner;
        assert!(x == 0 || (row > 0 && x.is_multiple_of(row)), "whole axes");
    }

    fn zero(&self, i: usize) -> i32 {
        self.zeros.get(i).copied().unwrap_or(0)
    }

    /// Floats for bytes.
    ///
    /// # Panics
    /// Sizes that do not fit together.
    pub fn dequantize(&self, cpu: Cpu, x: &[u8], signed: bool, y: &mut [f32]) {
        self.check(x.len(), y.len());
        if x.is_empty() {
            return;
        }
        if self.inner == 1 {
            dequantize_columns(cpu, x, signed, self, y);
            return;
        }
        let rows = x
            .chunks_exact(self.inner)
            .zip(y.chunks_exact_mut(self.inner));
        for (i, (x, y)) in rows.enumerate() {
            let i = i % self.scales.len();
            let from = Quantized {
                scale: self.scales[i],
                zero: self.zero(i),
                signed,
            };
            dequantize(cpu, x, from, y);
        }
    }

    /// Bytes for floats.
    ///
    /// # Panics
    /// Sizes that do not fit together.
    pub fn quantize(&self, cpu: Cpu, x: &[f32], signed: bool, y: &mut [u8]) {
        self.check(x.len(), y.len());
        if x.is_empty() {
            return;
        }
        if self.inner == 1 {
            quantize_columns(cpu, x, signed, self, y);
            return;
        }
        let rows = x
            .chunks_exact(self.inner)
            .zip(y.chunks_exact_mut(self.inner));
        for (i, (x, y)) in rows.enumerate() {
            let i = i % self.scales.len();
            quantize(
                cpu,
                x,
                Quantize::new(self.scales[i], self.zero(i), signed),
                y,
            );
        }
    }
}

/// The smallest and the largest of all floats, NaN aside; of none infinity and its negative.
pub fn range(cpu: Cpu, x: &[f32]) -> [f32; 2] {
    extremes(cpu, x)
}

/// The sum of each row of `depth` bytes.
///
/// # Panics
/// Sizes that do not fit together.
pub fn row_sums(cpu: Cpu, x: &[u8], signed: bool, depth: usize, y: &mut [i32]) {
    assert_eq!(x.len(), y.len() * depth, "rows of bytes");
    sums(cpu, x, signed, depth, y);
}

/// What is done with two quantized numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Combine {
    /// `clamp(rne((a' · scale_a + b' · scale_b) / scale) + zero)`, where `a' = a - zero_a`.
    Add,
    /// `clamp(rne(a' · b' · (scale_a · scale_b / scale)) + zero)`.
    Multiply,
}

/// A quantized tensor.
pub type Operand<'a> = (&'a [u8], Quantized);

impl Combine {
    /// Combines each element of `a` with one of `b`, which is as long, or is repeated as often as it fits.
    ///
    /// # Panics
    /// `a` is not a whole number of times as long as `b`, or `y` not as long as `a`.
    pub fn run(self, cpu: Cpu, a: Operand<'_>, b: Operand<'_>, to: Quantize, y: &mut [u8]) {
        assert_eq!(a.0.len(), y.len(), "the result");
        if y.is_empty() {
            return;
        }
        let row = b.0.len();
        assert!(row > 0 && y.len().is_multiple_of(row), "the second operand");
        if let [b_byte] = b.0 {
            // One byte and 256 others: all that there can be.
            let all: [u8; 256] = core::array::from_fn(|i| i as u8);
            let mut table = [0; 256];
            self.rows(cpu, (&all, a.1), (&[*b_byte; 256], b.1), to, &mut table);
            crate::lookup(cpu, a.0, &table, y);
            return;
        }
        self.rows(cpu, a, b, to, y);
    }

    fn rows(self, cpu: Cpu, a: Operand<'_>, b: Operand<'_>, to: Quantize, y: &mut [u8]) {
        match self {
            Combine::Add => {
                let residual = Residual {
                    data: Some(b.0),
                    row: false,
                    signed: b.1.signed,
                    scales: [a.1.scale, b.1.scale, to.scale],
                    zeros: [b.1.zero, to.zero],
                    bounds: to.bounds,
                    steps: None,
                };
                y.copy_from_slice(a.0);
                residual::add(cpu, y, b.0, a.1.zero, a.1.signed, &residual);
            }
            Combine::Multiply => multiply(cpu, a, b, to, y),
        }
    }
}

/// The table that moves bytes from one scale and zero point to another.
pub fn requantize_table(from: Quantized, to: Quantize) -> [u8; 256] {
    core::array::from_fn(|byte| to.exact(from.real(byte as u8)))
}

tiers! {
    fn quantize(x: &[f32], to: Quantize, y: &mut [u8]) {
        let (chunks, rest) = x.as_chunks();
        let (to_chunks, to_rest) = y.as_chunks_mut();
        for (x, y) in chunks.iter().zip(to_chunks) {
            to.chunk(x, y);
        }
        for (x, y) in rest.iter().zip(to_rest) {
            *y = to.exact(*x);
        }
    }

    fn quantize_columns(x: &[f32], signed: bool, by: &AxisScales<'_>, y: &mut [u8]) {
        let columns = by.scales.len();
        let bounds = bounds(signed);
        for (x, y) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)) {
            for (i, ((y, x), scale)) in y.iter_mut().zip(x).zip(by.scales).enumerate() {
                let zero = if by.zeros.is_empty() { 0 } else { by.zeros[i] };
                *y = Quantize { scale: *scale, zero, bounds }.exact(*x);
            }
        }
    }

    fn dequantize(x: &[u8], from: Quantized, y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = from.real(*x);
        }
    }

    fn dequantize_columns(x: &[u8], signed: bool, by: &AxisScales<'_>, y: &mut [f32]) {
        let columns = by.scales.len();
        for (x, y) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)) {
            if by.zeros.is_empty() {
                for ((y, x), &scale) in y.iter_mut().zip(x).zip(by.scales) {
                    *y = Quantized { scale, zero: 0, signed }.real(*x);
                }
                continue;
            }
            for (((y, x), &scale), &zero) in y.iter_mut().zip(x).zip(by.scales).zip(by.zeros) {
                *y = Quantized { scale, zero, signed }.real(*x);
            }
        }
    }

    fn integers(x: &[i32], scale: f32, zero: i32, y: &mut [f32]) {
        if zero == 0 {
            for (y, x) in y.iter_mut().zip(x) {
                *y = *x as f32 * scale;
            }
            return;
        }
        for (y, x) in y.iter_mut().zip(x) {
            *y = (i64::from(*x) - i64::from(zero)) as f32 * scale;
        }
    }

    fn extremes(x: &[f32]) -> [f32; 2] {
        let (mut low, mut high) = ([f32::INFINITY; CHUNK], [f32::NEG_INFINITY; CHUNK]);
        let (chunks, rest) = x.as_chunks::<CHUNK>();
        for x in chunks {
            for i in 0..CHUNK {
                low[i] = if x[i] < low[i] { x[i] } else { low[i] };
                high[i] = if x[i] > high[i] { x[i] } else { high[i] };
            }
        }
        let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
        for &x in rest.iter().chain(&low) {
            least = if x < least { x } else { least };
        }
        for &x in rest.iter().chain(&high) {
            most = if x > most { x } else { most };
        }
        [least, most]
    }

    fn sums(x: &[u8], signed: bool, depth: usize, y: &mut [i32]) {
        let flip = if signed { 0x80 } else { 0 };
        let extra = (depth as i32).wrapping_mul(i32::from(flip));
        if depth == 0 {
            y.fill(0);
            return;
        }
        for (x, y) in x.chunks_exact(depth).zip(y) {
            let mut sum = 0i32;
            for x in x {
                sum = sum.wrapping_add(i32::from(x ^ flip));
            }
            *y = sum.wrapping_sub(extra);
        }
    }

    fn multiply(a: Operand<'_>, b: Operand<'_>, to: Quantize, y: &mut [u8]) {
        let ((a, of_a), (b, of_b)) = (a, b);
        let factor = of_a.scale * of_b.scale / to.scale;
        for (a, y) in a.chunks_exact(b.len()).zip(y.chunks_exact_mut(b.len())) {
            for ((a, b), y) in a.iter().zip(b).zip(y) {
                let product = of_a.centered(*a) as f32 * of_b.centered(*b) as f32;
                *y = to.rounded(product * factor);
            }
        }
    }
}
