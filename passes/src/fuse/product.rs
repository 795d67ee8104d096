//! What the lowerings of products have in common: scales, sums in `int32`, and the way back.

use onnxq_ir::{NodeId, Op, Type, ValueId};
use onnxq_pass::Rewriter;
use onnxq_tensor::{DType, Dims, Tensor};

use super::pattern::{Activation, Weight};

/// A name for what is new at `n`: that of its result, and `suffix`.
pub(super) fn name(rw: &Rewriter<'_>, n: NodeId, suffix: &str) -> String {
    rw.derive(rw.result(n, 0), suffix)
}

/// A name for a new node at `n`, empty where that has none.
pub(super) fn node_name(rw: &Rewriter<'_>, n: NodeId, suffix: &str) -> String {
    match rw.graph().node(n).name.as_str() {
        "" => String::new(),
        name => format!("{name}_{suffix}"),
    }
}

/// Adds the product of codes, of the operator `op`, that stands for `n`.
pub(super) fn insert_sums(
    rw: &mut Rewriter<'_>,
    n: NodeId,
    op: Op,
    operands: &[Option<ValueId>],
) -> ValueId {
    let shape = rw.ty(rw.result(n, 0)).and_then(Type::shape).cloned();
    let ty = shape.map(|shape| Type::tensor(DType::I32, Some(shape)));
    let result = onnxq_ir::Value::new(name(rw, n, "output_quantized"), ty);
    let node = node_name(rw, n, "quant");
    let sums = rw.insert_node(node, op, operands, [result]);
    rw.result(sums, 0)
}

/// The scale of the sums: `x_scale * w_scale`, and `factor` times that.
pub(super) fn insert_scale(
    rw: &mut Rewriter<'_>,
    n: NodeId,
    x: &Activation,
    w: &Weight,
    factor: f32,
) -> Option<ValueId> {
    let mut scale = w.scale;
    if factor != 1.0 || w.scales.dtype() != DType::F32 {
        let scales = w.scales.to_f32s().ok()?;
        let scales: Vec<f32> = scales.iter().map(|s| s * factor).collect();
        let scales = Tensor::from_vec(Dims::from_slice(w.scales.dims()), scales).ok()?;
        scale = rw.insert_constant(name(rw, n, "weight_scale"), scales);
    }
    let name = name(rw, n, "scale");
    Some(rw.insert(Op::new("Mul"), &[x.scale, scale], name))
}

/// The operator that dequantizes sums; `axis` is that of the channels where they have scales of
/// their own.
pub(super) fn dequantize(w: &Weight, axis: i64) -> Op {
    let op = Op::new("DequantizeLinear");
    match w.axis {
        None => op,
        Some(_) => op.with("axis", axis),
    }
}

/// Puts `op(operands)`, of float, in the place of `n`, whose result is of `dtype`.
pub(super) fn replace(
    rw: &mut Rewriter<'_>,
    n: NodeId,
    dtype: DType,
    op: Op,
    operands: &[ValueId],
) -> Option<()> {
    if dtype == DType::F32 {
        let operands: Vec<_> = operands.iter().copied().map(Some).collect();
        return rw.replace_node(n, op, &operands).map(drop);
    }
    let float = rw.insert(op, operands, name(rw, n, "float"));
    let cast = Op::new("Cast").with("to", i64::from(dtype.onnx()));
    rw.replace_node(n, cast, &[Some(float)]).map(drop)
}

/// Adds `op(operands)`, of float, in the type that the result of `n` has.
pub(super) fn insert_float(
    rw: &mut Rewriter<'_>,
    n: NodeId,
    dtype: DType,
    op: Op,
    operands: &[ValueId],
    suffix: &str,
) -> ValueId {
    let ty = rw.ty(rw.result(n, 0)).cloned();
    let v = rw.insert(op, operands, name(rw, n, suffix));
    if dtype == DType::F32 {
        rw.set_type(v, ty);
        return v;
    }
    let cast = Op::new("Cast").with("to", i64::from(dtype.onnx()));
    let half = rw.insert(cast, &[v], name(rw, n, &format!("{suffix}_{dtype}")));
    rw.set_type(half, ty);
    half
}
