//! BatchNormalization in inference, as what it is: a scale and a shift of each channel.

use onnxq_ir::{NodeId, ValueId};
use onnxq_pass::Rewriter;

use super::channels::Affine;

/// An operator BatchNormalization that only reads its statistics.
pub(super) struct BatchNorm {
    pub(super) x: ValueId,
    pub(super) y: ValueId,
    /// `scale = gamma / sqrt(variance + epsilon)`, `shift = beta - scale * mean`.
    pub(super) affine: Affine,
    pub(super) mean: Vec<f64>,
    /// `sqrt(variance + epsilon)`
    pub(super) deviation: Vec<f64>,
}

impl BatchNorm {
    /// The BatchNormalization at `n`. Misses are reported only where `x` is what `fits`.
    pub(super) fn new(
        rw: &mut Rewriter<'_>,
        n: NodeId,
        fits: impl FnOnce(&Rewriter<'_>, ValueId) -> bool,
    ) -> Option<BatchNorm> {
        rw.is(n, "BatchNormalization")?;
        let x = rw.operand(n, 0)?;
        if !fits(rw, x) {
            return None;
        }
        if is_training(rw, n) {
            rw.miss(n, "it is in training mode")?;
            return None;
        }
        if rw.attr_int(n, "spatial", 1) == 0 {
            rw.miss(n, "it normalizes each position by itself")?;
            return None;
        }
        let mut parameters = Vec::with_capacity(4);
        for i in 1..5 {
            let tensor = rw.operand(n, i).and_then(|v| rw.constant(v));
            let Some(tensor) = tensor else {
                rw.miss(n, "a parameter is not constant")?;
                return None;
            };
            parameters.push(tensor.to_f64s().ok()?.into_owned());
        }
        let [gamma, beta, mean, variance] = <[Vec<f64>; 4]>::try_from(parameters).ok()?;
        let channels = gamma.len();
        if [&beta, &mean, &variance]
            .iter()
            .any(|p| p.len() != channels)
        {
            return None;
        }
        let epsilon = f64::from(rw.attr_float(n, "epsilon", 1e-5));
        let deviation: Vec<f64> = variance.iter().map(|v| (v + epsilon).sqrt()).collect();
        let scale: Vec<f64> = gamma.iter().zip(&deviation).map(|(g, d)| g / d).collect();
        let shift = (beta.iter().zip(&scale).zip(&mean))
            .map(|((b, k), m)| b - k * m)
            .collect();
        let affine = Affine { scale, shift };
        if !affine.is_finite() {
            rw.miss(n, "a scale or shift is not finite")?;
            return None;
        }
        Some(BatchNorm {
            x,
            y: rw.result(n, 0),
            affine,
            mean,
            deviation,
        })
    }
}

/// Whether the statistics come from the batch: said by an attribute, before opset 14 by the
/// presence of results for them.
fn is_training(rw: &Rewriter<'_>, n: NodeId) -> bool {
    let results = &rw.graph().node(n).results;
    rw.attr_int(n, "training_mode", 0) != 0
        || (rw.opset() < 7 && rw.attr_int(n, "is_test", 0) == 0)
        || results.iter().skip(1).any(|v| !v.name.is_empty())
}
