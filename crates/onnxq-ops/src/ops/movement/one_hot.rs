//! `OneHot`.

use onnxq_tensor::{DType, Dim, Shape};

use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        data::{self, Run},
        rules::{self, Misfit},
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&OneHot];

/// For each index a vector of `depth` elements along a new axis: the on-value (element 1 of
/// operand 2) at the index, the off-value (element 0) everywhere else. An index out of range has
/// no on-value.
struct OneHot;

impl OneHot {
    fn shape(indices: &[Dim], axis: i64, depth: Dim) -> Result<(Shape, usize), Misfit> {
        let axis = rules::axis(axis, indices.len() + 1)?;
        let mut shape = Shape::from(indices);
        shape.insert(axis, depth);
        Ok((shape, axis))
    }
}

impl Operator for OneHot {
    fn name(&self) -> &'static str {
        "OneHot"
    }

    fn since(&self) -> &'static [i64] {
        &[9, 11, 28]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(2)?;
        cx.set_dtype(0, dtype);
        let depth = match cx.value(1) {
            Ok(depth) => depth.elems.first().cloned().unwrap_or_default(),
            Err(_) => Dim::UNKNOWN,
        };
        let (mut shape, axis) = OneHot::shape(cx.shape(0)?, cx.op().int("axis", -1), depth)?;
        if shape[axis].is_unknown() {
            shape[axis] = cx.fresh(0, axis);
        }
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (indices, values) = (cx.tensor(0)?, cx.tensor(2)?);
        if values.dims() != [2] {
            return Err(cx.invalid("the values are not two"));
        }
        let depth = cx.tensor(1)?.cast(DType::I64, true)?.scalar_i64()?;
        let (shape, axis) = OneHot::shape(
            &rules::symbolic(indices.dims()),
            cx.op().int("axis", -1),
            Dim::known(depth),
        )?;
        let dims = rules::concrete(&shape)?;
        let inner = rules::count(&indices.dims()[axis..]);
        let at: Vec<Option<usize>> = indices
            .cast(DType::I64, true)?
            .to_i64s()?
            .into_iter()
            .map(|i| rules::axis(i, dims[axis]).ok())
            .collect();
        let outer = rules::count(&indices.dims()[..axis]);
        let at = &at;
        let runs = (0..outer).flat_map(|o| {
            (0..dims[axis]).flat_map(move |d| {
                let on = move |i: usize| at[o * inner + i] == Some(d);
                (0..inner).map(move |i| Run::one(0, usize::from(on(i))))
            })
        });
        Ok(vec![data::gather(&[values], dims.clone(), runs)?.into()])
    }
}
