//! Activation functions of one number.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use onnxq_ir as ir;
use onnxq_tensor::{Dim, Tensor};

use super::unary::{NO_UNARY, Unary, on_ints, unary};
use crate::{
    Operator, QuantRole,
    ops::{
        number::{Number, for_int},
        quantization::MS,
    },
};

use QuantRole::{Elementwise, FixedRange};

/// `1 / (1 + exp(-x))`, without overflow on either side.
macro_rules! sigmoid {
    ($x:expr) => {{
        let x = $x;
        let e = (-x.abs()).exp();
        if x < 0.0 {
            e / (1.0 + e)
        } else {
            1.0 / (1.0 + e)
        }
    }};
}

/// `ln(1 + exp(x))`, without overflow.
macro_rules! softplus {
    ($x:expr) => {
        $x.max(0.0) + (-$x.abs()).exp().ln_1p()
    };
}

/// `x` times the normal distribution function: `x/2 * (1 + erf(x/sqrt(2)))`.
pub(super) fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + libm::erf(x * FRAC_1_SQRT_2))
}

/// The approximation of [`gelu`] by the hyperbolic tangent.
pub(super) fn gelu_tanh(x: f64) -> f64 {
    let cubic = x + 0.044715 * x * x * x;
    0.5 * x * (1.0 + ((2.0 / PI).sqrt() * cubic).tanh())
}

/// Which of the two a node asks for.
fn gelu_of(op: &ir::Op) -> fn(f64) -> f64 {
    match op.str("approximate") {
        Some("tanh") => gelu_tanh,
        _ => gelu,
    }
}

pub(crate) static OPERATORS: &[&dyn Operator] = &[
    // NaN stays NaN.
    unary!("Relu", [1, 6, 13, 14], Elementwise, () x => if x < 0.0 { 0.0 } else { x },
        int: on_ints!(|x| x.maximum(0)), dim: Some(|d| d.max(&Dim::known(0)))),
    unary!(
        "Sigmoid",
        [1, 6, 13],
        FixedRange(0.0, 1.0),
        () x => sigmoid!(x)
    ),
    unary!("Tanh", [1, 6, 13], FixedRange(-1.0, 1.0), () x => x.tanh()),
    unary!(
        "HardSigmoid",
        [1, 6, 22],
        FixedRange(0.0, 1.0),
        (alpha = 0.2, beta = 0.5) x => (alpha * x + beta).clamp(0.0, 1.0)
    ),
    unary!(
        "HardSwish",
        [14, 22],
        Elementwise,
        () x => x * (x / 6.0 + 0.5).clamp(0.0, 1.0)
    ),
    unary!(
        "LeakyRelu",
        [1, 6, 16],
        Elementwise,
        (alpha = 0.01) x => if x < 0.0 { alpha * x } else { x }
    ),
    unary!(
        "ThresholdedRelu",
        [10, 22],
        Elementwise,
        (alpha = 1.0) x => if x > alpha { x } else { 0.0 }
    ),
    unary!(
        "Elu",
        [1, 6, 22],
        Elementwise,
        (alpha = 1.0) x => if x < 0.0 { alpha * x.exp_m1() } else { x }
    ),
    unary!("Selu", [1, 6, 22], Elementwise,
        (alpha = 1.673_263_2, gamma = 1.050_701) x => gamma * if x > 0.0 { x } else { alpha * x.exp_m1() },
        old_defaults: &[(6, "alpha", 1.6732), (6, "gamma", 1.0507)]),
    unary!(
        "Celu",
        [12, 28],
        Elementwise,
        (alpha = 1.0) x => if x > 0.0 {
                x
            } else {
                alpha * (x / alpha).exp_m1()
            }
    ),
    unary!("Softplus", [1, 22], Elementwise, () x => softplus!(x)),
    unary!(
        "Softsign",
        [1, 22],
        FixedRange(-1.0, 1.0),
        () x => x / (1.0 + x.abs())
    ),
    unary!(
        "Mish",
        [18, 22],
        Elementwise,
        () x => x * softplus!(x).tanh()
    ),
    unary!(
        "Swish",
        [24],
        Elementwise,
        (alpha = 1.0) x => x * sigmoid!(alpha * x)
    ),
    unary!(
        "Shrink",
        [9],
        Elementwise,
        (bias = 0.0, lambd = 0.5) x => if x < -lambd {
                x + bias
            } else if x > lambd {
                x - bias
            } else {
                0.0
            }
    ),
    &Unary {
        since: &[20],
        ..GELU
    },
    // Without `approximate`.
    &Unary {
        domain: MS,
        since: &[1],
        ..GELU
    },
    unary!("QuickGelu", [1], Elementwise,
        (alpha = 1.702) x => x * sigmoid!(alpha * x),
        domain: MS),
];

const GELU: Unary = Unary {
    name: "Gelu",
    f32: |op, values| {
        let f = gelu_of(op);
        values.iter_mut().for_each(|x| *x = f(f64::from(*x)) as f32);
    },
    f64: |op, values| {
        let f = gelu_of(op);
        values.iter_mut().for_each(|x| *x = f(*x));
    },
    ..NO_UNARY
};
