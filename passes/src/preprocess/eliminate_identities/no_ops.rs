//! Operations that return their operand.

use onnxq_ir::{NodeId, ValueId};
use onnxq_pass::Rewriter;
use onnxq_tensor::Tensor;

use super::{forward, is_same, same_shape, same_view};

/// `Identity(x)` => `x`
pub(super) fn identity(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Identity")?;
    let x = rw.operand(n, 0)?;
    forward(rw, rw.result(n, 0), x)
}

/// `Dropout(x)` => `x`
///
/// Not in training mode, not where the mask is used.
pub(super) fn dropout(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Dropout")?;
    let x = rw.operand(n, 0)?;
    let results = rw.graph().node(n).results.len();
    if (1..results).any(|i| rw.graph().is_used(rw.result(n, i))) {
        return rw.miss(n, "the mask is used");
    }
    if rw.opset() < 7 && rw.attr_int(n, "is_test", 0) == 0 {
        return rw.miss(n, "it trains");
    }
    if let Some(training) = rw.operand(n, 2) {
        let training = rw.constant(training).and_then(|t| t.as_bools().ok());
        if training.is_none_or(|t| t != [false]) {
            return rw.miss(n, "it may be training");
        }
    }
    forward(rw, rw.result(n, 0), x)
}

/// `Cast(x)` => `x`, where `x` has the type already. `CastLike` too.
pub(super) fn cast(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Cast").or_else(|| rw.is(n, "CastLike"))?;
    let (x, y) = (rw.operand(n, 0)?, rw.result(n, 0));
    let same = rw.dtype(x)? == rw.dtype(y)?;
    same.then_some(())?;
    forward(rw, y, x)
}

/// Whether the operator keeps the elements and their order, and changes dimensions only.
pub(super) fn is_view(rw: &Rewriter<'_>, n: NodeId) -> Option<()> {
    let op = rw.op(n)?;
    let views = ["Reshape", "Flatten", "Squeeze", "Unsqueeze"];
    views.iter().any(|view| op.is(view)).then_some(())
}

/// `Reshape(x)` => `x`, and so for other operators that change dimensions only, and for those
/// that copy elements to fill a shape, where the shape stays.
///
/// Not where more than one dimension is unknown.
pub(super) fn view(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    let (x, y) = (rw.operand(n, 0)?, rw.result(n, 0));
    if is_view(rw, n).is_some() {
        same_view(rw.shape(x)?, rw.shape(y)?).then_some(())?;
    } else {
        rw.is(n, "Expand").or_else(|| rw.is(n, "Tile"))?;
        same_shape(rw, x, y)?;
    }
    forward(rw, y, x)
}

/// The permutation of a `Transpose`.
pub(super) fn permutation(rw: &Rewriter<'_>, n: NodeId) -> Option<Vec<usize>> {
    let op = rw.op(n)?;
    match op.ints("perm") {
        Some(perm) => {
            let axes = perm.iter().map(|&axis| axis.try_into().ok());
            let axes: Vec<usize> = axes.collect::<Option<_>>()?;
            axes.iter().all(|&a| a < axes.len()).then_some(axes)
        }
        None => Some((0..rw.shape(rw.operand(n, 0)?)?.len()).rev().collect()),
    }
}

/// `Transpose(x)` => `x`, where no axis moves, or only axes of length one among their like.
pub(super) fn transpose(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Transpose")?;
    let (x, y) = (rw.operand(n, 0)?, rw.result(n, 0));
    let perm = permutation(rw, n)?;
    if !perm.iter().copied().eq(0..perm.len()) {
        let shape = rw.shape(x)?;
        let length = |axis: usize| shape.get(axis);
        let moved = |&axis: &usize| length(axis).is_none_or(|d| d.as_const() != Some(1));
        let in_place = |(to, &from): (usize, &usize)| match (length(to), length(from)) {
            (Some(a), Some(b)) => is_same(a, b),
            _ => false,
        };
        let long: Vec<usize> = perm.iter().copied().filter(moved).collect();
        (long.is_sorted() && perm.iter().enumerate().all(in_place)).then_some(())?;
    }
    forward(rw, y, x)
}

/// The integers of attribute `key`, or of operand `i`; `None` where they are not constant, an
/// empty list where they are not given.
pub(super) fn ints(rw: &Rewriter<'_>, n: NodeId, key: &str, i: usize) -> Option<Vec<i64>> {
    if let Some(ints) = rw.op(n)?.ints(key) {
        return Some(ints.to_vec());
    }
    match rw.operand(n, i) {
        Some(v) => rw.constant(v)?.to_i64s().ok(),
        None => Some(Vec::new()),
    }
}

/// `Slice(x)` => `x`, where it takes everything: from 0 to the end by steps of one, or to the
/// same shape by positive steps.
pub(super) fn slice(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    // Exporters write the end as one of these.
    const END: i64 = i32::MAX as i64;
    rw.is(n, "Slice")?;
    let (x, y) = (rw.operand(n, 0)?, rw.result(n, 0));
    let steps = ints(rw, n, "steps", 4)?;
    let all = |rw: &Rewriter<'_>| {
        let (starts, ends) = (ints(rw, n, "starts", 1)?, ints(rw, n, "ends", 2)?);
        let whole = starts.iter().all(|&s| s == 0)
            && ends.iter().all(|&e| e >= END)
            && steps.iter().all(|&s| s == 1);
        whole.then_some(())
    };
    let same = |rw: &Rewriter<'_>| {
        steps.iter().all(|&s| s > 0).then_some(())?;
        same_shape(rw, x, y)
    };
    all(rw).or_else(|| same(rw))?;
    forward(rw, y, x)
}

/// `Pad(x)` => `x`, where all pads are zero.
pub(super) fn pad(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Pad")?;
    let pads = ints(rw, n, "pads", 1)?;
    let none = pads.iter().all(|&p| p == 0) && (rw.operand(n, 1).is_some() || !pads.is_empty());
    none.then_some(())?;
    let x = rw.operand(n, 0)?;
    forward(rw, rw.result(n, 0), x)
}

/// `x + 0`, `x - 0`, `x * 1`, `x / 1`, `x ^ 1` => `x`
///
/// Not where the constant broadcasts `x` to another shape.
pub(super) fn neutral(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    let (neutral, commutes) = match rw.op(n)? {
        op if op.is("Add") => (0.0, true),
        op if op.is("Mul") => (1.0, true),
        op if op.is("Sub") => (0.0, false),
        op if op.is("Div") || op.is("Pow") => (1.0, false),
        _ => return None,
    };
    let (a, b, y) = (rw.operand(n, 0)?, rw.operand(n, 1)?, rw.result(n, 0));
    let is_neutral = |v: ValueId| rw.constant(v).is_some_and(|t| all_equal(&t, neutral));
    let x = if is_neutral(b) {
        a
    } else if commutes && is_neutral(a) {
        b
    } else {
        return None;
    };
    same_shape(rw, x, y)?;
    // The exponent of a power may be of another type.
    (rw.dtype(x)? == rw.dtype(y)?).then_some(())?;
    forward(rw, y, x)
}

/// Whether every element is `value`; a large tensor is read only if the first one is.
fn all_equal(t: &Tensor, value: f64) -> bool {
    let all = |t: &Tensor| t.to_f64s().is_ok_and(|v| v.iter().all(|&v| v == value));
    if t.is_empty() || t.dtype().is_packed() {
        return false;
    }
    let first = t.reshape(vec![t.len()]).and_then(|flat| flat.rows(0..1));
    let equal = first.is_ok_and(|first| all(&first)) && all(t);
    t.release();
    equal
}

/// `Concat`, `Sum`, `Mean`, `Max`, `Min` of one operand, `Split` into one result => the operand
pub(super) fn single(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    let (op, node) = (rw.op(n)?, rw.graph().node(n));
    let single = match node.operand_count() {
        1 if op.is("Split") => node.results.len() == 1,
        1 => ["Concat", "Sum", "Mean", "Max", "Min"]
            .iter()
            .any(|o| op.is(o)),
        _ => false,
    };
    single.then_some(())?;
    let x = rw.operand(n, 0)?;
    forward(rw, rw.result(n, 0), x)
}
