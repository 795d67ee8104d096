//! The operators, by family; each family lists its own.

use std::{collections::HashMap, sync::OnceLock};

use crate::Operator;

mod control;
mod convolution;
mod data;
mod detection;
mod elementwise;
mod image;
mod legacy;
mod loss;
mod matmul;
mod ml;
mod movement;
mod normalization;
mod number;
mod numeric;
mod quantization;
mod random;
mod recurrent;
mod reduction;
mod resize;
mod rules;
mod signal;
mod text;
mod transformer;
mod values;

pub use resize::{Taps, resize_taps};

static FAMILIES: &[&[&dyn Operator]] = &[
    control::branch::OPERATORS,
    control::loops::OPERATORS,
    control::optional::OPERATORS,
    control::scan::OPERATORS,
    control::sequence::OPERATORS,
    control::split::OPERATORS,
    convolution::OPERATORS,
    detection::OPERATORS,
    elementwise::activation::OPERATORS,
    elementwise::binary::OPERATORS,
    elementwise::cast::OPERATORS,
    elementwise::clip::OPERATORS,
    elementwise::gated::OPERATORS,
    elementwise::logic::OPERATORS,
    elementwise::select::OPERATORS,
    elementwise::unary::OPERATORS,
    elementwise::variadic::OPERATORS,
    image::OPERATORS,
    loss::OPERATORS,
    matmul::OPERATORS,
    ml::OPERATORS,
    movement::concat::OPERATORS,
    movement::constant::OPERATORS,
    movement::cumulate::OPERATORS,
    movement::expand::OPERATORS,
    movement::gather::OPERATORS,
    movement::one_hot::OPERATORS,
    movement::order::OPERATORS,
    movement::pad::OPERATORS,
    movement::reshape::OPERATORS,
    movement::scatter::OPERATORS,
    movement::select::OPERATORS,
    movement::shape::OPERATORS,
    movement::slice::OPERATORS,
    movement::transpose::OPERATORS,
    normalization::OPERATORS,
    quantization::OPERATORS,
    quantization::qlinear::OPERATORS,
    random::OPERATORS,
    recurrent::OPERATORS,
    reduction::OPERATORS,
    resize::OPERATORS,
    signal::OPERATORS,
    text::OPERATORS,
    transformer::OPERATORS,
];

/// Every operator, family by family.
pub fn all() -> impl Iterator<Item = &'static dyn Operator> {
    FAMILIES.iter().flat_map(|family| family.iter().copied())
}

/// The operator of this domain (`""` is the standard one) and name.
pub fn lookup(domain: &str, op_type: &str) -> Option<&'static dyn Operator> {
    type Table = HashMap<&'static str, HashMap<&'static str, &'static dyn Operator>>;
    static TABLE: OnceLock<Table> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let mut table = Table::new();
        for op in all() {
            table.entry(op.domain()).or_default().insert(op.name(), op);
        }
        table
    });
    table.get(domain)?.get(op_type).copied()
}

/// The opset at which the schema that counts at `opset` appeared; `None` if none had by then.
pub fn op_version(op: &dyn Operator, opset: i64) -> Option<i64> {
    op.since()
        .iter()
        .copied()
        .rev()
        .find(|&since| since <= opset)
}
