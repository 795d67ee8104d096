//! `Shape` and `Size`: where symbolic values come from.

use onnxq_tensor::{DType, Dim, Tensor};

use crate::{
    EvalContext, EvalError, InferContext, Operator, SymTensor, Unknown, Value, ops::rules,
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&Shape, &Size];

/// The dimensions from `start` to `end`.
struct Shape;

/// The range of axes that is asked for, within the rank.
fn range(op: &onnxq_ir::Op, rank: usize) -> std::ops::Range<usize> {
    let clamp = |i: i64| {
        let i = if i < 0 {
            i.saturating_add(rank as i64)
        } else {
            i
        };
        i.clamp(0, rank as i64) as usize
    };
    let start = clamp(op.int("start", 0));
    let end = clamp(op.int("end", rank as i64));
    start..end.max(start)
}

impl Operator for Shape {
    fn name(&self) -> &'static str {
        "Shape"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 13, 15, 19, 21, 23, 24, 25]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_tensor(0, DType::I64, [Dim::UNKNOWN].into_iter().collect());
        let shape = cx.shape(0)?;
        let dims = shape[range(cx.op(), shape.len())].to_vec();
        cx.set_value(0, SymTensor::vector(dims));
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let dims = cx.tensor(0)?.dims();
        let dims = &dims[range(cx.op(), dims.len())];
        let dims = dims.iter().map(|&d| d as i64).collect();
        Ok(vec![Tensor::vector::<i64>(dims).into()])
    }
}

/// The number of elements.
struct Size;

impl Operator for Size {
    fn name(&self) -> &'static str {
        "Size"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 13, 19, 21, 23, 24, 25]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_tensor(0, DType::I64, onnxq_tensor::Shape::new());
        let size = rules::product(cx.shape(0)?);
        cx.set_value(0, SymTensor::scalar(size));
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        Ok(vec![Tensor::scalar(cx.tensor(0)?.len() as i64).into()])
    }
}
