//! `Clip` and `PRelu`.

use onnxq_ir as ir;
use onnxq_tensor::{DType, Dim, Tensor};

use super::arithmetic::broadcast_dims;
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        data,
        legacy::unsqueeze,
        number::{self, Number, for_number},
        values,
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&Clip, &PRelu];

/// `min(max(x, lower), upper)`: where the bounds cross, the upper one counts. The bounds were
/// attributes before opset 11.
struct Clip;

impl Operator for Clip {
    fn name(&self) -> &'static str {
        "Clip"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 6, 11, 12, 13]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_type(0, cx.ty(0)?.clone());
        let dtype = cx.dtype(0)?;
        if dtype.is_int() && cx.opset() >= 11 {
            let bound = |i: usize| -> Result<Option<Dim>, Unknown> {
                match cx.has(i) {
                    true if cx.dtype(i)? != dtype => Err(Unknown::new("the types differ")),
                    true => Ok(cx.value(i)?.elems.first().cloned()),
                    false => Ok(None),
                }
            };
            if let (Ok(lower), Ok(upper)) = (bound(1), bound(2)) {
                values::follow_unary(cx, dtype, |d| {
                    let d = lower.as_ref().map_or_else(|| d.clone(), |l| d.max(l));
                    upper.as_ref().map_or_else(|| d.clone(), |u| d.min(u))
                });
            }
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = number::widen(cx.tensor(0)?)?;
        let bound = |i: usize, key: &str| -> Result<Option<Tensor>, EvalError> {
            let given = if cx.opset() < 11 {
                let given = cx.op().attr(key).and_then(ir::Attr::as_float);
                given.map(Tensor::scalar)
            } else {
                cx.optional(i)?.cloned()
            };
            match given {
                Some(t) if t.len() != 1 => Err(cx.invalid(format!("'{key}' is no scalar"))),
                Some(t) => Ok(Some(t.cast(x.dtype(), true)?)),
                None => Ok(None),
            }
        };
        let (lower, upper) = (bound(1, "min")?, bound(2, "max")?);
        let out = for_number!(
            x.dtype(),
            T => {
                let bound = |t: &Option<Tensor>| -> Result<Option<T>, EvalError> {
                    match t {
                        Some(t) => Ok(t.as_slice::<T>()?.first().copied()),
                        None => Ok(None),
                    }
                };
                let (lower, upper) = (bound(&lower)?, bound(&upper)?);
                let mut v = x.as_slice::<T>()?.into_owned();
                if let Some(lower) = lower {
                    v.iter_mut().for_each(|v| if *v < lower { *v = lower });
                }
                if let Some(upper) = upper {
                    v.iter_mut().for_each(|v| if *v > upper { *v = upper });
                }
                Tensor::from_vec(x.dims(), v)?
            },
            return Err(cx.unsupported_type(x.dtype()))
        );
        Ok(vec![number::narrow(out, cx.tensor(0)?.dtype())?.into()])
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        cx.op_mut().attrs.shift_remove("consumed_inputs");
        if !cx.crosses(11) {
            return Ok(());
        }
        let x = cx.operand(0).and_then(|x| cx.graph.ty(x)?.dtype());
        let given = ["min", "max"].iter().any(|k| cx.op().attr(k).is_some());
        if given && x.is_none() {
            let message = "the bounds need the element type of the operand, which is unknown";
            return Err(UpgradeError::new(message));
        }
        for (i, key) in [(1, "min"), (2, "max")] {
            let attr = cx.op_mut().attrs.shift_remove(key);
            if let Some(ir::Attr::Float(bound)) = attr {
                let bound = Tensor::scalar(bound);
                let bound = bound
                    .cast(x.unwrap_or(DType::F32), true)
                    .map_err(|e| UpgradeError::new(e.to_string()))?;
                cx.set_constant(i, key, bound);
            }
        }
        Ok(())
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::Elementwise
    }
}

/// `x < 0 ? slope * x : x`. The slope broadcasts to `x`; before opset 7 it was one number or one
/// for each channel.
struct PRelu;

impl Operator for PRelu {
    fn name(&self) -> &'static str {
        "PRelu"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 6, 7, 9, 16]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_type(0, cx.ty(0)?.clone());
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = number::widen(cx.tensor(0)?)?;
        let mut slope = number::widen(cx.tensor(1)?)?;
        if cx.opset() < 7 && slope.rank() == 1 && x.rank() > 1 {
            let mut dims = vec![1; x.rank() - 1];
            dims[0] = slope.len();
            slope = slope.reshape(dims)?;
        }
        if broadcast_dims(&x, &slope)?.as_slice() != x.dims() {
            return Err(cx.invalid("the slope does not broadcast to the operand"));
        }
        let out = for_number!(
            x.dtype(),
            T => {
                let (v, s) = (x.as_slice::<T>()?, slope.as_slice::<T>()?);
                let f = |&x: &T, &s: &T| if Number::is_negative(x) { Number::mul(s, x) } else { x };
                let out = data::zip((&v, x.dims()), (&s, slope.dims()), x.dims(), f);
                Tensor::from_vec(x.dims(), out)?
            },
            return Err(cx.unsupported_type(x.dtype()))
        );
        Ok(vec![number::narrow(out, cx.tensor(0)?.dtype())?.into()])
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        cx.op_mut().attrs.shift_remove("consumed_inputs");
        if cx.crosses(7) {
            let unknown = || UpgradeError::new("the slope needs the ranks of both operands");
            let rank = cx.rank(0).ok_or_else(unknown)?;
            if cx.rank(1).ok_or_else(unknown)? == 1 && rank > 2 {
                unsqueeze(cx, 1, (1..rank as i64 - 1).collect());
            }
        }
        Ok(())
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::Elementwise
    }
}
