//! RNN, GRU, LSTM and `com.microsoft` DynamicQuantizeLSTM.
//!
//! | opset | change |
//! |---|---|
//! | GRU 3 | `linear_before_reset` |
//! | 7 | `output_sequence` went: a result that is not wanted is left out |
//! | 14 | `layout` |
//!
//! In DynamicQuantizeLSTM the weights are transposed 8-bit integers. As in ONNX Runtime, X is
//! quantized as a whole and H at each step, both to uint8; everything else is float.

use onnxq_ir::Op;
use onnxq_tensor::{Dim, Tensor};

use super::{
    activation::Activation,
    cells::{Cell, Kind, State, Weights},
    sequence::{Run, Sizes, directions, infer_states},
};
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        numeric::{Real, expect_dims, with_real},
        quantization::{MS, arith::centered},
    },
};

pub(super) struct Rnn;
pub(super) struct Gru;
pub(super) struct Lstm;
pub(super) struct DynamicQuantizeLstm;

static RNN: &[&str] = &["Tanh"];
static GRU: &[&str] = &["Sigmoid", "Tanh"];
static LSTM: &[&str] = &["Sigmoid", "Tanh", "Tanh"];

macro_rules! recurrent {
    ($op:ident, $name:literal, $since:expr, $activations:expr, |$attrs:ident| $kind:expr) => {
        impl Operator for $op {
            fn name(&self) -> &'static str {
                $name
            }

            fn since(&self) -> &'static [i64] {
                &$since
            }

            fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
                let hidden = hidden_size(cx, 2, 2);
                infer_states(cx, hidden)
            }

            fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
                let $attrs = cx.op();
                let kind = $kind;
                with_real!(cx, cx.tensor(0)?.dtype(), T => eval_float::<T>(cx, kind, $activations))
            }

            fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
                if cx.crosses(7) {
                    cx.op_mut().attrs.shift_remove("output_sequence");
                }
                Ok(())
            }

            fn quant(&self, _op: &Op) -> QuantRole {
                QuantRole::Recurrent
            }
        }
    };
}

recurrent!(Rnn, "RNN", [1, 7, 14, 22], RNN, |_op| Kind::Rnn);
recurrent!(Gru, "GRU", [1, 3, 7, 14, 22], GRU, |op| Kind::Gru {
    linear_before_reset: op.int("linear_before_reset", 0) != 0,
});
recurrent!(Lstm, "LSTM", [1, 7, 14, 22], LSTM, |op| Kind::Lstm {
    input_forget: op.int("input_forget", 0) != 0,
});

/// The size of the state: the attribute, or dimension `axis` of operand `r`.
fn hidden_size(cx: &InferContext<'_>, r: usize, axis: usize) -> Dim {
    match cx.op().int("hidden_size", 0) {
        0 => {
            let shape = cx.shape(r).ok();
            shape.and_then(|s| s.get(axis)).cloned().unwrap_or_default()
        }
        n => Dim::known(n),
    }
}

fn eval_float<T: Real>(
    cx: &EvalContext<'_>,
    kind: Kind,
    activations: &[&str],
) -> Result<Vec<Value>, EvalError> {
    let (count, backwards) = directions(cx.op()).map_err(|e| cx.invalid(e))?;
    let (w, r) = (cx.tensor(1)?, cx.tensor(2)?);
    let hidden = r.dims().last().copied().unwrap_or(0);
    let s = Sizes::of(cx, hidden, count)?;
    let width = kind.gates() * hidden;
    expect_dims(cx, 1, &[count, width, s.input])?;
    expect_dims(cx, 2, &[count, width, hidden])?;
    let (w, r) = (T::read(w)?, T::read(r)?);
    let parts = |d: usize| {
        (
            Weights::Real(&w[d * width * s.input..][..width * s.input]),
            Weights::Real(&r[d * width * hidden..][..width * hidden]),
        )
    };
    run(cx, kind, activations, &s, backwards, parts)
}

/// Runs all directions. The operands after R are those of LSTM; `parts` gives W and R of a
/// direction.
fn run<'a, T: Real>(
    cx: &EvalContext<'_>,
    kind: Kind,
    activations: &[&str],
    s: &Sizes,
    backwards: bool,
    parts: impl Fn(usize) -> (Weights<'a, T>, Weights<'a, T>),
) -> Result<Vec<Value>, EvalError> {
    let (count, width) = (s.directions, kind.gates() * s.hidden);
    let functions = Activation::of(cx.op(), activations, count).map_err(|e| cx.invalid(e))?;
    let is_lstm = matches!(kind, Kind::Lstm { .. });
    let bias = match cx.optional(3)? {
        Some(_) => Some(T::read(expect_dims(cx, 3, &[count, 2 * width])?)?),
        None => None,
    };
    let peephole = match is_lstm && cx.optional(7)?.is_some() {
        true => Some(T::read(expect_dims(cx, 7, &[count, 3 * s.hidden])?)?),
        false => None,
    };
    let x = s.input::<T>(cx.tensor(0)?)?;
    let lengths = s.lengths(cx, 4)?;
    let h = s.initial::<T>(cx, 5)?;
    let c = match is_lstm {
        true => s.initial::<T>(cx, 6)?,
        false => vec![T::zero(); h.len()],
    };
    let clip = cx.op().attr("clip").and_then(onnxq_ir::Attr::as_float);
    let mut out = Run::new(s);
    for d in 0..count {
        let (weights, recurrence) = parts(d);
        let bias = bias.as_ref().map(|b| {
            let b = &b[d * 2 * width..][..2 * width];
            b.split_at(width)
        });
        let cell = Cell {
            kind,
            hidden: s.hidden,
            recurrence,
            bias,
            peephole: peephole
                .as_ref()
                .map(|p| &p[d * 3 * s.hidden..][..3 * s.hidden]),
            activations: functions[d * activations.len()..][..activations.len()].to_vec(),
            clip: clip.filter(|&c| c > 0.0).map(|c| T::of(c.into())),
        };
        let row = d * s.batch * s.hidden..(d + 1) * s.batch * s.hidden;
        let state = State {
            h: h[row.clone()].to_vec(),
            c: c[row].to_vec(),
        };
        let backwards = backwards || d == 1;
        out.direction(s, d, backwards, &cell, &weights, &x, &lengths, state);
    }
    out.results(cx, s)
}

impl Operator for DynamicQuantizeLstm {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "DynamicQuantizeLSTM"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let hidden = hidden_size(cx, 2, 1);
        infer_states(cx, hidden)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (count, backwards) = directions(cx.op()).map_err(|e| cx.invalid(e))?;
        let (w, r) = (cx.tensor(1)?, cx.tensor(2)?);
        let hidden = r.dims().get(1).copied().unwrap_or(0);
        let s = Sizes::of(cx, hidden, count)?;
        let width = 4 * hidden;
        expect_dims(cx, 1, &[count, s.input, width])?;
        expect_dims(cx, 2, &[count, hidden, width])?;
        let (w_scale, r_scale) = (scales(cx, 8, count, width)?, scales(cx, 10, count, width)?);
        let w = matrices(w, cx.tensor(9)?, count)?;
        let r = matrices(r, cx.tensor(11)?, count)?;
        let part = |m: &[f64], d: usize| m[d * m.len() / count..(d + 1) * m.len() / count].to_vec();
        let scale = |s: &'_ [f32], d: usize| -> std::ops::Range<usize> {
            d * s.len() / count..(d + 1) * s.len() / count
        };
        let parts = |d: usize| {
            (
                Weights::Quantized {
                    matrix: part(&w, d),
                    scale: &w_scale[scale(&w_scale, d)],
                },
                Weights::Quantized {
                    matrix: part(&r, d),
                    scale: &r_scale[scale(&r_scale, d)],
                },
            )
        };
        let kind = Kind::Lstm {
            input_forget: cx.op().int("input_forget", 0) != 0,
        };
        run::<f32>(cx, kind, LSTM, &s, backwards, parts)
    }
}

/// The scales that are operand `i`: one for each direction, or for each of its outputs.
fn scales(
    cx: &EvalContext<'_>,
    i: usize,
    directions: usize,
    width: usize,
) -> Result<Vec<f32>, EvalError> {
    let scales = f32::read(cx.tensor(i)?)?;
    if scales.len() != directions && scales.len() != directions * width {
        return Err(cx.invalid(format!("{} scales", scales.len())));
    }
    Ok(scales.into_owned())
}

/// 8-bit matrices, one for each direction, less their zero points.
fn matrices(w: &Tensor, zero: &Tensor, directions: usize) -> Result<Vec<f64>, EvalError> {
    let (zero, n) = (zero.to_i64s()?, w.len() / directions);
    let width = w.dims().last().copied().unwrap_or(1).max(1);
    let wrong = || EvalError::Invalid(format!("{} zero points", zero.len()));
    if zero.len() != directions && zero.len() != directions * width {
        return Err(wrong());
    }
    let each = zero.len() / directions;
    let values = centered(w, None, None)?;
    let less = |(i, x): (usize, f64)| x - zero[i / n * each + i % width % each] as f64;
    Ok(values.into_iter().enumerate().map(less).collect())
}
