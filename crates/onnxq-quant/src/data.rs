//! The loops over data: smallest and largest, quantize, dequantize.
//!
//! Each works on slices of any length, so that callers cut large tensors for their threads; the
//! pieces give what the whole gives. They are written for the vectorizer of baseline x86-64 and
//! aarch64: no branches, no calls, selects in place of `f32::min`, and rounding by adding 1.5 *
//! 2^23, whose last bit is worth 1.

use bytemuck::Pod;

use crate::{Error, Params, QRange, QuantType, Result, ValueRange};

/// Adding this rounds to an integer, ties to even, and leaves it in the low bits.
const ROUND: f32 = 12_582_912.0;

/// The range of `values`; infinities count. NaN is an error with the index of the first.
pub fn min_max(values: &[f32]) -> Result<ValueRange> {
    let (range, nan) = scan(values);
    if nan {
        return Err(first(values, f32::is_nan));
    }
    Ok(range)
}

/// The error for the first of `values` that is `bad`.
fn first(values: &[f32], bad: impl Fn(f32) -> bool) -> Error {
    let found = values.iter().copied().enumerate().find(|&(_, v)| bad(v));
    let (index, value) = found.unwrap_or((0, f32::NAN));
    Error::NotFinite { index, value }
}

/// The range of the values that are numbers, and whether any is not.
pub(crate) fn scan(values: &[f32]) -> (ValueRange, bool) {
    const LANES: usize = 16;
    let mut lo = [f32::INFINITY; LANES];
    let mut hi = [f32::NEG_INFINITY; LANES];
    let mut nan = [0u32; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for i in 0..LANES {
            let v = block[i];
            lo[i] = if v < lo[i] { v } else { lo[i] };
            hi[i] = if v > hi[i] { v } else { hi[i] };
            nan[i] |= u32::from(v.is_nan());
        }
    }
    for (i, &v) in rest.iter().enumerate() {
        lo[i] = if v < lo[i] { v } else { lo[i] };
        hi[i] = if v > hi[i] { v } else { hi[i] };
        nan[i] |= u32::from(v.is_nan());
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            let (l, h) = (lo[i + half], hi[i + half]);
            lo[i] = if l < lo[i] { l } else { lo[i] };
            hi[i] = if h > hi[i] { h } else { hi[i] };
            nan[i] |= nan[i + half];
        }
    }
    (ValueRange::new(lo[0], hi[0]), nan[0] != 0)
}

/// Widens range `i` by value `i`, and says whether any value is NaN.
pub(crate) fn scan_each(values: &[f32], lo: &mut [f32], hi: &mut [f32]) -> bool {
    let mut nan = false;
    for ((&v, lo), hi) in values.iter().zip(lo).zip(hi) {
        *lo = if v < *lo { v } else { *lo };
        *hi = if v > *hi { v } else { *hi };
        nan |= v.is_nan();
    }
    nan
}

/// Widens range `i / width` by value `i`, and says whether any value is NaN.
pub(crate) fn scan_rows(values: &[f32], width: usize, lo: &mut [f32], hi: &mut [f32]) -> bool {
    let mut nan = false;
    for ((row, lo), hi) in values.chunks(width).zip(lo).zip(hi) {
        for &v in row {
            *lo = if v < *lo { v } else { *lo };
            *hi = if v > *hi { v } else { *hi };
            nan |= v.is_nan();
        }
    }
    nan
}

/// A Rust type that holds codes of one element each.
pub trait Code: Pod + Send + Sync + private::Sealed {
    /// The quantized type of which these are the codes.
    const QTYPE: QuantType;
}

mod private {
    pub trait Sealed {
        /// The low bits.
        fn truncate(v: i32) -> Self;
        fn widen(self) -> i32;
    }
}

macro_rules! codes {
    ($($rust:ty => $qtype:ident),*) => {$(
        impl Code for $rust {
            const QTYPE: QuantType = QuantType::$qtype;
        }
        impl private::Sealed for $rust {
            #[inline(always)]
            fn truncate(v: i32) -> $rust {
                v as $rust
            }
            #[inline(always)]
            fn widen(self) -> i32 {
                i32::from(self)
            }
        }
    )*};
}

codes!(i8 => Int8, u8 => UInt8, i16 => Int16, u16 => UInt16);

/// `code = saturate(round(value / scale) + zero_point)`, rounding ties to even *before* the zero
/// point is added, and dividing (not multiplying by the reciprocal), as `QuantizeLinear` does.
/// NaN gives the lowest code.
///
/// # Panics
///
/// If `values` and `codes` differ in length.
pub fn quantize<T: Code>(values: &[f32], params: Params, codes: &mut [T]) {
    let zero = params.zero_point as f32;
    quantize_in(values, params.scale, zero, QRange::full(T::QTYPE), codes);
}

/// [`quantize`] with saturation at the ends of `range`.
pub(crate) fn quantize_in<T: Code>(
    values: &[f32],
    scale: f32,
    zero: f32,
    range: QRange,
    codes: &mut [T],
) {
    assert_eq!(values.len(), codes.len(), "one code for each value");
    for (code, &v) in codes.iter_mut().zip(values) {
        *code = encode(v, scale, zero, range);
    }
}

/// [`quantize_in`] with scale and zero point `i` for value `i`.
pub(crate) fn quantize_each<T: Code>(
    values: &[f32],
    scales: &[f32],
    zeros: &[f32],
    range: QRange,
    codes: &mut [T],
) {
    assert_eq!(values.len(), codes.len(), "one code for each value");
    for (((code, &v), &scale), &zero) in codes.iter_mut().zip(values).zip(scales).zip(zeros) {
        *code = encode(v, scale, zero, range);
    }
}

/// Clamping to integers before rounding gives what clamping after it would, and keeps the sum
/// with [`ROUND`] in the range where its last bit is worth 1.
#[inline(always)]
fn encode<T: Code>(v: f32, scale: f32, zero: f32, range: QRange) -> T {
    let (lo, hi) = (range.min as f32 - zero, range.max as f32 - zero);
    let q = v / scale;
    let q = if q > lo { q } else { lo };
    let q = if q < hi { q } else { hi };
    let bits = ((q + ROUND) + zero).to_bits().wrapping_sub(ROUND.to_bits());
    T::truncate(bits as i32)
}

/// `value = (code - zero_point) * scale`, one multiplication in `f32`.
///
/// # Panics
///
/// If `codes` and `values` differ in length.
pub fn dequantize<T: Code>(codes: &[T], params: Params, values: &mut [f32]) {
    assert_eq!(codes.len(), values.len(), "one value for each code");
    for (v, &code) in values.iter_mut().zip(codes) {
        *v = (code.widen() - params.zero_point) as f32 * params.scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_named_wherever_it_stands() {
        for len in [1, 15, 16, 17, 100] {
            for at in [0, len / 2, len - 1] {
                let mut values = vec![1.0f32; len];
                values[at] = f32::NAN;
                match min_max(&values) {
                    Err(Error::NotFinite { index, value }) if value.is_nan() => {
                        assert_eq!(index, at);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    #[test]
    fn ranges_of_values() {
        assert!(min_max(&[]).unwrap().is_empty());
        let values: Vec<f32> = (0..77).map(|i| ((i * 37) % 77) as f32 - 30.0).collect();
        assert_eq!(min_max(&values).unwrap(), ValueRange::new(-30.0, 46.0));
        let infinite = min_max(&[1.0, f32::NEG_INFINITY]).unwrap();
        assert_eq!(infinite, ValueRange::new(f32::NEG_INFINITY, 1.0));
    }

    #[test]
    fn rounding_comes_before_the_zero_point() {
        let params = Params {
            scale: 1.0,
            zero_point: 128,
        };
        let mut codes = [0u8; 9];
        let values = [
            0.5,
            1.5,
            2.5,
            -0.5,
            -1.5,
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            3e38,
        ];
        quantize(&values, params, &mut codes);
        assert_eq!(codes, [128, 130, 130, 128, 126, 0, 255, 0, 255]);
    }

    #[test]
    fn sixteen_bits_reach_both_ends() {
        let mut codes = [0u16; 4];
        quantize(
            &[-9e9, -1.0, 65534.5, 9e9],
            Params {
                scale: 1.0,
                zero_point: 0,
            },
            &mut codes,
        );
        assert_eq!(codes, [0, 0, 65534, 65535]);
        let mut codes = [0u16; 2];
        quantize(
            &[-65535.0, 0.0],
            Params {
                scale: 1.0,
                zero_point: 65535,
            },
            &mut codes,
        );
        assert_eq!(codes, [0, 65535]);
        let mut codes = [0i16; 3];
        quantize(
            &[-4e4, 4e4, 0.5],
            Params {
                scale: 1.0,
                zero_point: -32768,
            },
            &mut codes,
        );
        assert_eq!(codes, [-32768, 7232, -32768]);
    }
}
