//! ArgMax and ArgMin: the position of the largest or smallest element on an axis, the first of
//! equals or with `select_last_index` the last.

use onnxq_tensor::{DType, Tensor};

use super::axes::{reduced_dims, reduced_shape};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{Real, around, axis_attr},
        rules,
    },
};

pub(super) struct Arg {
    pub(super) name: &'static str,
    pub(super) largest: bool,
}

impl Operator for Arg {
    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        &[1, 11, 12, 13]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, DType::I64);
        let shape = cx.shape(0)?;
        let axis = axis_attr(cx.op(), "axis", 0, shape.len()).map_err(Unknown)?;
        let flags: Vec<bool> = (0..shape.len()).map(|i| i == axis).collect();
        let shape = reduced_shape(shape, &flags, cx.op().int("keepdims", 1) != 0);
        cx.set_tensor(0, DType::I64, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let axis = axis_attr(cx.op(), "axis", 0, x.rank()).map_err(|e| cx.invalid(e))?;
        let flags: Vec<bool> = (0..x.rank()).map(|i| i == axis).collect();
        let dims = reduced_dims(x.dims(), &flags, cx.op().int("keepdims", 1) != 0);
        if x.dims()[axis] == 0 && rules::limited(&dims)? > 0 {
            return Err(cx.invalid("an axis without elements"));
        }
        let last = cx.op().int("select_last_index", 0) != 0;
        let y = match x.dtype() {
            // Unsigned order of 64 bits is the signed one with the first bit flipped.
            DType::U64 => {
                let data = x.as_slice::<u64>()?;
                let data: Vec<i64> = data.iter().map(|&x| (x as i64) ^ i64::MIN).collect();
                self.positions(&data, x.dims(), axis, last)
            }
            d if d.is_int() => self.positions(&x.to_i64s()?, x.dims(), axis, last),
            DType::F64 => self.positions(&x.as_slice::<f64>()?, x.dims(), axis, last),
            d => {
                let data = f32::read(x).map_err(|_| cx.unsupported_type(d))?;
                self.positions(&data, x.dims(), axis, last)
            }
        };
        Ok(vec![Tensor::from_vec(dims, y)?.into()])
    }
}

impl Arg {
    fn positions<T: PartialOrd + Copy>(
        &self,
        x: &[T],
        dims: &[usize],
        axis: usize,
        last: bool,
    ) -> Vec<i64> {
        let (before, n, after) = around(dims, axis);
        if x.is_empty() {
            return Vec::new();
        }
        let better = |a: T, b: T| match self.largest {
            true => a > b || (last && a == b),
            false => a < b || (last && a == b),
        };
        let mut y = Vec::with_capacity(before * after);
        for i in 0..before {
            for j in 0..after {
                let at = |k: usize| x[(i * n + k) * after + j];
                let best = (1..n).fold(0, |best, k| if better(at(k), at(best)) { k } else { best });
                y.push(best as i64);
            }
        }
        y
    }
}
