//! Tensors put together along a new axis.

use onnxq_ir as ir;
use onnxq_tensor::{DType, Dims, Tensor};

use crate::{
    EvalContext, EvalError, Value,
    ops::{data, movement::concat::concat_runs, rules},
};

/// Tensors of one shape, one after another along a new axis. Without any, the result is of
/// element type and shape as `output` declares them, as far as it does.
pub(super) fn stack(
    cx: &EvalContext<'_>,
    tensors: &[Tensor],
    axis: i64,
    output: Option<&ir::def::ValueDef>,
) -> Result<Tensor, EvalError> {
    let Some(first) = tensors.first() else {
        return nothing(axis, output);
    };
    if let Some(other) = tensors.iter().find(|t| t.dims() != first.dims()) {
        let message = format!(
            "shapes {:?} and {:?} of different steps do not go together",
            first.dims(),
            other.dims()
        );
        return Err(cx.invalid(message));
    }
    let axis = rules::axis(axis, first.rank() + 1)?;
    let mut one = Dims::from(first.dims());
    one.insert(axis, 1);
    let mut dims = one.clone();
    dims[axis] = tensors.len();
    let parts = vec![one.as_slice(); tensors.len()];
    let sources: Vec<&Tensor> = tensors.iter().collect();
    data::gather(&sources, dims.clone(), concat_runs(&parts, axis))
}

fn nothing(axis: i64, output: Option<&ir::def::ValueDef>) -> Result<Tensor, EvalError> {
    let ty = output.and_then(|o| o.ty.as_ref()?.as_tensor());
    let dtype = ty.and_then(|t| t.dtype).unwrap_or(DType::F32);
    let shape = ty.and_then(|t| t.shape.as_ref());
    let dims = shape.into_iter().flatten();
    let mut dims: Dims = dims
        .map(|d| {
            d.as_const()
                .and_then(|d| usize::try_from(d).ok())
                .unwrap_or(0)
        })
        .collect();
    dims.insert(rules::axis(axis, dims.len() + 1)?, 0);
    Ok(Tensor::zeros(dtype, dims)?)
}

/// The tensor that a value is.
pub(super) fn tensor(cx: &EvalContext<'_>, value: Value) -> Result<Tensor, EvalError> {
    match value {
        Value::Tensor(t) => Ok(t),
        _ => Err(cx.invalid("a result of the body is no tensor")),
    }
}
