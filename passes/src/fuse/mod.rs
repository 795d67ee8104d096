//! Lowering of QDQ to integer operators.
//!
//! What is quantized while the model runs becomes DynamicQuantizeLinear, a product of codes
//! MatMulInteger or ConvInteger, and its `int32` sums are dequantized by one DequantizeLinear, whose
//! scale is the product of the operands' scales. What no integer operator expresses stays as it
//! is: valid QDQ, which computes the same.

pub(crate) mod fuse_dynamic_quantize;
pub(crate) mod lower_conv;
pub(crate) mod lower_gather;
pub(crate) mod lower_gemm;
pub(crate) mod lower_lstm;
pub(crate) mod lower_matmul;

mod pattern;
mod product;
