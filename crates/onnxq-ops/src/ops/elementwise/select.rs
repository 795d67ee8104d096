//! `Where`, `Identity`, `Dropout`.

use onnxq_ir as ir;
use onnxq_tensor::{DType, Tensor};

use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        data::{self, Positions, Run, broadcast_strides},
        random, rules, values,
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&Where, &Identity, &Dropout];

/// `condition ? x : y`, broadcast.
struct Where;

impl Operator for Where {
    fn name(&self) -> &'static str {
        "Where"
    }

    fn since(&self) -> &'static [i64] {
        &[9, 16]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(1).or_else(|e| cx.dtype(2).map_err(|_| e))?;
        cx.set_dtype(0, dtype);
        let shape = rules::broadcast(cx.shape(1)?, cx.shape(2)?)?;
        cx.set_tensor(0, dtype, rules::broadcast(cx.shape(0)?, &shape)?);
        values::follow_moved(cx, self, &[1, 2]);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (condition, x, y) = (cx.tensor(0)?, cx.tensor(1)?, cx.tensor(2)?);
        let shape = rules::broadcast(&rules::symbolic(x.dims()), &rules::symbolic(y.dims()))?;
        let shape = rules::broadcast(&rules::symbolic(condition.dims()), &shape)?;
        let dims = rules::concrete(&shape)?;
        let of = |t: &Tensor| broadcast_strides(t.dims(), dims.len());
        let (c, strides) = (condition.as_bools()?, [of(condition), of(x), of(y)]);
        let strides = [&*strides[0], &*strides[1], &*strides[2]];
        let runs = Positions::new(dims.clone(), &strides, [0; 3]).map(|[at, x, y]| {
            if c[at] {
                Run::one(0, x)
            } else {
                Run::one(1, y)
            }
        });
        Ok(vec![data::gather(&[x, y], dims.clone(), runs)?.into()])
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::Elementwise
    }
}

struct Identity;

impl Operator for Identity {
    fn name(&self) -> &'static str {
        "Identity"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 13, 14, 16, 19, 21, 23, 24, 25]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set(0, cx.fact(0)?.clone());
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let value = cx.value(0).ok_or(EvalError::Missing { index: 0 })?;
        Ok(vec![value.clone()])
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}

/// Identity, and a mask of ones: what it does unless a model is being trained, which is not
/// supported.
struct Dropout;

impl Operator for Dropout {
    fn name(&self) -> &'static str {
        "Dropout"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 6, 7, 10, 12, 13, 22]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let trains = cx.opset() >= 12 && cx.has(2) && cx.ints(2).ok().as_deref() != Some(&[0]);
        if trains {
            cx.set_type(0, cx.ty(0)?.clone());
        } else {
            cx.set(0, cx.fact(0)?.clone());
        }
        if cx.opset() >= 10 {
            cx.set_dtype(1, DType::Bool);
            cx.set_tensor(1, DType::Bool, cx.shape(0)?.clone());
        } else {
            cx.set_type(1, cx.ty(0)?.clone());
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let training = cx.opset() >= 12 && cx.optional(2)?.is_some_and(|t| t.bytes() == [1]);
        let ratio = match cx.opset() {
            12.. => cx.optional(1)?.map(Tensor::to_f32s).transpose()?,
            _ => None,
        };
        let ratio = ratio.and_then(|r| r.first().copied()).unwrap_or(0.5);
        if training && ratio != 0.0 {
            return drop_out(cx, x, f64::from(ratio));
        }
        let mask = if cx.opset() >= 10 {
            Tensor::from_bools(x.dims(), vec![true; x.len()])?
        } else {
            Tensor::from_vec(x.dims(), vec![1f32; x.len()])?.cast(x.dtype(), true)?
        };
        let mut results = vec![x.clone().into(), mask.into()];
        results.truncate(cx.results().max(1));
        Ok(results)
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        let mask_used = |cx: &UpgradeContext<'_>| {
            cx.graph.node(cx.node).results.len() > 1
                && !cx.graph.uses(cx.graph.result(cx.node, 1)).is_empty()
        };
        if cx.crosses(10) && mask_used(cx) {
            // The mask was of the type of the operand.
            let dtype = cx.operand(0).and_then(|v| cx.graph.ty(v)?.dtype());
            let Some(dtype) = dtype else {
                let message = "the mask is used, and its element type is unknown";
                return Err(UpgradeError::new(message));
            };
            let cast = ir::Op::new("Cast").with("to", i64::from(dtype.onnx()));
            cx.wrap_result(1, cast, &[], "is_kept");
        }
        for key in ["consumed_inputs", "is_test"] {
            cx.op_mut().attrs.shift_remove(key);
        }
        if cx.crosses(12)
            && let Some(ir::Attr::Float(ratio)) = cx.op_mut().attrs.shift_remove("ratio")
        {
            cx.set_constant(1, "ratio", Tensor::scalar(ratio));
        }
        Ok(())
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}

/// `x` with a part of about `ratio` of its elements zero, the others enlarged by as much; and which
/// those are.
fn drop_out(cx: &EvalContext<'_>, x: &Tensor, ratio: f64) -> Result<Vec<Value>, EvalError> {
    let mut source = random::source(cx, cx.op().int("seed", 0) as f32)?;
    let kept: Vec<bool> = (0..x.len()).map(|_| source.uniform() >= ratio).collect();
    let keep = |(&x, &kept): (&f64, &bool)| if kept { x / (1.0 - ratio) } else { 0.0 };
    let y = x.to_f64s()?.iter().zip(&kept).map(keep).collect();
    let y = Tensor::from_vec(x.dims(), y)?.cast(x.dtype(), true)?;
    let mut results = vec![y.into(), Tensor::from_bools(x.dims(), kept)?.into()];
    results.truncate(cx.results().max(1));
    Ok(results)
}
