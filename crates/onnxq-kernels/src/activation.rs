//! Functions of one float, on slices.

use crate::{
    epilogue::Activation,
    math::{
        at_least, at_most, ceil, erf, exp, exp_m1_negative, exp2, floor, gelu, gelu_tanh, ln, mish,
        nearest, sigmoid, softplus, sqrt, tanh,
    },
    tiers::tiers,
};

/// Floats that loops take at a time, and partial results of every reduction.
pub(crate) const LANES: usize = 16;

/// A function of one float, as the operator of this name defines it. NaN goes through all of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Unary {
    /// As in an [`Epilogue`](crate::Epilogue).
    Activation(Activation),
    /// `|x|`.
    Abs,
    /// `-x`.
    Neg,
    /// `x²`.
    Square,
    /// `1 / x`.
    Reciprocal,
    /// The square root, rounded correctly.
    Sqrt,
    /// `1 / sqrt(x)`, each rounded.
    InverseSqrt,
    /// `e^x`.
    Exp,
    /// `2^x`.
    Exp2,
    /// The natural logarithm.
    Log,
    /// The error function.
    Erf,
    /// Rounded down.
    Floor,
    /// Rounded up.
    Ceil,
    /// Rounded to the nearest integer, ties to even.
    Round,
    /// `x · scale + shift`, each rounded.
    Affine {
        /// The factor.
        scale: f32,
        /// What is added to the product.
        shift: f32,
    },
    /// `clamp(alpha · x + beta, 0, 1)`.
    HardSigmoid {
        /// The slope.
        alpha: f32,
        /// The value at 0.
        beta: f32,
    },
    /// `x · clamp(x / 6 + 1/2, 0, 1)`.
    HardSwish,
    /// `x`, or `alpha · x` below 0.
    LeakyRelu(f32),
    /// `x`, or 0 up to `alpha`.
    ThresholdedRelu(f32),
    /// `x`, or `alpha · (e^x - 1)` below 0.
    Elu(f32),
    /// `gamma` times [`Unary::Elu`].
    Selu {
        /// The factor below 0.
        alpha: f32,
        /// The factor everywhere.
        gamma: f32,
    },
    /// `x`, or `alpha · (e^(x/alpha) - 1)` below 0, for a positive `alpha`.
    Celu(f32),
    /// `ln(1 + e^x)`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// `x · tanh(softplus(x))`.
    Mish,
    /// `x · sigmoid(alpha · x)`.
    Swish(f32),
}

/// `y = f(x)`.
///
/// # Panics
/// The lengths differ.
pub fn unary(cpu: crate::Cpu, f: Unary, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "a result for each element");
    // A copy that stays in the first-level cache costs next to nothing.
    const PART: usize = 2048;
    for (x, y) in x.chunks(PART).zip(y.chunks_mut(PART)) {
        y.copy_from_slice(x);
        apply(cpu, f, y);
    }
}

/// `x = f(x)`.
pub fn unary_in_place(cpu: crate::Cpu, f: Unary, x: &mut [f32]) {
    apply(cpu, f, x);
}

/// A block, each element by a function of it. A macro, since the compiler must not think about
/// whether to inline.
macro_rules! map {
    ($block:expr, |$x:ident| $y:expr) => {
        for v in $block.iter_mut() {
            let $x = *v;
            *v = $y;
        }
    };
}

pub(crate) use map;

/// Applies an activation to a block.
#[inline(always)]
pub(crate) fn activate(f: Activation, block: &mut [f32; LANES]) {
    match f {
        Activation::Identity => {}
        Activation::Clamp(low, high) => map!(block, |x| at_most(at_least(x, low), high)),
        Activation::Gelu => map!(block, |x| gelu(x)),
        Activation::GeluTanh => map!(block, |x| gelu_tanh(x)),
        Activation::Silu => map!(block, |x| x * sigmoid(x)),
        Activation::Sigmoid => map!(block, |x| sigmoid(x)),
        Activation::Tanh => map!(block, |x| tanh(x)),
    }
}

/// All elements of `y`: whole blocks, then the rest filled up to one.
macro_rules! map_all {
    ($y:ident, |$x:ident| $value:expr) => {{
        let (whole, rest) = $y.as_chunks_mut::<{ $crate::activation::LANES }>();
        let mut last = [0.0; $crate::activation::LANES];
        last[..rest.len()].copy_from_slice(rest);
        // One loop for both, so that its body is there once; flat, since of a loop over blocks
        // LLVM makes one that gathers.
        for elements in [whole.as_flattened_mut(), &mut last[..]] {
            $crate::activation::map!(elements, |$x| $value);
        }
        rest.copy_from_slice(&last[..rest.len()]);
    }};
}

pub(crate) use map_all;

tiers! {
    fn apply(f: Unary, y: &mut [f32]) {
        match f {
            Unary::Activation(Activation::Identity) => {}
            Unary::Activation(Activation::Clamp(low, high)) => {
                map_all!(y, |x| at_most(at_least(x, low), high))
            }
            Unary::Activation(Activation::Gelu) => map_all!(y, |x| gelu(x)),
            Unary::Activation(Activation::GeluTanh) => map_all!(y, |x| gelu_tanh(x)),
            Unary::Activation(Activation::Silu) => map_all!(y, |x| x * sigmoid(x)),
            Unary::Activation(Activation::Sigmoid) => map_all!(y, |x| sigmoid(x)),
            Unary::Activation(Activation::Tanh) => map_all!(y, |x| tanh(x)),
            Unary::Abs => map_all!(y, |x| x.abs()),
            Unary::Neg => map_all!(y, |x| -x),
            Unary::Square => map_all!(y, |x| x * x),
            Unary::Reciprocal => map_all!(y, |x| 1.0 / x),
            Unary::Sqrt => map_all!(y, |x| sqrt(x)),
            Unary::InverseSqrt => map_all!(y, |x| 1.0 / sqrt(x)),
            Unary::Exp => map_all!(y, |x| exp(x)),
            Unary::Exp2 => map_all!(y, |x| exp2(x)),
            Unary::Log => map_all!(y, |x| ln(x)),
            Unary::Erf => map_all!(y, |x| erf(x)),
            Unary::Floor => map_all!(y, |x| floor(x)),
            Unary::Ceil => map_all!(y, |x| ceil(x)),
            Unary::Round => map_all!(y, |x| nearest(x)),
            Unary::Affine { scale, shift } => map_all!(y, |x| x * scale + shift),
            Unary::HardSigmoid { alpha, beta } => {
                map_all!(y, |x| at_most(at_least(alpha * x + beta, 0.0), 1.0))
            }
            Unary::HardSwish => {
                map_all!(y, |x| x * at_most(at_least(x / 6.0 + 0.5, 0.0), 1.0))
            }
            Unary::LeakyRelu(alpha) => {
                map_all!(y, |x| if x < 0.0 { alpha * x } else { x })
            }
            // Written so that NaN goes through.
            Unary::ThresholdedRelu(alpha) => {
                map_all!(y, |x| if x <= alpha { 0.0 } else { x })
            }
            Unary::Elu(alpha) => map_all!(y, |x| elu(x, alpha)),
            Unary::Selu { alpha, gamma } => map_all!(y, |x| gamma * elu(x, alpha)),
            Unary::Celu(alpha) => map_all!(y, |x| {
                let below = alpha * exp_m1_negative(at_most(x / alpha, 0.0));
                if x > 0.0 { x } else { below }
            }),
            Unary::Softplus => map_all!(y, |x| softplus(x)),
            Unary::Softsign => map_all!(y, |x| x / (1.0 + x.abs())),
            Unary::Mish => map_all!(y, |x| mish(x)),
            Unary::Swish(alpha) => map_all!(y, |x| x * sigmoid(alpha * x)),
        }
    }
}

#[inline(always)]
fn elu(x: f32, alpha: f32) -> f32 {
    let below = alpha * exp_m1_negative(at_most(x, 0.0));
    if x < 0.0 { below } else { x }
}
