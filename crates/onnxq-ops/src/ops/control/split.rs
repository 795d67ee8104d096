//! `SplitToSequence` and `ConcatFromSequence`.

use onnxq_ir::Type;
use onnxq_tensor::{Dim, Shape, Tensor};

use super::{
    sequence::{element_type, elements, sequence},
    stack,
};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        data,
        movement::concat::{concat_runs, concat_shape, slab},
        rules,
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&SplitToSequence, &ConcatFromSequence];

/// Into parts along an axis: of the sizes in operand 1, all of the one size there (the last may
/// be smaller), or without it into parts of size 1, whose axis goes unless `keepdims`.
struct SplitToSequence;

impl Operator for SplitToSequence {
    fn name(&self) -> &'static str {
        "SplitToSequence"
    }

    fn since(&self) -> &'static [i64] {
        &[11, 24]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        let of = |shape: Option<Shape>| Type::Sequence(Some(Box::new(Type::tensor(dtype, shape))));
        cx.set_type(0, of(None));
        let mut shape = cx.shape(0)?.clone();
        let axis = rules::axis(cx.op().int("axis", 0), shape.len())?;
        if cx.has(1) {
            let sizes = cx.value(1).map(|v| v.elems.clone()).unwrap_or_default();
            let same = sizes.windows(2).all(|pair| pair[0] == pair[1]);
            let size = sizes.into_iter().next().filter(|_| same);
            // One size for all leaves a smaller last part.
            let exact = cx.shape(1).is_ok_and(|s| s.len() == 1);
            shape[axis] = size.filter(|_| exact).unwrap_or_default();
        } else if cx.op().int("keepdims", 1) == 0 {
            shape.remove(axis);
        } else {
            shape[axis] = Dim::known(1);
        }
        cx.set_type(0, of(Some(shape)));
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let axis = rules::axis(cx.op().int("axis", 0), x.rank())?;
        let whole = x.dims()[axis];
        let sizes = match cx.optional(1)? {
            None => vec![1; whole],
            Some(split) => {
                let sizes: Option<Vec<usize>> = split
                    .to_i64s()?
                    .into_iter()
                    .map(|n| usize::try_from(n).ok())
                    .collect();
                let sizes = sizes.ok_or_else(|| cx.invalid("a size is negative"))?;
                match (split.rank(), &sizes[..]) {
                    (0, &[0]) => return Err(cx.invalid("the size of the parts is 0")),
                    (0, &[size]) => {
                        let starts = (0..whole).step_by(size);
                        starts.map(|start| size.min(whole - start)).collect()
                    }
                    _ => sizes,
                }
            }
        };
        let sum = sizes.iter().try_fold(0usize, |n, &s| n.checked_add(s));
        if sum != Some(whole) {
            return Err(cx.invalid(format!("the parts {sizes:?} are not {whole} together")));
        }
        let drop_axis = cx.value(1).is_none() && cx.op().int("keepdims", 1) == 0;
        let mut parts: Vec<Value> = Vec::with_capacity(sizes.len());
        let mut start = 0;
        for size in sizes {
            let mut part = slab(x, axis, start, size)?;
            if drop_axis {
                let mut dims = part.dims().to_vec();
                dims.remove(axis);
                part = part.reshape(dims)?;
            }
            parts.push(part.into());
            start += size;
        }
        Ok(vec![sequence(parts)])
    }
}

/// The elements one after another along an axis, a new one with `new_axis`.
struct ConcatFromSequence;

impl Operator for ConcatFromSequence {
    fn name(&self) -> &'static str {
        "ConcatFromSequence"
    }

    fn since(&self) -> &'static [i64] {
        &[11]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let element = element_type(cx, 0)?;
        let dtype = element
            .dtype()
            .ok_or_else(|| Unknown::new("the element type is unknown"))?;
        cx.set_dtype(0, dtype);
        let shape = element
            .shape()
            .ok_or_else(|| Unknown::new("the rank of the elements is unknown"))?;
        let mut shape = shape.clone();
        let axis = cx.op().int("axis", 0);
        if cx.op().int("new_axis", 0) != 0 {
            let axis = rules::axis(axis, shape.len() + 1)?;
            shape.insert(axis, cx.fresh(0, axis));
        } else {
            let axis = rules::axis(axis, shape.len())?;
            shape[axis] = cx.fresh(0, axis);
        }
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let tensor = |v: &Value| stack::tensor(cx, v.clone());
        let tensors: Result<Vec<Tensor>, _> = elements(cx, 0)?.iter().map(tensor).collect();
        let tensors = tensors?;
        if tensors.is_empty() {
            return Err(cx.invalid("the sequence is empty"));
        }
        let axis = cx.op().int("axis", 0);
        if cx.op().int("new_axis", 0) != 0 {
            return Ok(vec![stack::stack(cx, &tensors, axis, None)?.into()]);
        }
        let axis = rules::axis(axis, tensors[0].rank())?;
        let shapes: Vec<Shape> = tensors.iter().map(|t| rules::symbolic(t.dims())).collect();
        let shape = concat_shape(&shapes.iter().collect::<Vec<_>>(), axis)?;
        let dims: Vec<&[usize]> = tensors.iter().map(Tensor::dims).collect();
        let sources: Vec<&Tensor> = tensors.iter().collect();
        let out = data::gather(&sources, rules::concrete(&shape)?, concat_runs(&dims, axis))?;
        Ok(vec![out.into()])
    }
}
