//! `Pad`, and `CenterCropPad`, which pads or cuts evenly on both sides.

use onnxq_ir as ir;
use onnxq_tensor::{DType, Dim, Dims, Shape, Tensor};

use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        data::{self, Positions, Run},
        rules::{self, Misfit},
        values,
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&CenterCropPad, &Pad];

/// Elements before and after along each axis: constant, or taken from the tensor at its border
/// (`edge`), mirrored at it (`reflect`) or from the other side (`wrap`). Negative pads cut. Pads
/// and value were attributes before opset 11 (`paddings` in opset 1).
struct Pad;

/// How many elements come before and after, along each axis.
struct Pads(Vec<(Dim, Dim)>);

impl Pads {
    /// `pads` are those before, then those after, of all axes or of `axes`.
    fn new(pads: &[Dim], axes: Option<&[i64]>, rank: usize) -> Result<Pads, Misfit> {
        let axes = match axes {
            Some(axes) => rules::axes(axes, rank)?,
            None => (0..rank).collect(),
        };
        let n = axes.len();
        if pads.len() != 2 * n {
            return Err(Misfit(format!("{} pads for {n} axes", pads.len())));
        }
        let mut out = vec![(Dim::known(0), Dim::known(0)); rank];
        for (i, &axis) in axes.iter().enumerate() {
            out[axis] = (pads[i].clone(), pads[n + i].clone());
        }
        Ok(Pads(out))
    }

    fn of_attrs(op: &ir::Op, rank: usize) -> Result<Pads, Misfit> {
        let pads = op.ints("pads").or_else(|| op.ints("paddings"));
        let pads = pads.ok_or_else(|| Misfit::new("attribute 'pads' is missing"))?;
        let pads: Vec<Dim> = pads.iter().map(|&p| Dim::known(p)).collect();
        Pads::new(&pads, None, rank)
    }

    fn shape(&self, from: &[Dim]) -> Shape {
        let padded = from.iter().zip(&self.0);
        padded
            .map(|(d, (before, after))| d + before + after)
            .collect()
    }
}

/// For each position along an axis of the result the index in the operand, or none where the
/// value is constant.
fn sources(mode: &str, size: usize, before: i64, len: usize) -> Result<Vec<Option<usize>>, Misfit> {
    let size = size as i64;
    let inside = |i: i64| (0..size).contains(&i);
    let source = |i: usize| {
        let i = i as i64 - before;
        match mode {
            "constant" => Ok(inside(i).then_some(i)),
            _ if size == 0 => Err(Misfit::new("there is nothing to repeat")),
            "edge" => Ok(Some(i.clamp(0, size - 1))),
            "wrap" => Ok(Some(i.rem_euclid(size))),
            "reflect" if size == 1 => Ok(Some(0)),
            "reflect" => {
                let period = 2 * (size - 1);
                let i = i.rem_euclid(period);
                Ok(Some(i.min(period - i)))
            }
            other => Err(Misfit(format!("mode '{other}' is unknown"))),
        }
    };
    (0..len)
        .map(|i| Ok(source(i)?.map(|i| i as usize)))
        .collect()
}

impl Operator for Pad {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 2, 11, 13, 18, 19, 21, 23, 24, 25]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let from = cx.shape(0)?;
        let unknown: Shape = from.iter().map(|_| Dim::UNKNOWN).collect();
        let pads = if cx.opset() < 11 {
            Pads::of_attrs(cx.op(), from.len())?
        } else {
            cx.set_tensor(0, dtype, unknown);
            let axes = cx.has(3).then(|| cx.ints(3)).transpose()?;
            Pads::new(&cx.value(1)?.elems, axes.as_deref(), from.len())?
        };
        let mut shape = pads.shape(from);
        for (i, d) in shape.iter_mut().enumerate() {
            if d.is_unknown() {
                *d = cx.fresh(0, i);
            }
        }
        cx.set_tensor(0, dtype, shape);
        values::follow_moved(cx, self, &[0, 2]);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let pads = if cx.opset() < 11 {
            Pads::of_attrs(cx.op(), x.rank())?
        } else {
            let pads: Vec<Dim> = cx.ints(1)?.into_iter().map(Dim::known).collect();
            let axes = cx.optional(3)?.map(|_| cx.ints(3)).transpose()?;
            Pads::new(&pads, axes.as_deref(), x.rank())?
        };
        let fill = match cx.opset() {
            ..11 => Tensor::scalar(cx.op().float("value", 0.0)).cast(x.dtype(), true)?,
            _ => match cx.optional(2)? {
                Some(fill) => fill.clone(),
                None => Tensor::zeros(x.dtype(), Dims::new())?,
            },
        };
        if x.rank() == 0 {
            return Ok(vec![x.clone().into()]);
        }
        let dims = rules::concrete(&pads.shape(&rules::symbolic(x.dims())))?;
        if dims.contains(&0) {
            return Ok(vec![Tensor::zeros(x.dtype(), dims)?.into()]);
        }
        let mode = cx.op().str("mode").unwrap_or("constant");
        Ok(vec![pad(x, &pads, &dims, mode, &fill)?.into()])
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(2)
            && let Some(pads) = cx.op_mut().attrs.shift_remove("paddings")
        {
            cx.op_mut().attrs.insert("pads".to_owned(), pads);
        }
        if cx.crosses(11) {
            cx.ints_to_operand("pads", 1);
            if let Some(ir::Attr::Float(value)) = cx.op_mut().attrs.shift_remove("value")
                && value != 0.0
            {
                let dtype = cx.operand(0).and_then(|x| cx.graph.ty(x)?.dtype());
                let value = Tensor::scalar(value)
                    .cast(dtype.unwrap_or(DType::F32), true)
                    .map_err(|e| UpgradeError::new(e.to_string()))?;
                cx.set_constant(2, "value", value);
            }
        }
        Ok(())
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}

/// `x` padded to `dims`, none of which is zero.
fn pad(
    x: &Tensor,
    pads: &Pads,
    dims: &Dims,
    mode: &str,
    fill: &Tensor,
) -> Result<Tensor, EvalError> {
    let mut along: Vec<Vec<Option<usize>>> = Vec::with_capacity(x.rank());
    for (i, (before, _)) in pads.0.iter().enumerate() {
        let before = before.as_const().unwrap_or(0);
        along.push(sources(mode, x.dims()[i], before, dims[i])?);
    }
    data::gather(&[x, fill], dims.clone(), runs(x, dims, &along))
}

/// Brings `axes` (all by default) to the sizes that operand 1 gives, by zeros on both sides or by
/// cutting both off; of an odd number, the smaller half comes first.
struct CenterCropPad;

impl CenterCropPad {
    fn axes(op: &ir::Op, rank: usize, sizes: usize) -> Result<Vec<usize>, Misfit> {
        let axes = match op.ints("axes") {
            Some(axes) => rules::axes(axes, rank)?,
            None => (0..rank).collect(),
        };
        match axes.len() == sizes {
            true => Ok(axes),
            false => Err(Misfit(format!("{sizes} sizes for {} axes", axes.len()))),
        }
    }
}

impl Operator for CenterCropPad {
    fn name(&self) -> &'static str {
        "CenterCropPad"
    }

    fn since(&self) -> &'static [i64] {
        &[18]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let mut shape = match (cx.shape(0), cx.op().ints("axes")) {
            (Ok(shape), _) => shape.clone(),
            // Without axes there is a size for each.
            (Err(_), None) => Shape::from_elem(Dim::UNKNOWN, values::vector_len(cx, 1)?),
            (Err(e), Some(_)) => return Err(e),
        };
        let sizes = match cx.value(1) {
            Ok(sizes) => sizes.elems.clone(),
            Err(_) => vec![Dim::UNKNOWN; values::vector_len(cx, 1).unwrap_or(shape.len())],
        };
        let axes = CenterCropPad::axes(cx.op(), shape.len(), sizes.len());
        for (axis, size) in axes?.into_iter().zip(sizes) {
            shape[axis] = match size.is_unknown() {
                true => cx.fresh(0, axis),
                false => size,
            };
        }
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let sizes = cx.ints(1)?;
        let mut pads = vec![(Dim::known(0), Dim::known(0)); x.rank()];
        for (axis, size) in
            (CenterCropPad::axes(cx.op(), x.rank(), sizes.len())?.into_iter()).zip(sizes)
        {
            let missing = size.saturating_sub(x.dims()[axis] as i64);
            // Rounded towards zero, cut or added.
            let before = missing / 2;
            pads[axis] = (Dim::known(before), Dim::known(missing - before));
        }
        let pads = Pads(pads);
        let dims = rules::concrete(&pads.shape(&rules::symbolic(x.dims())))?;
        if dims.contains(&0) || x.rank() == 0 {
            return Ok(vec![Tensor::zeros(x.dtype(), dims)?.into()]);
        }
        let fill = Tensor::zeros(x.dtype(), Dims::new())?;
        Ok(vec![pad(x, &pads, &dims, "constant", &fill)?.into()])
    }
}

/// The runs of the padded tensor: the operand is source 0, the constant is source 1.
fn runs<'a>(
    x: &'a Tensor,
    dims: &'a [usize],
    along: &'a [Vec<Option<usize>>],
) -> impl Iterator<Item = Run> + 'a {
    let strides = data::strides(x.dims());
    let outer = dims.len().saturating_sub(1);
    // The numbers of the rows, in the digits of their positions.
    let digits = data::strides(&dims[..outer]);
    let rows = Positions::new(dims[..outer].into(), &[&digits], [0]);
    rows.flat_map(move |[row]| {
        let start = (0..outer).try_fold(0, |at, axis| {
            let i = row / digits[axis] as usize % dims[axis];
            Some(at + along[axis][i]? * strides[axis] as usize)
        });
        row_runs(start, along.last().map_or(&[], Vec::as_slice))
    })
}

/// The runs of one row that begins at `start`; consecutive elements are joined.
fn row_runs(start: Option<usize>, last: &[Option<usize>]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for source in last {
        match (start, source, runs.last_mut()) {
            (Some(start), Some(i), Some(run))
                if run.source == 0 && run.start + run.len == start + i =>
            {
                run.len += 1;
            }
            (Some(start), Some(i), _) => runs.push(Run::one(0, start + i)),
            _ => runs.push(Run::one(1, 0)),
        }
    }
    runs
}
