//! ConvTranspose: the transpose of the linear map that Conv is.
//!
//! Where `output_shape` or `auto_pad` fixes the size, padding follows: the odd element goes to the
//! end for SAME_UPPER, to the beginning otherwise.

use onnxq_ir::Op;
use onnxq_tensor::{Dim, Shape};

use super::{
    conv::groups,
    product::{Problem, add_bias},
    window::{AutoPad, Placement, Window},
};
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, Value,
    ops::numeric::{Real, expect_dims, ints_attr, product, real_tensor, with_real},
};

pub(super) struct ConvTranspose;

impl Operator for ConvTranspose {
    fn name(&self) -> &'static str {
        "ConvTranspose"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 11, 22]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let (x, w) = (cx.shape(0)?, cx.shape(1)?);
        let rank = x.len();
        if rank < 2 || w.len() != rank {
            return Err(Unknown::new(
                "operands of different rank, or of rank under 2",
            ));
        }
        let kernel: Option<Vec<i64>> = w[2..].iter().map(Dim::as_const).collect();
        let geometry = Geometry::of(cx.op(), rank - 2, kernel.as_deref()).map_err(Unknown)?;
        let group = Dim::known(cx.op().int("group", 1));
        let mut shape = Shape::from_iter([x[0].clone(), &w[1] * &group]);
        shape.extend((0..rank - 2).map(|i| geometry.size(i, &x[2 + i])));
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, w) = (cx.tensor(0)?, cx.tensor(1)?);
        let problem = problem(cx, x.dims(), w.dims())?;
        let channels = problem.groups * problem.outputs;
        let mut dims = vec![problem.batch, channels];
        dims.extend(&problem.window.big[..x.rank() - 2]);
        with_real!(cx, x.dtype(), T => {
            let mut y = problem.transposed(&T::read(x)?, &T::read(w)?)?;
            if cx.optional(2)?.is_some() {
                let bias = T::read(expect_dims(cx, 2, &[channels])?)?;
                add_bias(&mut y, &bias, product(&dims[2..]));
            }
            Ok(vec![real_tensor(x.dtype(), &dims, y)?])
        })
    }

    fn quant(&self, _op: &Op) -> QuantRole {
        QuantRole::Affine {
            activation: 0,
            weight: 1,
            bias: Some(2),
            channel_axis: 1,
        }
    }
}

fn problem(cx: &EvalContext<'_>, x: &[usize], w: &[usize]) -> Result<Problem, EvalError> {
    let groups = groups(cx)?;
    if x.len() < 2 || x.len() != w.len() || x[1] != w[0] || !w[0].is_multiple_of(groups) {
        return Err(cx.invalid(format!("{x:?} with {w:?} in {groups} groups")));
    }
    let outputs = w[1];
    if outputs.checked_mul(groups).is_none() {
        return Err(EvalError::TooLarge(w.to_vec()));
    }
    let kernel: Vec<i64> = w[2..].iter().map(|&k| k as i64).collect();
    let geometry = Geometry::of(cx.op(), kernel.len(), Some(&kernel));
    let geometry = geometry.map_err(|e| cx.invalid(e))?;
    Ok(Problem {
        batch: x[0],
        groups,
        inputs: w[0] / groups,
        outputs,
        window: geometry.place(&x[2..]).map_err(|e| cx.invalid(e))?,
    })
}

struct Geometry {
    window: Window,
    output_padding: Vec<i64>,
    output_shape: Option<Vec<i64>>,
}

impl Geometry {
    fn of(op: &Op, rank: usize, weight: Option<&[i64]>) -> Result<Geometry, String> {
        const LIMIT: i64 = 1 << 31;
        // Some files give the batch and the channels as well.
        let output_shape = op.ints("output_shape").filter(|s| !s.is_empty());
        let output_shape = match output_shape {
            Some(s) if s.len() == rank || s.len() == rank + 2 => {
                let s = &s[s.len() - rank..];
                if s.iter().any(|n| !(0..=LIMIT).contains(n)) {
                    return Err(format!("attribute 'output_shape' is {s:?}"));
                }
                Some(s.to_vec())
            }
            Some(s) => return Err(format!("attribute 'output_shape' is {s:?}")),
            None => None,
        };
        Ok(Geometry {
            window: Window::of(op, rank, weight)?,
            output_padding: ints_attr(op, "output_padding", rank, 0, 0..=LIMIT)?,
            output_shape,
        })
    }

    /// The size of the result without padding.
    fn full(&self, axis: usize, x: &Dim) -> Dim {
        (x - 1) * self.window.strides[axis] + (self.output_padding[axis] + self.window.extent(axis))
    }

    fn size(&self, axis: usize, x: &Dim) -> Dim {
        let w = &self.window;
        match (&self.output_shape, w.auto_pad) {
            (Some(shape), _) => Dim::known(shape[axis]),
            (None, AutoPad::SameUpper | AutoPad::SameLower) => x * w.strides[axis],
            (None, AutoPad::NotSet | AutoPad::Valid) => {
                self.full(axis, x) - (w.pads[axis] + w.pads[w.rank() + axis])
            }
        }
    }

    fn place(&self, x: &[usize]) -> Result<Placement, String> {
        let w = &self.window;
        let (mut big, mut begin, mut end) = (Vec::new(), Vec::new(), Vec::new());
        for (axis, &n) in x.iter().enumerate() {
            let n = i64::try_from(n).ok().filter(|&n| n <= 1 << 31);
            let n = Dim::known(n.ok_or("a spatial axis that is too large")?);
            let whole = |d: Dim| d.as_const().ok_or("a spatial axis that is too large");
            let size = whole(self.size(axis, &n))?.max(0);
            let fixed = self.output_shape.is_some()
                || matches!(w.auto_pad, AutoPad::SameUpper | AutoPad::SameLower);
            let (b, e) = if fixed {
                let total = (whole(self.full(axis, &n))? - size).max(0);
                let less = total / 2;
                match w.auto_pad {
                    AutoPad::SameUpper => (less, total - less),
                    _ => (total - less, less),
                }
            } else {
                (w.pads[axis], w.pads[w.rank() + axis])
            };
            big.push(usize::try_from(size).map_err(|e| e.to_string())?);
            begin.push(b);
            end.push(e);
        }
        Ok(w.placement(big, x.to_vec(), begin, end))
    }
}
