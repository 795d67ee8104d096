//! Recognizes what exporters write for layer and root-mean-square normalization.
//!
//! ```text
//! d = x - ReduceMean(x)
//! y = d / Sqrt(ReduceMean(d * d) + epsilon) * scale          =>   y = LayerNormalization(x, scale)
//! y = LayerNormalization(x, scale) + bias                    =>   y = LayerNormalization(x, scale, bias)
//! y = x / Sqrt(ReduceMean(x * x) + epsilon) * scale          =>   y = RMSNormalization(x, scale)
//! ```
//!
//! `Pow(d, 2)` is a square, too. The means run over the last axes and keep them.
//!
//! Does not fire before opset 17 (layer) and 23 (root mean square), which have the operators; for
//! other types than float; where `scale` or `bias` has not exactly the shape of the normalized
//! axes, epsilon is not a positive constant, or a value in between has another use.

use onnxq_ir::{NodeId, Op, ValueId};
use onnxq_pass::{PassInfo, Rewrite, Rewriter, rewrites};
use onnxq_tensor::DType;

pub(crate) const INFO: PassInfo = PassInfo {
    name: "recognize-normalization",
    summary: "write decomposed LayerNormalization and RMSNormalization as the operators",
    options: &[],
    build: |opts| rewrites(opts.pass(), REWRITES),
};

const REWRITES: &[Rewrite] = &[
    Rewrite {
        name: "recognize-normalization",
        apply: recognize,
    },
    Rewrite {
        name: "take-normalization-bias",
        apply: take_bias,
    },
];

/// `y = centred / Sqrt(ReduceMean(centred * centred) + epsilon) * scale`
fn recognize(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Mul")?;
    let (a, b) = (rw.operand(n, 0)?, rw.operand(n, 1)?);
    let (quotient, scale) = match rw.producer(a, "Div") {
        Some(_) => (a, b),
        None => (b, a),
    };
    let normalized = Normalized::of(rw, quotient)?;
    let source = centre_of(rw, &normalized);
    let x = source.unwrap_or(normalized.of);
    if rw.dtype(x) != Some(DType::F32) {
        return rw.miss(n, "the type is not float");
    }
    let (op, since) = match source {
        Some(_) => ("LayerNormalization", 17),
        None => ("RMSNormalization", 23),
    };
    if rw.opset() < since {
        return rw.miss(n, format_args!("the opset has no {op}"));
    }
    if !fits(rw, x, scale, normalized.axes) {
        return rw.miss(n, "the scale has not the shape of what is normalized");
    }
    let op = Op::new(op)
        .with("axis", -(normalized.axes as i64))
        .with("epsilon", normalized.epsilon);
    rw.replace_node(n, op, &[Some(x), Some(scale)]).map(drop)
}

/// `LayerNormalization(x, scale) + bias`
fn take_bias(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Add")?;
    let (a, b) = (rw.operand(n, 0)?, rw.operand(n, 1)?);
    let (sum, bias) = match rw.producer(a, "LayerNormalization") {
        Some(_) => (a, b),
        None => (b, a),
    };
    let norm = rw.producer(sum, "LayerNormalization")?;
    rw.sole_use(sum)?;
    let (x, scale) = (rw.operand(norm, 0)?, rw.operand(norm, 1)?);
    if rw.operand(norm, 2).is_some() || sum.result != 0 {
        return None;
    }
    let rank = rw.shape(x)?.len() as i64;
    let axis = rw.attr_int(norm, "axis", -1);
    let axes = usize::try_from(if axis < 0 { -axis } else { rank - axis }).ok()?;
    // What a bias computes from the normalized value would need itself.
    rw.constant(bias)?;
    if !fits(rw, x, bias, axes) {
        return rw.miss(n, "the bias has not the shape of what is normalized");
    }
    let op = rw.op(norm)?.clone();
    rw.replace_node(n, op, &[Some(x), Some(scale), Some(bias)])
        .map(drop)
}

/// `of / Sqrt(ReduceMean(of * of) + epsilon)`
struct Normalized {
    of: ValueId,
    epsilon: f32,
    /// How many of the last axes the mean runs over.
    axes: usize,
    /// How many uses of `of` this is.
    uses: usize,
}

impl Normalized {
    fn of(rw: &Rewriter<'_>, quotient: ValueId) -> Option<Normalized> {
        rw.sole_use(quotient)?;
        let div = rw.producer(quotient, "Div")?;
        let of = rw.operand(div, 0)?;
        let deviation = rw.operand(div, 1)?;
        rw.sole_use(deviation)?;
        let sum = rw.operand(rw.producer(deviation, "Sqrt")?, 0)?;
        rw.sole_use(sum)?;
        let add = rw.producer(sum, "Add")?;
        let (a, b) = (rw.operand(add, 0)?, rw.operand(add, 1)?);
        let (mean, epsilon) = match rw.constant(b) {
            Some(epsilon) => (a, epsilon),
            None => (b, rw.constant(a)?),
        };
        let epsilon = epsilon.scalar_f64().ok().filter(|e| *e > 0.0)? as f32;
        let (square, axes) = mean_over_last(rw, mean)?;
        rw.sole_use(mean)?;
        rw.sole_use(square)?;
        let uses = if let Some(pow) = rw.producer(square, "Pow") {
            let exponent = rw.constant(rw.operand(pow, 1)?)?;
            let squared = exponent.scalar_f64().ok()? == 2.0 && rw.operand(pow, 0)? == of;
            squared.then_some(2)?
        } else {
            let mul = rw.producer(square, "Mul")?;
            let squared = rw.operand(mul, 0)? == of && rw.operand(mul, 1)? == of;
            squared.then_some(3)?
        };
        Some(Normalized {
            of,
            epsilon,
            axes,
            uses,
        })
    }
}

/// The `x` of `x - ReduceMean(x)` over the same axes.
fn centre_of(rw: &Rewriter<'_>, normalized: &Normalized) -> Option<ValueId> {
    let sub = rw.producer(normalized.of, "Sub")?;
    let x = rw.operand(sub, 0)?;
    let mean = rw.operand(sub, 1)?;
    rw.sole_use(mean)?;
    let (of, axes) = mean_over_last(rw, mean)?;
    let inner = rw.graph().uses(normalized.of).len() == normalized.uses;
    (of == x && axes == normalized.axes && inner).then_some(x)
}

/// What `v` is the mean of, over how many of the last axes, if it keeps them.
fn mean_over_last(rw: &Rewriter<'_>, v: ValueId) -> Option<(ValueId, usize)> {
    let n = rw.producer(v, "ReduceMean")?;
    let x = rw.operand(n, 0)?;
    let axes = match rw.operand(n, 1) {
        Some(axes) => rw.constant(axes)?.to_i64s().ok()?,
        None => rw.attr_ints(n, "axes", &[]),
    };
    if axes.is_empty() || rw.attr_int(n, "keepdims", 1) == 0 {
        return None;
    }
    let rank = rw.shape(x)?.len() as i64;
    let mut axes: Vec<i64> = axes
        .iter()
        .map(|&a| if a < 0 { a } else { a - rank })
        .collect();
    axes.sort_unstable();
    let last = -(axes.len() as i64)..0;
    axes.iter().copied().eq(last).then_some((x, axes.len()))
}

/// Whether `v` has the shape of the last `axes` axes of `x`.
fn fits(rw: &Rewriter<'_>, x: ValueId, v: ValueId, axes: usize) -> bool {
    let (Some(x), Some(v)) = (rw.shape(x), rw.shape(v)) else {
        return false;
    };
    let Some(first) = x.len().checked_sub(axes) else {
        return false;
    };
    let known = |d: &onnxq_tensor::Dim| d.as_const().is_some();
    v.as_slice() == &x[first..] && v.iter().all(known)
}
