//! MelWeightMatrix: triangles over the frequencies of a spectrum, evenly spaced on the mel scale.
//!
//! Operands, all scalars: number of triangles, length of the transform, samples per second, lowest
//! and highest frequency. Edges are rounded down to whole frequencies.

use onnxq_tensor::{Dim, Shape, Tensor};

use super::output_type;
use crate::{EvalContext, EvalError, InferContext, Operator, Unknown, Value, ops::rules};

pub(super) struct MelWeightMatrix;

impl Operator for MelWeightMatrix {
    fn name(&self) -> &'static str {
        "MelWeightMatrix"
    }

    fn since(&self) -> &'static [i64] {
        &[17]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = output_type(cx.op()).ok_or_else(|| Unknown::new("no element type"))?;
        let number = |i: usize| match cx.value(i) {
            Ok(value) => value.elems.first().cloned().unwrap_or_default(),
            Err(_) => Dim::UNKNOWN,
        };
        let or_fresh = |dim: Dim, axis| match dim.is_unknown() {
            true => cx.fresh(0, axis),
            false => dim,
        };
        let bins = or_fresh(number(1).floor_div(&Dim::known(2)) + 1, 0);
        let shape = Shape::from_iter([bins, or_fresh(number(0), 1)]);
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let size = |i: usize| {
            let size = cx.tensor(i)?.scalar_i64()?;
            let valid = usize::try_from(size).ok().filter(|&n| n <= 1 << 31);
            valid.ok_or_else(|| cx.invalid(format!("operand {i} is {size}")))
        };
        let (triangles, length, rate) = (size(0)?, size(1)?, size(2)?);
        let (low, high) = (cx.tensor(3)?.scalar_f64()?, cx.tensor(4)?.scalar_f64()?);
        let bins = length / 2 + 1;
        let mut y = vec![0f64; rules::limited(&[bins, triangles])?];
        let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / std::f64::consts::LN_10;
        let step = (mel(high) - mel(low)) / (triangles + 2) as f64;
        let edge = |i: usize| {
            let mel = i as f64 * step + mel(low);
            let hertz = 700.0 * (mel / 2595.0 * std::f64::consts::LN_10).exp_m1();
            ((length + 1) as f64 * hertz / rate as f64).floor()
        };
        for t in 0..triangles {
            let (left, center, right) = (edge(t), edge(t + 1), edge(t + 2));
            for bin in 0..bins {
                let at = bin as f64;
                y[bin * triangles + t] = if at == center {
                    1.0
                } else if left <= at && at < center {
                    (at - left) / (center - left)
                } else if center < at && at < right {
                    (right - at) / (right - center)
                } else {
                    0.0
                };
            }
        }
        let dtype = output_type(cx.op()).ok_or_else(|| cx.invalid("no element type"))?;
        let y = Tensor::from_vec([bins, triangles].as_slice(), y)?;
        Ok(vec![y.cast(dtype, true)?.into()])
    }
}
