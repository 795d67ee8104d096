//! Quantization: operators that go from float to integer and back.
//!
//! The arithmetic follows ONNX Runtime's, bit for bit: see [`arith`].

use crate::Operator;

pub(super) mod arith;
pub(super) mod channels;
pub(super) mod dynamic;
mod linear;
pub(super) mod packed;
pub(super) mod qlinear;

pub(super) static OPERATORS: &[&dyn Operator] = &[
    &dynamic::DynamicQuantizeLinear,
    &linear::QuantizeLinear { domain: "" },
    &linear::DequantizeLinear { domain: "" },
    &linear::QuantizeLinear { domain: MS },
    &linear::DequantizeLinear { domain: MS },
    &packed::GatherBlockQuantized,
];

/// The domain of ONNX Runtime's own operators.
pub(super) const MS: &str = "com.microsoft";
