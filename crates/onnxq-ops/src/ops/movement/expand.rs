//! `Expand` and `Tile`.

use onnxq_ir as ir;
use onnxq_tensor::{Dim, Shape, Tensor};
use smallvec::SmallVec;

use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        data::{self, Strided},
        rules::{self, Misfit},
        values,
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&Expand, &Tile];

/// Broadcast against a shape.
struct Expand;

impl Operator for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn since(&self) -> &'static [i64] {
        &[8, 13]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let shape = cx.shape(0)?;
        let to = match cx.value(1) {
            Ok(to) => to.elems.clone(),
            // Its length is the rank, if it is not shorter than the operand's.
            Err(_) => vec![Dim::UNKNOWN; values::vector_len(cx, 1)?],
        };
        let mut shape = rules::broadcast(shape, &to)?;
        for (i, d) in shape.iter_mut().enumerate() {
            if d.is_unknown() {
                *d = cx.fresh(0, i);
            }
        }
        cx.set_tensor(0, dtype, shape);
        values::follow_moved(cx, self, &[0]);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let to: Vec<Dim> = cx.ints(1)?.into_iter().map(Dim::known).collect();
        let dims = rules::concrete(&rules::broadcast(&rules::symbolic(x.dims()), &to)?)?;
        let view = Strided {
            strides: data::broadcast_strides(x.dims(), dims.len()),
            dims: dims.clone(),
            offset: 0,
        };
        Ok(vec![data::gather(&[x], dims, view.runs())?.into()])
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}

/// Repeated along each axis.
struct Tile;

impl Tile {
    fn shape(from: &[Dim], repeats: &[Dim]) -> Result<Shape, Misfit> {
        if from.len() != repeats.len() {
            return Err(Misfit(format!(
                "{} repeats for rank {}",
                repeats.len(),
                from.len()
            )));
        }
        Ok(from.iter().zip(repeats).map(|(d, r)| d * r).collect())
    }
}

impl Operator for Tile {
    fn name(&self) -> &'static str {
        "Tile"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 6, 13]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let from = cx.shape(0)?;
        let repeats = match cx.value(1) {
            _ if cx.opset() < 6 => vec![Dim::UNKNOWN; from.len()],
            Ok(repeats) => repeats.elems.clone(),
            Err(_) => vec![Dim::UNKNOWN; from.len()],
        };
        let mut shape = Tile::shape(from, &repeats)?;
        for (i, d) in shape.iter_mut().enumerate() {
            if d.is_unknown() {
                *d = cx.fresh(0, i);
            }
        }
        cx.set_tensor(0, dtype, shape);
        values::follow_moved(cx, self, &[0]);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        if cx.opset() < 6 {
            return Err(cx.unsupported("opset 1"));
        }
        let x = cx.tensor(0)?;
        let repeats: Vec<Dim> = cx.ints(1)?.into_iter().map(Dim::known).collect();
        let shape = Tile::shape(&rules::symbolic(x.dims()), &repeats)?;
        let dims = rules::concrete(&shape)?;
        let repeats = rules::concrete(&repeats)?;
        // As a view with an axis of stride 0 before every axis.
        let strides = data::strides(x.dims());
        let view = Strided {
            dims: repeats
                .iter()
                .zip(x.dims())
                .flat_map(|(&r, &d)| [r, d])
                .collect(),
            strides: strides
                .iter()
                .flat_map(|&s| [0, s])
                .collect::<SmallVec<_>>(),
            offset: 0,
        };
        Ok(vec![data::gather(&[x], dims, view.runs())?.into()])
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if !cx.crosses(6) {
            return Ok(());
        }
        let constant = |cx: &UpgradeContext<'_>, i: usize| {
            let v = cx.operand(i)?;
            cx.graph
                .tensor(v)?
                .cast(onnxq_tensor::DType::I64, true)
                .ok()?
                .scalar_i64()
                .ok()
        };
        let (Some(tiles), Some(axis), Some(rank)) = (constant(cx, 1), constant(cx, 2), cx.rank(0))
        else {
            return Err(UpgradeError::new("tiles or axis is not constant"));
        };
        let mut repeats = vec![1i64; rank];
        repeats[rules::axis(axis, rank)?] = tiles;
        let operands = [cx.operand(0)];
        cx.graph.set_operands(cx.node, &operands);
        cx.set_constant(1, "repeats", Tensor::vector(repeats));
        Ok(())
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}
