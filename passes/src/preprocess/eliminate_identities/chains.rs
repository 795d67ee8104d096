//! Two operations of a kind, one after the other, and an operation that needs one only for its type.

use onnxq_ir::{NodeId, Op};
use onnxq_pass::Rewriter;
use onnxq_tensor::DType;

use super::{
    forward,
    no_ops::{ints, is_view, permutation},
    same_view,
};

/// `Transpose(Transpose(x))` => `x` where the second undoes the first, else one `Transpose`.
///
/// Not into one where the first has other users: there would be two still.
pub(super) fn transposes(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Transpose")?;
    let between = rw.operand(n, 0)?;
    let first = rw.producer(between, "Transpose")?;
    let x = rw.operand(first, 0)?;
    let (inner, outer) = (permutation(rw, first)?, permutation(rw, n)?);
    let perm: Option<Vec<usize>> = outer.iter().map(|&a| inner.get(a).copied()).collect();
    let perm = perm.filter(|_| inner.len() == outer.len())?;
    if perm.iter().copied().eq(0..perm.len()) {
        return forward(rw, rw.result(n, 0), x);
    }
    rw.sole_use(between)?;
    let perm: Vec<i64> = perm.into_iter().map(|a| a as i64).collect();
    rw.set_attr(n, "perm", perm);
    rw.set_operand(n, 0, Some(x));
    Some(())
}

/// `Squeeze(Unsqueeze(x))`, `Unsqueeze(Squeeze(x))` => `x`, where the axes are the same.
///
/// Not where the axes of either are not given: which they are would depend on the shape.
pub(super) fn squeezes(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    let opposite = match rw.op(n)? {
        op if op.is("Squeeze") => "Unsqueeze",
        op if op.is("Unsqueeze") => "Squeeze",
        _ => return None,
    };
    let first = rw.producer(rw.operand(n, 0)?, opposite)?;
    let axes = |n| {
        let mut axes = ints(rw, n, "axes", 1)?;
        axes.sort_unstable();
        // Both count in the shape that has the axes.
        (!axes.is_empty()).then_some(axes)
    };
    (axes(n)? == axes(first)?).then_some(())?;
    let x = rw.operand(first, 0)?;
    forward(rw, rw.result(n, 0), x)
}

/// `Reshape(Reshape(x, s), t)` => `Reshape(x, t)`, or `x` where it has that shape. The first may
/// be any operation that changes dimensions only, and the second too where `x` comes back.
///
/// Not into one where `t` copies a dimension (by a 0), of a shape that is then gone, or is not
/// constant, so that it may.
pub(super) fn views(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    is_view(rw, n)?;
    let first = rw.operand(n, 0)?.node;
    is_view(rw, first)?;
    let (x, y) = (rw.operand(first, 0)?, rw.result(n, 0));
    if let (Some(a), Some(b)) = (rw.shape(x), rw.shape(y))
        && same_view(a, b)
        && forward(rw, y, x).is_some()
    {
        return Some(());
    }
    rw.is(n, "Reshape")?;
    let target = rw.constant(rw.operand(n, 1)?)?.to_i64s().ok()?;
    if target.contains(&0) && rw.attr_int(n, "allowzero", 0) == 0 {
        return rw.miss(n, "it copies a dimension");
    }
    rw.set_operand(n, 0, Some(x));
    Some(())
}

/// `Cast(Cast(x))` => `Cast(x)`, where the first loses nothing.
///
/// Not from integers over floats to integers that cannot hold them all: floats saturate or are
/// undefined where integers wrap.
pub(super) fn casts(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Cast")?;
    let between = rw.operand(n, 0)?;
    let first = rw.producer(between, "Cast")?;
    let x = rw.operand(first, 0)?;
    let (from, over, to) = (rw.dtype(x)?, rw.dtype(between)?, rw.dtype(rw.result(n, 0))?);
    let wraps = over.is_float() && is_integer(from) && is_integer(to);
    // Text shows how precise a number was.
    let text = to == DType::String;
    (holds(over, from) && !text && (!wraps || holds(to, from))).then_some(())?;
    rw.set_operand(n, 0, Some(x));
    Some(())
}

/// `CastLike(x, like)` => `Cast(x)`, where the type of `like` is known: what computes `like` may
/// then not be needed, and `x` be constant.
pub(super) fn cast_like(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "CastLike")?;
    let (x, to) = (rw.operand(n, 0)?, rw.dtype(rw.operand(n, 1)?)?);
    let mut cast = Op::new("Cast").with("to", i64::from(to.onnx()));
    for key in ["saturate", "round_mode"] {
        if let Some(attr) = rw.op(n)?.attr(key) {
            cast = cast.with(key, attr.clone());
        }
    }
    rw.replace_node(n, cast, &[Some(x)])?;
    Some(())
}

fn is_integer(t: DType) -> bool {
    t.is_int() || t == DType::Bool
}

/// Whether `wide` has every value of `narrow`, exactly.
fn holds(wide: DType, narrow: DType) -> bool {
    // Bits of precision and of the largest exponent; only these floats are compared.
    let float = |t| match t {
        DType::F64 => Some((53, 1024)),
        DType::F32 => Some((24, 128)),
        DType::BF16 => Some((8, 128)),
        DType::F16 => Some((11, 16)),
        _ => None,
    };
    if wide == narrow {
        return true;
    }
    if narrow == DType::Bool {
        return wide.is_int() || float(wide).is_some();
    }
    // Bits of the magnitude: -2^n needs no more precision than 2^n.
    let magnitude = |t: DType| t.bits() - usize::from(t.is_signed_int());
    match (float(wide), float(narrow)) {
        (Some((p, e)), Some((q, f))) => p >= q && e >= f,
        (Some((p, e)), None) => narrow.is_int() && magnitude(narrow) <= p.min(e - 1),
        (None, None) if wide.is_int() && narrow.is_int() => {
            magnitude(wide) >= magnitude(narrow)
                && (wide.is_signed_int() || !narrow.is_signed_int())
        }
        _ => false,
    }
}
