//! [`DebugReport`]: figures with names, worst first.

use onnxq_tensor::DType;

use super::{ActivationFigures, WeightFigures};
use crate::{
    distance::Distance,
    matching::{FloatPlace, MatchedActivation, Matching, Role},
};

/// What [`debug`](super::debug) found, the worst first in each list.
#[derive(Clone, PartialEq, Debug)]
pub struct DebugReport {
    /// How many samples were run.
    pub samples: usize,
    /// Weights and biases in codes, by signal to noise.
    pub weights: Vec<WeightRow>,
    /// Computed tensors, by the signal to noise of what their layer adds.
    pub activations: Vec<ActivationRow>,
    /// The quantized tensors without a float twin.
    pub unmatched: Vec<String>,
    /// How many tensors of the quantized model are quantized.
    pub quantized_tensors: usize,
}

/// A weight or bias.
#[derive(Clone, PartialEq, Debug)]
pub struct WeightRow {
    /// The name of the float tensor.
    pub name: String,
    /// The name of the codes.
    pub codes: String,
    /// The node that uses it, by name; may be empty.
    pub node: String,
    /// The operator of the node.
    pub op: String,
    /// Weight or bias.
    pub role: Role,
    /// The figures.
    pub figures: WeightFigures,
}

/// A computed tensor.
#[derive(Clone, PartialEq, Debug)]
pub struct ActivationRow {
    /// The name of the float tensor.
    pub name: String,
    /// The node that computes it, by name; may be empty.
    pub node: String,
    /// The operator of the node; empty for an input of the model.
    pub op: String,
    /// The figures.
    pub figures: ActivationFigures,
    /// Signal to noise of what the layer itself does, in dB: of computing, less what the codes that
    /// it reads explain, and of putting the result in codes, the worse.
    pub own_db: f64,
    /// The least signal to noise, in dB, of what the layer reads, in the model as it runs; `None`
    /// where that is nothing, or without noise.
    pub inputs_db: Option<f64>,
}

impl ActivationRow {
    /// How much signal to noise the model loses at this layer, in dB.
    pub fn drop_db(&self) -> Option<f64> {
        Some(self.inputs_db? - self.figures.model.sqnr_db())
    }

    /// What the layer is called: the name of its node, else that of the tensor.
    pub fn layer(&self) -> &str {
        if self.node.is_empty() {
            &self.name
        } else {
            &self.node
        }
    }

    /// The type of its codes; `None` where it stays in floats.
    pub fn dtype(&self) -> Option<DType> {
        self.figures.dtype
    }
}

impl DebugReport {
    /// The layer that adds most noise by itself; `None` where none adds any.
    pub fn worst(&self) -> Option<&ActivationRow> {
        self.activations
            .first()
            .filter(|a| a.own_db < f64::INFINITY)
    }
}

pub(super) fn report(
    matching: &Matching<'_>,
    weights: Vec<Option<WeightFigures>>,
    activations: Vec<ActivationFigures>,
    samples: usize,
) -> DebugReport {
    let name = |float: FloatPlace| matching.float_name(float).to_owned();
    let mut unmatched: Vec<String> = Vec::new();
    unmatched.extend(
        matching
            .unmatched
            .iter()
            .map(|&p| matching.quantized.name(p).to_owned()),
    );
    let mut weight_rows = Vec::new();
    for (weight, figures) in matching.weights.iter().zip(weights) {
        let codes = matching.quantized.name(weight.codes).to_owned();
        let Some(figures) = figures else {
            unmatched.push(codes);
            continue;
        };
        weight_rows.push(WeightRow {
            name: name(figures.float),
            codes,
            node: weight.node.clone(),
            op: weight.op.clone(),
            role: weight.role,
            figures,
        });
    }
    // Stable: of equal ones, those of the model's order.
    weight_rows.sort_by(|a, b| by_noise(&a.figures.distance, &b.figures.distance));
    let db = |i: &usize| activations[*i].model.sqnr_db();
    let mut rows: Vec<ActivationRow> = Vec::new();
    for (matched, figures) in matching.activations.iter().zip(&activations) {
        if figures.model.elements == 0 && figures.layer.elements == 0 {
            continue;
        }
        let inputs = matched.layer.inputs.iter().map(db);
        let inputs_db = inputs.min_by(f64::total_cmp).filter(|db| db.abs() < 200.0);
        rows.push(ActivationRow {
            name: name(matched.float),
            node: matched.layer.node.clone(),
            op: matched.layer.op.clone(),
            figures: figures.clone(),
            own_db: own_db(&activations, matched, figures),
            inputs_db,
        });
    }
    rows.sort_by(|a, b| a.own_db.total_cmp(&b.own_db));
    DebugReport {
        samples,
        weights: weight_rows,
        activations: rows,
        unmatched,
        quantized_tensors: matching.quantized_count().0,
    }
}

/// See [`ActivationRow::own_db`].
///
/// A layer gives on the noise of the codes that it reads. It may double that noise, but not be
/// blamed for it: what is behind a tensor with a wrong scale is as noisy as the tensor. Where it
/// makes more of it, as a normalization does of channels too small for a common scale, it is
/// there that the model is hurt.
fn own_db(
    activations: &[ActivationFigures],
    matched: &MatchedActivation,
    figures: &ActivationFigures,
) -> f64 {
    let noise = |d: &Distance| 10f64.powf(-d.sqnr_db() / 10.0);
    let inputs = matched.layer.inputs.iter();
    let given: f64 = inputs
        .filter_map(|&i| activations[i].quantization.as_ref().map(noise))
        .sum();
    let layer = noise(&figures.layer);
    let own = (layer - 2.0 * given).max(0.1 * layer);
    let quantization = figures.quantization.as_ref().map_or(0.0, noise);
    // Zero is infinitely good.
    -10.0 * own.max(quantization).log10()
}

fn by_noise(a: &Distance, b: &Distance) -> std::cmp::Ordering {
    a.sqnr_db().total_cmp(&b.sqnr_db())
}
