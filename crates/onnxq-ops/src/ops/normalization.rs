//! Normalizations: by statistics of a batch, of each instance, of each row; and Softmax.

use onnxq_ir::Op;

use crate::{Operator, QuantRole};

mod batch;
mod instance;
mod layer;
mod norm;
mod softmax;

pub(super) static OPERATORS: &[&dyn Operator] = &[
    &batch::BatchNormalization,
    &instance::GroupNormalization,
    &instance::InstanceNormalization,
    &instance::MeanVarianceNormalization,
    &layer::LayerNormalization,
    &layer::RmsNormalization {
        name: "RMSNormalization",
        since: &[23],
    },
    &layer::RmsNormalization {
        name: "SimplifiedLayerNormalization",
        since: &[1],
    },
    &norm::LpNormalization,
    &norm::Lrn,
    &softmax::Rows {
        name: "Softmax",
        kind: softmax::Kind::Softmax,
    },
    &softmax::Rows {
        name: "LogSoftmax",
        kind: softmax::Kind::LogSoftmax,
    },
    &softmax::Rows {
        name: "Hardmax",
        kind: softmax::Kind::Hardmax,
    },
];

/// The role of what scales and shifts: the scale is the weight.
fn scaling(_op: &Op) -> QuantRole {
    QuantRole::Affine {
        activation: 0,
        weight: 1,
        bias: Some(2),
        channel_axis: 0,
    }
}

/// Mean and variance of a row, in `f64`.
fn moments(row: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let (sum, count) = row.clone().fold((0.0, 0.0), |(s, n), x| (s + x, n + 1.0));
    let mean = sum / count;
    let squares: f64 = row.map(|x| (x - mean) * (x - mean)).sum();
    (mean, squares / count)
}
