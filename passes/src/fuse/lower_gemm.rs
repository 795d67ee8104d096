//! Multiplies codes instead of floats in a Gemm.
//!
//! ```text
//! y = Gemm <alpha, beta, transA, transB> (DequantizeLinear(x, ...), DequantizeLinear(W, ...), c)
//! =>
//! sums = MatMulInteger(x, W, x_zero, W_zero)
//! y = DequantizeLinear(sums, x_scale * (alpha * W_scale)) + beta * c
//! ```
//!
//! A constant weight is transposed at once, codes of an activation while the model runs. `alpha`
//! goes into the scales, `beta` into a constant `c`.
//!
//! Does not fire where the weight has scales along the axis that is summed over, or `alpha` is not
//! positive, which scales cannot be.

use onnxq_ir::{Model, NodeId, Op, Use, Value, ValueId};
use onnxq_pass::{Pass, PassContext, PassError, PassInfo, Rewriter, Rule, apply_rewrites};
use onnxq_tensor::{DType, Dims, Tensor};

use super::{
    lower_matmul::weight_zero_point,
    pattern::{self, Derived},
    product::{self, Product},
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "lower-gemm",
    summary: "multiply codes (MatMulInteger) instead of floats in Gemm",
    options: &[product::COMPAT],
    build: |opts| {
        let compat = opts.take("compat", false)?;
        Ok(Box::new(LowerGemm { compat }))
    },
};

struct LowerGemm {
    compat: bool,
}

impl Pass for LowerGemm {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let derived = Derived::default();
        let transpose = |rw: &mut Rewriter<'_>, n| transpose_weight(rw, n, &derived);
        let lower = |rw: &mut Rewriter<'_>, n| lower(rw, n, self.compat);
        let rules = [
            Rule {
                name: "transpose-gemm-weight",
                apply: &transpose,
            },
            Rule {
                name: INFO.name,
                apply: &lower,
            },
        ];
        apply_rewrites(model, cx, &rules)
    }
}

/// At a DequantizeLinear of a weight: every Gemm that takes it transposed and can be lowered gets
/// the transposed weight, one for all of them.
fn transpose_weight(rw: &mut Rewriter<'_>, n: NodeId, derived: &Derived) -> Option<()> {
    rw.is(n, "DequantizeLinear")?;
    let v = rw.result(n, 0);
    let transposing = |rw: &Rewriter<'_>, u: &Use| {
        rw.is(u.node, "Gemm")?;
        pattern::activation(rw, rw.operand(u.node, 0)?)?;
        (u.operand == 1 && rw.attr_int(u.node, "transB", 0) != 0).then_some(())
    };
    let w = pattern::weight(rw, v)?;
    if w.tensor.rank() != 2 {
        return None;
    }
    let uses = rw.graph().uses(v);
    let users: Vec<NodeId> = uses
        .iter()
        .filter(|u| transposing(rw, u).is_some())
        .map(|u| u.node)
        .collect();
    if users.is_empty() {
        return None;
    }
    let codes = derived.tensor(&w.tensor, || pattern::transpose(&w.tensor))?;
    let codes = pattern::insert_like(rw, w.codes, codes);
    let mut op = Op::new("DequantizeLinear");
    if let Some(axis) = w.axis {
        op = op.with("axis", 1 - axis as i64);
    }
    let mut operands = rw.graph().operands(n);
    operands[0] = Some(codes);
    let name = rw.graph().node(n).name.clone();
    let result = Value::new(rw.name(v), None);
    let new = rw.insert_node(name, op, &operands, [result]);
    let new = rw.result(new, 0);
    for user in users {
        rw.set_operand(user, 1, Some(new));
        if let Some(op) = rw.op_mut(user) {
            op.attrs.shift_remove("transB");
        }
    }
    Some(())
}

fn lower(rw: &mut Rewriter<'_>, n: NodeId, compat: bool) -> Option<()> {
    rw.is(n, "Gemm")?;
    let x = pattern::activation(rw, rw.operand(n, 0)?)?;
    let w = pattern::weight(rw, rw.operand(n, 1)?)?;
    if rw.attr_int(n, "transB", 0) != 0 || w.tensor.rank() != 2 {
        return None;
    }
    if w.axis.is_some_and(|axis| axis != 1) {
        rw.miss(n, "the scales of the weight are not those of its columns")?;
    }
    if x.qtype == DType::I8 && w.tensor.dtype() == DType::U8 {
        rw.miss(n, "no runtime multiplies int8 activations by uint8 weights")?;
    }
    let (alpha, beta) = (
        rw.attr_float(n, "alpha", 1.0),
        rw.attr_float(n, "beta", 1.0),
    );
    if !(alpha > 0.0 && alpha.is_finite()) {
        rw.miss(n, "alpha is not positive")?;
    }
    let c = rw.operand(n, 2);
    let c = match c {
        Some(c) if beta != 0.0 => Some(scaled(rw, n, c, beta)?),
        _ => None,
    };
    let mut codes = x.codes;
    if rw.attr_int(n, "transA", 0) != 0 {
        let op = Op::new("Transpose").with("perm", vec![1, 0]);
        codes = rw.insert(op, &[codes], rw.derive(codes, "transposed"));
    }
    let (name, y) = (rw.graph().node(n).name.clone(), rw.result(n, 0));
    let with = |suffix: &str| match name.as_str() {
        "" => String::new(),
        name => format!("{name}_{suffix}"),
    };
    // The product is a node of its own where something is added to it.
    let (product, add) = match c {
        Some(_) => (rw.derive(y, "MatMul"), with("Add")),
        None => (rw.name(y).to_owned(), String::new()),
    };
    let last = Product {
        op: Op::new("MatMulInteger"),
        codes,
        zero_point: weight_zero_point(rw, &w)?,
        factor: alpha,
        axis: -1,
        node: with("MatMul"),
        result: product.clone(),
        compat,
    };
    let last = last.insert(rw, n, &x, &w)?;
    let Some(c) = c else {
        return last.replace(rw, n);
    };
    let result = rw.graph().value(y).clone();
    let product = last.insert(rw, Value::new(product, result.ty.clone()));
    let sum = rw.insert_node(add, Op::new("Add"), &[Some(product), Some(c)], [result]);
    rw.replace(y, rw.result(sum, 0))
}

/// `beta * c`, computed at once where `c` is constant.
fn scaled(rw: &mut Rewriter<'_>, n: NodeId, c: ValueId, beta: f32) -> Option<ValueId> {
    if beta == 1.0 {
        return Some(c);
    }
    if let Some(tensor) = rw.constant(c) {
        let values: Vec<f32> = tensor.to_f32s().ok()?.iter().map(|v| v * beta).collect();
        let tensor =
            Tensor::from_f32s(tensor.dtype(), Dims::from_slice(tensor.dims()), values).ok()?;
        return Some(pattern::insert_like(rw, c, tensor));
    }
    let dtype = rw.dtype(c).unwrap_or(DType::F32);
    let factor = Tensor::scalar(beta).cast(dtype, true).ok()?;
    let factor = rw.insert_constant(product::name(rw, n, "beta"), factor);
    let name = product::name(rw, n, "scaled_bias");
    Some(rw.insert(Op::new("Mul"), &[c, factor], name))
}
