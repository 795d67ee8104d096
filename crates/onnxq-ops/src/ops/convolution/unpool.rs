//! MaxUnpool: puts elements back where MaxPool took them from.

use onnxq_tensor::{DType, Dim, Shape};

use super::window::Window;
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{Real, product, real_tensor, with_real},
        rules,
    },
};

pub(super) struct MaxUnpool;

impl Operator for MaxUnpool {
    fn name(&self) -> &'static str {
        "MaxUnpool"
    }

    fn since(&self) -> &'static [i64] {
        &[9, 11, 22]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let shape = match cx.has(2) {
            true => match cx.value(2) {
                Ok(size) => size.elems.iter().cloned().collect(),
                Err(_) => Shape::from_elem(Dim::UNKNOWN, cx.shape(0)?.len()),
            },
            false => {
                let mut shape = cx.shape(0)?.clone();
                let spatial = shape.len().saturating_sub(2);
                let window = Window::of(cx.op(), spatial, None).map_err(Unknown)?;
                for axis in 0..spatial {
                    shape[2 + axis] = unpooled(&window, axis, &shape[2 + axis]);
                }
                shape
            }
        };
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, at) = (cx.tensor(0)?, cx.tensor(1)?);
        let rank = x.rank();
        if rank < 2 || at.dims() != x.dims() || at.dtype() != DType::I64 {
            return Err(cx.invalid("the indices are not int64 of the operand's dimensions"));
        }
        let window = Window::of(cx.op(), rank - 2, None).map_err(|e| cx.invalid(e))?;
        let size = |d: Dim| usize::try_from(d.as_const()?).ok();
        // Indices count in the tensor that was pooled, as the window alone tells its size.
        let mut pooled = x.dims().to_vec();
        for axis in 0..rank - 2 {
            let n = unpooled(&window, axis, &Dim::known(pooled[2 + axis] as i64));
            pooled[2 + axis] = size(n).ok_or_else(|| cx.invalid("a negative size"))?;
        }
        let dims = match cx.optional(2)? {
            None => pooled.clone(),
            Some(_) => {
                let given = cx.ints(2)?.into_iter().map(usize::try_from);
                given
                    .collect::<Result<_, _>>()
                    .map_err(|_| cx.invalid("a negative size"))?
            }
        };
        let fits = dims.len() == rank && dims.iter().zip(&pooled).all(|(a, b)| a >= b);
        if !fits {
            return Err(cx.invalid(format!("an output of {dims:?} for {pooled:?}")));
        }
        let count = rules::limited(&dims)?;
        let at = at.as_slice::<i64>()?;
        with_real!(cx, x.dtype(), T => {
            let mut y = vec![T::of(0.0); count];
            for (&value, &at) in T::read(x)?.iter().zip(at.iter()) {
                let at = usize::try_from(at).ok().filter(|&i| i < product(&pooled));
                let mut at = at.ok_or_else(|| cx.invalid("an index out of range"))?;
                let (mut flat, mut step) = (0, 1);
                for axis in (0..rank).rev() {
                    flat += at % pooled[axis] * step;
                    at /= pooled[axis];
                    step *= dims[axis];
                }
                y[flat] = value;
            }
            Ok(vec![real_tensor(x.dtype(), &dims, y)?])
        })
    }
}

/// The size of the tensor that a pooling took `n` windows from.
fn unpooled(window: &Window, axis: usize, n: &Dim) -> Dim {
    let pads = window.pads[axis] + window.pads[window.rank() + axis];
    (n - 1) * window.strides[axis] + (window.kernel[axis] - pads)
}
