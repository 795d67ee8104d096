//! Lowering of QDQ to integer operators.
//!
//! What is quantized while the model runs becomes DynamicQuantizeLinear, a product of codes
//! MatMulInteger or ConvInteger, and its `int32` sums are dequantized by one DequantizeLinear, whose
//! scale is the product of the operands' scales. What has constant parameters on every side becomes
//! one operator on codes (QLinearConv, QLinearMatMul). What no integer operator expresses stays as it
//! is: valid QDQ, which computes the same.

pub(crate) mod carry_codes;
pub(crate) mod eliminate_redundant_qdq;
pub(crate) mod fuse_clamp_quantize;
pub(crate) mod fuse_dynamic_quantize;
pub(crate) mod lower_conv;
pub(crate) mod lower_gather;
pub(crate) mod lower_gemm;
pub(crate) mod lower_lstm;
pub(crate) mod lower_matmul;
pub(crate) mod lower_qgemm;
pub(crate) mod lower_qlinear_contrib;
pub(crate) mod lower_qlinear_conv;
pub(crate) mod lower_qlinear_matmul;
pub(crate) mod raise_qoperator;
pub(crate) mod unsign_activations;

mod pattern;
mod product;
mod qdq;
mod qlinear_bias;
