//! The sum with another quantized tensor, after a product has become bytes and while these are in
//! the cache.

use crate::{Quantize, Requantize, Residual, elementwise::CHUNK, tiers::tiers};

/// Adds the residual to the rows that begin at `rows` (`usize::MAX` for rows that nobody wants) and
/// have `len` bytes. Rows that follow on each other are one.
pub(crate) fn add_rows(
    cpu: crate::Cpu,
    rows: impl Iterator<Item = usize>,
    len: usize,
    to: &Requantize<'_>,
    y: &mut [u8],
) {
    let Some(residual) = &to.residual else {
        return;
    };
    let mut together = 0..0;
    for row in rows.filter(|&row| row != usize::MAX) {
        if row != together.end {
            add_one(cpu, together, to, residual, y);
            together = row..row;
        }
        together.end += len;
    }
    add_one(cpu, together, to, residual, y);
}

fn add_one(
    cpu: crate::Cpu,
    range: core::ops::Range<usize>,
    to: &Requantize<'_>,
    residual: &Residual<'_>,
    y: &mut [u8],
) {
    add(
        cpu,
        &mut y[range.clone()],
        &residual.data[range],
        to.zero,
        to.bounds[0] < 0,
        residual,
    );
}

/// The value of a byte of either type is that of the flipped byte, less the second number.
#[inline(always)]
fn flipped(zero: i32, signed: bool) -> (u8, i32) {
    match signed {
        true => (0x80, zero + 128),
        false => (0, zero),
    }
}

/// What a chunk of bytes becomes with a chunk of others. A closure would not be compiled for the
/// tier.
#[derive(Clone, Copy)]
struct Sum {
    /// Of the bytes and of the others: what flips them, zero point, scale.
    operands: [(u8, i32, f32); 2],
    to: Quantize,
    /// The same in steps of the result: the factors of flipped bytes, and what is added. `None` where
    /// roundings could reach too far.
    steps: Option<[f32; 3]>,
}

impl Sum {
    #[inline(always)]
    fn chunk(self, y: &mut [u8; CHUNK], other: &[u8; CHUNK]) {
        let [(flip, zero, scale), (other_flip, other_zero, other_scale)] = self.operands;
        let mut sums = [0.0; CHUNK];
        if let Some([factor, other_factor, start]) = self.steps {
            for i in 0..CHUNK {
                let (q, other) = (f32::from(y[i] ^ flip), f32::from(other[i] ^ other_flip));
                sums[i] = q * factor + (other * other_factor + start);
            }
            let mut bytes = [0; CHUNK];
            if self.to.approximate(1.0, &sums, &mut bytes) {
                *y = bytes;
                return;
            }
        }
        for i in 0..CHUNK {
            let q = i32::from(y[i] ^ flip) - zero;
            let other = i32::from(other[i] ^ other_flip) - other_zero;
            sums[i] = q as f32 * scale + other as f32 * other_scale;
        }
        self.to.chunk(&sums, y);
    }
}

tiers! {
    /// Adds `other` to bytes with the zero point `zero`, in place.
    pub(crate) fn add(
        y: &mut [u8], other: &[u8], zero: i32, signed: bool, residual: &Residual<'_>,
    ) {
        let [scale, other_scale, sum_scale] = residual.scales;
        let [other_zero, sum_zero] = residual.zeros;
        let (flip, zero) = flipped(zero, signed);
        let (other_flip, other_zero) = flipped(other_zero, residual.signed);
        // Seven roundings, each of at most half a unit of the largest number that can be.
        let (factor, other_factor) = (scale / sum_scale, other_scale / sum_scale);
        let start = -(zero as f32 * factor + other_zero as f32 * other_factor);
        let largest = 255.0 * (factor.abs() + other_factor.abs()) + start.abs();
        let steps = (largest < 900.0).then_some([factor, other_factor, start]);
        let sum = Sum {
            steps,
            operands: [(flip, zero, scale), (other_flip, other_zero, other_scale)],
            to: Quantize {
                scale: sum_scale,
                zero: sum_zero,
                bounds: residual.bounds,
            },
        };
        let (whole, rest) = y.as_chunks_mut::<CHUNK>();
        let (other_whole, other_rest) = other.as_chunks::<CHUNK>();
        for (y, other) in whole.iter_mut().zip(other_whole) {
            sum.chunk(y, other);
        }
        if !rest.is_empty() {
            let (mut some, mut others) = ([0; CHUNK], [0; CHUNK]);
            some[..rest.len()].copy_from_slice(rest);
            others[..rest.len()].copy_from_slice(&other_rest[..rest.len()]);
            sum.chunk(&mut some, &others);
            rest.copy_from_slice(&some[..rest.len()]);
        }
    }
}
