//! Floating-point types of eight bits and fewer, to and from `f32`, as the ONNX operator Cast
//! defines it.
//!
//! Float 8: P. Micikevicius et al., "FP8 Formats for Deep Learning",
//! <https://arxiv.org/abs/2209.05433>, and B. Noune et al., "8-bit Numerical Formats for Deep
//! Neural Networks", <https://arxiv.org/abs/2206.02915> (the `FNUZ` ones). The others:
//! OCP Microscaling Formats (MX) Specification 1.0.
//!
//! *Invariant*: `encode(decode(code)) == code`, but for the many codes of NaN.

use crate::DType;

/// How one of the types writes numbers.
#[derive(Clone, Copy, Debug)]
pub struct NarrowFloat {
    /// Bits of the significand that are written.
    mantissa: u32,
    /// The exponent of the smallest normal number.
    min_exponent: i32,
    /// The code of the largest finite number.
    max: u8,
    sign: u8,
    special: Special,
}

/// What there is beyond the finite numbers.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Special {
    /// Infinity follows the largest number, the other codes above it are NaN.
    Ieee,
    /// The one code above the largest number is NaN.
    Nan,
    /// The code of minus zero is NaN, and there is no minus zero.
    NanIsMinusZero,
    /// Nothing.
    Finite,
}

/// Rounding of a conversion to `float8e8m0`, the attribute `round_mode` of Cast.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ScaleRounding {
    /// To the next power of two that is not smaller, the operator's default.
    #[default]
    Up,
    /// To the next power of two that is not larger.
    Down,
    /// To the nearest power of two, halfway up.
    Nearest,
}

const fn format(
    exponent: u32,
    mantissa: u32,
    min_exponent: i32,
    max: u8,
    special: Special,
) -> NarrowFloat {
    NarrowFloat {
        mantissa,
        min_exponent,
        max,
        sign: 1 << (exponent + mantissa),
        special,
    }
}

impl NarrowFloat {
    /// The format of a type with a sign and a significand; `None` for all others, such as
    /// `float8e8m0` (see [`decode_scale`]).
    pub fn of(dtype: DType) -> Option<NarrowFloat> {
        Some(match dtype {
            DType::F8E4M3FN => format(4, 3, -6, 0x7e, Special::Nan),
            DType::F8E4M3FNUZ => format(4, 3, -7, 0x7f, Special::NanIsMinusZero),
            DType::F8E5M2 => format(5, 2, -14, 0x7b, Special::Ieee),
            DType::F8E5M2FNUZ => format(5, 2, -15, 0x7f, Special::NanIsMinusZero),
            DType::F6E2M3 => format(2, 3, 0, 0x1f, Special::Finite),
            DType::F6E3M2 => format(3, 2, -2, 0x1f, Special::Finite),
            DType::F4E2M1 => format(2, 1, 0, 0x07, Special::Finite),
            _ => return None,
        })
    }

    /// The number that `code` stands for; bits above the width of the type do not matter.
    pub fn decode(&self, code: u8) -> f32 {
        let negative = code & self.sign != 0;
        let magnitude = code & (self.sign - 1);
        let value = if magnitude > self.max {
            if self.special == Special::Ieee && magnitude == self.max + 1 {
                f32::INFINITY
            } else {
                f32::NAN
            }
        } else if negative && magnitude == 0 && self.special == Special::NanIsMinusZero {
            return f32::NAN;
        } else {
            let (exponent, fraction) = (
                i32::from(magnitude >> self.mantissa),
                magnitude & ((1 << self.mantissa) - 1),
            );
            let significand = u32::from(fraction) | u32::from(exponent > 0) << self.mantissa;
            let exponent = exponent.max(1) - 1 + self.min_exponent - self.mantissa as i32;
            significand as f32 * power_of_two(exponent) as f32
        };
        if negative { -value } else { value }
    }

    /// The code nearest to `value`, ties to even. What rounds to more than the largest number
    /// becomes that number with `saturate` (and so do infinities), and infinity or NaN without,
    /// as far as the type has them. Without a NaN in the type, NaN is zero.
    pub fn encode(&self, value: f32, saturate: bool) -> u8 {
        let sign = if value.is_sign_negative() {
            self.sign
        } else {
            0
        };
        if value.is_nan() {
            return match self.special {
                Special::Ieee => sign | (self.max + 3),
                Special::Nan => sign | (self.max + 1),
                Special::NanIsMinusZero => self.sign,
                // The sign that the package ml_dtypes gives it, ONNX saying nothing.
                Special::Finite => self.sign ^ sign,
            };
        }
        let magnitude = self.encode_magnitude(value.abs());
        let overflow = magnitude > u32::from(self.max);
        match self.special {
            Special::NanIsMinusZero if overflow && !saturate => self.sign,
            Special::NanIsMinusZero if magnitude == 0 => 0,
            Special::Ieee | Special::Nan if overflow && !saturate => sign | (self.max + 1),
            _ => sign | magnitude.min(u32::from(self.max)) as u8,
        }
    }

    /// The code, if codes went on without end.
    fn encode_magnitude(&self, value: f32) -> u32 {
        if value.is_infinite() {
            return u32::MAX;
        }
        // The exponent, or that of the smallest normal number where the value is below.
        let exponent = ((value.to_bits() >> 23) as i32 - 127).max(self.min_exponent);
        // Scaled by a power of two in f64, which is exact, to count in units of the last place.
        let units = f64::from(value) * power_of_two(self.mantissa as i32 - exponent);
        // A significand that rounds up to the next power of two carries into the exponent.
        (((exponent - self.min_exponent) as u32) << self.mantissa) + units.round_ties_even() as u32
    }
}

/// `2^exponent`, for the exponents of normal `f64` numbers.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// The number that a code of `float8e8m0` stands for: `2^(code - 127)`, 255 being NaN.
pub fn decode_scale(code: u8) -> f32 {
    match code {
        0xff => f32::NAN,
        // 2^-127 is below the normal numbers of f32.
        0 => f32::MIN_POSITIVE / 2.0,
        _ => f32::from_bits(u32::from(code) << 23),
    }
}

/// The code of `float8e8m0` for the magnitude of `value`: its sign is dropped. Out of range,
/// and from infinity, comes the nearest end with `saturate`, and NaN without.
pub fn encode_scale(value: f32, saturate: bool, rounding: ScaleRounding) -> u8 {
    const NAN: u8 = 0xff;
    const MAX: f64 = f64::from_bits((127 + 1023) << 52);
    const MIN: f64 = f64::from_bits((-127i64 + 1023).cast_unsigned() << 52);
    let value = f64::from(value).abs();
    if value.is_nan() || !saturate && !(MIN..=f64::MAX).contains(&value) {
        return NAN;
    }
    let bits = value.clamp(MIN, 2.0 * MAX).to_bits();
    let (floor, fraction) = (bits >> 52, bits & ((1 << 52) - 1));
    let up = match rounding {
        ScaleRounding::Up => fraction > 0,
        ScaleRounding::Down => false,
        ScaleRounding::Nearest => fraction >> 51 == 1,
    };
    let code = floor + u64::from(up) - (1023 - 127);
    match u8::try_from(code) {
        Ok(code) if code != NAN => code,
        _ if saturate => NAN - 1,
        _ => NAN,
    }
}

#[cfg(test)]
mod tests;
