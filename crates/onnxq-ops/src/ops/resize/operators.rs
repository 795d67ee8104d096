//! Resize and Upsample.
//!
//! | opset | change |
//! |---|---|
//! | Upsample 7, 9 | scales as an attribute, then as an operand |
//! | 10 | Resize takes the place of Upsample: the same, and smaller too |
//! | 11 | `roi` and `sizes`, modes of coordinates and of rounding; the default mode is another |
//! | 13 | `roi` and `scales` may be left out; `tf_half_pixel_for_nn` went |
//! | 18, 19 | `axes`, `antialias`, `keep_aspect_ratio_policy`; `half_pixel_symmetric` |
//!
//! Until 10 coordinates are `asymmetric`, and `nearest` rounds as
//! [`Nearest::Simple`] says.

use onnxq_ir::{Attr, Graph, Op};
use onnxq_tensor::{DType, Dim, Shape, Tensor};

use super::interpolate::{Axis, Coordinates, Filter, Nearest, Taps};
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        numeric::{Real, int_tensor, real_tensor},
        rules,
    },
};

pub(super) struct Resize;
pub(super) struct Upsample;

impl Operator for Resize {
    fn name(&self) -> &'static str {
        "Resize"
    }

    fn since(&self) -> &'static [i64] {
        &[10, 11, 13, 18, 19]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        infer_resize(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        eval_resize(cx)
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        super::upgrade::resize(cx)
    }

    fn quant(&self, _op: &Op) -> QuantRole {
        QuantRole::SameScale
    }
}

impl Operator for Upsample {
    fn name(&self) -> &'static str {
        "Upsample"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 7, 9, 10]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        infer_resize(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        eval_resize(cx)
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        super::upgrade::upsample(cx)
    }

    fn quant(&self, _op: &Op) -> QuantRole {
        QuantRole::SameScale
    }
}

/// Whether coordinates and rounding are those from before opset 11.
fn is_old(op: &Op, opset: i64) -> bool {
    opset < 11 || op.op_type == "Upsample"
}

/// The operand that is the scales, where the opset has one.
fn scales_operand(op: &Op, opset: i64) -> usize {
    if is_old(op, opset) { 1 } else { 2 }
}

/// The scales that attributes of Upsample give.
pub(super) fn scales_attr(op: &Op) -> Option<Vec<f32>> {
    match op.attr("scales") {
        Some(Attr::Floats(scales)) => Some(scales.clone()),
        _ => {
            let (h, w) = (op.attr("height_scale")?, op.attr("width_scale")?);
            Some(vec![1.0, 1.0, h.as_float()?, w.as_float()?])
        }
    }
}

/// The axes that scales, sizes and regions are about.
fn axes(op: &Op, rank: usize) -> Result<Vec<usize>, String> {
    let Some(axes) = op.ints("axes") else {
        return Ok((0..rank).collect());
    };
    let mut seen = vec![false; rank];
    axes.iter()
        .map(|&axis| {
            rules::axis(axis, rank)
                .ok()
                .filter(|&a| !std::mem::replace(&mut seen[a], true))
                .ok_or_else(|| format!("attribute 'axes' is {axes:?} for rank {rank}"))
        })
        .collect()
}

/// Whether all sizes follow from one scale: `Some(true)` for the largest that fits into the sizes,
/// `Some(false)` for the smallest that covers them.
fn aspect_policy(op: &Op) -> Result<Option<bool>, String> {
    match op.str("keep_aspect_ratio_policy").unwrap_or("stretch") {
        "stretch" => Ok(None),
        "not_larger" => Ok(Some(true)),
        "not_smaller" => Ok(Some(false)),
        other => Err(format!("attribute 'keep_aspect_ratio_policy' is '{other}'")),
    }
}

/// Whether the region of interest counts.
fn crops(op: &Op) -> bool {
    op.str("coordinate_transformation_mode") == Some("tf_crop_and_resize")
}

fn infer_resize(cx: &mut InferContext<'_>) -> Result<(), Unknown> {
    let dtype = cx.dtype(0)?;
    cx.set_dtype(0, dtype);
    let shape = cx.shape(0)?.clone();
    let (op, at) = (cx.op(), scales_operand(cx.op(), cx.opset()));
    let axes = axes(op, shape.len()).map_err(Unknown)?;
    let mut result = shape.clone();
    let given = |t: &Tensor| f32::read(t).ok().map(|s| s.into_owned());
    let scales = match cx.constant(at).filter(|t| !t.is_empty()) {
        Some(t) => given(t),
        None if is_old(op, cx.opset()) => scales_attr(op),
        None => None,
    };
    // Scales that are given count, whether or not sizes are.
    let has_scales =
        scales.is_some() || cx.has(at) && cx.shape(at).is_ok_and(|s| is_one_or_more(s));
    let has_sizes = at == 2 && cx.has(3);
    if has_sizes && !has_scales {
        let sizes = cx.value(3).ok().map(|v| v.elems.clone());
        let sizes = sizes.filter(|s| s.len() == axes.len());
        let policy = aspect_policy(op).map_err(Unknown)?;
        for (i, &axis) in axes.iter().enumerate() {
            result[axis] = match (&sizes, policy) {
                (Some(sizes), None) => sizes[i].clone(),
                (Some(sizes), Some(larger)) => kept_aspect(&shape, &axes, sizes, larger, axis),
                (None, _) => cx.fresh(0, axis),
            };
        }
    } else {
        for (i, &axis) in axes.iter().enumerate() {
            let scale = scales.as_ref().and_then(|s| s.get(i)).copied();
            let scaled = scale.and_then(|s| scaled(&shape[axis], s));
            result[axis] = scaled.unwrap_or_else(|| cx.fresh(0, axis));
        }
    }
    cx.set_tensor(0, dtype, result);
    Ok(())
}

/// Whether a vector is known to have elements.
fn is_one_or_more(shape: &[Dim]) -> bool {
    shape.iter().all(|d| d.provably_ge(1))
}

/// `floor(dim * scale)`, where that can be said.
fn scaled(dim: &Dim, scale: f32) -> Option<Dim> {
    const DENOMINATOR: f32 = 1024.0;
    if let Some(n) = dim.as_const() {
        return Some(Dim::known((n as f32 * scale).floor() as i64));
    }
    // A multiple of 1/1024 that is not too large is a ratio of integers.
    let numerator = scale * DENOMINATOR;
    if numerator.fract() != 0.0 || !(0.0..1e9).contains(&numerator) {
        return None;
    }
    let scaled = dim * (numerator as i64);
    Some(scaled.floor_div(&Dim::known(DENOMINATOR as i64)))
}

fn kept_aspect(shape: &Shape, axes: &[usize], sizes: &[Dim], not_larger: bool, axis: usize) -> Dim {
    let pairs: Option<Vec<(i64, i64)>> = axes
        .iter()
        .zip(sizes)
        .map(|(&a, size)| Some((size.as_const()?, shape[a].as_const()?)))
        .collect();
    let dim = shape[axis].as_const();
    let scale = pairs.and_then(|p| aspect_scale(&p, not_larger));
    match (scale, dim) {
        (Some(scale), Some(dim)) => Dim::known(round_half_up(scale * dim as f32)),
        _ => Dim::UNKNOWN,
    }
}

/// The one scale for pairs of wanted and present sizes.
fn aspect_scale(pairs: &[(i64, i64)], not_larger: bool) -> Option<f32> {
    let scales = pairs.iter().map(|&(size, from)| size as f32 / from as f32);
    scales.reduce(|a, b| if (a < b) == not_larger { a } else { b })
}

fn round_half_up(x: f32) -> i64 {
    (x + 0.5).floor() as i64
}

/// What the operands and attributes say of each axis.
fn plan(cx: &EvalContext<'_>, x: &Tensor) -> Result<Vec<Axis>, EvalError> {
    let (op, rank) = (cx.op(), x.rank());
    let (old, at) = (is_old(op, cx.opset()), scales_operand(op, cx.opset()));
    let axes = axes(op, rank).map_err(|e| cx.invalid(e))?;
    let operand = |i: usize| -> Result<Option<Vec<f32>>, EvalError> {
        let t = cx.optional(i)?.filter(|t| !t.is_empty());
        Ok(t.map(f32::read).transpose()?.map(|t| t.into_owned()))
    };
    let coordinates = match old {
        true => Coordinates::Asymmetric,
        false => {
            let mode = op.str("coordinate_transformation_mode");
            let mode = mode.unwrap_or("half_pixel");
            let unknown = || cx.invalid(format!("coordinates '{mode}'"));
            Coordinates::parse(mode).ok_or_else(unknown)?
        }
    };
    let filter = match op.str("mode").unwrap_or("nearest") {
        "nearest" if old => Filter::Nearest(Nearest::Simple),
        "nearest" => {
            let mode = op.str("nearest_mode").unwrap_or("round_prefer_floor");
            let unknown = || cx.invalid(format!("attribute 'nearest_mode' is '{mode}'"));
            Filter::Nearest(Nearest::parse(mode).ok_or_else(unknown)?)
        }
        "linear" | "bilinear" | "trilinear" => Filter::Linear,
        "cubic" => Filter::Cubic(f64::from(op.float("cubic_coeff_a", -0.75))),
        other => return Err(cx.invalid(format!("attribute 'mode' is '{other}'"))),
    };
    let mut plan: Vec<Axis> = x
        .dims()
        .iter()
        .map(|&n| Axis {
            from: n,
            to: n,
            scale: 1.0,
            roi: (0.0, 1.0),
            coordinates,
            filter,
            exclude_outside: op.int("exclude_outside", 0) != 0,
            antialias: op.int("antialias", 0) != 0,
        })
        .collect();
    let short = |what: &str, n: usize| cx.invalid(format!("{n} {what} for {} axes", axes.len()));
    if crops(op) && !old {
        let roi = operand(1)?.unwrap_or_default();
        if roi.len() != 2 * axes.len() {
            return Err(short("ends of regions", roi.len()));
        }
        for (i, &axis) in axes.iter().enumerate() {
            plan[axis].roi = (roi[i], roi[axes.len() + i]);
        }
    }
    let scales = match operand(at)? {
        Some(scales) => Some(scales),
        None if old => scales_attr(op),
        None => None,
    };
    if let Some(scales) = scales {
        if scales.len() != axes.len() {
            return Err(short("scales", scales.len()));
        }
        for (&axis, &scale) in axes.iter().zip(&scales) {
            let a = &mut plan[axis];
            if !(scale > 0.0 && scale.is_finite()) {
                return Err(cx.invalid(format!("a scale of {scale}")));
            }
            a.scale = scale;
            // The region does not count here, whatever the specification says: every runtime and
            // the shape rule of ONNX itself have it so.
            a.to = (a.from as f32 * scale).floor() as usize;
        }
    } else {
        let sizes = if at == 2 && cx.optional(3)?.is_some() {
            cx.ints(3)?
        } else {
            Vec::new()
        };
        if sizes.len() != axes.len() || sizes.iter().any(|&n| n < 0) {
            return Err(short("sizes", sizes.len()));
        }
        let from = |axis: usize| x.dims()[axis] as i64;
        let pairs: Vec<(i64, i64)> = axes
            .iter()
            .zip(&sizes)
            .map(|(&a, &n)| (n, from(a)))
            .collect();
        let policy = aspect_policy(op).map_err(|e| cx.invalid(e))?;
        let one = policy.and_then(|p| aspect_scale(&pairs, p));
        for (&axis, &size) in axes.iter().zip(&sizes) {
            let a = &mut plan[axis];
            match one {
                Some(scale) => {
                    a.scale = scale;
                    a.to = round_half_up(scale * a.from as f32).max(0) as usize;
                }
                None => {
                    a.scale = size as f32 / a.from as f32;
                    a.to = size as usize;
                }
            }
        }
    }
    Ok(plan)
}

/// What a Resize or Upsample makes the elements of its result of, along each axis of an operand of these dimensions: which
/// elements with which weights, or nothing for those outside of the region of interest; `None` for an axis that stays.
/// `operands` are those after the first. Axes are resized in their order, `0 + a₀·x₀ + a₁·x₁ + ...` of floats.
///
/// # Errors
/// Operands and attributes that do not fit together.
pub fn resize_taps(
    op: &Op,
    opset: i64,
    dims: &[usize],
    operands: &[Option<Value>],
) -> Result<Vec<Option<Vec<Taps>>>, EvalError> {
    let x = Tensor::zeros(DType::U8, dims)?;
    let operands: Vec<Option<Value>> = std::iter::once(Some(x.clone().into()))
        .chain(operands.iter().cloned())
        .collect();
    let region = |_: &Graph, _: Vec<Value>| Ok(Vec::new());
    let cx = EvalContext::new(op, opset, &operands, 1, &region);
    let plan = plan(&cx, &x)?;
    rules::limited(&plan.iter().map(|a| a.to).collect::<Vec<_>>())?;
    let taps = |a: &Axis| (!a.is_identity() && a.from > 0).then(|| a.taps());
    Ok(plan.iter().map(taps).collect())
}

fn eval_resize(cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
    let x = cx.tensor(0)?;
    let plan = plan(cx, x)?;
    let dims: Vec<usize> = plan.iter().map(|a| a.to).collect();
    let count = rules::limited(&dims)?;
    if count > 0 && x.is_empty() {
        return Err(cx.invalid("an operand without elements"));
    }
    let outside = cx.op().float("extrapolation_value", 0.0);
    let nearest = matches!(
        plan.first().map(|a| a.filter),
        Some(Filter::Nearest(_)) | None
    );
    if nearest {
        return Ok(vec![pick(cx, x, &plan, &dims, count, outside)?]);
    }
    if count == 0 {
        return Ok(vec![Tensor::zeros(x.dtype(), dims)?.into()]);
    }
    if x.dtype() == DType::F64 {
        let y = interpolate(
            x.as_slice::<f64>()?.into_owned(),
            x.dims(),
            &plan,
            outside.into(),
        )?;
        return Ok(vec![real_tensor(x.dtype(), &dims, y)?]);
    }
    if x.dtype().is_int() {
        let data: Vec<f32> = x.to_i64s()?.into_iter().map(|x| x as f32).collect();
        let linear = plan
            .iter()
            .all(|a| a.filter == Filter::Linear && !a.antialias);
        let y = match linear {
            true => corners(&data, x.dims(), &plan, outside),
            false => interpolate(data, x.dims(), &plan, outside)?,
        };
        let range = crate::ops::quantization::arith::int_range(x.dtype());
        let (lo, hi) = range.unwrap_or((0, i64::MAX));
        let y = y.into_iter().map(|y| (y as i64).clamp(lo, hi)).collect();
        return Ok(vec![int_tensor(x.dtype(), &dims, y)?]);
    }
    let data = f32::read(x).map_err(|_| cx.unsupported_type(x.dtype()))?;
    let y = interpolate(data.into_owned(), x.dims(), &plan, outside)?;
    Ok(vec![real_tensor(x.dtype(), &dims, y)?])
}

fn interpolate<T: Real>(
    mut data: Vec<T>,
    dims: &[usize],
    plan: &[Axis],
    outside: T,
) -> Result<Vec<T>, EvalError> {
    let mut dims = dims.to_vec();
    for (axis, a) in plan.iter().enumerate().filter(|(_, a)| !a.is_identity()) {
        let mut next = dims.clone();
        next[axis] = a.to;
        rules::limited(&next)?;
        data = a.apply(&data, &dims, axis, outside);
        dims = next;
    }
    Ok(data)
}

/// Linear interpolation from all corners at once, the last axis first. Integers are cut off, so
/// that it matters in which order ONNX Runtime adds.
fn corners(x: &[f32], dims: &[usize], plan: &[Axis], outside: f32) -> Vec<f32> {
    let strides = crate::ops::numeric::strides_of(dims);
    let axes: Vec<usize> = (0..dims.len())
        .filter(|&a| !plan[a].is_identity())
        .collect();
    let taps: Vec<_> = axes.iter().map(|&a| plan[a].taps()).collect();
    let to: Vec<usize> = plan.iter().map(|a| a.to).collect();
    let mut y = Vec::with_capacity(to.iter().product());
    let mut index = vec![0; to.len()];
    // Axes that stay contribute an offset only.
    let kept: Vec<usize> = (0..dims.len())
        .map(|a| if axes.contains(&a) { 0 } else { strides[a] })
        .collect();
    let mut base = [0];
    loop {
        let here: Option<Vec<_>> = axes
            .iter()
            .zip(&taps)
            .map(|(&a, taps)| taps[index[a]].as_ref())
            .collect();
        y.push(match here {
            None => outside,
            Some(here) => (0..1usize << axes.len())
                .map(|corner| {
                    let (mut weight, mut at) = (1.0, base[0]);
                    for (bit, (&axis, taps)) in axes.iter().zip(&here).rev().enumerate() {
                        let (k, w) = taps[corner >> bit & 1];
                        weight *= w as f32;
                        at += k * strides[axis];
                    }
                    weight * x[at]
                })
                .sum(),
        });
        if !crate::ops::numeric::advance(&mut index, &to, [&kept], &mut base) {
            return y;
        }
    }
}

/// The nearest elements, of whatever type.
fn pick(
    cx: &EvalContext<'_>,
    x: &Tensor,
    plan: &[Axis],
    dims: &[usize],
    count: usize,
    outside: f32,
) -> Result<Value, EvalError> {
    if count == 0 {
        return Ok(Tensor::zeros(x.dtype(), dims)?.into());
    }
    // For each axis the offset of the element taken, or none where outside.
    let strides = crate::ops::numeric::strides_of(x.dims());
    let mut from: Vec<Option<usize>> = vec![Some(0)];
    for (a, &stride) in plan.iter().zip(&strides) {
        let taps = a.taps();
        let offset = |t: &super::interpolate::Taps| t.as_ref().map(|t| t[0].0 * stride);
        let offsets: Vec<Option<usize>> = taps.iter().map(offset).collect();
        let sum = |base: Option<usize>, o: Option<usize>| Some(base? + o?);
        from = from
            .iter()
            .flat_map(|&base| offsets.iter().map(move |&o| sum(base, o)))
            .collect();
    }
    if let Some(strings) = x.strings() {
        let y: Vec<_> = from
            .iter()
            .map(|i| i.map(|i| strings[i].clone()).unwrap_or_default())
            .collect();
        return Ok(Tensor::from_strings(dims, y)?.into());
    }
    if x.dtype().is_packed() {
        let codes = from.iter().map(|i| i.map_or(0, |i| x.packed_bits(i)));
        return Ok(Tensor::from_packed_bits(x.dtype(), dims, codes)?.into());
    }
    let one = |v: f32| match x.dtype() {
        d if d.is_int() => int_tensor(d, &[1], vec![v as i64]),
        d if crops(cx.op()) => real_tensor(d, &[1], vec![v]),
        d => Ok(Tensor::zeros(d, [1].as_slice())?.into()),
    };
    let outside = one(outside)?;
    let outside = outside.as_tensor().map_or(&[][..], Tensor::bytes);
    let (size, bytes) = (x.dtype().bits() / 8, x.bytes());
    let mut y = Vec::with_capacity(count * size);
    for i in from {
        y.extend_from_slice(match i {
            Some(i) => &bytes[i * size..][..size],
            None => outside,
        });
    }
    Ok(Tensor::new(x.dtype(), dims, y)?.into())
}
