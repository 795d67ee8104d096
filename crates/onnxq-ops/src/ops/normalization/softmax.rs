//! Softmax, LogSoftmax and Hardmax.
//!
//! Since opset 13 along one axis. Before, `axis` cut the operand into a matrix, of whose rows each
//! was taken as a whole; that is the same where all axes after it have one element.

use onnxq_ir::{Op, ValueId};
use onnxq_tensor::{Dim, Tensor};

use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        numeric::{Real, around, axis_attr, product, real_tensor, same_type, with_real},
        rules,
    },
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Softmax,
    LogSoftmax,
    Hardmax,
}

pub(super) struct Rows {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

impl Operator for Rows {
    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        &[1, 11, 13]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_type(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        if x.is_empty() {
            return Ok(vec![x.clone().into()]);
        }
        let rank = x.rank().max(1);
        let (before, n, after) = if cx.opset() < 13 {
            let axis = cx.op().int("axis", 1);
            let axis = if axis == rank as i64 {
                Some(rank)
            } else {
                rules::axis(axis, rank).ok()
            };
            let axis = axis.ok_or_else(|| cx.invalid("attribute 'axis' is out of range"))?;
            let axis = axis.min(x.rank());
            (product(&x.dims()[..axis]), product(&x.dims()[axis..]), 1)
        } else {
            let axis = axis_attr(cx.op(), "axis", -1, rank).map_err(|e| cx.invalid(e))?;
            if x.rank() == 0 {
                (1, 1, 1)
            } else {
                around(x.dims(), axis)
            }
        };
        with_real!(cx, x.dtype(), T => {
            let mut y = T::read(x)?.into_owned();
            let mut row = vec![T::of(0.0); n];
            for i in 0..before {
                for j in 0..after {
                    let at = |k: usize| (i * n + k) * after + j;
                    (0..n).for_each(|k| row[k] = y[at(k)]);
                    self.row(&mut row);
                    (0..n).for_each(|k| y[at(k)] = row[k]);
                }
            }
            Ok(vec![real_tensor(x.dtype(), x.dims(), y)?])
        })
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(13) {
            flatten_rows(cx);
        }
        Ok(())
    }

    fn quant(&self, _op: &Op) -> QuantRole {
        match self.kind {
            Kind::Softmax => QuantRole::FixedRange(0.0, 1.0),
            Kind::LogSoftmax | Kind::Hardmax => QuantRole::NotQuantizable,
        }
    }
}

impl Rows {
    fn row<T: Real>(&self, row: &mut [T]) {
        let (mut max, mut first) = (row[0], 0);
        for (k, &x) in row.iter().enumerate() {
            if x > max {
                (max, first) = (x, k);
            }
        }
        match self.kind {
            Kind::Hardmax => {
                row.fill(T::zero());
                row[first] = T::one();
            }
            Kind::Softmax => {
                row.iter_mut().for_each(|x| *x = (*x - max).exp());
                let sum = T::of(row.iter().map(|x| x.wide()).sum());
                row.iter_mut().for_each(|x| *x /= sum);
            }
            Kind::LogSoftmax => {
                let sum: f64 = row.iter().map(|&x| (x - max).exp().wide()).sum();
                let log = T::of(sum.ln());
                row.iter_mut().for_each(|x| *x = *x - max - log);
            }
        }
    }
}

/// Gives a node of an earlier opset its meaning at 13.
fn flatten_rows(cx: &mut UpgradeContext<'_>) {
    let axis = cx.op().int("axis", 1);
    let shape = cx
        .operand(0)
        .and_then(|v| cx.graph.ty(v))
        .and_then(|t| t.shape());
    let shape = shape.cloned();
    let rank = shape.as_ref().map(|s| s.len());
    let found = rank.and_then(|rank| rules::axis(axis, rank).ok());
    let ones = |dims: &[Dim]| dims.iter().all(|d| d.as_const() == Some(1));
    if axis == -1
        || found
            .zip(shape.as_ref())
            .is_some_and(|(a, s)| ones(&s[a + 1..]))
    {
        let axis = found.map_or(axis, |a| a as i64);
        cx.op_mut().attrs.insert("axis".to_owned(), axis.into());
        return;
    }
    // The shape to return to: written down where at most one dimension is open.
    let open = |s: &&onnxq_tensor::Shape| s.iter().filter(|d| d.as_const().is_none()).count() <= 1;
    let back: ValueId = match shape.as_ref().filter(open) {
        Some(shape) => {
            let dims = shape.iter().map(|d| d.as_const().unwrap_or(-1)).collect();
            let name = cx.derived("shape");
            cx.graph.add_constant(name, Tensor::vector::<i64>(dims))
        }
        None => {
            let name = cx.derived("shape");
            match cx.operand(0) {
                Some(x) => cx.graph.insert(Op::new("Shape"), &[x], name),
                None => return,
            }
        }
    };
    let axis = found.map_or(axis, |a| a as i64);
    cx.wrap_operand(0, Op::new("Flatten").with("axis", axis), &[], "flattened");
    cx.op_mut().attrs.insert("axis".to_owned(), (-1i64).into());
    cx.wrap_result(0, Op::new("Reshape"), &[back], "rows");
}
