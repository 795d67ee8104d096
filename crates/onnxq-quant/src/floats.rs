//! The float types that can be quantized, and reading them as `f32` without a copy of the whole.

use std::ops::Range;

use half::{bf16, f16, slice::HalfFloatSliceExt};
use onnxq_tensor::{DType, Tensor};

use crate::{Error, Result};

/// A float type that can be quantized, and in which scales are stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the variants are the names of types")]
pub enum FloatType {
    F32,
    F16,
    BF16,
}

impl FloatType {
    /// The type whose values are elements of `dtype`.
    pub fn from_dtype(dtype: DType) -> Result<FloatType> {
        match dtype {
            DType::F32 => Ok(FloatType::F32),
            DType::F16 => Ok(FloatType::F16),
            DType::BF16 => Ok(FloatType::BF16),
            other => Err(Error::NotFloat(other)),
        }
    }

    /// The element type of tensors.
    pub fn dtype(self) -> DType {
        match self {
            FloatType::F32 => DType::F32,
            FloatType::F16 => DType::F16,
            FloatType::BF16 => DType::BF16,
        }
    }

    /// The smallest positive normal number.
    pub fn min_positive(self) -> f64 {
        match self {
            FloatType::F32 => f64::from(f32::MIN_POSITIVE),
            FloatType::F16 => f16::MIN_POSITIVE.to_f64(),
            FloatType::BF16 => bf16::MIN_POSITIVE.to_f64(),
        }
    }

    /// The nearest value of this type, ties to even, in one rounding.
    pub fn round(self, v: f64) -> f32 {
        match self {
            FloatType::F32 => v as f32,
            // The conversions from f64 of `half` round twice on machines with F16C.
            FloatType::F16 => f16::from_f32(round_to_odd(v)).to_f32(),
            FloatType::BF16 => bf16::from_f32(round_to_odd(v)).to_f32(),
        }
    }

    /// The nearest value of this type to an `f32`.
    pub(crate) fn round_f32(self, v: f32) -> f32 {
        match self {
            FloatType::F32 => v,
            FloatType::F16 => f16::from_f32(v).to_f32(),
            FloatType::BF16 => bf16::from_f32(v).to_f32(),
        }
    }
}

/// The neighbour of `v` in `f32` whose last bit is odd, unless `v` is an `f32`. Rounding that to
/// a type with at least two bits less gives what rounding `v` itself would (Boldo and Melquiond,
/// "When double rounding is odd").
fn round_to_odd(v: f64) -> f32 {
    let r = v as f32;
    if f64::from(r) == v || !r.is_finite() || r.to_bits() & 1 == 1 {
        return r;
    }
    let away = v.abs() > f64::from(r).abs();
    f32::from_bits(if away {
        r.to_bits() + 1
    } else {
        r.to_bits() - 1
    })
}

/// Elements that are looked at together: their `f32` form stays in the first-level cache.
pub(crate) const BLOCK: usize = 2048;

/// Where a block is widened or aligned.
pub(crate) type Scratch = Box<[f32; BLOCK]>;

pub(crate) fn scratch() -> Scratch {
    Box::new([0.0; BLOCK])
}

/// The elements of a float tensor, read as `f32` a block at a time.
pub(crate) struct Floats<'a> {
    pub(crate) float: FloatType,
    bytes: &'a [u8],
    /// The elements themselves, where they are `f32` and aligned; in files they need not be.
    pub(crate) aligned: Option<&'a [f32]>,
}

impl<'a> Floats<'a> {
    pub(crate) fn new(tensor: &'a Tensor) -> Result<Floats<'a>> {
        let float = FloatType::from_dtype(tensor.dtype())?;
        let bytes = tensor.bytes();
        let aligned = (float == FloatType::F32).then(|| bytemuck::try_cast_slice(bytes).ok());
        Ok(Floats {
            float,
            bytes,
            aligned: aligned.flatten(),
        })
    }

    pub(crate) fn of_slice(values: &'a [f32]) -> Floats<'a> {
        Floats {
            float: FloatType::F32,
            bytes: bytemuck::cast_slice(values),
            aligned: Some(values),
        }
    }

    /// The elements of `span`, at most [`BLOCK`] of them.
    pub(crate) fn load<'s>(&'s self, span: Range<usize>, scratch: &'s mut Scratch) -> &'s [f32] {
        if let Some(values) = self.aligned {
            return &values[span];
        }
        let out = &mut scratch[..span.len()];
        match self.float {
            FloatType::F32 => {
                let bytes = &self.bytes[4 * span.start..4 * span.end];
                bytemuck::cast_slice_mut(out).copy_from_slice(bytes);
            }
            FloatType::F16 => {
                let mut halves = [f16::ZERO; BLOCK];
                let halves = &mut halves[..span.len()];
                let bytes = &self.bytes[2 * span.start..2 * span.end];
                bytemuck::cast_slice_mut(halves).copy_from_slice(bytes);
                halves.convert_to_f32_slice(out);
            }
            FloatType::BF16 => {
                let bytes = &self.bytes[2 * span.start..2 * span.end];
                for (o, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *o = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
                }
            }
        }
        out
    }

    /// The element at `i`.
    pub(crate) fn get(&self, i: usize) -> f32 {
        let half = |i| u16::from_le_bytes([self.bytes[2 * i], self.bytes[2 * i + 1]]);
        match self.float {
            FloatType::F32 => bytemuck::pod_read_unaligned(&self.bytes[4 * i..4 * i + 4]),
            FloatType::F16 => f16::from_bits(half(i)).to_f32(),
            FloatType::BF16 => bf16::from_bits(half(i)).to_f32(),
        }
    }
}

#[cfg(test)]
mod tests {
    use onnxq_tensor::Buffer;

    use super::*;

    #[test]
    fn rounding_to_half_happens_once() {
        // Just above the tie between 1 and the next half: f32 would round it onto the tie.
        let tie = 1.0 + 2f64.powi(-11);
        assert_eq!(FloatType::F16.round(tie), 1.0);
        assert_eq!(
            FloatType::F16.round(tie + 2f64.powi(-40)),
            1.0 + 2f32.powi(-10)
        );
        assert_eq!(
            FloatType::F16.round(-tie - 2f64.powi(-40)),
            -1.0 - 2f32.powi(-10)
        );
        let odd = 1.0 + 3.0 * 2f64.powi(-11);
        assert_eq!(
            FloatType::F16.round(odd - 2f64.powi(-40)),
            1.0 + 2f32.powi(-10)
        );
        assert_eq!(FloatType::BF16.round(1.0 + 2f64.powi(-8)), 1.0);
        assert_eq!(
            FloatType::BF16.round(1.0 + 2f64.powi(-8) + 2f64.powi(-40)),
            1.0078125
        );
        assert_eq!(FloatType::F16.round(1e300), f32::INFINITY);
        assert_eq!(FloatType::F16.round(2f64.powi(-24)), 2f32.powi(-24));
    }

    #[test]
    fn unaligned_floats_read_the_same() {
        let values: Vec<f32> = (0..50).map(|i| i as f32 * 0.37 - 3.0).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        for shift in 0..4 {
            let padded: Vec<u8> = [vec![0; shift], bytes.clone()].concat();
            let buffer = Buffer::from(padded).slice(shift..shift + bytes.len());
            let tensor = Tensor::new(DType::F32, [50].as_slice(), buffer).unwrap();
            let floats = Floats::new(&tensor).unwrap();
            assert_eq!(floats.load(3..44, &mut scratch()), &values[3..44]);
            assert_eq!(floats.get(7), values[7]);
        }
    }

    #[test]
    fn halves_are_widened() {
        let values = [0.5f32, -2.0, 65504.0, 0.0];
        let f16s = Tensor::vector(values.map(f16::from_f32).to_vec());
        let floats = Floats::new(&f16s).unwrap();
        assert_eq!(floats.load(1..4, &mut scratch()), &values[1..]);
        assert_eq!(floats.get(0), 0.5);
        let bf16s = Tensor::vector(values.map(bf16::from_f32).to_vec());
        let floats = Floats::new(&bf16s).unwrap();
        assert_eq!(floats.load(0..2, &mut scratch()), &values[..2]);
        assert_eq!(floats.get(1), -2.0);
        assert!(matches!(
            Floats::new(&Tensor::scalar(1i32)),
            Err(Error::NotFloat(DType::I32))
        ));
    }
}
