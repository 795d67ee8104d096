//! The arithmetic of quantization: `real = scale * (code - zero_point)`.
//!
//! From a range of reals to a scale and a zero point ([`ParamSpec`]), from floats to codes
//! ([`quantize_weight`], [`quantize_bias`], [`data`]), and the forms that run-time quantization
//! takes ([`dynamic`]). Ranges come from [observers](TensorObserver) or from [`tables`]. Results equal those of `onnxruntime.quantization` 1.31 bit for bit for
//! the same ranges, except where a function says why it differs.
//!
//! *Invariant*: nothing here knows of graphs or operators, and no result
//! depends on the machine, on alignment or on how the work is cut into pieces.

mod bias;
pub mod data;
pub mod dynamic;
mod encode;
mod error;
mod float8;
mod floats;
mod granularity;
mod lstm;
mod method;
mod observe;
mod params;
mod qtype;
mod ranges;
pub mod tables;
mod weights;

pub use bias::{QuantizedBias, adjust_weight_scale, quantize_bias};
pub use error::{Error, Result};
pub use float8::{f8e4m3fn_to_f32, f32_to_f8e4m3fn, float8_scale, standard_deviation};
pub use floats::FloatType;
pub use granularity::Granularity;
pub use lstm::quantize_lstm_weight;
pub use method::{CalibrationSpec, Method};
pub use observe::{Observers, TensorObserver};
pub use params::{ParamSpec, Params, ValueRange, scale_tensor, zero_point_tensor};
pub use qtype::{QRange, QuantType};
pub use ranges::{Moments, Ranges, TensorRange};
pub use weights::{
    QuantizedWeight, WeightSpec, dequantize, quantize_weight, quantize_weight_in_ranges,
    quantize_with, weight_ranges,
};
