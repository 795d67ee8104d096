//! `CumSum`, `CumProd`, `ReverseSequence`: along an axis, one element after another.

use onnxq_ir as ir;
use onnxq_tensor::Tensor;

use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, Value,
    ops::{
        data::{self, Run},
        number::{self, Number, for_number},
        rules, values,
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[
    &Cumulate {
        name: "CumSum",
        since: &[11, 14],
        product: false,
    },
    &Cumulate {
        name: "CumProd",
        since: &[26],
        product: true,
    },
    &ReverseSequence,
];

/// Sums or products of all elements up to each; `exclusive` leaves out the element itself,
/// `reverse` starts at the end.
struct Cumulate {
    name: &'static str,
    since: &'static [i64],
    product: bool,
}

impl Operator for Cumulate {
    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        self.since
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_type(0, cx.ty(0)?.clone());
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let axis = rules::axis(cx.tensor(1)?.scalar_i64()?, x.rank())?;
        let exclusive = cx.op().int("exclusive", 0) != 0;
        let reverse = cx.op().int("reverse", 0) != 0;
        let (size, inner) = (x.dims()[axis], rules::count(&x.dims()[axis + 1..]));
        let wide = number::widen(x)?;
        let out = for_number!(
            wide.dtype(),
            T => {
                let (f, first): (fn(T, T) -> T, T) = if self.product {
                    (Number::mul, T::of_f64(1.0))
                } else {
                    (Number::add, T::ZERO)
                };
                let mut v = wide.as_slice::<T>()?.into_owned();
                for line in v.chunks_exact_mut((size * inner).max(1)) {
                    let mut sums = vec![first; inner];
                    for step in 0..size {
                        let at = if reverse { size - 1 - step } else { step };
                        let row = &mut line[at * inner..(at + 1) * inner];
                        for (x, sum) in row.iter_mut().zip(&mut sums) {
                            let before = std::mem::replace(sum, f(*sum, *x));
                            *x = if exclusive { before } else { *sum };
                        }
                    }
                }
                Tensor::from_vec(x.dims(), v)?
            },
            return Err(cx.unsupported_type(x.dtype()))
        );
        Ok(vec![number::narrow(out, x.dtype())?.into()])
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::Elementwise
    }
}

/// For each sample of a batch the first so many (operand 1) steps in reverse order.
struct ReverseSequence;

impl Operator for ReverseSequence {
    fn name(&self) -> &'static str {
        "ReverseSequence"
    }

    fn since(&self) -> &'static [i64] {
        &[10, 28]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_type(0, cx.ty(0)?.clone());
        values::follow_moved(cx, self, &[0]);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let batch = rules::axis(cx.op().int("batch_axis", 1), x.rank())?;
        let time = rules::axis(cx.op().int("time_axis", 0), x.rank())?;
        if batch + time != 1 {
            return Err(cx.invalid("the batch and time axes are not the first two"));
        }
        let (first, second) = (x.dims()[0], x.dims()[1]);
        let (samples, steps) = (x.dims()[batch], x.dims()[time]);
        let lens: Option<Vec<usize>> = cx
            .ints(1)?
            .into_iter()
            .map(|n| usize::try_from(n).ok().filter(|&n| n <= steps))
            .collect();
        let lens = lens
            .filter(|lens| lens.len() == samples)
            .ok_or_else(|| cx.invalid("the lengths do not fit the data"))?;
        let inner = rules::count(&x.dims()[2..]);
        let runs = (0..first * second).map(|i| {
            let (row, column) = (i / second, i % second);
            let (sample, step) = if batch == 0 {
                (row, column)
            } else {
                (column, row)
            };
            let from = if step < lens[sample] {
                lens[sample] - 1 - step
            } else {
                step
            };
            let from = if batch == 0 {
                sample * second + from
            } else {
                from * second + sample
            };
            Run::new(from * inner, inner)
        });
        Ok(vec![data::gather(&[x], x.dims(), runs)?.into()])
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}
