//! `Slice`: along each axis from `start` to `end` by `step`.

use onnxq_ir as ir;
use onnxq_tensor::{Dim, Dims, Shape};

use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        data::{self, Strided},
        rules::{self, Misfit},
        values,
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&Slice];

/// Attributes before opset 10, operands since.
struct Slice;

/// What is taken along one axis.
struct Cut {
    axis: usize,
    start: Dim,
    len: Dim,
    step: i64,
}

/// What a node asks for.
struct Bounds {
    starts: Vec<Dim>,
    ends: Vec<Dim>,
    axes: Option<Vec<i64>>,
    steps: Option<Vec<i64>>,
}

/// A position along an axis of size `dim`, counted from the front, not clamped yet. Unknown where
/// the sign of `at` is.
fn from_front(at: &Dim, dim: &Dim) -> Dim {
    if at.provably_ge(0) {
        at.clone()
    } else if at.provably_le(-1) {
        at + dim
    } else {
        Dim::UNKNOWN
    }
}

/// A bound with which arithmetic does not overflow: "from the very start" may be written as the
/// least integer.
fn within_reach(bound: &Dim) -> Dim {
    const REACH: i64 = 1 << 60;
    match bound.as_const() {
        Some(bound) => Dim::known(bound.clamp(-REACH, REACH)),
        None => bound.clone(),
    }
}

impl Cut {
    fn new(axis: usize, dim: &Dim, start: &Dim, end: &Dim, step: i64) -> Cut {
        // Exporters write "to the end" as a number that no dimension reaches; but one that is
        // known may.
        const NO_DIMENSION: i64 = i32::MAX as i64;
        let far = dim.as_const().unwrap_or(NO_DIMENSION);
        let (start, end) = (&within_reach(start), &within_reach(end));
        let zero = Dim::known(0);
        let clamp = |d: &Dim, low: &Dim, high: &Dim| d.min(high).max(low);
        let (start, span) = if step > 0 {
            let start = clamp(&from_front(start, dim), &zero, dim);
            let end = if end.provably_ge(far) {
                dim.clone()
            } else {
                clamp(&from_front(end, dim), &zero, dim)
            };
            (start.clone(), end - start)
        } else {
            let (before, last) = (Dim::known(-1), dim - 1);
            let start = if start.provably_ge(far) {
                last.clone()
            } else {
                clamp(&from_front(start, dim), &before, &last)
            };
            let end = if end.provably_le(-far - 1) {
                before
            } else {
                clamp(&from_front(end, dim), &before, &last)
            };
            (start.clone(), start - end)
        };
        let step_len = Dim::known(step.checked_abs().unwrap_or(i64::MAX));
        Cut {
            axis,
            start,
            len: span.ceil_div(&step_len).max(&zero),
            step,
        }
    }
}

impl Bounds {
    fn of_attrs(op: &ir::Op) -> Bounds {
        let dims = |key: &str| {
            let ints = op.ints(key).unwrap_or_default();
            ints.iter().map(|&v| Dim::known(v)).collect()
        };
        Bounds {
            starts: dims("starts"),
            ends: dims("ends"),
            axes: op.ints("axes").map(<[i64]>::to_vec),
            steps: None,
        }
    }

    fn infer(cx: &InferContext<'_>) -> Result<Bounds, Unknown> {
        if cx.opset() < 10 {
            return Ok(Bounds::of_attrs(cx.op()));
        }
        let ints = |i: usize| cx.has(i).then(|| cx.ints(i)).transpose();
        let (axes, steps) = (ints(3)?, ints(4)?);
        // Of bounds that are not known, their number still tells which axes they concern.
        let dims = |i: usize| -> Result<Vec<Dim>, Unknown> {
            match cx.value(i) {
                Ok(value) => Ok(value.elems.clone()),
                Err(_) => {
                    let known = axes.as_ref().map(Vec::len);
                    let count = known.map_or_else(|| values::vector_len(cx, i), Ok)?;
                    Ok(vec![Dim::UNKNOWN; count])
                }
            }
        };
        Ok(Bounds {
            starts: dims(1)?,
            ends: dims(2)?,
            axes,
            steps,
        })
    }

    fn eval(cx: &EvalContext<'_>) -> Result<Bounds, EvalError> {
        if cx.opset() < 10 {
            return Ok(Bounds::of_attrs(cx.op()));
        }
        let ints = |i: usize| cx.optional(i)?.map(|_| cx.ints(i)).transpose();
        let dims = |i: usize| -> Result<Vec<Dim>, EvalError> {
            Ok(cx.ints(i)?.into_iter().map(Dim::known).collect())
        };
        Ok(Bounds {
            starts: dims(1)?,
            ends: dims(2)?,
            axes: ints(3)?,
            steps: ints(4)?,
        })
    }

    /// What is taken of a tensor of this shape.
    fn cuts(&self, shape: &[Dim]) -> Result<Vec<Cut>, Misfit> {
        let n = self.starts.len();
        let axes = match &self.axes {
            Some(axes) => rules::axes(axes, shape.len())?,
            None => (0..n).collect(),
        };
        let ones = vec![1; n];
        let steps = self.steps.as_ref().unwrap_or(&ones);
        if self.ends.len() != n || axes.len() != n || steps.len() != n || n > shape.len() {
            return Err(Misfit::new("starts, ends, axes and steps do not match"));
        }
        if steps.contains(&0) {
            return Err(Misfit::new("a step is 0"));
        }
        let cut = |i: usize| {
            let dim = &shape[axes[i]];
            Cut::new(axes[i], dim, &self.starts[i], &self.ends[i], steps[i])
        };
        Ok((0..n).map(cut).collect())
    }
}

impl Operator for Slice {
    fn name(&self) -> &'static str {
        "Slice"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 10, 11, 13]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let mut shape: Shape = cx.shape(0)?.clone();
        let rank_only = shape.iter().map(|_| Dim::UNKNOWN).collect();
        cx.set_tensor(0, dtype, rank_only);
        for cut in Bounds::infer(cx)?.cuts(&shape)? {
            shape[cut.axis] = if cut.len.is_unknown() {
                cx.fresh(0, cut.axis)
            } else {
                cut.len
            };
        }
        cx.set_tensor(0, dtype, shape);
        values::follow_moved(cx, self, &[0]);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let mut strides = data::strides(x.dims());
        let mut dims = Dims::from(x.dims());
        let mut offset = 0;
        for cut in Bounds::eval(cx)?.cuts(&rules::symbolic(x.dims()))? {
            let len = rules::concrete(std::slice::from_ref(&cut.len))?[0];
            let start = cut.start.as_const().unwrap_or(0);
            if len > 0 {
                offset += start as usize * strides[cut.axis] as usize;
            }
            dims[cut.axis] = len;
            strides[cut.axis] = strides[cut.axis].saturating_mul(cut.step as isize);
        }
        let view = Strided {
            dims: dims.clone(),
            strides,
            offset,
        };
        Ok(vec![data::gather(&[x], dims, view.runs())?.into()])
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(10) {
            cx.ints_to_operand("starts", 1);
            cx.ints_to_operand("ends", 2);
            cx.ints_to_operand("axes", 3);
        }
        Ok(())
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}
