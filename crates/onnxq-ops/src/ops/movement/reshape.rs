//! `Reshape`, `Flatten`, `Squeeze`, `Unsqueeze`: the same elements under other dimensions.

use onnxq_ir as ir;
use onnxq_tensor::{Dim, Shape};

use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        rules::{self, Misfit},
        values,
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&Reshape, &Flatten, &Squeeze, &Unsqueeze];

/// The result of a view of operand 0.
fn viewed(cx: &EvalContext<'_>, shape: &[Dim]) -> Result<Vec<Value>, EvalError> {
    let dims = rules::concrete(shape)?;
    Ok(vec![cx.tensor(0)?.reshape(dims)?.into()])
}

/// Sets result 0 to a view of operand 0.
fn infer_view(
    cx: &mut InferContext<'_>,
    operator: &dyn Operator,
    shape: Shape,
) -> Result<(), Unknown> {
    cx.set_tensor(0, cx.dtype(0)?, shape);
    values::follow_moved(cx, operator, &[0]);
    Ok(())
}

/// To the dimensions in operand 1 (before opset 5: an attribute). 0 copies a dimension unless
/// `allowzero`; -1 is what is left.
struct Reshape;

impl Reshape {
    /// The result for operand shape `from`, where it is known.
    fn shape(op: &ir::Op, from: Option<&Shape>, to: &[Dim]) -> Result<Shape, Misfit> {
        let copies_zero = op.int("allowzero", 0) == 0;
        if to.iter().filter(|d| d.as_const() == Some(-1)).count() > 1 {
            return Err(Misfit::new("more than one dimension is -1"));
        }
        let mut shape = Shape::new();
        let mut open = Vec::new();
        for (i, d) in to.iter().enumerate() {
            shape.push(match d.as_const() {
                Some(0) if copies_zero => match from {
                    Some(from) => from.get(i).cloned().ok_or_else(|| {
                        Misfit(format!("there is no dimension {i} that the 0 could copy"))
                    })?,
                    None => Dim::UNKNOWN,
                },
                Some(..-1) => return Err(Misfit(format!("{d} is no dimension"))),
                // What is unknown follows from the others just as -1 does.
                Some(-1) => {
                    open.push(i);
                    Dim::known(1)
                }
                None if d.is_unknown() => {
                    open.push(i);
                    Dim::known(1)
                }
                _ => d.clone(),
            });
        }
        if let [i] = open[..] {
            let count = from.map_or(Dim::UNKNOWN, |from| rules::product(from));
            shape[i] = Reshape::quotient(&count, &rules::product(&shape))?;
        } else {
            for i in open {
                shape[i] = Dim::UNKNOWN;
            }
        }
        Ok(shape)
    }

    /// What is left of `count` elements for a dimension beside `others`.
    fn quotient(count: &Dim, others: &Dim) -> Result<Dim, Misfit> {
        match (count.as_const(), others.as_const()) {
            (Some(0), Some(0)) => Ok(Dim::known(0)),
            (Some(count), Some(others)) => match count.checked_rem(others) {
                Some(0) => Ok(Dim::known(count / others)),
                _ => Err(Misfit(format!(
                    "{count} elements do not divide into {others}"
                ))),
            },
            _ => Ok(count.floor_div(others)),
        }
    }
}

impl Operator for Reshape {
    fn name(&self) -> &'static str {
        "Reshape"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 5, 13, 14, 19, 21, 23, 24, 25]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, cx.dtype(0)?);
        let to = if cx.opset() < 5 {
            let to = cx.op().ints("shape").unwrap_or_default();
            to.iter().map(|&d| Dim::known(d)).collect()
        } else if let Ok(to) = cx.value(1) {
            to.elems.clone()
        } else {
            // Only the rank is known.
            vec![Dim::UNKNOWN; values::vector_len(cx, 1)?]
        };
        let mut shape = Reshape::shape(cx.op(), cx.shape(0).ok(), &to)?;
        for (i, d) in shape.iter_mut().enumerate() {
            if d.is_unknown() {
                *d = cx.fresh(0, i);
            }
        }
        infer_view(cx, self, shape)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let to = if cx.opset() < 5 {
            cx.op().ints("shape").unwrap_or_default().to_vec()
        } else {
            cx.ints(1)?
        };
        let to: Vec<Dim> = to.into_iter().map(Dim::known).collect();
        let from = rules::symbolic(cx.tensor(0)?.dims());
        viewed(cx, &Reshape::shape(cx.op(), Some(&from), &to)?)
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(5) {
            cx.op_mut().attrs.shift_remove("consumed_inputs");
            cx.ints_to_operand("shape", 1);
        }
        Ok(())
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}

/// To a matrix: the dimensions before `axis`, and those from it on.
struct Flatten;

impl Flatten {
    fn shape(op: &ir::Op, from: &[Dim]) -> Result<Shape, Misfit> {
        let axis = op.int("axis", 1);
        // The axis may lie past the last one.
        let at = if axis == from.len() as i64 {
            from.len()
        } else {
            rules::axis(axis, from.len())?
        };
        let (rows, columns) = from.split_at(at);
        let dims = [rules::product(rows), rules::product(columns)];
        Ok(dims.into_iter().collect())
    }
}

impl Operator for Flatten {
    fn name(&self) -> &'static str {
        "Flatten"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 9, 11, 13, 21, 23, 24, 25]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let unknown = [Dim::UNKNOWN, Dim::UNKNOWN].into_iter().collect();
        cx.set_tensor(0, cx.dtype(0)?, unknown);
        let shape = Flatten::shape(cx.op(), cx.shape(0)?)?;
        infer_view(cx, self, shape)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let from = rules::symbolic(cx.tensor(0)?.dims());
        viewed(cx, &Flatten::shape(cx.op(), &from)?)
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}

/// The axes of an operator that took them as an attribute before opset 13; `None` where they are
/// left out.
fn infer_axes(cx: &InferContext<'_>) -> Result<Option<Vec<i64>>, Unknown> {
    if cx.opset() < 13 {
        Ok(cx.op().ints("axes").map(<[i64]>::to_vec))
    } else if cx.has(1) {
        cx.ints(1).map(Some)
    } else {
        Ok(None)
    }
}

/// A shape of which only the rank is known.
fn unknown_dims(rank: Option<usize>, unknown: Unknown) -> Result<Shape, Unknown> {
    let rank = rank.ok_or(unknown)?;
    Ok(std::iter::repeat_n(Dim::UNKNOWN, rank).collect())
}

fn eval_axes(cx: &EvalContext<'_>) -> Result<Option<Vec<i64>>, EvalError> {
    if cx.opset() < 13 {
        Ok(cx.op().ints("axes").map(<[i64]>::to_vec))
    } else {
        cx.optional(1)?.map(|_| cx.ints(1)).transpose()
    }
}

/// Without the axes named, which are of size 1; without any named, all such.
struct Squeeze;

impl Squeeze {
    fn shape(from: &[Dim], axes: Option<&[i64]>) -> Result<Shape, Misfit> {
        let is_one = |d: &Dim| d.as_const() == Some(1);
        let dropped = match axes {
            Some(axes) => {
                let axes = rules::axes(axes, from.len())?;
                let wrong = |&&i: &&usize| from[i].provably_ne(&Dim::known(1));
                if let Some(&i) = axes.iter().find(wrong) {
                    return Err(Misfit(format!("axis {i} has size {}, not 1", from[i])));
                }
                axes
            }
            None => {
                let may_be_one = |d: &&Dim| !is_one(d) && !d.provably_ne(&Dim::known(1));
                if let Some(d) = from.iter().find(may_be_one) {
                    return Err(Misfit(format!("it depends on whether {d} is 1")));
                }
                (0..from.len()).filter(|&i| is_one(&from[i])).collect()
            }
        };
        let kept = from
            .iter()
            .enumerate()
            .filter(|(i, _)| !dropped.contains(i));
        Ok(kept.map(|(_, d)| d.clone()).collect())
    }
}

impl Operator for Squeeze {
    fn name(&self) -> &'static str {
        "Squeeze"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 11, 13, 21, 23, 24, 25]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, cx.dtype(0)?);
        let from = cx.shape(0)?;
        let shape = match infer_axes(cx) {
            Ok(axes) => Squeeze::shape(from, axes.as_deref())?,
            Err(unknown) => {
                unknown_dims(from.len().checked_sub(values::vector_len(cx, 1)?), unknown)?
            }
        };
        infer_view(cx, self, shape)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let from = rules::symbolic(cx.tensor(0)?.dims());
        viewed(cx, &Squeeze::shape(&from, eval_axes(cx)?.as_deref())?)
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(13) {
            cx.ints_to_operand("axes", 1);
        }
        Ok(())
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}

/// With axes of size 1 inserted; they are counted in the result.
struct Unsqueeze;

impl Unsqueeze {
    fn shape(from: &[Dim], axes: &[i64]) -> Result<Shape, Misfit> {
        let rank = from.len() + axes.len();
        let inserted = rules::axes(axes, rank)?;
        let mut from = from.iter().cloned();
        let mut dim = |i: usize| {
            if inserted.contains(&i) {
                Dim::known(1)
            } else {
                from.next().unwrap_or_default()
            }
        };
        Ok((0..rank).map(&mut dim).collect())
    }
}

impl Operator for Unsqueeze {
    fn name(&self) -> &'static str {
        "Unsqueeze"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 11, 13, 21, 23, 24, 25]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, cx.dtype(0)?);
        let from = cx.shape(0)?;
        let shape = match infer_axes(cx) {
            Ok(Some(axes)) => Unsqueeze::shape(from, &axes)?,
            Ok(None) => return Err(Unknown::new("the axes are missing")),
            Err(unknown) => unknown_dims(Some(from.len() + values::vector_len(cx, 1)?), unknown)?,
        };
        infer_view(cx, self, shape)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let axes = eval_axes(cx)?.ok_or(EvalError::Missing { index: 1 })?;
        let from = rules::symbolic(cx.tensor(0)?.dims());
        viewed(cx, &Unsqueeze::shape(&from, &axes)?)
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(13) {
            cx.ints_to_operand("axes", 1);
        }
        Ok(())
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}
