//! Convolutions and pooling: operators that move a window over the spatial axes.
//!
//! [`window`] holds what they have in common: attributes, the size of the result, padding, and
//! which elements meet which. [`product`] is the one convolution, and its transpose, that all
//! float and integer operators are evaluated by.

use crate::{Operator, ops::quantization::MS};

mod causal;
mod conv;
mod deform;
mod fold;
mod fused;
mod integer;
mod pool;
mod product;
mod region;
mod transpose;
mod unpool;
mod window;

pub(super) use pool::{average, pooled_shape};

pub(super) static OPERATORS: &[&dyn Operator] = &[
    &causal::CausalConvWithState,
    &conv::Conv,
    &deform::DeformConv,
    &fold::Col2Im,
    &fused::FusedConv,
    &integer::ConvInteger,
    &integer::QLinearConv { domain: "" },
    &integer::QLinearConv { domain: MS },
    &pool::AveragePool,
    &pool::GlobalAveragePool,
    &pool::GlobalLpPool,
    &pool::GlobalMaxPool,
    &pool::LpPool,
    &pool::MaxPool,
    &region::MaxRoiPool,
    &region::RoiAlign,
    &transpose::ConvTranspose,
    &unpool::MaxUnpool,
];
