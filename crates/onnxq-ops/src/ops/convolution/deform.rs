//! DeformConv: a convolution each tap of which is moved by offsets, and weighted by a mask, that are
//! given for every position. Between elements the operand is interpolated linearly.
//!
//! Operands: X, W, offsets (`[batch, groups * taps * axes, positions]`), bias, mask (`[batch,
//! groups * taps, positions]`). The offsets' groups (`offset_group`) share the channels of X.
//! <https://arxiv.org/abs/1811.11168>

use super::{
    conv::{Conv, problem, result_dims},
    window::Placement,
};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{Real, expect_dims, product, real_tensor, with_real},
        rules,
    },
};

/// The corners between which is interpolated double with each axis.
const MAX_AXES: usize = 8;

pub(super) struct DeformConv;

impl Operator for DeformConv {
    fn name(&self) -> &'static str {
        "DeformConv"
    }

    fn since(&self) -> &'static [i64] {
        &[19, 22]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        Conv.infer(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, w) = (cx.tensor(0)?, cx.tensor(1)?);
        let axes = x.rank().saturating_sub(2);
        if !(1..=MAX_AXES).contains(&axes) {
            return Err(cx.invalid(format!("an operand with {axes} spatial axes")));
        }
        let problem = problem(cx, x.dims(), w.dims())?;
        let dims = result_dims(&problem, x.rank());
        let (channels, place) = (x.dims()[1], &problem.window);
        let (taps, positions) = (place.taps(), product(&place.small));
        let shared = cx.op().int("offset_group", 1);
        let shared = usize::try_from(shared)
            .ok()
            .filter(|&g| g > 0 && channels.is_multiple_of(g));
        let shared = shared.ok_or_else(|| cx.invalid("attribute 'offset_group' does not fit"))?;
        let of_group = |n: usize| {
            let mut dims = vec![problem.batch, shared * taps * n];
            dims.extend(&place.small);
            dims
        };
        let offsets = f64::read(expect_dims(cx, 2, &of_group(axes))?)?;
        let mask = match cx.optional(4)? {
            Some(_) => Some(f64::read(expect_dims(cx, 4, &of_group(1))?)?),
            None => None,
        };
        let size = product(&place.big);
        rules::limited(&[problem.inputs, taps, positions])?;
        let (outputs, depth) = (problem.outputs, problem.inputs * taps);
        with_real!(cx, x.dtype(), T => {
            let (data, weights) = (T::read(x)?, T::read(w)?);
            let mut y = vec![0.0; rules::limited(&dims)?];
            // What the taps of one group of channels see at one position.
            let mut seen = vec![0.0; depth];
            for at in 0..problem.batch * problem.groups * positions {
                let (ng, p) = (at / positions, at % positions);
                let (n, group) = (ng / problem.groups, ng % problem.groups);
                for (i, seen) in seen.iter_mut().enumerate() {
                    let (channel, tap) = (group * problem.inputs + i / taps, i % taps);
                    let given = (n * shared + channel / (channels / shared)) * taps + tap;
                    let offset = |axis: usize| offsets[(given * axes + axis) * positions + p];
                    let plane = &data[(n * channels + channel) * size..][..size];
                    *seen = sample(plane, place, p, tap, offset);
                    if let Some(mask) = &mask {
                        *seen *= mask[given * positions + p];
                    }
                }
                for o in 0..outputs {
                    let row = &weights[(group * outputs + o) * depth..][..depth];
                    let sum: f64 = row.iter().zip(&seen).map(|(w, s)| w.wide() * s).sum();
                    y[(ng * outputs + o) * positions + p] = sum;
                }
            }
            if cx.optional(3)?.is_some() {
                let all = problem.groups * outputs;
                let bias = f64::read(expect_dims(cx, 3, &[all])?)?;
                let each = y.iter_mut().enumerate();
                each.for_each(|(i, y)| *y += bias[i / positions % all]);
            }
            Ok(vec![real_tensor(x.dtype(), &dims, y)?])
        })
    }
}

/// What `tap` sees at position `p`, moved by `offset`; zero outside of the operand.
fn sample<T: Real>(
    plane: &[T],
    place: &Placement,
    mut p: usize,
    tap: usize,
    offset: impl Fn(usize) -> f64,
) -> f64 {
    let tap = place.tap(tap);
    let axes = tap.len();
    let mut at = vec![0.0; axes];
    for axis in (0..axes).rev() {
        let position = (p % place.small[axis] * place.strides[axis]) as i64;
        p /= place.small[axis];
        let fixed = position + (tap[axis] * place.dilations[axis]) as i64 - place.begin[axis];
        at[axis] = fixed as f64 + offset(axis);
    }
    // Each corner of the cell by how near it is.
    let corner = |corner: usize| {
        let (mut index, mut weight) = (0, 1.0);
        for (axis, (at, &size)) in at.iter().zip(&place.big).enumerate() {
            let low = at.floor();
            let (side, near) = match corner >> axis & 1 {
                0 => (low, 1.0 - (at - low)),
                _ => (low + 1.0, at - low),
            };
            if near == 0.0 || !(0.0..size as f64).contains(&side) {
                return 0.0;
            }
            index = index * size + side as usize;
            weight *= near;
        }
        plane[index].wide() * weight
    };
    (0..1usize << axes).map(corner).sum()
}
