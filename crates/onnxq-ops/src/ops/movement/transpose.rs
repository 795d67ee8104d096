//! `Transpose`, `DepthToSpace`, `SpaceToDepth`.

use onnxq_ir as ir;
use onnxq_tensor::{Dim, Dims, Shape, Tensor};

use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, Value,
    ops::{
        data::{self, Strided},
        rules::{self, Misfit},
        values,
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&Transpose, &DepthToSpace, &SpaceToDepth];

/// The tensor with its axes in the order `perm`, which is a permutation of them.
fn transposed(t: &Tensor, perm: &[usize]) -> Result<Tensor, EvalError> {
    let strides = data::strides(t.dims());
    let dims: Dims = perm.iter().map(|&i| t.dims()[i]).collect();
    let view = Strided {
        dims: dims.clone(),
        strides: perm.iter().map(|&i| strides[i]).collect(),
        offset: 0,
    };
    data::gather(&[t], dims, view.runs())
}

/// Axes in the order `perm`; reversed without it.
struct Transpose;

impl Transpose {
    fn perm(op: &ir::Op, rank: usize) -> Result<Vec<usize>, Misfit> {
        let Some(perm) = op.ints("perm") else {
            return Ok((0..rank).rev().collect());
        };
        if perm.len() != rank {
            return Err(Misfit(format!("perm {perm:?} does not fit rank {rank}")));
        }
        rules::axes(perm, rank)
    }
}

impl Operator for Transpose {
    fn name(&self) -> &'static str {
        "Transpose"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 13, 21, 23, 24, 25]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let shape = match (cx.shape(0), cx.op().ints("perm")) {
            (Ok(shape), _) => {
                let perm = Transpose::perm(cx.op(), shape.len())?;
                perm.iter().map(|&i| shape[i].clone()).collect()
            }
            // The permutation tells the rank.
            (Err(_), Some(perm)) => perm.iter().map(|_| Dim::UNKNOWN).collect(),
            (Err(unknown), None) => return Err(unknown),
        };
        cx.set_tensor(0, dtype, shape);
        values::follow_moved(cx, self, &[0]);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let perm = Transpose::perm(cx.op(), x.rank())?;
        Ok(vec![transposed(x, &perm)?.into()])
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}

/// The block size and the four dimensions.
fn blocks(op: &ir::Op, shape: &[Dim]) -> Result<(i64, [Dim; 4]), Misfit> {
    let block = op.int("blocksize", 0);
    if block <= 0 {
        return Err(Misfit(format!("a block size of {block}")));
    }
    match shape {
        [n, c, h, w] => Ok((block, [n, c, h, w].map(Dim::clone))),
        _ => Err(Misfit(format!("rank {} instead of 4", shape.len()))),
    }
}

/// `dim / by`, which must be exact.
fn exactly(dim: &Dim, by: &Dim) -> Result<Dim, Misfit> {
    match (dim.as_const(), by.as_const()) {
        (Some(d), Some(b)) if d % b != 0 => {
            Err(Misfit(format!("{d} is not divisible by the block size")))
        }
        _ => Ok(dim.floor_div(by)),
    }
}

/// Evaluates as a transposition: `split` are the dimensions the operand is first split into.
fn through(
    cx: &EvalContext<'_>,
    split: &[Dim],
    perm: &[usize],
    shape: &[Dim],
) -> Result<Vec<Value>, EvalError> {
    let split = cx.tensor(0)?.reshape(rules::concrete(split)?)?;
    let out = transposed(&split, perm)?;
    Ok(vec![out.reshape(rules::concrete(shape)?)?.into()])
}

/// Blocks of depth become blocks of space.
struct DepthToSpace;

impl DepthToSpace {
    fn shape(op: &ir::Op, from: &[Dim]) -> Result<Shape, Misfit> {
        let (block, [n, c, h, w]) = blocks(op, from)?;
        let c = exactly(&c, &Dim::known(block.saturating_mul(block)))?;
        Ok([n, c, h * block, w * block].into_iter().collect())
    }
}

impl Operator for DepthToSpace {
    fn name(&self) -> &'static str {
        "DepthToSpace"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 11, 13, 28]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, cx.dtype(0)?);
        let shape = DepthToSpace::shape(cx.op(), cx.shape(0)?)?;
        cx.set_tensor(0, cx.dtype(0)?, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let from = rules::symbolic(cx.tensor(0)?.dims());
        let shape = DepthToSpace::shape(cx.op(), &from)?;
        let (block, [n, _, h, w]) = blocks(cx.op(), &from)?;
        let (b, c) = (Dim::known(block), shape[1].clone());
        if cx.op().str("mode") == Some("CRD") {
            let split = [n, c, b.clone(), b, h, w];
            through(cx, &split, &[0, 1, 4, 2, 5, 3], &shape)
        } else {
            let split = [n, b.clone(), b, c, h, w];
            through(cx, &split, &[0, 3, 4, 1, 5, 2], &shape)
        }
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}

/// Blocks of space become blocks of depth. The attribute `mode` came with opset 28.
struct SpaceToDepth;

impl SpaceToDepth {
    fn shape(op: &ir::Op, from: &[Dim]) -> Result<Shape, Misfit> {
        let (block, [n, c, h, w]) = blocks(op, from)?;
        let b = Dim::known(block);
        let (h, w) = (exactly(&h, &b)?, exactly(&w, &b)?);
        Ok([n, c * (&b * &b), h, w].into_iter().collect())
    }
}

impl Operator for SpaceToDepth {
    fn name(&self) -> &'static str {
        "SpaceToDepth"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 13, 28]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, cx.dtype(0)?);
        let shape = SpaceToDepth::shape(cx.op(), cx.shape(0)?)?;
        cx.set_tensor(0, cx.dtype(0)?, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let from = rules::symbolic(cx.tensor(0)?.dims());
        let shape = SpaceToDepth::shape(cx.op(), &from)?;
        let (block, [n, c, ..]) = blocks(cx.op(), &from)?;
        let b = Dim::known(block);
        let split = [n, c, shape[2].clone(), b.clone(), shape[3].clone(), b];
        if cx.op().str("mode") == Some("CRD") {
            through(cx, &split, &[0, 1, 3, 5, 2, 4], &shape)
        } else {
            through(cx, &split, &[0, 3, 5, 1, 2, 4], &shape)
        }
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}
