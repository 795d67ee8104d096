//! Recognizes what exporters write for the Gaussian error linear unit.
//!
//! ```text
//! y = 0.5 * x * (1 + Erf(x / sqrt(2)))                                    =>   y = Gelu(x)
//! y = 0.5 * x * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 * x * x * x)))     =>   y = Gelu<tanh>(x)
//! ```
//!
//! Factors may come in any order and be multiplied in any grouping; `Pow(x, 3)` is a cube, too.
//!
//! Does not fire before opset 20, which has the operator; for other types than float, of which
//! runtimes have no kernel; where a value in between has another use, or a constant is not the one
//! of the formula (to 1e-4, which is what exporters round to).

use onnxq_ir::{NodeId, Op, ValueId};
use onnxq_pass::{PassInfo, Rewrite, Rewriter, rewrites};
use onnxq_tensor::DType;
use smallvec::SmallVec;

pub(crate) const INFO: PassInfo = PassInfo {
    name: "recognize-gelu",
    summary: "write decomposed Gelu as the operator",
    options: &[],
    build: |opts| rewrites(opts.pass(), REWRITES),
};

const REWRITES: &[Rewrite] = &[Rewrite {
    name: "recognize-gelu",
    apply: recognize,
}];

/// The opset that brought the operator.
const SINCE: i64 = 20;

fn recognize(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Mul")?;
    let y = rw.result(n, 0);
    let product = Product::of(rw, y)?;
    let [a, b] = product.factors[..] else {
        return None;
    };
    if !near(product.scale, 0.5) {
        return None;
    }
    let (x, approximate) = match gate(rw, b) {
        Some((x, approximate)) if x == a => (x, approximate),
        _ => gate(rw, a).filter(|(x, _)| *x == b)?,
    };
    if rw.dtype(x) != Some(DType::F32) {
        return rw.miss(n, "the type is not float");
    }
    if rw.opset() < SINCE {
        return rw.miss(n, "the opset has no Gelu");
    }
    let op = match approximate {
        true => Op::new("Gelu").with("approximate", "tanh"),
        false => Op::new("Gelu"),
    };
    rw.replace_node(n, op, &[Some(x)]).map(drop)
}

/// The `x` of `1 + Erf(x / sqrt(2))`, or of the approximation by `Tanh`, which `true` says it is.
fn gate(rw: &Rewriter<'_>, v: ValueId) -> Option<(ValueId, bool)> {
    rw.sole_use(v)?;
    let sum = rw.producer(v, "Add")?;
    let (curve, one) = with_scalar(rw, sum)?;
    rw.sole_use(curve)?;
    if one != 1.0 {
        return None;
    }
    if let Some(erf) = rw.producer(curve, "Erf") {
        let product = inner(rw, rw.operand(erf, 0)?)?;
        let [x] = product.factors[..] else {
            return None;
        };
        return near(product.scale, std::f64::consts::FRAC_1_SQRT_2).then_some((x, false));
    }
    let tanh = rw.producer(curve, "Tanh")?;
    let product = inner(rw, rw.operand(tanh, 0)?)?;
    let [sum] = product.factors[..] else {
        return None;
    };
    rw.sole_use(sum)?;
    let add = rw.producer(sum, "Add")?;
    let (a, b) = (rw.operand(add, 0)?, rw.operand(add, 1)?);
    let x = if cube_of(rw, b) == Some(a) {
        a
    } else {
        (cube_of(rw, a) == Some(b)).then_some(b)?
    };
    let scale = (2.0 / std::f64::consts::PI).sqrt();
    near(product.scale, scale).then_some((x, true))
}

/// The `x` of `0.044715 * x * x * x`.
fn cube_of(rw: &Rewriter<'_>, v: ValueId) -> Option<ValueId> {
    let product = inner(rw, v)?;
    if !near(product.scale, 0.044715) {
        return None;
    }
    match product.factors[..] {
        [a, b, c] if a == b && b == c => Some(a),
        [cube] => {
            rw.sole_use(cube)?;
            let pow = rw.producer(cube, "Pow")?;
            let exponent = rw.constant(rw.operand(pow, 1)?)?;
            (exponent.scalar_f64().ok()? == 3.0).then_some(())?;
            rw.operand(pow, 0)
        }
        _ => None,
    }
}

/// A product of a scalar and values, however it is grouped.
struct Product {
    scale: f64,
    factors: SmallVec<[ValueId; 4]>,
}

impl Product {
    /// More factors than any formula here has.
    const LIMIT: usize = 8;

    /// The product that `v` is, of which all that is in between is used nowhere else.
    fn of(rw: &Rewriter<'_>, v: ValueId) -> Option<Product> {
        let mut product = Product {
            scale: 1.0,
            factors: SmallVec::new(),
        };
        let mut pending: SmallVec<[ValueId; 8]> = SmallVec::from_slice(&[v]);
        let mut first = true;
        while let Some(v) = pending.pop() {
            let expand = std::mem::replace(&mut first, false) || rw.sole_use(v).is_some();
            if let Some(scalar) = scalar(rw, v) {
                product.scale *= scalar;
            } else if let Some(mul) = rw.producer(v, "Mul").filter(|_| expand) {
                pending.extend([rw.operand(mul, 1)?, rw.operand(mul, 0)?]);
            } else if let Some(div) = rw.producer(v, "Div").filter(|_| expand)
                && let Some(by) = scalar(rw, rw.operand(div, 1)?)
            {
                product.scale /= by;
                pending.push(rw.operand(div, 0)?);
            } else {
                product.factors.push(v);
            }
            if product.factors.len() + pending.len() > Product::LIMIT {
                return None;
            }
        }
        Some(product)
    }
}

/// The product that `v` is, if nothing else uses it.
fn inner(rw: &Rewriter<'_>, v: ValueId) -> Option<Product> {
    rw.sole_use(v)?;
    Product::of(rw, v)
}

/// The two operands of `n`, of which one is a scalar.
fn with_scalar(rw: &Rewriter<'_>, n: NodeId) -> Option<(ValueId, f64)> {
    let (a, b) = (rw.operand(n, 0)?, rw.operand(n, 1)?);
    match scalar(rw, b) {
        Some(s) => Some((a, s)),
        None => Some((b, scalar(rw, a)?)),
    }
}

/// A constant with one element and no dimensions, which changes no shape.
fn scalar(rw: &Rewriter<'_>, v: ValueId) -> Option<f64> {
    let tensor = rw.constant(v)?;
    (tensor.rank() == 0).then(|| tensor.scalar_f64().ok())?
}

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-4 * expected
}
