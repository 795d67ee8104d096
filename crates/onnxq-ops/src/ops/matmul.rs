//! Matrix products: MatMul, Gemm, Einsum, and their integer forms.

use crate::Operator;

mod determinant;
mod einsum;
mod gemm;
mod integer;
mod nbits;
mod product;

pub(super) use {
    gemm::broadcast_to,
    product::{Stacks, wrapped},
};

pub(super) static OPERATORS: &[&dyn Operator] = &[
    &determinant::Det,
    &einsum::Einsum,
    &gemm::Gemm,
    &integer::DynamicQuantizeMatMul,
    &integer::MatMulInteger,
    &integer::MatMulIntegerToFloat,
    &integer::QGemm,
    &integer::QLinearMatMul { domain: "" },
    &nbits::MatMulNBits,
    &product::FusedMatMul,
    &product::MatMul,
];
