//! `DFT`: the discrete Fourier transform. It is inferred and upgraded, not evaluated.
//!
//! | opset | change |
//! |---|---|
//! | 17 | first version, `axis` an attribute, 1 by default |
//! | 20 | `axis` operand 2, -2 by default |
//!
//! Real and imaginary part are the last axis.

use onnxq_tensor::{Dim, Tensor};

use super::rules;
use crate::{InferContext, Operator, Unknown, UpgradeContext, UpgradeError};

pub(super) static OPERATORS: &[&dyn Operator] = &[&Dft];

struct Dft;

impl Operator for Dft {
    fn name(&self) -> &'static str {
        "DFT"
    }

    fn since(&self) -> &'static [i64] {
        &[17, 20]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, cx.dtype(0)?);
        let mut shape = cx.shape(0)?.clone();
        let axis = match cx.opset() {
            ..20 => cx.op().int("axis", 1),
            _ if cx.has(2) => match cx.ints(2)?[..] {
                [axis] => axis,
                _ => return Err(Unknown::new("the axis is not one number")),
            },
            _ => -2,
        };
        let axis = rules::axis(axis, shape.len())?;
        let onesided = cx.op().int("onesided", 0) != 0;
        let inverse = cx.op().int("inverse", 0) != 0;
        let length = match cx.has(1) {
            true => cx
                .value(1)
                .ok()
                .and_then(|v| v.elems.first().cloned())
                .unwrap_or(Dim::UNKNOWN),
            false => shape[axis].clone(),
        };
        shape[axis] = match (onesided, inverse) {
            (false, _) => length,
            (true, false) => length.floor_div(&Dim::known(2)) + Dim::known(1),
            // Without a length, that of an even number of samples is meant.
            (true, true) if cx.has(1) => length,
            (true, true) => Dim::UNKNOWN,
        };
        if let Some(parts) = shape.last_mut() {
            *parts = Dim::known(if onesided && inverse { 1 } else { 2 });
        }
        cx.set_tensor(0, cx.dtype(0)?, shape);
        Ok(())
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(20) {
            let axis = cx.op().int("axis", 1);
            cx.op_mut().attrs.shift_remove("axis");
            cx.set_constant(2, "axis", Tensor::scalar(axis));
        }
        Ok(())
    }
}
