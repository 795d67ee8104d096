//! From a range of reals to a scale and a zero point.
//!
//! All arithmetic is in `f64`, and the zero point comes from the scale *before* that is rounded
//! to its type; both matter for equality with other tools in the last bit.

use half::{bf16, f16};
use onnxq_tensor::{Dims, Tensor};

use crate::{Error, FloatType, QRange, QuantType, Result};

/// The smallest and the largest of some values.
#[derive(Clone, Copy, PartialEq, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ValueRange {
    pub lo: f32,
    pub hi: f32,
}

impl ValueRange {
    /// The range of no values, the neutral element of [`merge`](ValueRange::merge).
    pub const EMPTY: ValueRange = ValueRange {
        lo: f32::INFINITY,
        hi: f32::NEG_INFINITY,
    };

    /// From `lo` to `hi`.
    pub fn new(lo: f32, hi: f32) -> ValueRange {
        ValueRange { lo, hi }
    }

    /// The range of the values of both.
    #[must_use]
    pub fn merge(self, other: ValueRange) -> ValueRange {
        ValueRange {
            lo: self.lo.min(other.lo),
            hi: self.hi.max(other.hi),
        }
    }

    /// Whether this is the range of no values.
    pub fn is_empty(self) -> bool {
        self == ValueRange::EMPTY
    }

    /// The range widened to hold 0, or `None` for that of no values.
    pub(crate) fn with_zero(self) -> Result<Option<ValueRange>> {
        let ValueRange { lo, hi } = self;
        if self.is_empty() {
            return Ok(None);
        }
        if !(lo.is_finite() && hi.is_finite() && lo <= hi) {
            return Err(Error::Range { lo, hi });
        }
        Ok(Some(ValueRange::new(lo.min(0.0), hi.max(0.0))))
    }
}

/// A scale and a zero point: `real = scale * (code - zero_point)`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Params {
    /// The scale, a value of the float type that it was computed for.
    pub scale: f32,
    /// The zero point, a code of the quantized type.
    pub zero_point: i32,
}

impl Params {
    /// What a range too small to have a scale gets, and a tensor without elements: its values
    /// are 0, and 0 is the code of 0.
    pub const DEGENERATE: Params = Params {
        scale: 1.0,
        zero_point: 0,
    };

    /// Scale and zero point as tensors of rank 0.
    pub fn to_tensors(self, qtype: QuantType, float: FloatType) -> Result<(Tensor, Tensor)> {
        let scale = scale_tensor(float, Dims::new(), &[self.scale])?;
        Ok((
            scale,
            zero_point_tensor(qtype, Dims::new(), &[self.zero_point])?,
        ))
    }
}

/// How scale and zero point follow from a range.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ParamSpec {
    /// The type of the codes.
    pub qtype: QuantType,
    /// Widen the range to `[-a, a]`, with the zero point in the middle.
    pub symmetric: bool,
    /// Leave the highest bit of the codes unused.
    pub reduce_range: bool,
    /// The least distance between the ends of the range; `hi` moves.
    pub min_real_range: Option<f64>,
    /// For asymmetric `uint8`: only 0 (for ranges without negative values) and the middle are
    /// zero points. Ignored otherwise.
    pub restricted_asymmetric: bool,
}

impl ParamSpec {
    /// Asymmetric, over the full range of codes.
    pub fn new(qtype: QuantType) -> ParamSpec {
        ParamSpec {
            qtype,
            symmetric: false,
            reduce_range: false,
            min_real_range: None,
            restricted_asymmetric: false,
        }
    }

    /// The same with another symmetry.
    #[must_use]
    pub fn symmetric(self, symmetric: bool) -> ParamSpec {
        ParamSpec { symmetric, ..self }
    }

    /// The range of codes that the range of reals is mapped to.
    pub fn qrange(&self) -> QRange {
        QRange::of(self.qtype, self.symmetric, self.reduce_range)
    }

    /// Scale and zero point for `range`, with the scale in type `float`.
    ///
    /// `float8e4m3fn` is an error: its scale follows from the deviation of the values and not
    /// from their range, see [`float8_scale`](crate::float8_scale).
    pub fn compute(&self, range: ValueRange, float: FloatType) -> Result<Params> {
        if self.qtype == QuantType::Float8E4M3FN {
            return Err(Error::Float8("range"));
        }
        if let Some(m) = self
            .min_real_range
            .filter(|m| !(m.is_finite() && *m >= 0.0))
        {
            return Err(Error::MinRealRange(m));
        }
        let Some(with_zero) = range.with_zero()? else {
            return Ok(Params::DEGENERATE);
        };
        if self.restricted_asymmetric && self.qtype == QuantType::UInt8 && !self.symmetric {
            return Ok(self.restricted(with_zero, float));
        }
        let ValueRange { mut lo, mut hi } = with_zero;
        if let Some(m) = self.min_real_range {
            hi = hi.max(float.round_f32(lo + float.round(m)));
        }
        if !hi.is_finite() {
            return Err(Error::Range { lo, hi });
        }
        if self.symmetric {
            hi = hi.max(-lo);
            lo = -hi;
        }
        let codes = self.qrange();
        let scale = (f64::from(hi) - f64::from(lo)) / f64::from(codes.steps());
        if scale < float.min_positive() {
            return Ok(Params::DEGENERATE);
        }
        let zero_point = if self.symmetric {
            codes.middle()
        } else {
            let zero = (f64::from(codes.min) - f64::from(lo) / scale).round_ties_even();
            // The range holds 0, so this clamps nothing; it bounds the cast.
            (zero as i32).clamp(codes.min, codes.max)
        };
        Ok(Params {
            scale: float.round(scale),
            zero_point,
        })
    }

    /// The zero point is one end or the middle; the scale covers the wider side of it.
    fn restricted(&self, range: ValueRange, float: FloatType) -> Params {
        let codes = self.qrange();
        let (lo, mut hi) = (f64::from(range.lo), f64::from(range.hi));
        if let Some(m) = self.min_real_range {
            hi = hi.max(lo + m);
        }
        let unit = Params {
            scale: float.round(1.0 / f64::from(codes.steps())),
            zero_point: codes.min,
        };
        if hi <= lo {
            return unit;
        }
        let (scale, zero_point) = if lo >= 0.0 {
            (hi / f64::from(codes.steps()), codes.min)
        } else {
            let middle = (codes.min + codes.max + 1) / 2;
            let below = -lo / f64::from(middle - codes.min);
            let above = hi / f64::from(codes.max - middle);
            (below.max(above), middle)
        };
        // A scale that rounds to nothing would divide by 0; the reference lets it.
        if scale < float.min_positive() {
            return unit;
        }
        Params {
            scale: float.round(scale),
            zero_point,
        }
    }
}

/// A tensor of scales in type `float`.
pub fn scale_tensor(float: FloatType, dims: impl Into<Dims>, scales: &[f32]) -> Result<Tensor> {
    let dims = dims.into();
    Ok(match float {
        FloatType::F32 => Tensor::from_vec(dims, scales.to_vec())?,
        FloatType::F16 => {
            Tensor::from_vec(dims, scales.iter().map(|&s| f16::from_f32(s)).collect())?
        }
        FloatType::BF16 => {
            Tensor::from_vec(dims, scales.iter().map(|&s| bf16::from_f32(s)).collect())?
        }
    })
}

/// A tensor of zero points of type `qtype`, which they must fit.
pub fn zero_point_tensor(
    qtype: QuantType,
    dims: impl Into<Dims>,
    zero_points: &[i32],
) -> Result<Tensor> {
    let dims = dims.into();
    let codes = match qtype {
        QuantType::Float8E4M3FN => QRange { min: 0, max: 0 },
        _ => QRange::full(qtype),
    };
    for (index, &z) in zero_points.iter().enumerate() {
        if !(codes.min..=codes.max).contains(&z) {
            return Err(Error::ZeroPoint {
                index,
                value: i64::from(z),
                qtype,
            });
        }
    }
    let zs = zero_points.iter();
    Ok(match qtype {
        QuantType::Int8 => Tensor::from_vec(dims, zs.map(|&z| z as i8).collect())?,
        QuantType::UInt8 => Tensor::from_vec(dims, zs.map(|&z| z as u8).collect())?,
        QuantType::Int16 => Tensor::from_vec(dims, zs.map(|&z| z as i16).collect())?,
        QuantType::UInt16 => Tensor::from_vec(dims, zs.map(|&z| z as u16).collect())?,
        QuantType::Int4 | QuantType::UInt4 => {
            Tensor::from_packed_bits(qtype.dtype(), dims, zs.map(|&z| z as u8))?
        }
        QuantType::Float8E4M3FN => Tensor::new(qtype.dtype(), dims, vec![0; zero_points.len()])?,
    })
}
