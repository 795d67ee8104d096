//! `Concat` and `Split`.

use onnxq_ir as ir;
use onnxq_tensor::{Dim, Dims, Shape};

use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        data::{self, Run},
        rules::{self, Misfit},
        values,
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&Concat, &Split];

/// Tensors one after another along an axis.
struct Concat;

impl Concat {
    fn axis(op: &ir::Op, rank: usize) -> Result<usize, Misfit> {
        // Required from opset 4 on.
        rules::axis(op.int("axis", 1), rank)
    }
}

/// The shape of tensors one after another along `axis`.
pub(crate) fn concat_shape(shapes: &[&Shape], axis: usize) -> Result<Shape, Misfit> {
    let mut out = match shapes.first() {
        Some(&first) => first.clone(),
        None => return Err(Misfit::new("there is nothing to concatenate")),
    };
    for shape in &shapes[1..] {
        if shape.len() != out.len() {
            return Err(Misfit(format!(
                "ranks {} and {} do not concatenate",
                out.len(),
                shape.len()
            )));
        }
        for (i, (d, e)) in out.iter_mut().zip(shape.iter()).enumerate() {
            if i == axis {
                *d = &*d + e;
            } else if d.provably_ne(e) {
                return Err(Misfit(format!("{d} and {e} differ along axis {i}")));
            } else if d.as_const().is_none() && (e.as_const().is_some() || d.is_unknown()) {
                *d = e.clone();
            }
        }
    }
    Ok(out)
}

/// The runs of sources of these dimensions, one after another along `axis`.
pub(crate) fn concat_runs(sources: &[&[usize]], axis: usize) -> impl Iterator<Item = Run> {
    let outer = sources.first().map_or(0, |d| rules::count(&d[..axis]));
    let lens: Vec<usize> = sources.iter().map(|d| rules::count(&d[axis..])).collect();
    (0..outer).flat_map(move |at| {
        let run = |(source, &len): (usize, &usize)| Run {
            source,
            start: at * len,
            len,
        };
        lens.iter().enumerate().map(run).collect::<Vec<_>>()
    })
}

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "Concat"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 4, 11, 13]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = (0..cx.len()).find_map(|i| cx.dtype(i).ok());
        let dtype = dtype.ok_or_else(|| Unknown::new("no element type is known"))?;
        cx.set_dtype(0, dtype);
        let shapes: Result<Vec<&Shape>, Unknown> = (0..cx.len()).map(|i| cx.shape(i)).collect();
        match shapes {
            Ok(shapes) => {
                let rank = shapes.first().map_or(0, |s| s.len());
                let axis = Concat::axis(cx.op(), rank)?;
                cx.set_tensor(0, dtype, concat_shape(&shapes, axis)?);
            }
            Err(unknown) => {
                // Any operand tells the rank and all but the axis.
                let known = (0..cx.len()).find_map(|i| cx.shape(i).ok());
                let mut shape = known.cloned().ok_or_else(|| unknown.clone())?;
                let axis = Concat::axis(cx.op(), shape.len())?;
                shape[axis] = cx.fresh(0, axis);
                cx.set_tensor(0, dtype, shape);
                return Err(unknown);
            }
        }
        let all: Vec<usize> = (0..cx.len()).collect();
        values::follow_moved(cx, self, &all);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let tensors: Result<Vec<_>, _> = (0..cx.len()).map(|i| cx.tensor(i)).collect();
        let tensors = tensors?;
        let shapes: Vec<Shape> = tensors.iter().map(|t| rules::symbolic(t.dims())).collect();
        let axis = Concat::axis(cx.op(), tensors.first().map_or(0, |t| t.rank()))?;
        let shape = concat_shape(&shapes.iter().collect::<Vec<_>>(), axis)?;
        let dims: Vec<&[usize]> = tensors.iter().map(|t| t.dims()).collect();
        let runs = concat_runs(&dims, axis);
        let out = data::gather(&tensors, rules::concrete(&shape)?, runs)?;
        Ok(vec![out.into()])
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(4) && cx.op().attr("axis").is_none() {
            cx.op_mut().attrs.insert("axis".to_owned(), 1i64.into());
        }
        Ok(())
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::Elementwise
    }
}

/// Into parts along an axis: of the sizes in operand 1 (an attribute from opset 2 to 12), or of
/// equal sizes. From opset 18 on the last part may be smaller.
struct Split;

impl Split {
    /// The sizes of the parts of `dim`.
    fn parts(
        op: &ir::Op,
        opset: i64,
        dim: &Dim,
        given: Option<Vec<Dim>>,
        results: usize,
    ) -> Result<Vec<Dim>, Misfit> {
        if let Some(given) = given {
            let sum: Dim = given.iter().cloned().sum();
            if sum.provably_ne(dim) {
                return Err(Misfit(format!("the parts are {sum} together, not {dim}")));
            }
            return Ok(given);
        }
        let count = match op.attr("num_outputs").and_then(ir::Attr::as_int) {
            Some(count) if opset >= 18 => count,
            _ => results as i64,
        };
        if count <= 0 || count != results as i64 {
            return Err(Misfit(format!("{count} parts for {results} results")));
        }
        let n = Dim::known(count);
        if opset < 18 {
            return match dim.as_const() {
                Some(d) if d % count != 0 => Err(Misfit(format!(
                    "{d} does not split into {count} equal parts"
                ))),
                _ => Ok(vec![dim.floor_div(&n); results]),
            };
        }
        let size = dim.ceil_div(&n);
        let left = |i: i64| (dim - i * &size).max(&Dim::known(0));
        Ok((0..count).map(|i| left(i).min(&size)).collect())
    }

    fn given_attr(op: &ir::Op) -> Option<Vec<Dim>> {
        let split = op.ints("split")?;
        Some(split.iter().map(|&d| Dim::known(d)).collect())
    }
}

impl Operator for Split {
    fn name(&self) -> &'static str {
        "Split"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 2, 11, 13, 18]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        for i in 0..cx.results() {
            cx.set_dtype(i, dtype);
        }
        let shape = cx.shape(0)?.clone();
        let axis = rules::axis(cx.op().int("axis", 0), shape.len())?;
        let given = match Split::given_attr(cx.op()) {
            Some(given) => Some(given),
            None if cx.has(1) => match cx.value(1) {
                Ok(value) => Some(value.elems.clone()),
                Err(_) => Some(vec![Dim::UNKNOWN; cx.results()]),
            },
            None => None,
        };
        let written = given.is_some();
        let mut parts = Split::parts(cx.op(), cx.opset(), &shape[axis], given, cx.results())?;
        // Tools differ on how few elements make too many parts; what they would all say stays open.
        if !written && parts.last().and_then(Dim::as_const) == Some(0) {
            parts.fill(Dim::UNKNOWN);
        }
        for (i, part) in parts.into_iter().enumerate() {
            let mut shape = shape.clone();
            shape[axis] = if part.is_unknown() {
                cx.fresh(i, axis)
            } else {
                part
            };
            cx.set_tensor(i, dtype, shape);
        }
        values::follow_moved(cx, self, &[0]);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let axis = rules::axis(cx.op().int("axis", 0), x.rank())?;
        let given = match (Split::given_attr(cx.op()), cx.optional(1)?) {
            (None, Some(_)) => Some(cx.ints(1)?.into_iter().map(Dim::known).collect()),
            (given, _) => given,
        };
        let dim = Dim::known(x.dims()[axis] as i64);
        let parts = Split::parts(cx.op(), cx.opset(), &dim, given, cx.results())?;
        let mut results = Vec::new();
        let mut start = 0;
        for part in rules::concrete(&parts)? {
            results.push(slab(x, axis, start, part)?.into());
            start = start.saturating_add(part);
        }
        Ok(results)
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(13) {
            cx.ints_to_operand("split", 1);
        }
        if cx.crosses(18) && cx.operand(1).is_none() {
            let count = cx.graph.node(cx.node).results.len() as i64;
            let attrs = &mut cx.op_mut().attrs;
            attrs.insert("num_outputs".to_owned(), count.into());
        }
        Ok(())
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}

/// The part of a tensor from `start`, `len` long, along `axis`.
pub(crate) fn slab(
    t: &onnxq_tensor::Tensor,
    axis: usize,
    start: usize,
    len: usize,
) -> Result<onnxq_tensor::Tensor, EvalError> {
    let (outer, inner) = (
        rules::count(&t.dims()[..axis]),
        rules::count(&t.dims()[axis + 1..]),
    );
    let step = t.dims()[axis] * inner;
    let runs = (0..outer).map(|at| Run::new(at * step + start * inner, len * inner));
    let mut dims = Dims::from(t.dims());
    dims[axis] = len;
    data::gather(&[t], dims, runs)
}
