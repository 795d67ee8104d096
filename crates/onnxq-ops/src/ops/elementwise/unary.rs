//! Functions of one number: a table of rows, and the operator that reads them.
//!
//! Floats are calculated in their own type, 16-bit ones in `f32`.

use std::borrow::Cow;

use onnxq_ir as ir;
use onnxq_tensor::{DType, Dim, Tensor};

use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        number::{self, Number, for_int},
        values,
    },
};

/// A function of the elements of an integer tensor.
type OnInts = fn(&Tensor) -> Result<Tensor, EvalError>;

/// A function of one number.
pub(super) struct Unary {
    pub(super) domain: &'static str,
    pub(super) name: &'static str,
    pub(super) since: &'static [i64],
    pub(super) quant: QuantRole,
    pub(super) f32: fn(&ir::Op, &mut [f32]),
    pub(super) f64: fn(&ir::Op, &mut [f64]),
    /// What it is on integers, where it is defined on them.
    pub(super) int: Option<OnInts>,
    /// What it is on a dimension.
    pub(super) dim: Option<fn(&Dim) -> Dim>,
    /// Attributes whose default changed: the opset at which, and the default before.
    pub(super) old_defaults: &'static [(i64, &'static str, f32)],
}

/// A row: name, opsets, role, attributes as `name = default` and the function. `T` stands for the
/// float type.
macro_rules! unary {
    (
        $name:literal, $since:expr, $quant:expr,
        ($($var:ident = $default:expr),*) $x:ident => $body:expr
        $(, $field:ident: $value:expr)* $(,)?
    ) => {{
        fn in_f32(_op: &onnxq_ir::Op, values: &mut [f32]) {
            #[allow(dead_code, reason = "not every function names its type")]
            type T = f32;
            $(let $var = _op.float(stringify!($var), $default);)*
            values.iter_mut().for_each(|v| {
                let $x = *v;
                *v = $body;
            });
        }
        fn in_f64(_op: &onnxq_ir::Op, values: &mut [f64]) {
            #[allow(dead_code, reason = "not every function names its type")]
            type T = f64;
            $(let $var = f64::from(_op.float(stringify!($var), $default));)*
            values.iter_mut().for_each(|v| {
                let $x = *v;
                *v = $body;
            });
        }
        #[allow(clippy::needless_update, reason = "rows may set every field")]
        &$crate::ops::elementwise::unary::Unary {
            name: $name,
            since: &$since,
            quant: $quant,
            f32: in_f32,
            f64: in_f64,
            $($field: $value,)*
            ..$crate::ops::elementwise::unary::NO_UNARY
        }
    }};
}

pub(super) use unary;

/// What rows leave out.
pub(super) const NO_UNARY: Unary = Unary {
    domain: "",
    name: "",
    since: &[],
    quant: QuantRole::Elementwise,
    f32: |_, _| {},
    f64: |_, _| {},
    int: None,
    dim: None,
    old_defaults: &[],
};

impl Unary {
    /// The operation, with the defaults of its opset where those were others.
    fn with_old_defaults<'a>(&self, cx: &EvalContext<'a>) -> Cow<'a, ir::Op> {
        let mut op = Cow::Borrowed(cx.op());
        for &(opset, key, value) in self.old_defaults {
            if cx.opset() < opset && cx.op().attr(key).is_none() {
                op.to_mut().attrs.insert(key.to_owned(), value.into());
            }
        }
        op
    }
}

impl Operator for Unary {
    fn domain(&self) -> &'static str {
        self.domain
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        self.since
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_type(0, cx.ty(0)?.clone());
        if let (Some(f), Ok(dtype)) = (self.dim, cx.dtype(0)) {
            values::follow_unary(cx, dtype, f);
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let wide = number::widen(x)?;
        let op = &*self.with_old_defaults(cx);
        let y = match (wide.dtype(), self.int) {
            (DType::F32, _) => {
                let mut v = wide.as_slice::<f32>()?.into_owned();
                (self.f32)(op, &mut v);
                number::narrow(Tensor::from_vec(x.dims(), v)?, x.dtype())?
            }
            (DType::F64, _) => {
                let mut v = wide.as_slice::<f64>()?.into_owned();
                (self.f64)(op, &mut v);
                Tensor::from_vec(x.dims(), v)?
            }
            (dtype, Some(int)) if dtype.is_int() && !dtype.is_packed() => int(x)?,
            (dtype, _) => return Err(cx.unsupported_type(dtype)),
        };
        Ok(vec![y.into()])
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        for &(opset, key, value) in self.old_defaults {
            if cx.crosses(opset) && cx.op().attr(key).is_none() {
                cx.op_mut().attrs.insert(key.to_owned(), value.into());
            }
        }
        // How opset 1 said that the result may overwrite the operand.
        cx.op_mut().attrs.shift_remove("consumed_inputs");
        Ok(())
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        self.quant
    }
}

/// The error function, in `f64` whatever the type.
fn erf(x: impl Into<f64>) -> f64 {
    libm::erf(x.into())
}

/// Applies a generic function to a tensor of integers.
macro_rules! on_ints {
    (|$x:ident| $body:expr) => {
        Some(|t: &Tensor| {
            for_int!(
                t.dtype(),
                T => {
                    let f = |$x: T| -> T { $body };
                    let v = t.as_slice::<T>()?.iter().map(|&x| f(x)).collect();
                    Ok(Tensor::from_vec(t.dims(), v)?)
                },
                Ok(t.clone())
            )
        })
    };
}

pub(super) use on_ints;

use QuantRole::{Elementwise, FixedRange};

pub(crate) static OPERATORS: &[&dyn Operator] = &[
    unary!("Abs", [1, 6, 13], Elementwise, () x => x.abs(),
        int: on_ints!(|x| x.absolute()), dim: Some(|d| d.max(&-d))),
    unary!("Neg", [1, 6, 13], Elementwise, () x => -x,
        int: on_ints!(|x| x.negated()), dim: Some(|d| -d)),
    unary!("Sign", [9, 13], FixedRange(-1.0, 1.0), () x => Number::sign(x),
        int: on_ints!(|x| Number::sign(x))),
    unary!("Exp", [1, 6, 13], Elementwise, () x => x.exp()),
    unary!("Log", [1, 6, 13], Elementwise, () x => x.ln()),
    unary!("Sqrt", [1, 6, 13], Elementwise, () x => x.sqrt()),
    unary!("Reciprocal", [1, 6, 13], Elementwise, () x => 1.0 / x),
    unary!("Floor", [1, 6, 13], Elementwise, () x => x.floor(), dim: Some(Dim::clone)),
    unary!("Ceil", [1, 6, 13], Elementwise, () x => x.ceil(), dim: Some(Dim::clone)),
    unary!("Round", [11, 22], Elementwise, () x => x.round_ties_even(), dim: Some(Dim::clone)),
    unary!("Sin", [7, 22], FixedRange(-1.0, 1.0), () x => x.sin()),
    unary!("Cos", [7, 22], FixedRange(-1.0, 1.0), () x => x.cos()),
    unary!("Tan", [7, 22], Elementwise, () x => x.tan()),
    unary!("Asin", [7, 22], Elementwise, () x => x.asin()),
    unary!("Acos", [7, 22], Elementwise, () x => x.acos()),
    unary!("Atan", [7, 22], Elementwise, () x => x.atan()),
    unary!("Sinh", [9, 22], Elementwise, () x => x.sinh()),
    unary!("Cosh", [9, 22], Elementwise, () x => x.cosh()),
    unary!("Asinh", [9, 22], Elementwise, () x => x.asinh()),
    unary!("Acosh", [9, 22], Elementwise, () x => x.acosh()),
    unary!("Atanh", [9, 22], Elementwise, () x => x.atanh()),
    unary!("Erf", [9, 13], FixedRange(-1.0, 1.0), () x => erf(x) as T),
];
