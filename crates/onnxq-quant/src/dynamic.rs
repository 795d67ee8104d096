//! Parameters that are computed while a model runs, in `f32` as the operators do it.

use crate::{
    Params, QRange, QuantType, Result, ValueRange,
    data::{self, Code},
};

/// `DynamicQuantizeLinear`: codes of `uint8` and their parameters. NaN is an error.
///
/// <https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html>
pub fn dynamic_quantize_linear(values: &[f32]) -> Result<(Vec<u8>, Params)> {
    let params = dynamic_params(data::min_max(values)?, QuantType::UInt8, false, false);
    let mut codes = vec![0; values.len()];
    data::quantize(values, params, &mut codes);
    Ok((codes, params))
}

/// The same for any type of 8 or 16 bits, symmetric or not, over a reduced range or not.
pub fn dynamic_quantize<T: Code>(
    values: &[f32],
    symmetric: bool,
    reduce_range: bool,
) -> Result<(Vec<T>, Params)> {
    let range = data::min_max(values)?;
    let params = dynamic_params(range, T::QTYPE, symmetric, reduce_range);
    let mut codes = vec![T::zeroed(); values.len()];
    data::quantize(values, params, &mut codes);
    Ok((codes, params))
}

/// Scale and zero point for a range, every step rounded to `f32`:
///
/// - asymmetric: `scale = (hi - lo) / (qmax - qmin)`, `zero_point = round(qmin - lo / scale)`;
/// - symmetric: `scale = max(|lo|, |hi|) / ((qmax - qmin) / 2)`, the zero point in the middle;
///
/// with `lo` and `hi` widened to hold 0, ties to even, and a scale of 1 where it would be 0.
pub fn dynamic_params(
    range: ValueRange,
    qtype: QuantType,
    symmetric: bool,
    reduce_range: bool,
) -> Params {
    let codes = QRange::of(qtype, symmetric, reduce_range);
    let steps = codes.steps() as f32;
    // An empty range has its ends crossed, and becomes [0, 0].
    let (lo, hi) = (range.lo.min(0.0), range.hi.max(0.0));
    let scale = if symmetric {
        hi.max(-lo) / (steps / 2.0)
    } else {
        (hi - lo) / steps
    };
    let scale = if scale == 0.0 { 1.0 } else { scale };
    let zero_point = if symmetric {
        codes.middle()
    } else {
        let zero = codes.min as f32 - lo / scale;
        zero.clamp(codes.min as f32, codes.max as f32)
            .round_ties_even() as i32
    };
    Params { scale, zero_point }
}
