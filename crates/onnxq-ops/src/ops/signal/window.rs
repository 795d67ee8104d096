//! Windows that are sums of cosines: `a - b cos(2πn/N) + c cos(4πn/N)`, with `N` the size, or the
//! size less one where the window is not `periodic`.

use onnxq_tensor::{Dim, Shape, Tensor};

use super::output_type;
use crate::{EvalContext, EvalError, InferContext, Operator, Unknown, Value, ops::rules};

pub(super) struct Window {
    pub(super) name: &'static str,
    /// The factors `a`, `b` and `c`.
    pub(super) terms: [f64; 3],
}

/// No signal is looked at through a longer window, which a number in a file may ask for.
const LONGEST: usize = 1 << 26;

impl Operator for Window {
    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        &[17]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = output_type(cx.op()).ok_or_else(|| Unknown::new("no element type"))?;
        let size = match cx.value(0) {
            Ok(size) => size.elems.first().cloned().unwrap_or_default(),
            Err(_) => Dim::UNKNOWN,
        };
        let size = if size.is_unknown() {
            cx.fresh(0, 0)
        } else {
            size
        };
        cx.set_tensor(0, dtype, Shape::from_iter([size]));
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let size = cx.tensor(0)?.scalar_i64()?;
        let size = usize::try_from(size).map_err(|_| cx.invalid(format!("a size of {size}")))?;
        rules::limited(&[size])?;
        if size > LONGEST {
            return Err(EvalError::TooLarge(vec![size]));
        }
        let period = match cx.op().int("periodic", 1) {
            0 => size.saturating_sub(1),
            _ => size,
        };
        let [a, b, c] = self.terms;
        let value = |n: usize| match period {
            // One sample alone is not weighted.
            0 => 1.0,
            _ => {
                let angle = std::f64::consts::TAU * n as f64 / period as f64;
                a - b * angle.cos() + c * (2.0 * angle).cos()
            }
        };
        let window = Tensor::vector((0..size).map(value).collect::<Vec<f64>>());
        let dtype = output_type(cx.op()).ok_or_else(|| cx.invalid("no element type"))?;
        Ok(vec![window.cast(dtype, true)?.into()])
    }
}
