//! What schemas do not say: meanings that changed, and operators that can be said by others.

use onnxq_ir::{Attr, Op};
use onnxq_tensor::{DType, Tensor};

use super::{Outcome, become_op, constant};
use crate::{UpgradeContext, UpgradeError};

/// Prepares a node for the older schema where its meaning changed in between.
pub(super) fn before(cx: &mut UpgradeContext<'_>) -> Outcome {
    match cx.op().op_type.as_str() {
        "Softmax" | "LogSoftmax" | "Hardmax" if cx.uncrosses(13) => rows(cx),
        "Slice" if cx.uncrosses(10) => steps(cx),
        "Pad" => pad(cx),
        "Split" if cx.uncrosses(18) => parts(cx),
        "Resize" => resize(cx),
        "Gemm" if cx.uncrosses(11) => no_bias(cx),
        "Dropout" => dropout(cx),
        "QuantizeLinear" | "DequantizeLinear" if cx.uncrosses(13) => one_scale(cx),
        "Constant" if cx.uncrosses(12) => numbers(cx),
        "GroupNormalization" if cx.uncrosses(21) => Err(UpgradeError::new(
            "it has parameters for each channel, not for each group",
        )),
        "RoiAlign" if cx.uncrosses(16) => region(cx),
        "GridSample" if cx.uncrosses(20) => grid(cx),
        "DFT" if cx.uncrosses(20) => frequencies(cx),
        "Scan" if cx.uncrosses(9) => Err(UpgradeError::new("Scan of opset 8 works on a batch")),
        _ => Ok(()),
    }
}

fn known_rank(cx: &UpgradeContext<'_>) -> Result<i64, UpgradeError> {
    let rank = cx.rank(0).map(|rank| rank as i64);
    rank.ok_or_else(|| UpgradeError::new("the rank is unknown"))
}

/// Until 13 all from the axis on was one row: the same for the last axis, to which others are turned.
fn rows(cx: &mut UpgradeContext<'_>) -> Outcome {
    let rank = known_rank(cx)?;
    let axis = match cx.op().int("axis", -1) {
        axis if axis < 0 => axis + rank,
        axis => axis,
    };
    if !(0..rank).contains(&axis) {
        return Err(UpgradeError::new(format!("axis {axis} of {rank}")));
    }
    cx.op_mut()
        .attrs
        .insert("axis".to_owned(), (rank - 1).into());
    if axis != rank - 1 {
        let mut perm: Vec<i64> = (0..rank).collect();
        perm.swap(axis as usize, rank as usize - 1);
        let turn = Op::new("Transpose").with("perm", perm);
        cx.wrap_operand(0, turn.clone(), &[], "turned");
        cx.wrap_result(0, turn, &[], "rows");
    }
    Ok(())
}

/// Operand `i` goes, which must be constant and say nothing.
fn drop_operand(
    cx: &mut UpgradeContext<'_>,
    i: usize,
    says_nothing: impl Fn(&[f64]) -> bool,
) -> Outcome {
    if cx.operand(i).is_none() {
        return Ok(());
    }
    let values = constant(cx, i).and_then(|t| Some(t.to_f64s().ok()?.into_owned()));
    if !values.is_some_and(|v| says_nothing(&v)) {
        return Err(UpgradeError::new(format!(
            "operand {i} is not known at opset {}",
            cx.to()
        )));
    }
    let mut operands = cx.graph.operands(cx.node);
    operands[i] = None;
    while operands.last() == Some(&None) {
        operands.pop();
    }
    cx.graph.set_operands(cx.node, &operands);
    Ok(())
}

fn steps(cx: &mut UpgradeContext<'_>) -> Outcome {
    drop_operand(cx, 4, |steps| steps.iter().all(|&s| s == 1.0))
}

fn ints(cx: &UpgradeContext<'_>, i: usize) -> Option<Vec<i64>> {
    constant(cx, i)?.to_i64s().ok()
}

fn pad(cx: &mut UpgradeContext<'_>) -> Outcome {
    if cx.uncrosses(18) && cx.operand(3).is_some() {
        let rank = known_rank(cx)? as usize;
        let given = ints(cx, 1).zip(ints(cx, 3));
        let (pads, axes) =
            given.ok_or_else(|| UpgradeError::new("pads or axes are not constant"))?;
        let mut all = vec![0; 2 * rank];
        for (k, axis) in axes.iter().enumerate() {
            let axis = usize::try_from(if *axis < 0 { axis + rank as i64 } else { *axis });
            let axis = axis
                .ok()
                .filter(|&a| a < rank && pads.len() == 2 * axes.len());
            let axis = axis.ok_or_else(|| UpgradeError::new("axes and pads do not fit"))?;
            all[axis] = pads[k];
            all[rank + axis] = pads[axes.len() + k];
        }
        let mut operands = cx.graph.operands(cx.node);
        operands.truncate(3);
        cx.graph.set_operands(cx.node, &operands);
        cx.set_constant(1, "pads", Tensor::vector(all));
    }
    if cx.uncrosses(19) && cx.op().str("mode") == Some("wrap") {
        return Err(UpgradeError::new("mode 'wrap' came at opset 19"));
    }
    if cx.uncrosses(11) && cx.operand(2).is_some() {
        let value = constant(cx, 2).and_then(|t| t.scalar_f64().ok());
        let value = value.ok_or_else(|| UpgradeError::new("the value is not constant"))?;
        cx.op_mut()
            .attrs
            .insert("value".to_owned(), (value as f32).into());
        let mut operands = cx.graph.operands(cx.node);
        operands.truncate(2);
        cx.graph.set_operands(cx.node, &operands);
    }
    Ok(())
}

/// Parts of which the last is smaller are written out.
fn parts(cx: &mut UpgradeContext<'_>) -> Outcome {
    cx.op_mut().attrs.shift_remove("num_outputs");
    if cx.operand(1).is_some() {
        return Ok(());
    }
    let axis = cx.op().int("axis", 0);
    let size = |v| {
        let shape = cx.graph.ty(v)?.shape()?;
        let axis = if axis < 0 {
            axis + shape.len() as i64
        } else {
            axis
        };
        shape.get(usize::try_from(axis).ok()?)?.as_const()
    };
    let results = 0..cx.graph.node(cx.node).results.len();
    let sizes: Option<Vec<i64>> = results.map(|i| size(cx.graph.result(cx.node, i))).collect();
    let Some(sizes) = sizes else {
        return Err(UpgradeError::new("the sizes of the parts are unknown"));
    };
    if sizes.windows(2).any(|pair| pair[0] != pair[1]) {
        if cx.to() < 13 {
            cx.op_mut()
                .attrs
                .insert("split".to_owned(), Attr::Ints(sizes));
        } else {
            cx.set_constant(1, "split", Tensor::vector(sizes));
        }
    }
    Ok(())
}

fn resize(cx: &mut UpgradeContext<'_>) -> Outcome {
    if cx.uncrosses(18) && cx.op().attr("axes").is_some() {
        return Err(UpgradeError::new("attribute 'axes' came at opset 18"));
    }
    if cx.uncrosses(19)
        && cx.op().str("coordinate_transformation_mode") == Some("half_pixel_symmetric")
    {
        return Err(UpgradeError::new(
            "mode 'half_pixel_symmetric' came at opset 19",
        ));
    }
    if cx.uncrosses(13) && cx.to() >= 11 {
        // They could not be left out.
        for i in [1, 2] {
            if cx.operand(i).is_none() {
                cx.set_constant(
                    i,
                    if i == 1 { "roi" } else { "scales" },
                    Tensor::vector::<f32>(vec![]),
                );
            }
        }
    }
    if !cx.uncrosses(11) {
        return Ok(());
    }
    let op = cx.op();
    let mode = op.str("mode").unwrap_or("nearest");
    let is_plain = op.str("coordinate_transformation_mode") == Some("asymmetric")
        && (mode == "linear" || mode == "nearest" && op.str("nearest_mode") == Some("floor"));
    if !is_plain || cx.operand(3).is_some() || cx.operand(2).is_none() {
        let message = "Resize of opset 10 is asymmetric, rounds down, and takes scales";
        return Err(UpgradeError::new(message));
    }
    let mode = mode.to_owned();
    let operands = [cx.operand(0), cx.operand(2)];
    become_op(cx, Op::new("Resize").with("mode", mode.as_str()));
    cx.graph.set_operands(cx.node, &operands);
    Ok(())
}

/// Until 11 there had to be a third operand.
fn no_bias(cx: &mut UpgradeContext<'_>) -> Outcome {
    if cx.operand(2).is_some() {
        return Ok(());
    }
    let dtype = cx.operand(0).and_then(|v| cx.graph.ty(v)?.dtype());
    let dtype = dtype.ok_or_else(|| UpgradeError::new("the element type is unknown"))?;
    let zero = Tensor::zeros(dtype, [].as_slice()).map_err(|e| UpgradeError::new(e.to_string()))?;
    cx.set_constant(2, "bias", zero);
    Ok(())
}

fn dropout(cx: &mut UpgradeContext<'_>) -> Outcome {
    if cx.uncrosses(12) {
        drop_operand(cx, 2, |v| v.iter().all(|&v| v == 0.0))?;
    }
    let is_used = cx.graph.node(cx.node).results.len() > 1
        && !cx.graph.uses(cx.graph.result(cx.node, 1)).is_empty();
    if cx.uncrosses(12) && is_used {
        return Err(UpgradeError::new(
            "the mask is used, which had another meaning",
        ));
    }
    Ok(())
}

/// Scales by channel came at 13; the axis of one scale says nothing.
fn one_scale(cx: &mut UpgradeContext<'_>) -> Outcome {
    let scale = cx.operand(1).and_then(|v| cx.graph.ty(v)?.shape());
    match scale.map(|s| s.len()) {
        Some(0) => {
            cx.op_mut().attrs.shift_remove("axis");
            Ok(())
        }
        _ => Err(UpgradeError::new(
            "it has scales by channel, or of unknown rank",
        )),
    }
}

/// Until 12 a constant was a tensor.
fn numbers(cx: &mut UpgradeContext<'_>) -> Outcome {
    let op = cx.op();
    let tensor = match op.attrs.iter().next().map(|(k, v)| (k.as_str(), v)) {
        Some(("value_int", Attr::Int(v))) => Tensor::scalar(*v),
        Some(("value_ints", Attr::Ints(v))) => Tensor::vector(v.clone()),
        Some(("value_float", Attr::Float(v))) => Tensor::scalar(*v),
        Some(("value_floats", Attr::Floats(v))) => Tensor::vector(v.clone()),
        _ => return Ok(()),
    };
    become_op(cx, Op::new("Constant").with("value", Attr::Tensor(tensor)));
    Ok(())
}

fn region(cx: &mut UpgradeContext<'_>) -> Outcome {
    let key = "coordinate_transformation_mode";
    match cx.op().str(key) {
        Some("output_half_pixel") => {
            cx.op_mut().attrs.shift_remove(key);
            Ok(())
        }
        _ => Err(UpgradeError::new(
            "until opset 16 regions were not shifted by half a pixel",
        )),
    }
}

fn grid(cx: &mut UpgradeContext<'_>) -> Outcome {
    let older = match cx.op().str("mode") {
        None | Some("linear") => "bilinear",
        Some("cubic") => "bicubic",
        Some("nearest") => "nearest",
        Some(other) => {
            return Err(UpgradeError::new(format!(
                "mode '{other}' came at opset 20"
            )));
        }
    };
    if known_rank(cx)? != 4 {
        return Err(UpgradeError::new("until opset 20 images had two axes"));
    }
    cx.op_mut()
        .attrs
        .insert("mode".to_owned(), Attr::string(older));
    Ok(())
}

/// The axis became an operand, and the one before the last where it is left out.
fn frequencies(cx: &mut UpgradeContext<'_>) -> Outcome {
    let axis = match (cx.operand(2).is_some(), ints(cx, 2)) {
        (true, Some(axis)) => axis.first().copied().unwrap_or(-2),
        (true, None) => return Err(UpgradeError::new("the axis is not constant")),
        (false, _) => -2,
    };
    let axis = if axis < 0 {
        axis + known_rank(cx)?
    } else {
        axis
    };
    cx.op_mut().attrs.insert("axis".to_owned(), axis.into());
    let mut operands = cx.graph.operands(cx.node);
    operands.truncate(2);
    while operands.last() == Some(&None) {
        operands.pop();
    }
    cx.graph.set_operands(cx.node, &operands);
    Ok(())
}

fn scalar(
    cx: &mut UpgradeContext<'_>,
    what: &str,
    dtype: DType,
    value: f32,
) -> Result<onnxq_ir::ValueId, UpgradeError> {
    let tensor = Tensor::scalar(value).cast(dtype, true);
    let tensor = tensor.map_err(|e| UpgradeError::new(e.to_string()))?;
    let name = cx.derived(what);
    Ok(cx.graph.add_constant(name, tensor))
}

/// Says an operator that came later by others; whether it could.
pub(super) fn decompose(cx: &mut UpgradeContext<'_>) -> Result<bool, UpgradeError> {
    let dtype = |cx: &UpgradeContext<'_>, i| cx.operand(i).and_then(|v| cx.graph.ty(v)?.dtype());
    match cx.op().op_type.as_str() {
        "GreaterOrEqual" | "LessOrEqual" if dtype(cx, 0).is_some_and(|d| !d.is_float()) => {
            let is_less = cx.op().op_type == "LessOrEqual";
            become_op(cx, Op::new(if is_less { "Greater" } else { "Less" }));
            cx.wrap_result(0, Op::new("Not"), &[], "reversed");
        }
        // With NaN neither is the reverse of the other.
        "GreaterOrEqual" | "LessOrEqual" if dtype(cx, 0).is_some() && cx.to() >= 11 => {
            let is_less = cx.op().op_type == "LessOrEqual";
            let operands: Vec<_> = cx.graph.operands(cx.node).into_iter().flatten().collect();
            let name = cx.derived("equal");
            let equal = cx.graph.insert(Op::new("Equal"), &operands, name);
            become_op(cx, Op::new(if is_less { "Less" } else { "Greater" }));
            cx.wrap_result(0, Op::new("Or"), &[equal], "differ");
        }
        "CastLike" => {
            let Some(to) = dtype(cx, 1) else {
                return Err(UpgradeError::new("the type to cast to is unknown"));
            };
            let operands = [cx.operand(0)];
            become_op(cx, Op::new("Cast").with("to", i64::from(to.onnx())));
            cx.graph.set_operands(cx.node, &operands);
        }
        "HardSwish" => {
            let x = cx.operand(0);
            become_op(
                cx,
                Op::new("HardSigmoid")
                    .with("alpha", 1.0f32 / 6.0)
                    .with("beta", 0.5f32),
            );
            cx.wrap_result(0, Op::new("Mul"), &Vec::from_iter(x), "gate");
        }
        "Mish" => {
            let x = cx.operand(0);
            become_op(cx, Op::new("Softplus"));
            cx.wrap_result(0, Op::new("Mul"), &Vec::from_iter(x), "gate");
            cx.wrap_result(0, Op::new("Tanh"), &[], "softplus");
        }
        "Swish" if cx.op().float("alpha", 1.0) == 1.0 => {
            let x = cx.operand(0);
            become_op(cx, Op::new("Sigmoid"));
            cx.wrap_result(0, Op::new("Mul"), &Vec::from_iter(x), "gate");
        }
        "Celu" | "Gelu" => return decompose_activation(cx, dtype(cx, 0)),
        "ScatterElements" if cx.op().str("reduction").is_none_or(|r| r == "none") => {
            let axis = cx.op().int("axis", 0);
            become_op(cx, Op::new("Scatter").with("axis", axis));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// `Gelu(x) = x / 2 * (1 + Erf(x / sqrt(2)))`, and `Celu(x) = Elu(x / alpha) * alpha`.
fn decompose_activation(
    cx: &mut UpgradeContext<'_>,
    dtype: Option<DType>,
) -> Result<bool, UpgradeError> {
    let dtype = dtype.ok_or_else(|| UpgradeError::new("the element type is unknown"))?;
    if cx.op().op_type == "Celu" {
        let alpha = cx.op().float("alpha", 1.0);
        let alpha = scalar(cx, "alpha", dtype, alpha)?;
        cx.wrap_operand(0, Op::new("Div"), &[alpha], "scaled");
        become_op(cx, Op::new("Elu"));
        cx.wrap_result(0, Op::new("Mul"), &[alpha], "elu");
        return Ok(true);
    }
    if cx.op().str("approximate").is_some_and(|a| a != "none") || cx.to() < 9 {
        return Ok(false);
    }
    let Some(x) = cx.operand(0) else {
        return Ok(false);
    };
    let half = scalar(cx, "half", dtype, 0.5)?;
    let name = cx.derived("half_of");
    let halved = cx.graph.insert(Op::new("Mul"), &[x, half], name);
    let root = scalar(cx, "root", dtype, std::f32::consts::SQRT_2)?;
    let one = scalar(cx, "one", dtype, 1.0)?;
    cx.wrap_operand(0, Op::new("Div"), &[root], "scaled");
    become_op(cx, Op::new("Erf"));
    cx.wrap_result(0, Op::new("Mul"), &[halved], "sum");
    // Between the two, so that what comes last keeps the name.
    let erf = cx.graph.result(cx.node, 0);
    let Some(product) = cx.graph.uses(erf).first().map(|u| u.node) else {
        return Ok(true);
    };
    let name = cx.derived("and_one");
    let sum = cx.graph.insert(Op::new("Add"), &[erf, one], name);
    cx.graph.set_operand(product, 0, Some(sum));
    Ok(true)
}
