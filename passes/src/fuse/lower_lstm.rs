//! Lowers an LSTM with quantized weights to DynamicQuantizeLSTM of ONNX Runtime.
//!
//! ```text
//! LSTM(DequantizeLinear(x), DequantizeLinear(W), DequantizeLinear(R), B, ...)
//! =>
//! com.microsoft.DynamicQuantizeLSTM(x, W', R', B, ..., W_scale, W_zero, R_scale, R_zero)
//! ```
//!
//! The operator quantizes `x`, and the hidden state of each step, itself. `W'` and `R'` are
//! transposed to `[directions, _, 4 * hidden]`. There is no operator of the standard domain that
//! does it.
//!
//! Does not fire for weights with zero points other than 0, for `float16`, and for the layout with
//! the batch first, none of which the operator knows.

use onnxq_ir::{Model, NodeId, Op, ValueId};
use onnxq_pass::{Pass, PassContext, PassError, PassInfo, Rewriter, Rule, apply_rewrites};
use onnxq_tensor::{DType, Dims, Tensor};

use super::{
    lower_matmul::import,
    pattern::{self, Derived, MICROSOFT},
    product,
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "lower-lstm",
    summary: "lower LSTM with quantized weights to com.microsoft.DynamicQuantizeLSTM",
    options: &[product::COMPAT],
    build: |opts| {
        let compat = opts.take("compat", false)?;
        Ok(Box::new(LowerLstm { compat }))
    },
};

struct LowerLstm {
    compat: bool,
}

impl Pass for LowerLstm {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let derived = Derived::default();
        let lower = |rw: &mut Rewriter<'_>, n| lower(rw, n, &derived, self.compat);
        let rule = Rule {
            name: INFO.name,
            apply: &lower,
        };
        apply_rewrites(model, cx, &[rule])?;
        import(model);
        Ok(())
    }
}

/// The weight of an LSTM in the form of DynamicQuantizeLSTM, before anything is added.
struct CellWeight {
    codes: ValueId,
    scale: ValueId,
    zero_point: ValueId,
    transposed: Tensor,
    scales: Tensor,
    zero_points: Tensor,
}

fn lower(rw: &mut Rewriter<'_>, n: NodeId, derived: &Derived, compat: bool) -> Option<()> {
    rw.is(n, "LSTM")?;
    let x = pattern::activation(rw, rw.operand(n, 0)?)?;
    if x.dtype != DType::F32 {
        rw.miss(n, "DynamicQuantizeLSTM knows float only")?;
    }
    if rw.attr_int(n, "layout", 0) != 0 {
        rw.miss(n, "DynamicQuantizeLSTM has no layout with the batch first")?;
    }
    let w = cell_weight(rw, n, 1, derived)?;
    let r = cell_weight(rw, n, 2, derived)?;
    let mut op = Op {
        domain: MICROSOFT.to_owned(),
        op_type: "DynamicQuantizeLSTM".to_owned(),
        ..rw.op(n)?.clone()
    };
    op.attrs.shift_remove("layout");
    let mut operands = rw.graph().operands(n);
    operands.resize(8, None);
    operands[0] = Some(x.source);
    let [(w, w_scale, w_zero), (r, r_scale, r_zero)] = [w, r].map(|w| insert(rw, w));
    operands[1] = Some(w);
    operands[2] = Some(r);
    operands.extend([w_scale, w_zero, r_scale, r_zero].map(Some));
    let new = rw.replace_node(n, op, &operands)?;
    let node = rw.graph_mut(new).node_mut(new);
    if compat && !node.name.is_empty() {
        node.name.push_str("_quant");
    }
    Some(())
}

/// Operand `i` of the LSTM `n`: `[directions, 4 * hidden, _]`, or reshaped to that from
/// `[directions * 4 * hidden, _]` with a scale for each row.
fn cell_weight(
    rw: &mut Rewriter<'_>,
    n: NodeId,
    i: usize,
    derived: &Derived,
) -> Option<CellWeight> {
    let v = rw.operand(n, i)?;
    let (dequantized, shape) = match rw.producer(v, "Reshape") {
        Some(reshape) => {
            let shape = rw.constant(rw.operand(reshape, 1)?)?.to_i64s().ok()?;
            let shape: Option<Dims> = shape.iter().map(|&d| usize::try_from(d).ok()).collect();
            (rw.operand(reshape, 0)?, shape)
        }
        None => (v, None),
    };
    let w = pattern::weight(rw, dequantized)?;
    let dims = shape.unwrap_or_else(|| Dims::from_slice(w.tensor.dims()));
    let &[directions, rows, _] = dims.as_slice() else {
        return None;
    };
    if w.zero_point.is_some() || w.scales.dtype() != DType::F32 {
        rw.miss(
            n,
            "the weight has zero points, or scales of another type than float",
        )?;
    }
    let param_dims = match w.axis {
        None if directions == 1 => Dims::from_slice(&[1]),
        Some(0) if w.scales.len() == directions => Dims::from_slice(&[directions]),
        Some(0) if w.scales.len() == directions * rows => Dims::from_slice(&[directions, rows]),
        _ => {
            rw.miss(n, "the scales are those of neither directions nor rows")?;
            return None;
        }
    };
    let weight = w.tensor.reshape(dims).ok()?;
    let transposed = derived.tensor(&weight, || pattern::transpose(&weight))?;
    let zero_point = rw.operand(dequantized.node, 2).unwrap_or(w.scale);
    Some(CellWeight {
        codes: w.codes,
        scale: w.scale,
        zero_point,
        transposed,
        scales: w.scales.reshape(param_dims.clone()).ok()?,
        zero_points: Tensor::zeros(w.tensor.dtype(), param_dims).ok()?,
    })
}

fn insert(rw: &mut Rewriter<'_>, w: CellWeight) -> (ValueId, ValueId, ValueId) {
    (
        pattern::insert_like(rw, w.codes, w.transposed),
        pattern::insert_like(rw, w.scale, w.scales),
        pattern::insert_like(rw, w.zero_point, w.zero_points),
    )
}
