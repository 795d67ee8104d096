//! Functions of floats against their definitions in f64, and tiers against each other.

use onnxq_kernels::{
    Activation, Cpu, Epilogue, Geometry, Left, Line, Output, Product, Unary, Weights, pack,
    packed_len, scratch_lines, unary, unary_in_place,
};
use proptest::prelude::*;

fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    // The series converges everywhere; up to 6 its terms cost few enough digits.
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    match x.abs() < 4.5 {
        true => sum * std::f64::consts::FRAC_2_SQRT_PI,
        false => x.signum(),
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn gelu_tanh(x: f64) -> f64 {
    let cubic = x + 0.044715 * x * x * x;
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * cubic).tanh())
}

fn elu(x: f64, alpha: f64) -> f64 {
    if x < 0.0 { alpha * x.exp_m1() } else { x }
}

type Exact = fn(f64) -> f64;

/// Each function, its definition, and the relative error allowed where only that counts.
const ALL: &[(Unary, Exact, Option<f64>)] = &[
    (Unary::Activation(Activation::Identity), |x| x, Some(0.0)),
    (
        Unary::Activation(Activation::Clamp(-1.5, 6.0)),
        |x| x.clamp(-1.5, 6.0),
        Some(0.0),
    ),
    (
        Unary::Activation(Activation::Gelu),
        |x| 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        None,
    ),
    (Unary::Activation(Activation::GeluTanh), gelu_tanh, None),
    (
        Unary::Activation(Activation::Silu),
        |x| x * sigmoid(x),
        None,
    ),
    (Unary::Activation(Activation::Sigmoid), sigmoid, None),
    (Unary::Activation(Activation::Tanh), f64::tanh, Some(3e-7)),
    (Unary::Abs, f64::abs, Some(0.0)),
    (Unary::Neg, |x| -x, Some(0.0)),
    (Unary::Square, |x| x * x, Some(6e-8)),
    (Unary::Reciprocal, |x| 1.0 / x, Some(6e-8)),
    (Unary::Sqrt, f64::sqrt, Some(6e-8)),
    (Unary::InverseSqrt, |x| 1.0 / x.sqrt(), Some(1.2e-7)),
    (Unary::Exp, f64::exp, Some(2e-7)),
    (Unary::Exp2, f64::exp2, Some(2e-7)),
    (Unary::Log, f64::ln, Some(2e-7)),
    (Unary::Erf, erf, Some(4e-7)),
    (Unary::Floor, f64::floor, Some(0.0)),
    (Unary::Ceil, f64::ceil, Some(0.0)),
    (Unary::Round, f64::round_ties_even, Some(0.0)),
    (
        Unary::Affine {
            scale: 1.5,
            shift: 0.25,
        },
        |x| 1.5 * x + 0.25,
        None,
    ),
    (
        Unary::HardSigmoid {
            alpha: 0.25,
            beta: 0.5,
        },
        |x| (0.25 * x + 0.5).clamp(0.0, 1.0),
        None,
    ),
    (
        Unary::HardSwish,
        |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        None,
    ),
    (
        Unary::LeakyRelu(0.125),
        |x| if x < 0.0 { 0.125 * x } else { x },
        Some(6e-8),
    ),
    (
        Unary::ThresholdedRelu(0.5),
        |x| if x <= 0.5 { 0.0 } else { x },
        Some(0.0),
    ),
    (Unary::Elu(0.5), |x| elu(x, 0.5), Some(5e-7)),
    (
        Unary::Selu {
            alpha: 1.5,
            gamma: 1.25,
        },
        |x| 1.25 * elu(x, 1.5),
        Some(5e-7),
    ),
    (
        Unary::Celu(2.0),
        |x| if x > 0.0 { x } else { 2.0 * (x / 2.0).exp_m1() },
        Some(5e-7),
    ),
    (Unary::Softplus, softplus, None),
    (Unary::Softsign, |x| x / (1.0 + x.abs()), Some(2e-7)),
    (Unary::Mish, |x| x * softplus(x).tanh(), None),
    (Unary::Swish(1.5), |x| x * sigmoid(1.5 * x), None),
];

fn of(cpu: Cpu, f: Unary, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    unary(cpu, f, x, &mut y);
    y
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// Numbers over the whole range, most of them where functions bend.
fn numbers() -> Vec<f32> {
    let mut x: Vec<f32> = (-40_000..=40_000).map(|i| i as f32 / 3000.0).collect();
    x.extend((-9000..=9000).map(|i| i as f32 / 80.0));
    x.extend((0..200_000u32).map(|i| f32::from_bits(i.wrapping_mul(4_294_769))));
    x.extend((0..200_000u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761))));
    x
}

#[test]
fn near_their_definitions() {
    let x = numbers();
    for &(f, exact, relative) in ALL {
        let y = of(Cpu::detect(), f, &x);
        let mut worst = (0.0f64, 0.0f32);
        for (&x, &y) in x.iter().zip(&y) {
            let e = exact(f64::from(x));
            let rounded = e as f32;
            if rounded.is_infinite() || e.is_nan() {
                // At the very end of the range, either side of infinity is right.
                let close =
                    rounded.is_infinite() && f64::from(y.abs()) > 0.999_999 * f64::from(f32::MAX);
                assert!(
                    same(y, rounded) || close && y.signum() == rounded.signum(),
                    "{f:?}({x:e}) = {y:e}, not {rounded:e}"
                );
                continue;
            }
            assert!(!y.is_nan(), "{f:?}({x:e}) is NaN");
            let error = (f64::from(y) - e).abs();
            // Absolute up to 1, or up to the operand where the result is a product with it.
            let by = match relative {
                Some(_) => e.abs().max(f64::from(f32::MIN_POSITIVE)),
                None => e.abs().max(1.0),
            };
            if error / by > worst.0 {
                worst = (error / by, x);
            }
        }
        let gelu = f == Unary::Activation(Activation::Gelu);
        let bound = relative.unwrap_or(if gelu { 1e-6 } else { 2e-7 });
        assert!(worst.0 <= bound, "{f:?}: {worst:?}, bound {bound}");
    }
}

#[test]
fn at_infinity_and_nan() {
    let inf = f32::INFINITY;
    let table = [
        (Unary::Exp, -inf, 0.0),
        (Unary::Exp, inf, inf),
        (Unary::Exp2, -inf, 0.0),
        (Unary::Exp2, inf, inf),
        (Unary::Log, 0.0, -inf),
        (Unary::Log, inf, inf),
        (Unary::Log, -1.0, f32::NAN),
        (Unary::Erf, inf, 1.0),
        (Unary::Erf, -inf, -1.0),
        (Unary::Activation(Activation::Tanh), inf, 1.0),
        (Unary::Activation(Activation::Tanh), -inf, -1.0),
        (Unary::Activation(Activation::Sigmoid), -inf, 0.0),
        (Unary::Activation(Activation::Sigmoid), inf, 1.0),
        (Unary::Activation(Activation::Gelu), inf, inf),
        (Unary::Activation(Activation::GeluTanh), inf, inf),
        (Unary::Activation(Activation::Silu), inf, inf),
        (Unary::Activation(Activation::Tanh), -1e-30, -1e-30),
        (Unary::Elu(1.0), -inf, -1.0),
        (Unary::Softplus, -inf, 0.0),
        (Unary::Softplus, inf, inf),
        (Unary::Sqrt, -1.0, f32::NAN),
        (Unary::Ceil, -0.25, -0.0),
        (Unary::Round, 2.5, 2.0),
    ];
    for cpu in Cpu::available() {
        for (f, x, y) in table {
            assert!(same(of(cpu, f, &[x])[0], y), "{f:?}({x:e}), {}", cpu.isa());
        }
        for &(f, ..) in ALL {
            assert!(
                of(cpu, f, &[f32::NAN])[0].is_nan(),
                "{f:?} of NaN, {}",
                cpu.isa()
            );
        }
    }
}

#[test]
fn every_tier_is_the_same() {
    let x = numbers();
    for &(f, ..) in ALL {
        let expected = of(Cpu::PORTABLE, f, &x);
        for cpu in Cpu::available() {
            let y = of(cpu, f, &x);
            for i in 0..x.len() {
                assert!(same(y[i], expected[i]), "{f:?}({:e}), {}", x[i], cpu.isa());
            }
        }
    }
}

/// At the end of a product, an activation is that of a slice.
#[test]
fn at_the_end_of_a_product() {
    let (rows, depth, columns) = (19, 64, 37);
    let bytes = |n: usize| (0..n).map(|i| (i * i * 31 / 7) as u8).collect::<Vec<_>>();
    let (left, weights) = (bytes(rows * depth), bytes(depth * columns));
    let mut packed = vec![0; packed_len(columns, 1, depth)];
    let mut sums = vec![0; columns];
    let weights = Weights::matrix(&weights, true, depth, columns);
    let right = pack(Cpu::PORTABLE, &weights, &mut packed, &mut sums);
    let product = Product {
        left: Left {
            data: &left,
            signed: true,
            geometry: Geometry::matrix(rows, depth, depth),
        },
        right,
        strides: [0, columns],
        epilogue: Epilogue {
            offset: &vec![3; columns],
            zero: &[],
        },
    };
    let mut scratch = vec![Line::ZERO; scratch_lines(&right)];
    for cpu in Cpu::available() {
        let mut with = |activation| {
            let mut y = vec![0.0; rows * columns];
            let output = Output::Floats {
                y: &mut y,
                scale: &vec![1e-4; columns],
                bias: &vec![0.125; columns],
                activation,
            };
            product.run(cpu, output, &mut scratch);
            y
        };
        let plain = with(Activation::Identity);
        for activation in [
            Activation::Clamp(0.0, 6.0),
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::Silu,
            Activation::Sigmoid,
            Activation::Tanh,
        ] {
            let expected = of(cpu, Unary::Activation(activation), &plain);
            assert_eq!(with(activation), expected, "{activation:?}, {}", cpu.isa());
        }
    }
}

proptest! {
    /// The place of an element in its slice does not matter, nor whether the result overwrites it.
    #[test]
    fn one_by_one(x in prop::collection::vec(-20f32..20.0, 0..100), which in 0..ALL.len()) {
        let (f, ..) = ALL[which];
        for cpu in Cpu::available() {
            let each: Vec<u32> = x.iter().map(|&x| of(cpu, f, &[x])[0].to_bits()).collect();
            let mut y = x.clone();
            unary_in_place(cpu, f, &mut y);
            prop_assert_eq!(&each, &y.iter().map(|y| y.to_bits()).collect::<Vec<_>>());
            let y = of(cpu, f, &x);
            prop_assert_eq!(&each, &y.iter().map(|y| y.to_bits()).collect::<Vec<_>>());
        }
    }
}
