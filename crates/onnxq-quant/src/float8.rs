//! `float8e4m3fn`: 4 bits of exponent, 3 of mantissa, no infinities, largest value 448.
//!
//! <https://onnx.ai/onnx/technical/float8.html>. Scales map the deviation of the data to that of
//! the 254 finite codes, as `onnxruntime.quantization` does, since 8-bit floats resolve small
//! values well whatever the largest is.

use crate::{FloatType, ValueRange};

/// The largest finite value.
const MAX: f32 = 448.0;

/// The standard deviation of the finite codes, as [`standard_deviation`] computes it.
const DEVIATION: f32 = f32::from_bits(1_120_411_022);

/// The nearest code, ties to even, saturating. NaN stays NaN.
pub fn f32_to_f8e4m3fn(v: f32) -> u8 {
    let sign = ((v.to_bits() >> 24) & 0x80) as u8;
    let a = v.abs();
    if a.is_nan() {
        return sign | 0x7f;
    }
    if a >= MAX {
        return sign | 0x7e;
    }
    if a < 2f32.powi(-6) {
        // Subnormal codes are multiples of 2^-9; 8 of them are the smallest normal code.
        return sign | (a * 512.0).round_ties_even() as u8;
    }
    let bits = a.to_bits();
    let rounded = bits + 0x7_ffff + ((bits >> 20) & 1);
    // The exponent's bias changes from 127 to 7. Below 448 rounding reaches 448 at most.
    sign | ((rounded >> 20) - (120 << 3)) as u8
}

/// The value of a code.
pub fn f8e4m3fn_to_f32(code: u8) -> f32 {
    let (exponent, mantissa) = ((code >> 3) & 0xf, code & 7);
    let magnitude = match (exponent, mantissa) {
        (15, 7) => f32::NAN,
        (0, m) => f32::from(m) / 512.0,
        (e, m) => (1.0 + f32::from(m) / 8.0) * 2f32.powi(i32::from(e) - 7),
    };
    if code & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

/// The scale for data of this standard deviation and range. Constant data, whose deviation is 0,
/// is scaled to the largest code instead (the reference divides by 0).
pub fn float8_scale(deviation: f32, range: ValueRange, float: FloatType) -> f32 {
    let scale = float.round_f32(deviation / DEVIATION);
    if f64::from(scale) >= float.min_positive() && scale.is_finite() {
        return scale;
    }
    let largest = if range.is_empty() {
        0.0
    } else {
        range.hi.abs().max(range.lo.abs())
    };
    let scale = float.round(f64::from(largest) / f64::from(MAX));
    if f64::from(scale) >= float.min_positive() {
        scale
    } else {
        1.0
    }
}

/// The standard deviation of a population in `f32`, with the sums in NumPy's pairwise order, so
/// that the last bit is that of `numpy.std`. (For `float16` data NumPy computes in `float16`,
/// and overflows at deviations above 256; here it is always `f32`.)
pub fn standard_deviation(values: &[f32]) -> f32 {
    let n = values.len() as f64;
    if values.is_empty() {
        return 0.0;
    }
    let mean = (f64::from(pairwise(values, &|v| v)) / n) as f32;
    let squares = pairwise(values, &|v| (v - mean) * (v - mean));
    ((f64::from(squares) / n) as f32).sqrt()
}

/// NumPy's sum: halves down to 128 elements, those in eight accumulators. The depth of the
/// recursion is the logarithm of the length.
pub(crate) fn pairwise<T: Copy, S>(values: &[T], f: &impl Fn(T) -> S) -> S
where
    S: Copy + std::ops::Add<Output = S> + From<f32>,
{
    let n = values.len();
    if n < 8 {
        return values.iter().fold(S::from(-0.0), |sum, &v| sum + f(v));
    }
    if n > 128 {
        let half = n / 2 / 8 * 8;
        return pairwise(&values[..half], f) + pairwise(&values[half..], f);
    }
    let (blocks, rest) = values.as_chunks::<8>();
    let mut r = blocks[0].map(f);
    for block in &blocks[1..] {
        for (r, &v) in r.iter_mut().zip(block) {
            *r = *r + f(v);
        }
    }
    let sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    rest.iter().fold(sum, |sum, &v| sum + f(v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_both_ways() {
        for code in 0..=255u8 {
            let v = f8e4m3fn_to_f32(code);
            assert_eq!(f32_to_f8e4m3fn(v), code, "{v}");
        }
        assert_eq!(f8e4m3fn_to_f32(0x7e), MAX);
        assert!(f8e4m3fn_to_f32(0xff).is_nan());
    }

    #[test]
    fn ties_go_to_the_even_code_and_large_values_to_the_largest() {
        for code in 0..0x7eu8 {
            let (a, b) = (f8e4m3fn_to_f32(code), f8e4m3fn_to_f32(code + 1));
            let tie = (a + b) / 2.0;
            assert_eq!(f32_to_f8e4m3fn(tie), code + (code & 1));
            assert_eq!(f32_to_f8e4m3fn(tie.next_down()), code);
            assert_eq!(f32_to_f8e4m3fn(tie.next_up()), code + 1);
        }
        assert_eq!(f32_to_f8e4m3fn(1e30), 0x7e);
        assert_eq!(f32_to_f8e4m3fn(f32::NEG_INFINITY), 0xfe);
    }

    #[test]
    fn the_deviation_of_the_codes() {
        let finite: Vec<f32> = (0..=255)
            .map(f8e4m3fn_to_f32)
            .filter(|v| !v.is_nan())
            .collect();
        assert_eq!(standard_deviation(&finite), DEVIATION);
    }

    #[test]
    fn constant_data_is_scaled_to_the_largest_code() {
        let constant = |v| float8_scale(0.0, ValueRange::new(v, v), FloatType::F32);
        assert_eq!(constant(0.0), 1.0);
        assert_eq!(constant(-896.0), 2.0);
        assert_eq!(float8_scale(0.0, ValueRange::EMPTY, FloatType::F32), 1.0);
        assert_eq!(
            float8_scale(DEVIATION, ValueRange::new(-1.0, 1.0), FloatType::F32),
            1.0
        );
    }
}
