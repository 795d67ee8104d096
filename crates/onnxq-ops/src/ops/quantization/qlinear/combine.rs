//! QLinearAdd, QLinearMul, QLinearConcat and QLinearWhere.
//!
//! `Add: sat(rne((a' * sa + b' * sb) / sc) + zc)`, `Mul: sat(rne(a' * b' * (sa * sb / sc)) + zc)`,
//! where `a'` and `b'` are the integers less their zero points; the others requantize what they
//! move.

use onnxq_tensor::{DType, Dims, Shape};

use super::{Parameters, integers};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{
            advance, around, axis_attr, broadcast_dims, broadcast_strides, int_tensor, product,
        },
        quantization::{MS, arith::saturate},
        rules,
    },
};

/// Operands A, scale, zero point, B, scale, zero point, and scale and zero point of the result.
pub(super) struct QLinearBinary {
    pub(super) name: &'static str,
    pub(super) multiply: bool,
}

impl Operator for QLinearBinary {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let shape = rules::broadcast(cx.shape(0)?, cx.shape(3)?)?;
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let ((a, range), (b, _)) = (integers(cx, 0)?, integers(cx, 3)?);
        let (pa, pb) = (Parameters::of(cx, 1, 2)?, Parameters::of(cx, 4, 5)?);
        let to = Parameters::of(cx, 6, 7)?;
        let factor = pa.scale * pb.scale / to.scale;
        let one = |i: usize, j: usize| match self.multiply {
            true => {
                let product = a[i].wrapping_sub(pa.zero) as f32 * b[j].wrapping_sub(pb.zero) as f32;
                saturate(product * factor, to.zero, range)
            }
            false => to.quantize(pa.real(a[i]) + pb.real(b[j]), range),
        };
        let (dims, y) = broadcast([cx.tensor(0)?.dims(), cx.tensor(3)?.dims()], |[i, j]| {
            one(i, j)
        })?;
        Ok(vec![int_tensor(cx.tensor(0)?.dtype(), &dims, y)?])
    }
}

/// Calls `f` with the positions of operands of these dimensions that meet when broadcast.
fn broadcast<const N: usize>(
    operands: [&[usize]; N],
    f: impl Fn([usize; N]) -> i64,
) -> Result<(Dims, Vec<i64>), EvalError> {
    let wrong = || EvalError::Invalid(format!("{operands:?} do not broadcast"));
    let dims = operands
        .iter()
        .try_fold(Dims::new(), |all, d| broadcast_dims(&all, d));
    let dims = dims.ok_or_else(wrong)?;
    let count = rules::limited(&dims)?;
    let mut y = Vec::with_capacity(count);
    if count > 0 {
        let strides = operands.map(|d| broadcast_strides(d, &dims));
        let strides = std::array::from_fn(|i| strides[i].as_slice());
        let (mut index, mut at) = (vec![0; dims.len()], [0; N]);
        loop {
            y.push(f(at));
            if !advance(&mut index, &dims, strides, &mut at) {
                break;
            }
        }
    }
    Ok((dims, y))
}

/// Operands: scale and zero point of the result; then each tensor with scale and zero point.
pub(super) struct QLinearConcat;

impl Operator for QLinearConcat {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "QLinearConcat"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(1).or_else(|_| cx.dtype(2))?;
        cx.set_dtype(0, dtype);
        let mut shape: Shape = cx.shape(2)?.clone();
        let axis = axis_attr(cx.op(), "axis", 0, shape.len()).map_err(Unknown)?;
        for i in (5..cx.len()).step_by(3) {
            let next = cx.shape(i)?;
            if next.len() != shape.len() {
                return Err(Unknown::new("operands of different rank"));
            }
            shape[axis] = &shape[axis] + &next[axis];
        }
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let to = Parameters::of(cx, 0, 1)?;
        let first = cx.tensor(2)?;
        // The zero point says of which type the result is.
        if let Some(zero) = cx.optional(1)?.filter(|zero| zero.dtype() != first.dtype()) {
            return Err(cx.invalid(format!("{} beside {}", first.dtype(), zero.dtype())));
        }
        let axis = axis_attr(cx.op(), "axis", 0, first.rank()).map_err(|e| cx.invalid(e))?;
        let mut dims = first.dims().to_vec();
        dims[axis] = 0;
        let mut parts = Vec::new();
        for i in (2..cx.len()).step_by(3) {
            let ((x, range), from) = (integers(cx, i)?, Parameters::of(cx, i + 1, i + 2)?);
            let (here, dtype) = (cx.tensor(i)?.dims(), cx.tensor(i)?.dtype());
            if dtype != first.dtype() {
                return Err(cx.invalid(format!("{dtype} beside {}", first.dtype())));
            }
            let fits = here.len() == dims.len()
                && (0..dims.len()).all(|a| a == axis || here[a] == dims[a]);
            if !fits {
                return Err(cx.invalid(format!("{here:?} beside {:?}", first.dims())));
            }
            dims[axis] += here[axis];
            let same = from == to;
            let moved = |q: i64| {
                if same {
                    q
                } else {
                    to.quantize(from.real(q), range)
                }
            };
            let row = here[axis] * product(&here[axis + 1..]);
            parts.push((x.into_iter().map(moved).collect::<Vec<i64>>(), row));
        }
        let count = rules::limited(&dims)?;
        let mut y = Vec::with_capacity(count);
        let (before, _, _) = around(&dims, axis);
        for i in 0..if count == 0 { 0 } else { before } {
            for (part, row) in &parts {
                y.extend_from_slice(&part[i * row..][..*row]);
            }
        }
        Ok(vec![int_tensor(first.dtype(), &dims, y)?])
    }
}

/// Operands: condition; X, scale, zero point; Y, scale, zero point; scale and zero point of the
/// result.
pub(super) struct QLinearWhere;

impl Operator for QLinearWhere {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "QLinearWhere"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype: DType = cx.dtype(1)?;
        cx.set_dtype(0, dtype);
        let values = rules::broadcast(cx.shape(1)?, cx.shape(4)?)?;
        let shape = rules::broadcast(cx.shape(0)?, &values)?;
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let condition = cx.tensor(0)?.as_bools()?;
        let ((x, range), (y, _)) = (integers(cx, 1)?, integers(cx, 4)?);
        let (px, py) = (Parameters::of(cx, 2, 3)?, Parameters::of(cx, 5, 6)?);
        let to = Parameters::of(cx, 7, 8)?;
        let moved = |q: i64, from: Parameters| match from == to {
            true => q,
            false => to.quantize(from.real(q), range),
        };
        let operands = [
            cx.tensor(0)?.dims(),
            cx.tensor(1)?.dims(),
            cx.tensor(4)?.dims(),
        ];
        let (dims, z) = broadcast(operands, |[c, i, j]| match condition[c] {
            true => moved(x[i], px),
            false => moved(y[j], py),
        })?;
        Ok(vec![int_tensor(cx.tensor(1)?.dtype(), &dims, z)?])
    }
}
