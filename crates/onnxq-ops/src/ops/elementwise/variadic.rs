//! `Sum`, `Mean`, `Max`, `Min`: any number of tensors, broadcast from opset 8 on.

use onnxq_ir as ir;
use onnxq_tensor::{Dim, Tensor};

use super::arithmetic;
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{rules, values},
};

struct Variadic {
    name: &'static str,
    since: &'static [i64],
    fold: fn(&EvalContext<'_>, &Tensor, &Tensor) -> Result<Tensor, EvalError>,
    /// Whether the result is divided by the number of operands.
    mean: bool,
    dim: fn(&Dim, &Dim) -> Dim,
}

#[rustfmt::skip]
pub(crate) static OPERATORS: &[&dyn Operator] = &[
    &Variadic { name: "Sum", since: &[1, 6, 8, 13], fold: arithmetic::add, mean: false, dim: |a, b| a + b },
    &Variadic { name: "Mean", since: &[1, 6, 8, 13], fold: arithmetic::add, mean: true, dim: |_, _| Dim::UNKNOWN },
    &Variadic { name: "Max", since: &[1, 6, 8, 12, 13], fold: arithmetic::maximum, mean: false, dim: Dim::max },
    &Variadic { name: "Min", since: &[1, 6, 8, 12, 13], fold: arithmetic::minimum, mean: false, dim: Dim::min },
];

impl Operator for Variadic {
    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        self.since
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = (0..cx.len()).find_map(|i| cx.dtype(i).ok());
        let dtype = dtype.ok_or_else(|| Unknown::new("no element type is known"))?;
        cx.set_dtype(0, dtype);
        let mut shape = cx.shape(0)?.clone();
        for i in 1..cx.len() {
            shape = rules::broadcast(&shape, cx.shape(i)?)?;
        }
        cx.set_tensor(0, dtype, shape);
        if dtype.is_int() && !self.mean {
            let mut value = cx.value(0)?.clone();
            for i in 1..cx.len() {
                let Some(next) = values::zip(&value, cx.value(i)?, dtype, self.dim) else {
                    return Ok(());
                };
                value = next;
            }
            cx.set_value(0, value);
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let mut out = cx.tensor(0)?.clone();
        for i in 1..cx.len() {
            out = (self.fold)(cx, &out, cx.tensor(i)?)?;
        }
        if self.mean {
            let n = Tensor::scalar(cx.len() as f64);
            let n = n.cast(out.dtype(), true)?;
            out = arithmetic::div(cx, &out, &n)?;
        }
        Ok(vec![out.into()])
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        cx.op_mut().attrs.shift_remove("consumed_inputs");
        Ok(())
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::Elementwise
    }
}
