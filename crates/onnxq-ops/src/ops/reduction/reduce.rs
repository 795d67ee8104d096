//! The Reduce* operators: float in `f64`, integers modulo their width.

use onnxq_tensor::{DType, Dim, Shape};

use super::axes::{flags, reduced_dims, reduced_shape};
use crate::{
    EvalContext, EvalError, InferContext, Operator, SymTensor, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        matmul::wrapped,
        numeric::{Real, int_tensor, product, real_tensor, strides_of},
        rules,
    },
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    L1,
    L2,
    LogSum,
    LogSumExp,
    Max,
    Mean,
    Min,
    Prod,
    Sum,
    SumSquare,
}

pub(super) struct Reduce {
    pub(super) name: &'static str,
    pub(super) since: &'static [i64],
    pub(super) kind: Kind,
}

impl Reduce {
    /// The opset at which the axes became an operand.
    fn axes_operand_since(&self) -> i64 {
        if self.kind == Kind::Sum { 13 } else { 18 }
    }
}

impl Operator for Reduce {
    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        self.since
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let shape = cx.shape(0)?.clone();
        let (keep, noop) = options(cx.op());
        let axes = match cx.has(1) {
            true => match cx.ints(1) {
                Ok(axes) => Some(axes),
                Err(unknown) => {
                    // Each axis may stay or become one; how many go, the operand's shape says.
                    let gone = cx.shape(1).ok().and_then(|s| s.first()?.as_const());
                    let rank = match gone {
                        _ if keep => Some(shape.len()),
                        Some(n) if n > 0 => shape.len().checked_sub(n as usize),
                        _ => None,
                    };
                    if let Some(rank) = rank {
                        cx.set_tensor(0, dtype, Shape::from_elem(Dim::UNKNOWN, rank));
                    }
                    return if rank == Some(0) {
                        Ok(())
                    } else {
                        Err(unknown)
                    };
                }
            },
            false => cx.op().ints("axes").map(<[i64]>::to_vec),
        };
        let flags = flags(axes.as_deref(), noop, shape.len()).map_err(Unknown)?;
        let value = match flags[..] {
            [true] => cx.value(0).ok().and_then(|v| self.of_values(v, keep)),
            _ => None,
        };
        match value {
            Some(value) => cx.set_value(0, value),
            None => cx.set_tensor(0, dtype, reduced_shape(&shape, &flags, keep)),
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let (keep, noop) = options(cx.op());
        let axes = match cx.optional(1)? {
            Some(_) => Some(cx.ints(1)?),
            None => cx.op().ints("axes").map(<[i64]>::to_vec),
        };
        let flags = flags(axes.as_deref(), noop, x.rank()).map_err(|e| cx.invalid(e))?;
        let dims = reduced_dims(x.dims(), &flags, keep);
        let plan = Plan::of(x.dims(), &flags)?;
        if x.dtype().is_int() || x.dtype() == DType::Bool {
            let y = self.integers(&plan, &wrapped(x)?, x.dtype());
            return Ok(vec![int_tensor(x.dtype(), &dims, y)?]);
        }
        let data = f64::read(x).map_err(|_| cx.unsupported_type(x.dtype()))?;
        let y = self.floats(&plan, &data);
        Ok(vec![real_tensor(x.dtype(), &dims, y)?])
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(self.axes_operand_since()) {
            cx.ints_to_operand("axes", 1);
        }
        Ok(())
    }

    fn quant(&self, _op: &onnxq_ir::Op) -> crate::QuantRole {
        match self.kind {
            Kind::Mean | Kind::Sum => crate::QuantRole::Elementwise,
            Kind::Max | Kind::Min => crate::QuantRole::SameScale,
            _ => crate::QuantRole::NotQuantizable,
        }
    }
}

/// Whether reduced axes stay, and whether no axes means none.
fn options(op: &onnxq_ir::Op) -> (bool, bool) {
    (
        op.int("keepdims", 1) != 0,
        op.int("noop_with_empty_axes", 0) != 0,
    )
}

impl Reduce {
    /// The result for a vector of symbolic values.
    fn of_values(&self, v: &SymTensor, keep: bool) -> Option<SymTensor> {
        let mut elems = v.elems.iter().cloned();
        let elem = match self.kind {
            Kind::Sum => elems.sum(),
            Kind::Prod => elems.product(),
            Kind::Max => {
                let first = elems.next()?;
                elems.fold(first, |a, b| a.max(&b))
            }
            Kind::Min => {
                let first = elems.next()?;
                elems.fold(first, |a, b| a.min(&b))
            }
            _ => return None,
        };
        Some(SymTensor {
            dtype: v.dtype,
            dims: if keep {
                [1].as_slice().into()
            } else {
                Default::default()
            },
            elems: vec![elem],
        })
    }

    fn floats(&self, plan: &Plan, x: &[f64]) -> Vec<f64> {
        let sum = |map: fn(f64) -> f64| plan.fold(x, 0.0, |a, x| a + map(x));
        let max = |a: f64, x: f64| if x > a || x.is_nan() { x } else { a };
        let min = |a: f64, x: f64| if x < a || x.is_nan() { x } else { a };
        let each = |values: Vec<f64>, f: &dyn Fn(f64) -> f64| values.into_iter().map(f).collect();
        match self.kind {
            Kind::Sum => sum(|x| x),
            Kind::SumSquare => sum(|x| x * x),
            Kind::L1 => sum(f64::abs),
            Kind::L2 => each(sum(|x| x * x), &f64::sqrt),
            Kind::LogSum => each(sum(|x| x), &f64::ln),
            Kind::Mean => each(sum(|x| x), &|s| s / plan.reduced as f64),
            Kind::Prod => plan.fold(x, 1.0, |a, x| a * x),
            Kind::Max => plan.fold(x, f64::NEG_INFINITY, max),
            Kind::Min => plan.fold(x, f64::INFINITY, min),
            Kind::LogSumExp => {
                let mut shift = plan.fold(x, f64::NEG_INFINITY, max);
                for s in &mut shift {
                    if !s.is_finite() {
                        *s = 0.0;
                    }
                }
                let mut sums = vec![0.0; shift.len()];
                plan.each(|i, o| sums[o] += (x[i] - shift[o]).exp());
                sums.iter()
                    .zip(shift)
                    .map(|(sum, s)| sum.ln() + s)
                    .collect()
            }
        }
    }

    fn integers(&self, plan: &Plan, x: &[i64], dtype: DType) -> Vec<i64> {
        let through_floats = || {
            let x: Vec<f64> = x.iter().map(|&x| x as f64).collect();
            self.floats(plan, &x)
                .into_iter()
                .map(|y| y as i64)
                .collect()
        };
        // Unsigned 64-bit integers compare as such.
        let flip = if dtype == DType::U64 { i64::MIN } else { 0 };
        let (lowest, highest) = match dtype {
            DType::U64 => (0, -1),
            DType::Bool => (0, 1),
            _ => crate::ops::quantization::arith::int_range(dtype).unwrap_or((i64::MIN, i64::MAX)),
        };
        match self.kind {
            Kind::Sum => plan.fold(x, 0, i64::wrapping_add),
            Kind::Prod => plan.fold(x, 1, i64::wrapping_mul),
            Kind::SumSquare => plan.fold(x, 0, |a, x| a.wrapping_add(x.wrapping_mul(x))),
            Kind::L1 => plan.fold(x, 0, |a, x| a.wrapping_add(x.wrapping_abs())),
            Kind::Max => plan.fold(x, lowest, |a, x| if x ^ flip > a ^ flip { x } else { a }),
            Kind::Min => plan.fold(x, highest, |a, x| if x ^ flip < a ^ flip { x } else { a }),
            Kind::Mean if plan.reduced > 0 => {
                let count = plan.reduced as i64;
                let sums = plan.fold(x, 0, i64::wrapping_add);
                sums.into_iter().map(|s| s.wrapping_div(count)).collect()
            }
            Kind::Mean | Kind::L2 | Kind::LogSum | Kind::LogSumExp => through_floats(),
        }
    }
}

/// Where each element of the operand goes.
struct Plan {
    dims: Vec<usize>,
    /// Strides in the result, zero on reduced axes.
    strides: Vec<usize>,
    count: usize,
    /// How many elements make one of the result.
    reduced: usize,
}

impl Plan {
    fn of(dims: &[usize], flags: &[bool]) -> Result<Plan, EvalError> {
        let kept: Vec<usize> = reduced_dims(dims, flags, true);
        let own = strides_of(&kept);
        let over: Vec<usize> = dims
            .iter()
            .zip(flags)
            .filter_map(|(&d, &f)| f.then_some(d))
            .collect();
        let strides = own.iter().zip(flags).map(|(&s, &f)| if f { 0 } else { s });
        Ok(Plan {
            dims: dims.to_vec(),
            strides: strides.collect(),
            count: rules::limited(&kept)?,
            reduced: product(&over),
        })
    }

    fn fold<T: Copy>(&self, x: &[T], start: T, f: impl Fn(T, T) -> T) -> Vec<T> {
        let mut y = vec![start; self.count];
        self.each(|i, o| y[o] = f(y[o], x[i]));
        y
    }

    /// Calls `f` with the number of each element, in order, and of that of the result it goes to.
    fn each(&self, mut f: impl FnMut(usize, usize)) {
        if self.dims.contains(&0) {
            return;
        }
        let (width, step) = match (self.dims.last(), self.strides.last()) {
            (Some(&width), Some(&step)) => (width, step),
            _ => return f(0, 0),
        };
        let outer = self.dims.len() - 1;
        let (dims, strides) = (&self.dims[..outer], &self.strides[..outer]);
        let (mut index, mut at, mut start) = (vec![0; outer], [0], 0);
        loop {
            for i in 0..width {
                f(start + i, at[0] + i * step);
            }
            start += width;
            if !crate::ops::numeric::advance(&mut index, dims, [strides], &mut at) {
                return;
            }
        }
    }
}
