//! `Gather`, `GatherElements`, `GatherND`.

use onnxq_ir as ir;
use onnxq_tensor::{Dim, Shape, Tensor};

use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, Value,
    ops::{
        data::{self, Positions, Run},
        rules::{self, Misfit},
        values,
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&Gather, &GatherElements, &GatherND];

/// The indices of operand `i` into a dimension of this size; negative ones count from the end.
pub(crate) fn indices(
    cx: &EvalContext<'_>,
    i: usize,
    size: usize,
) -> Result<Vec<usize>, EvalError> {
    let of = |index: i64| rules::axis(index, size);
    cx.ints(i)?
        .into_iter()
        .map(|index| of(index).map_err(|_| out_of_range(index, size)))
        .collect()
}

pub(crate) fn out_of_range(index: i64, size: usize) -> EvalError {
    EvalError::Invalid(format!("index {index} is out of range for size {size}"))
}

/// Slabs of operand 0 along an axis, chosen by operand 1, whose shape replaces the axis.
struct Gather;

impl Gather {
    fn shape(data: &Shape, indices: &Shape, axis: usize) -> Shape {
        let (before, after) = (&data[..axis], &data[axis + 1..]);
        [before, indices, after].concat().into()
    }
}

impl Operator for Gather {
    fn name(&self) -> &'static str {
        "Gather"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 11, 13]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let data = cx.shape(0)?;
        let axis = rules::axis(cx.op().int("axis", 0), data.len())?;
        cx.set_tensor(0, dtype, Gather::shape(data, cx.shape(1)?, axis));
        values::follow_moved(cx, self, &[0]);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let axis = rules::axis(cx.op().int("axis", 0), x.rank())?;
        let size = x.dims()[axis];
        let at = indices(cx, 1, size)?;
        let (data, of) = (
            rules::symbolic(x.dims()),
            rules::symbolic(cx.tensor(1)?.dims()),
        );
        let dims = rules::concrete(&Gather::shape(&data, &of, axis))?;
        let (outer, inner) = (
            rules::count(&x.dims()[..axis]),
            rules::count(&x.dims()[axis + 1..]),
        );
        let runs = (0..outer).flat_map(|o| {
            let run = move |&i: &usize| Run::new((o * size + i) * inner, inner);
            at.iter().map(run)
        });
        Ok(vec![data::gather(&[x], dims, runs)?.into()])
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::Embedding
    }
}

/// For each index its element: along the axis where the index says, along the others where the
/// index is.
struct GatherElements;

impl Operator for GatherElements {
    fn name(&self) -> &'static str {
        "GatherElements"
    }

    fn since(&self) -> &'static [i64] {
        &[11, 13]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        cx.set_tensor(0, dtype, cx.shape(1)?.clone());
        values::follow_moved(cx, self, &[0]);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, at) = (cx.tensor(0)?, cx.tensor(1)?);
        let places = element_places(cx, x, at)?;
        let runs = places.into_iter().map(|i| Run::new(i, 1));
        Ok(vec![data::gather(&[x], at.dims(), runs)?.into()])
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}

/// Where in `x` the elements are that the indices (operand 1, attribute `axis`) mean.
pub(crate) fn element_places(
    cx: &EvalContext<'_>,
    x: &Tensor,
    at: &Tensor,
) -> Result<Vec<usize>, EvalError> {
    let axis = rules::axis(cx.op().int("axis", 0), x.rank())?;
    let fits =
        x.rank() == at.rank() && (0..x.rank()).all(|i| i == axis || at.dims()[i] <= x.dims()[i]);
    if !fits {
        return Err(cx.invalid(format!(
            "indices {:?} do not fit data {:?}",
            at.dims(),
            x.dims()
        )));
    }
    let mut strides = data::strides(x.dims());
    let step = strides[axis] as usize;
    // The index stands in for the position along the axis.
    strides[axis] = 0;
    let places = Positions::new(at.dims().into(), &[&strides], [0]);
    let at = indices(cx, 1, x.dims()[axis])?;
    Ok(places.zip(at).map(|([p], i)| p + i * step).collect())
}

/// Slabs of operand 0, chosen by the vectors along the last axis of operand 1; the first
/// `batch_dims` axes are common.
struct GatherND;

impl GatherND {
    /// The shape of the result, and the rank of the slabs' positions.
    fn shape(op: &ir::Op, data: &[Dim], indices: &[Dim]) -> Result<(Shape, usize), Misfit> {
        let batch = usize::try_from(op.int("batch_dims", 0)).unwrap_or(usize::MAX);
        let (depth, lead) = indices
            .split_last()
            .ok_or_else(|| Misfit::new("the indices have rank 0"))?;
        let depth = depth
            .as_const()
            .and_then(|d| usize::try_from(d).ok())
            .ok_or_else(|| Misfit::new("the last dimension of the indices is unknown"))?;
        match batch.checked_add(depth).and_then(|n| data.get(n..)) {
            Some(rest) if batch <= lead.len() => Ok(([lead, rest].concat().into(), depth)),
            _ => Err(Misfit(format!(
                "indices of depth {depth} do not fit rank {}",
                data.len()
            ))),
        }
    }
}

impl Operator for GatherND {
    fn name(&self) -> &'static str {
        "GatherND"
    }

    fn since(&self) -> &'static [i64] {
        &[11, 12, 13]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let (shape, _) = GatherND::shape(cx.op(), cx.shape(0)?, cx.shape(1)?)?;
        cx.set_tensor(0, dtype, shape);
        values::follow_moved(cx, self, &[0]);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, at) = (cx.tensor(0)?, cx.tensor(1)?);
        let (data, of) = (rules::symbolic(x.dims()), rules::symbolic(at.dims()));
        let (shape, depth) = GatherND::shape(cx.op(), &data, &of)?;
        let batch = usize::try_from(cx.op().int("batch_dims", 0)).unwrap_or(0);
        if x.dims()[..batch] != at.dims()[..batch] {
            return Err(cx.invalid("the batch dimensions differ"));
        }
        let places = slab_places(cx, x, at, depth, batch)?;
        let inner = rules::count(&x.dims()[batch + depth..]);
        let runs = places.into_iter().map(|start| Run::new(start, inner));
        Ok(vec![
            data::gather(&[x], rules::concrete(&shape)?, runs)?.into(),
        ])
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}

/// Where the slabs of `x` begin that the vectors of `depth` indices in operand 1 mean.
pub(crate) fn slab_places(
    cx: &EvalContext<'_>,
    x: &Tensor,
    at: &Tensor,
    depth: usize,
    batch: usize,
) -> Result<Vec<usize>, EvalError> {
    let strides = data::strides(x.dims());
    let sizes = &x.dims()[batch..batch + depth];
    let lead = rules::count(&at.dims()[..at.rank() - 1]);
    let batches = rules::count(&x.dims()[..batch]);
    let (in_batch, batch_len) = (
        lead.checked_div(batches).unwrap_or(0).max(1),
        rules::count(&x.dims()[batch..]),
    );
    let index = cx.ints(1)?;
    let mut places = Vec::with_capacity(lead);
    for row in 0..lead {
        let mut place = row / in_batch * batch_len;
        for (i, &size) in sizes.iter().enumerate() {
            let index = index[row * depth + i];
            let at = rules::axis(index, size).map_err(|_| out_of_range(index, size))?;
            place += at * strides[batch + i] as usize;
        }
        places.push(place);
    }
    Ok(places)
}
