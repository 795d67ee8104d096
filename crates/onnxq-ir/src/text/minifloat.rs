//! Floating-point types of at most 16 bits as codes and values.

use half::{bf16, f16};
use onnxq_tensor::DType;
use onnxq_tensor::narrow::{NarrowFloat, ScaleRounding, decode_scale, encode_scale};

/// A floating-point type of at most 16 bits.
#[derive(Clone, Copy)]
pub(super) enum Minifloat {
    F16,
    BF16,
    /// `float8e8m0`.
    Scale,
    Narrow(NarrowFloat),
}

impl Minifloat {
    /// The format of `dtype`, if it is one of these.
    pub(super) fn of(dtype: DType) -> Option<Minifloat> {
        match dtype {
            DType::F16 => Some(Minifloat::F16),
            DType::BF16 => Some(Minifloat::BF16),
            DType::F8E8M0 => Some(Minifloat::Scale),
            _ => NarrowFloat::of(dtype).map(Minifloat::Narrow),
        }
    }

    /// The value of a code.
    pub(super) fn decode(self, code: u16) -> f32 {
        match self {
            Minifloat::F16 => f16::from_bits(code).to_f32(),
            Minifloat::BF16 => bf16::from_bits(code).to_f32(),
            Minifloat::Scale => decode_scale(code as u8),
            Minifloat::Narrow(format) => format.decode(code as u8),
        }
    }

    /// The code nearest to `value`; `None` outside of the type's range, and for infinities and
    /// NaN where the type has none.
    pub(super) fn encode(self, value: f32) -> Option<u16> {
        let (code, max) = match self {
            Minifloat::F16 => (f16::from_f32(value).to_bits(), f16::MAX.to_f32()),
            Minifloat::BF16 => (bf16::from_f32(value).to_bits(), bf16::MAX.to_f32()),
            Minifloat::Scale if value < decode_scale(0) => return None,
            Minifloat::Scale => {
                let code = encode_scale(value, false, ScaleRounding::Nearest);
                (code.into(), decode_scale(0xfe))
            }
            Minifloat::Narrow(format) => {
                let max = format.decode(format.encode(f32::MAX, true));
                (format.encode(value, false).into(), max)
            }
        };
        let back = self.decode(code);
        let exists = if value.is_finite() {
            value.abs() <= max
        } else {
            back == value || back.is_nan() && value.is_nan()
        };
        exists.then_some(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused() {
        let encode = |dtype, value| Minifloat::of(dtype).unwrap().encode(value);
        assert_eq!(encode(DType::F16, 65504.0), Some(0x7bff));
        assert_eq!(encode(DType::F16, 65505.0), None);
        assert_eq!(encode(DType::F16, f32::INFINITY), Some(0x7c00));
        assert_eq!(encode(DType::F8E4M3FN, 448.0), Some(0x7e));
        assert_eq!(encode(DType::F8E4M3FN, 449.0), None);
        assert_eq!(encode(DType::F8E4M3FN, f32::INFINITY), None);
        assert_eq!(encode(DType::F4E2M1, -6.0), Some(0xf));
        assert_eq!(encode(DType::F4E2M1, 6.1), None);
        assert_eq!(encode(DType::F4E2M1, f32::NAN), None);
        assert_eq!(encode(DType::F8E8M0, 1.0), Some(127));
        assert_eq!(encode(DType::F8E8M0, 0.0), None);
        assert_eq!(encode(DType::F8E8M0, -1.0), None);
        assert_eq!(encode(DType::F8E8M0, f32::MAX), None);
        assert_eq!(encode(DType::F8E8M0, f32::NAN), Some(0xff));
    }
}
