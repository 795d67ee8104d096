//! `NonZero`, `Compress`, `Trilu`: elements chosen by a condition or by their place.

use onnxq_ir as ir;
use onnxq_tensor::{DType, Dim, Dims, Tensor};

use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, Value,
    ops::{
        data::{self, Run},
        rules, values,
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&NonZero, &Compress, &Trilu];

/// The positions of the elements that are not zero, as the columns of a matrix.
struct NonZero;

impl Operator for NonZero {
    fn name(&self) -> &'static str {
        "NonZero"
    }

    fn since(&self) -> &'static [i64] {
        &[9, 13]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let rank = cx
            .shape(0)
            .map_or(Dim::UNKNOWN, |s| (s.len() as i64).into());
        let shape = [rank, cx.fresh(0, 1)].into_iter().collect();
        cx.set_tensor(0, DType::I64, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let truth = x.cast(DType::Bool, true)?.as_bools()?;
        let found: Vec<usize> = (0..truth.len()).filter(|&i| truth[i]).collect();
        let mut out = Vec::with_capacity(x.rank() * found.len());
        for (&stride, &d) in data::strides(x.dims()).iter().zip(x.dims()) {
            out.extend(found.iter().map(|i| (i / stride as usize % d) as i64));
        }
        Ok(vec![
            Tensor::from_vec(vec![x.rank(), found.len()], out)?.into(),
        ])
    }
}

/// The slabs along an axis, or without one the elements, where the condition holds.
struct Compress;

impl Operator for Compress {
    fn name(&self) -> &'static str {
        "Compress"
    }

    fn since(&self) -> &'static [i64] {
        &[9, 11, 28]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let count = cx.constant(1).and_then(|t| t.as_bools().ok());
        let count = count.map(|c| c.iter().filter(|&&c| c).count() as i64);
        let Some(axis) = cx.op().attr("axis").and_then(ir::Attr::as_int) else {
            let dim = count.map_or_else(|| cx.fresh(0, 0), Dim::known);
            cx.set_tensor(0, dtype, [dim].into_iter().collect());
            return Ok(());
        };
        let mut shape = cx.shape(0)?.clone();
        let axis = rules::axis(axis, shape.len())?;
        shape[axis] = count.map_or_else(|| cx.fresh(0, axis), Dim::known);
        cx.set_tensor(0, dtype, shape);
        values::follow_moved(cx, self, &[0]);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, condition) = (cx.tensor(0)?, cx.tensor(1)?.as_bools()?);
        let (outer, size, inner, axis) = match cx.op().attr("axis").and_then(ir::Attr::as_int) {
            Some(axis) => {
                let axis = rules::axis(axis, x.rank())?;
                let (before, after) = (&x.dims()[..axis], &x.dims()[axis + 1..]);
                let (outer, inner) = (rules::count(before), rules::count(after));
                (outer, x.dims()[axis], inner, Some(axis))
            }
            None => (1, x.len(), 1, None),
        };
        if condition.len() > size {
            return Err(cx.invalid(format!("{} conditions for {size}", condition.len())));
        }
        let chosen: Vec<usize> = (0..condition.len()).filter(|&i| condition[i]).collect();
        let mut dims = Dims::from(x.dims());
        match axis {
            Some(axis) => dims[axis] = chosen.len(),
            None => dims = Dims::from_slice(&[chosen.len()]),
        }
        let runs = (0..outer).flat_map(|o| {
            let run = move |&i: &usize| Run::new((o * size + i) * inner, inner);
            chosen.iter().map(run)
        });
        Ok(vec![data::gather(&[x], dims, runs)?.into()])
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}

/// The upper or lower triangle of matrices, from diagonal `k` (operand 1) on; zero elsewhere.
struct Trilu;

impl Operator for Trilu {
    fn name(&self) -> &'static str {
        "Trilu"
    }

    fn since(&self) -> &'static [i64] {
        &[14]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_type(0, cx.ty(0)?.clone());
        values::follow_moved(cx, self, &[0]);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let &[.., rows, columns] = x.dims() else {
            return Err(cx.invalid(format!("rank {} instead of 2 or more", x.rank())));
        };
        let k = cx.optional(1)?.map_or(Ok(0), Tensor::scalar_i64)?;
        let upper = cx.op().int("upper", 1) != 0;
        let zero = Tensor::zeros(x.dtype(), Dims::new())?;
        let runs = (0..x.len()).map(|i| {
            let (row, column) = (i / columns % rows, i % columns);
            let diagonal = column as i64 - row as i64;
            let kept = if upper { diagonal >= k } else { diagonal <= k };
            if kept { Run::one(0, i) } else { Run::one(1, 0) }
        });
        Ok(vec![data::gather(&[x, &zero], x.dims(), runs)?.into()])
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}
