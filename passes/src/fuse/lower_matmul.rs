//! Multiplies codes instead of floats.
//!
//! ```text
//! y = MatMul(DequantizeLinear(x, x_scale, x_zero), DequantizeLinear(W, W_scale, W_zero))
//! =>
//! y = DequantizeLinear(MatMulInteger(x, W, x_zero, W_zero), x_scale * W_scale)
//! ```
//!
//! `x` is quantized while the model runs. `W` is constant, with one scale or one for each column,
//! a zero point of 0 left out; or it is quantized while the model runs, too. With `contrib-ops`, the operators of ONNX Runtime that do all of
//! it at once: DynamicQuantizeMatMul, which quantizes `x` as well, where nobody else reads its
//! codes, else MatMulIntegerToFloat.
//!
//! Does not fire where `W` has scales along another axis, or `x` parameters that do not come from
//! `x` while the model runs.

use onnxq_ir::{Model, NodeId, Op, ValueId};
use onnxq_pass::{
    Error, OptionInfo, OptionKind, Options, Pass, PassContext, PassError, PassInfo, Rewriter, Rule,
    apply_rewrites,
};
use onnxq_tensor::{DType, Dims, Tensor};

use super::{
    pattern::{self, Activation, MICROSOFT, Weight},
    product::{self, Factor, Product},
};

pub(super) const CONTRIB_OPS: OptionInfo = OptionInfo {
    name: "contrib-ops",
    kind: OptionKind::Bool,
    default: "false",
    help: "use operators of the domain com.microsoft, which ONNX Runtime runs",
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "lower-matmul",
    summary: "multiply codes (MatMulInteger) instead of floats",
    options: &[CONTRIB_OPS, product::COMPAT],
    build,
};

fn build(opts: &mut Options) -> Result<Box<dyn Pass>, Error> {
    Ok(Box::new(LowerMatMul {
        contrib_ops: opts.take("contrib-ops", false)?,
        compat: opts.take("compat", false)?,
    }))
}

struct LowerMatMul {
    contrib_ops: bool,
    compat: bool,
}

impl Pass for LowerMatMul {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let contrib = |rw: &mut Rewriter<'_>, n| self.contrib_ops.then(|| lower_contrib(rw, n))?;
        let bias = |rw: &mut Rewriter<'_>, n| self.contrib_ops.then(|| take_bias(rw, n))?;
        let plain = |rw: &mut Rewriter<'_>, n| lower(rw, n, self.compat);
        let rules = [
            Rule {
                name: "lower-matmul-contrib",
                apply: &contrib,
            },
            Rule {
                name: "take-bias",
                apply: &bias,
            },
            Rule {
                name: INFO.name,
                apply: &plain,
            },
        ];
        apply_rewrites(model, cx, &rules)?;
        if self.contrib_ops {
            import(model);
        }
        Ok(())
    }
}

/// Imports the domain of ONNX Runtime where the model uses it.
pub(super) fn import(model: &mut Model) {
    let mut used = false;
    model.for_each_graph(|graph| {
        let ops = graph.node_ids().filter_map(|n| graph.op(n));
        used |= ops.into_iter().any(|op| op.domain == MICROSOFT);
    });
    if used {
        model.opsets.entry(MICROSOFT.to_owned()).or_insert(1);
    }
}

/// The operands of a product of codes, with scales along columns.
fn operands(rw: &mut Rewriter<'_>, n: NodeId) -> Option<(Activation, Weight)> {
    rw.is(n, "MatMul")?;
    let x = pattern::activation(rw, rw.operand(n, 0)?)?;
    let w = pattern::weight(rw, rw.operand(n, 1)?)?;
    let rank = w.tensor.rank();
    if w.axis.is_some_and(|axis| rank < 2 || axis + 1 != rank) {
        rw.miss(n, "the scales of the weight are not those of its columns")?;
    }
    if x.qtype == DType::I8 && w.tensor.dtype() == DType::U8 {
        rw.miss(n, "no runtime multiplies int8 activations by uint8 weights")?;
    }
    Some((x, w))
}

/// With operators of the standard domain.
fn lower(rw: &mut Rewriter<'_>, n: NodeId, compat: bool) -> Option<()> {
    rw.is(n, "MatMul")?;
    let computed = pattern::activation(rw, rw.operand(n, 1)?);
    let (x, w) = match computed {
        Some(_) => (pattern::activation(rw, rw.operand(n, 0)?)?, None),
        None => operands(rw, n).map(|(x, w)| (x, Some(w)))?,
    };
    let product = Product {
        op: Op::new("MatMulInteger"),
        codes: x.codes,
        zero_point: match &w {
            Some(w) => weight_zero_point(rw, w)?,
            None => None,
        },
        factor: 1.0,
        axis: -1,
        node: rw.graph().node(n).name.clone(),
        result: rw.name(rw.result(n, 0)).to_owned(),
        compat,
    };
    let last = match (w, computed) {
        (Some(w), _) => product.insert(rw, n, &x, &w)?,
        (None, computed) => {
            let computed = computed?;
            let factor = Factor {
                codes: computed.codes,
                scale: computed.scale,
                zero_point: Some(computed.zero_point),
                per_channel: false,
            };
            product.insert_of(rw, n, &x, factor)
        }
    };
    last.replace(rw, n)
}

/// The zero point as MatMulInteger takes it: that of columns has the rank of the weight where
/// that is more than 2.
pub(super) fn weight_zero_point(rw: &mut Rewriter<'_>, w: &Weight) -> Option<Option<ValueId>> {
    let (Some(v), Some(zero_points)) = (w.zero_point, &w.zero_points) else {
        return Some(None);
    };
    let rank = w.tensor.rank();
    if w.axis.is_none() || rank <= 2 {
        return Some(Some(v));
    }
    let mut dims = Dims::from_slice(w.tensor.dims());
    dims[rank - 2] = 1;
    let matrices: usize = dims[..rank - 2].iter().product();
    let bytes = zero_points.bytes().repeat(matrices);
    let tensor = Tensor::new(zero_points.dtype(), dims, bytes).ok()?;
    Some(Some(pattern::insert_like(rw, v, tensor)))
}

/// With operators of ONNX Runtime.
fn lower_contrib(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    let (x, w) = operands(rw, n)?;
    if w.tensor.rank() != 2 || x.dtype != DType::F32 || w.scales.dtype() != DType::F32 {
        rw.miss(n, "the operators of com.microsoft take matrices of float")?;
    }
    let alone = rw.sole_use(rw.operand(n, 0)?).is_some() && rw.sole_use(x.codes).is_some();
    if alone && x.qtype == DType::U8 {
        let op = Op::in_domain(MICROSOFT, "DynamicQuantizeMatMul");
        let operands = [Some(x.source), Some(w.codes), Some(w.scale), w.zero_point];
        let given = if w.zero_point.is_some() { 4 } else { 3 };
        return rw.replace_node(n, op, &operands[..given]).map(drop);
    }
    let op = Op::in_domain(MICROSOFT, "MatMulIntegerToFloat");
    let operands = [x.codes, w.codes, x.scale, w.scale, x.zero_point].map(Some);
    let operands: Vec<_> = operands.into_iter().chain(w.zero_point.map(Some)).collect();
    rw.replace_node(n, op, &operands).map(drop)
}

/// `Add(DynamicQuantizeMatMul(...), bias)` and the like, for a bias with an element for each
/// column: those operators take it along.
fn take_bias(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Add")?;
    let (a, b) = (rw.operand(n, 0)?, rw.operand(n, 1)?);
    let (sum, bias) = if rw.constant(b).is_some() {
        (a, b)
    } else {
        (b, a)
    };
    let op = rw.op(sum.node).filter(|op| op.domain == MICROSOFT)?;
    let place = match op.op_type.as_str() {
        "DynamicQuantizeMatMul" => 4,
        "MatMulIntegerToFloat" => 6,
        _ => return None,
    };
    let op = op.clone();
    let columns = *rw.constant(rw.operand(sum.node, 1)?)?.dims().last()?;
    let tensor = rw.constant(bias)?;
    rw.sole_use(sum)?;
    let mut operands = rw.graph().operands(sum.node);
    if tensor.dims() != [columns] || tensor.dtype() != DType::F32 || operands.len() > place {
        return None;
    }
    operands.resize(place, None);
    operands.push(Some(bias));
    rw.replace_node(n, op, &operands).map(drop)
}
