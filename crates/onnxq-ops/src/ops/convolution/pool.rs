//! MaxPool, AveragePool, LpPool, and the same over whole channels.
//!
//! Windows follow [`window`](super::window). An average divides by the elements that are not
//! padding, or with `count_include_pad` by those that lie within the operand as padded by the
//! attributes (what `ceil_mode` adds beyond is never counted).

use onnxq_ir::{Attr, Op};
use onnxq_tensor::{DType, Dim, Element, Shape, Tensor};

use super::window::{Placement, Window};
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        numeric::{Real, product, real_tensor, with_real},
        rules,
    },
};

pub(super) struct MaxPool;
pub(super) struct AveragePool;
pub(super) struct LpPool;
pub(super) struct GlobalMaxPool;
pub(super) struct GlobalAveragePool;
pub(super) struct GlobalLpPool;

impl Operator for MaxPool {
    fn name(&self) -> &'static str {
        "MaxPool"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 8, 10, 11, 12, 22]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        infer_pool(cx, &[None, Some(DType::I64)])
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let (window, dims) = place(cx, x)?;
        let pool = Pool { x, window, dims };
        let column_major = cx.op().int("storage_order", 0) != 0;
        let (y, indices) = match x.dtype() {
            DType::I8 => pool.max_of::<i8>(i8::MIN)?,
            DType::U8 => pool.max_of::<u8>(u8::MIN)?,
            dtype => with_real!(cx, dtype, T => {
                let (y, at) = pool.max(&T::read(x)?, T::of(f64::NEG_INFINITY))?;
                Ok((real_tensor(dtype, &pool.dims, y)?, at))
            })?,
        };
        let mut results = vec![y];
        if cx.results() > 1 {
            let indices = pool.global_indices(indices, column_major);
            results.push(Tensor::from_vec(pool.dims.as_slice(), indices)?.into());
        }
        Ok(results)
    }

    fn quant(&self, _op: &Op) -> QuantRole {
        QuantRole::SameScale
    }
}

impl Operator for AveragePool {
    fn name(&self) -> &'static str {
        "AveragePool"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 7, 10, 11, 19, 22]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        infer_pool(cx, &[None])
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        with_real!(cx, x.dtype(), T => {
            let (y, dims) = average::<T>(cx, x)?;
            Ok(vec![real_tensor(x.dtype(), &dims, y)?])
        })
    }

    fn quant(&self, _op: &Op) -> QuantRole {
        QuantRole::SameScale
    }
}

/// The averages over the windows that the attributes describe, and their dimensions.
pub(in crate::ops) fn average<T: Real>(
    cx: &EvalContext<'_>,
    x: &Tensor,
) -> Result<(Vec<T>, Vec<usize>), EvalError> {
    let (window, dims) = place(cx, x)?;
    let pool = Pool { x, window, dims };
    let padded = cx.op().int("count_include_pad", 0) != 0;
    let mut y = pool.fold(&T::read(x)?, |sum, x| sum + x)?;
    let counts: Vec<T> = pool.counts(padded).into_iter().map(T::of).collect();
    for y in y.chunks_exact_mut(counts.len().max(1)) {
        for (y, &count) in y.iter_mut().zip(&counts) {
            *y /= count;
        }
    }
    Ok((y, pool.dims))
}

impl Operator for LpPool {
    fn name(&self) -> &'static str {
        "LpPool"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 2, 11, 18, 22]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        infer_pool(cx, &[None])
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let (window, dims) = place(cx, x)?;
        let pool = Pool { x, window, dims };
        with_real!(cx, x.dtype(), T => {
            let p = T::of(exponent(cx.op()));
            let mut y = pool.fold(&T::read(x)?, |sum, x| sum + x.abs().powf(p))?;
            y.iter_mut().for_each(|y| *y = y.powf(p.recip()));
            Ok(vec![real_tensor(x.dtype(), &pool.dims, y)?])
        })
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        integral_exponent(cx)
    }
}

macro_rules! global {
    ($op:ident, $name:literal, $since:expr, $quant:expr, |$cx:ident, $row:ident, $T:ident| $value:expr) => {
        impl Operator for $op {
            fn name(&self) -> &'static str {
                $name
            }

            fn since(&self) -> &'static [i64] {
                &$since
            }

            fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
                infer_global(cx)
            }

            fn eval(&self, $cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
                let x = $cx.tensor(0)?;
                let (rows, size, dims) = channels($cx, x)?;
                with_real!($cx, x.dtype(), $T => {
                    let x_data = $T::read(x)?;
                    let y = (0..rows)
                        .map(|i| {
                            let $row: &[$T] = &x_data[i * size..][..size];
                            $value
                        })
                        .collect();
                    Ok(vec![real_tensor(x.dtype(), &dims, y)?])
                })
            }

            fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
                integral_exponent(cx)
            }

            fn quant(&self, _op: &Op) -> QuantRole {
                $quant
            }
        }
    };
}

global!(
    GlobalMaxPool,
    "GlobalMaxPool",
    [1, 22],
    QuantRole::SameScale,
    |cx, row, T| row
        .iter()
        .fold(T::of(f64::NEG_INFINITY), |m, &x| if x > m { x } else { m })
);
global!(
    GlobalAveragePool,
    "GlobalAveragePool",
    [1, 22],
    QuantRole::Elementwise,
    |cx, row, T| {
        let sum: f64 = row.iter().map(|x| x.wide()).sum();
        T::of(sum / row.len() as f64)
    }
);
global!(
    GlobalLpPool,
    "GlobalLpPool",
    [1, 2, 22],
    QuantRole::NotQuantizable,
    |cx, row, T| {
        let p = exponent(cx.op());
        let sum: f64 = row.iter().map(|x| x.wide().abs().powf(p)).sum();
        T::of(sum.powf(p.recip()))
    }
);

/// The attribute `p`, an integer since opset 2.
fn exponent(op: &Op) -> f64 {
    match op.attr("p") {
        Some(Attr::Float(p)) => f64::from(*p),
        Some(Attr::Int(p)) => *p as f64,
        _ => 2.0,
    }
}

fn integral_exponent(cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
    if cx.crosses(2)
        && let Some(Attr::Float(p)) = cx.op().attr("p")
    {
        let p = *p;
        if p.fract() != 0.0 {
            return Err(UpgradeError::new(format!("attribute 'p' is {p}")));
        }
        cx.op_mut()
            .attrs
            .insert("p".to_owned(), Attr::Int(p as i64));
    }
    Ok(())
}

/// Sets one result for each entry of `dtypes`; `None` is the type of the operand.
fn infer_pool(cx: &mut InferContext<'_>, dtypes: &[Option<DType>]) -> Result<(), Unknown> {
    let dtype = cx.dtype(0)?;
    for (i, d) in dtypes.iter().enumerate() {
        cx.set_dtype(i, d.unwrap_or(dtype));
    }
    let shape = pooled_shape(cx, cx.shape(0)?)?;
    for (i, d) in dtypes.iter().enumerate() {
        cx.set_tensor(i, d.unwrap_or(dtype), shape.clone());
    }
    Ok(())
}

/// The shape after a pooling of a tensor of shape `x`, channels after the batch.
pub(in crate::ops) fn pooled_shape(cx: &InferContext<'_>, x: &[Dim]) -> Result<Shape, Unknown> {
    let spatial = x.len().checked_sub(2);
    let spatial = spatial.ok_or_else(|| Unknown::new("an operand of rank under 2"))?;
    let window = Window::of(cx.op(), spatial, None).map_err(Unknown)?;
    let mut shape = Shape::from(x);
    for i in 0..spatial {
        shape[2 + i] = window.small_dim(i, &x[2 + i]);
    }
    Ok(shape)
}

fn infer_global(cx: &mut InferContext<'_>) -> Result<(), Unknown> {
    let dtype = cx.dtype(0)?;
    cx.set_dtype(0, dtype);
    let mut shape = cx.shape(0)?.clone();
    shape.iter_mut().skip(2).for_each(|d| *d = Dim::known(1));
    cx.set_tensor(0, dtype, shape);
    Ok(())
}

/// Rows of the operand (batch and channels), elements of each, and the dimensions of the result.
fn channels(cx: &EvalContext<'_>, x: &Tensor) -> Result<(usize, usize, Vec<usize>), EvalError> {
    if x.rank() < 2 {
        return Err(cx.invalid(format!("an operand of rank {}", x.rank())));
    }
    let mut dims = x.dims().to_vec();
    let size = product(&dims[2..]);
    dims[2..].fill(1);
    let rows = rules::limited(&dims)?;
    if rows.checked_mul(size) != Some(x.len()) {
        return Err(EvalError::TooLarge(x.dims().to_vec()));
    }
    Ok((rows, size, dims))
}

fn place(cx: &EvalContext<'_>, x: &Tensor) -> Result<(Placement, Vec<usize>), EvalError> {
    if x.rank() < 2 {
        return Err(cx.invalid(format!("an operand of rank {}", x.rank())));
    }
    let window = Window::of(cx.op(), x.rank() - 2, None);
    let window = window.and_then(|w| w.place(&x.dims()[2..]));
    let window = window.map_err(|e| cx.invalid(e))?;
    let mut dims = x.dims()[..2].to_vec();
    dims.extend(&window.small[..x.rank() - 2]);
    rules::limited(&dims)?;
    Ok((window, dims))
}

/// A pooling whose operand has been checked.
struct Pool<'a> {
    x: &'a Tensor,
    window: Placement,
    dims: Vec<usize>,
}

impl Pool<'_> {
    fn max_of<T: Element + PartialOrd>(&self, lowest: T) -> Result<(Value, Vec<usize>), EvalError> {
        let (y, at) = self.max(&self.x.as_slice::<T>()?, lowest)?;
        Ok((Tensor::from_vec(self.dims.as_slice(), y)?.into(), at))
    }

    /// The largest elements, and where each is in the operand: the first of equals.
    fn max<T: Copy + PartialOrd>(
        &self,
        x: &[T],
        lowest: T,
    ) -> Result<(Vec<T>, Vec<usize>), EvalError> {
        let count = rules::limited(&self.dims)?;
        let (mut y, mut at) = (vec![lowest; count], vec![0; count]);
        self.each(x.len(), |small, big| {
            // A window with nothing but the lowest value still has a first element.
            if x[big] > y[small] {
                y[small] = x[big];
                at[small] = big;
            }
        });
        Ok((y, at))
    }

    /// Folds the elements of each window, starting from zero.
    fn fold<T: Real>(&self, x: &[T], mut f: impl FnMut(T, T) -> T) -> Result<Vec<T>, EvalError> {
        let mut y = vec![T::zero(); rules::limited(&self.dims)?];
        self.each(x.len(), |small, big| y[small] = f(y[small], x[big]));
        Ok(y)
    }

    /// Calls `f` with each element of the result and each of the operand that it covers.
    fn each(&self, elements: usize, mut f: impl FnMut(usize, usize)) {
        let (size, positions) = (product(&self.window.big), product(&self.window.small));
        if elements == 0 || positions == 0 {
            return;
        }
        let stride = self.window.stride();
        for tap in 0..self.window.taps() {
            let index = self.window.tap(tap);
            let mut runs = Vec::new();
            self.window.runs(&index, 0..positions, |run| runs.push(run));
            for channel in 0..elements / size {
                for run in &runs {
                    let (small, big) = (channel * positions + run.small, channel * size + run.big);
                    for i in 0..run.len {
                        f(small + i, big + i * stride);
                    }
                }
            }
        }
    }

    /// How many elements each window has: within the operand, or `padded`.
    fn counts(&self, padded: bool) -> Vec<f64> {
        let w = &self.window;
        let axis = |axis: usize| -> Vec<f64> {
            let (lo, hi) = match padded {
                true => (-w.begin[axis], w.big[axis] as i64 + w.end[axis]),
                false => (0, w.big[axis] as i64),
            };
            let count = |p: usize| {
                let start = (p * w.strides[axis]) as i64 - w.begin[axis];
                let at = |tap: usize| start + (tap * w.dilations[axis]) as i64;
                let inside = |&tap: &usize| (lo..hi).contains(&at(tap));
                (0..w.kernel[axis]).filter(inside).count() as f64
            };
            (0..w.small[axis]).map(count).collect()
        };
        let outer = |all: Vec<f64>, next: Vec<f64>| -> Vec<f64> {
            all.iter()
                .flat_map(|a| next.iter().map(move |b| a * b))
                .collect()
        };
        (0..w.small.len()).map(axis).fold(vec![1.0], outer)
    }

    /// Positions in the operand, the channels of which may count their columns first.
    fn global_indices(&self, at: Vec<usize>, column_major: bool) -> Vec<i64> {
        let (size, positions) = (product(&self.window.big), product(&self.window.small));
        if !column_major {
            return at.into_iter().map(|at| at as i64).collect();
        }
        let local = |mut at: usize| -> usize {
            let mut index = vec![0; self.window.big.len()];
            for axis in (0..index.len()).rev() {
                index[axis] = at % self.window.big[axis];
                at /= self.window.big[axis];
            }
            let (mut flat, mut step) = (0, 1);
            for (i, n) in index.iter().zip(&self.window.big) {
                flat += i * step;
                step *= n;
            }
            flat
        };
        at.into_iter()
            .enumerate()
            .map(|(i, at)| (i / positions * size + local(at % size)) as i64)
            .collect()
    }
}
