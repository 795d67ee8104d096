//! Biases in `int32`, at the scale of the product that they are added to.

use onnxq_tensor::{DType, Dims, Tensor, element_count};

use crate::{Error, FloatType, Result, floats::Floats, params::scale_tensor, weights::read_scales};

/// A bias in codes; the zero point is 0.
#[derive(Clone, PartialEq, Debug)]
pub struct QuantizedBias {
    /// The codes, `int32`.
    pub data: Tensor,
    /// One scale, shape `[1]`, or one for each channel, in the type of the bias.
    pub scale: Tensor,
    /// Zero, `int32`: of rank 0 for one scale, else in the shape of the scales.
    pub zero_point: Tensor,
    /// The axis of the channels, where there is more than one scale: the last of the bias.
    pub axis: Option<usize>,
    /// How many elements were too large for `int32` and were clamped.
    pub saturated: usize,
}

/// Quantizes `factor * bias` at the scale `input_scale * weight_scale`.
///
/// `factor` is 1 but for `Gemm`, where the operator that uses the codes has no `beta` any more
/// (and for an `alpha`, which scales the product, divide by it). The reference puts `beta` into
/// the scale instead, which loses it.
///
/// The product of scales is one of their float type, the division one of `f64`.
pub fn quantize_bias(
    bias: &Tensor,
    input_scale: f32,
    weight_scale: &Tensor,
    factor: f64,
) -> Result<QuantizedBias> {
    let values = Floats::new(bias)?;
    let float = values.float;
    let scale_type = FloatType::from_dtype(weight_scale.dtype())?;
    let scales: Vec<f32> = read_scales(weight_scale)?
        .iter()
        .map(|w| float.round_f32(scale_type.round_f32(input_scale * w)))
        .collect();
    if let Some(index) = scales.iter().position(|&s| !(s.is_finite() && s > 0.0)) {
        return Err(Error::Scale {
            index,
            value: scales[index],
        });
    }
    let dims = bias_dims(bias, scales.len())?;
    let mut saturated = 0;
    let mut codes = Vec::with_capacity(bias.len());
    for i in 0..element_count(&dims)? {
        let index = if bias.len() == 1 { 0 } else { i };
        let value = values.get(index);
        if !value.is_finite() {
            return Err(Error::NotFinite { index, value });
        }
        let scale = scales[i % scales.len()];
        let code = (f64::from(value) * factor / f64::from(scale)).round_ties_even();
        saturated += usize::from(code < f64::from(i32::MIN) || code > f64::from(i32::MAX));
        codes.push(code as i32);
    }
    let one = scales.len() == 1;
    let axis = (!one).then(|| dims.len() - 1);
    let param_dims = Dims::from_slice(&[scales.len()]);
    Ok(QuantizedBias {
        data: Tensor::from_vec(dims, codes)?,
        scale: scale_tensor(float, param_dims.clone(), &scales)?,
        zero_point: Tensor::zeros(DType::I32, if one { Dims::new() } else { param_dims })?,
        axis,
        saturated,
    })
}

/// The shape of the codes: that of the bias, unless one number has to become one per channel.
fn bias_dims(bias: &Tensor, channels: usize) -> Result<Dims> {
    let dims = Dims::from_slice(bias.dims());
    if channels == 1 || dims.last() == Some(&channels) {
        return Ok(dims);
    }
    if bias.len() != 1 {
        return Err(Error::BiasShape {
            bias: dims.to_vec(),
            channels,
        });
    }
    let mut wide = dims;
    wide.pop();
    wide.push(channels);
    Ok(wide)
}

/// Weight scales large enough that the bias fits `int32` at the scale of the product, or `None`
/// where they are already. The weight must have zero points of 0 (and 8 or 16 bits); it is to be
/// quantized anew [with](crate::quantize_with) the new scales.
///
/// Of channels with one scale each the reference computes the least scale from an `f32`; so does
/// this.
pub fn adjust_weight_scale(
    bias: &Tensor,
    input_scale: f32,
    weight_scale: &Tensor,
) -> Result<Option<Tensor>> {
    /// Room for the rounding of the scales.
    const MARGIN: f64 = 1.0001;
    const CODES: f64 = 2.0 * i32::MAX as f64;
    let values = Floats::new(bias)?;
    let float = FloatType::from_dtype(weight_scale.dtype())?;
    let mut scales = read_scales(weight_scale)?;
    let finite = |i| {
        let value = values.get(i);
        if value.is_finite() {
            Ok(value.abs())
        } else {
            Err(Error::NotFinite { index: i, value })
        }
    };
    let mut largest = vec![0f32; scales.len()];
    if bias.len() == 1 {
        largest.fill(finite(0)?);
    } else {
        let channels = scales.len();
        bias_dims(bias, channels)?;
        for i in 0..bias.len() {
            let channel = &mut largest[i % channels];
            *channel = channel.max(finite(i)?);
        }
    }
    let per_channel = weight_scale.rank() == 1;
    let mut changed = false;
    for (scale, &largest) in scales.iter_mut().zip(&largest) {
        let doubled = if per_channel {
            f64::from(MARGIN as f32 * (2.0 * largest))
        } else {
            MARGIN * (2.0 * f64::from(largest))
        };
        let least = doubled / CODES;
        let product = f64::from(input_scale) * f64::from(*scale);
        if 0.0 < product && product < least {
            *scale = float.round(f64::from(*scale) * (least / product));
            changed = true;
        }
    }
    if !changed {
        return Ok(None);
    }
    Ok(Some(scale_tensor(
        float,
        Dims::from_slice(weight_scale.dims()),
        &scales,
    )?))
}
