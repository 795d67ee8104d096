//! The activation functions that attributes of a recurrent operator name.

use onnxq_ir::{Attr, Op};

use crate::ops::numeric::Real;

/// An activation function.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Activation {
    kind: Kind,
    alpha: f32,
    beta: f32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Affine,
    Elu,
    HardSigmoid,
    LeakyRelu,
    Relu,
    ScaledTanh,
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
    ThresholdedRelu,
}

/// Names (in lower case), and the defaults of alpha and beta where the function has them.
static KINDS: &[(&str, Kind, Option<f32>, Option<f32>)] = &[
    ("affine", Kind::Affine, Some(1.0), Some(0.0)),
    ("elu", Kind::Elu, Some(1.0), None),
    ("hardsigmoid", Kind::HardSigmoid, Some(0.2), Some(0.5)),
    ("leakyrelu", Kind::LeakyRelu, Some(0.01), None),
    ("relu", Kind::Relu, None, None),
    ("scaledtanh", Kind::ScaledTanh, Some(1.0), Some(1.0)),
    ("sigmoid", Kind::Sigmoid, None, None),
    ("softplus", Kind::Softplus, None, None),
    ("softsign", Kind::Softsign, None, None),
    ("tanh", Kind::Tanh, None, None),
    ("thresholdedrelu", Kind::ThresholdedRelu, Some(1.0), None),
];

impl Activation {
    /// The functions of `op`: as many for each direction as `defaults` names.
    pub(super) fn of(
        op: &Op,
        defaults: &[&str],
        directions: usize,
    ) -> Result<Vec<Activation>, String> {
        let names: Vec<String> = match op.attr("activations") {
            Some(Attr::Strings(names)) if !names.is_empty() => names
                .iter()
                .map(|n| String::from_utf8_lossy(n).to_lowercase())
                .collect(),
            _ => (0..directions)
                .flat_map(|_| defaults.iter().map(|n| n.to_lowercase()))
                .collect(),
        };
        if names.len() != defaults.len() * directions {
            return Err(format!("{} activations", names.len()));
        }
        let floats = |key| op.attr(key).and_then(Attr::as_floats).unwrap_or_default();
        let (mut alphas, mut betas) = (
            floats("activation_alpha").iter(),
            floats("activation_beta").iter(),
        );
        // Parameters are given only for the functions that have them.
        let next = |values: &mut std::slice::Iter<'_, f32>, default: Option<f32>| match default {
            Some(default) => values.next().copied().unwrap_or(default),
            None => 0.0,
        };
        names
            .iter()
            .map(|name| {
                let found = KINDS.iter().find(|k| k.0 == name);
                let &(_, kind, alpha, beta) =
                    found.ok_or_else(|| format!("activation '{name}'"))?;
                Ok(Activation {
                    kind,
                    alpha: next(&mut alphas, alpha),
                    beta: next(&mut betas, beta),
                })
            })
            .collect()
    }

    /// The value at `x`.
    pub(super) fn apply<T: Real>(self, x: T) -> T {
        let (zero, one) = (T::zero(), T::one());
        let (alpha, beta) = (T::of(self.alpha.into()), T::of(self.beta.into()));
        match self.kind {
            Kind::Affine => alpha * x + beta,
            Kind::Elu if x >= zero => x,
            Kind::Elu => alpha * (x.exp() - one),
            Kind::HardSigmoid => (alpha * x + beta).max(zero).min(one),
            Kind::LeakyRelu if x >= zero => x,
            Kind::LeakyRelu => alpha * x,
            Kind::Relu => x.max(zero),
            Kind::ScaledTanh => alpha * (beta * x).tanh(),
            Kind::Sigmoid => one / (one + (-x).exp()),
            // log(1 + e^x), without overflow.
            Kind::Softplus => x.max(zero) + (-x.abs()).exp().ln_1p(),
            Kind::Softsign => x / (one + x.abs()),
            Kind::Tanh => x.tanh(),
            Kind::ThresholdedRelu if x >= alpha => x,
            Kind::ThresholdedRelu => zero,
        }
    }
}
