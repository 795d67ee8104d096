//! Functions of two tensors, broadcast against each other: a table of rows, and the operator that
//! reads them.
//!
//! Before opset 7 broadcasting had to be asked for, and the second operand was aligned with the
//! first at the attribute `axis`; see [`align_legacy`].

use onnxq_ir as ir;
use onnxq_tensor::{DType, Dim, Shape, Tensor};

use super::arithmetic as a;
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        legacy::unsqueeze,
        rules::{self, Misfit},
        values,
    },
};

/// A function of two tensors.
struct Binary {
    name: &'static str,
    since: &'static [i64],
    /// Whether the result is of `bool`, and not of the type of the operands.
    predicate: bool,
    eval: fn(&EvalContext<'_>, &Tensor, &Tensor) -> Result<Tensor, EvalError>,
    /// What it is on dimensions, as elements of the type of the operands; truth values are 0 and
    /// 1.
    dim: fn(DType, &Dim, &Dim) -> Dim,
    quant: QuantRole,
}

const ARITHMETIC: Binary = Binary {
    name: "",
    since: &[1, 6, 7, 13, 14],
    predicate: false,
    eval: |cx, _, _| Err(cx.unsupported("evaluation")),
    dim: |_, _, _| Dim::UNKNOWN,
    quant: QuantRole::Elementwise,
};

const LOGIC: Binary = Binary {
    since: &[1, 7],
    predicate: true,
    quant: QuantRole::NotQuantizable,
    ..ARITHMETIC
};

const BITS: Binary = Binary {
    since: &[18],
    quant: QuantRole::NotQuantizable,
    ..ARITHMETIC
};

#[rustfmt::skip]
pub(crate) static OPERATORS: &[&dyn Operator] = &[
    &Binary { name: "Add", eval: a::add, dim: |_, a, b| a + b, ..ARITHMETIC },
    &Binary { name: "Sub", eval: a::sub, dim: |_, a, b| a - b, ..ARITHMETIC },
    &Binary { name: "Mul", eval: a::mul, dim: |_, a, b| a * b, ..ARITHMETIC },
    &Binary { name: "Div", eval: a::div, dim: divide, ..ARITHMETIC },
    &Binary { name: "Pow", since: &[1, 7, 12, 13, 15], eval: a::pow, ..ARITHMETIC },
    &Binary { name: "Mod", since: &[10, 13, 28], eval: a::modulo, dim: |_, a, b| modulo(a, b), ..BITS },
    &Binary { name: "BitShift", since: &[11, 28], eval: a::shift, ..BITS },
    &Binary { name: "BitwiseAnd", eval: a::bit_and, ..BITS },
    &Binary { name: "BitwiseOr", eval: a::bit_or, ..BITS },
    &Binary { name: "BitwiseXor", eval: a::bit_xor, ..BITS },
    &Binary { name: "And", eval: a::and, dim: |_, a, b| and(a, b), ..LOGIC },
    &Binary { name: "Or", eval: a::or, dim: |_, a, b| or(a, b), ..LOGIC },
    &Binary { name: "Xor", eval: a::xor, dim: |_, a, b| not_equal(a, b), ..LOGIC },
    &Binary { name: "Equal", since: &[1, 7, 11, 13, 19], eval: a::equal, dim: |_, a, b| equal(a, b), ..LOGIC },
    &Binary { name: "Less", since: &[1, 7, 9, 13], eval: a::less, dim: |_, a, b| less(a, b), ..LOGIC },
    &Binary { name: "Greater", since: &[1, 7, 9, 13], eval: a::greater, dim: |_, a, b| less(b, a), ..LOGIC },
    &Binary { name: "LessOrEqual", since: &[12, 16], eval: a::less_or_equal, dim: |_, a, b| not(&less(b, a)), ..LOGIC },
    &Binary { name: "GreaterOrEqual", since: &[12, 16], eval: a::greater_or_equal, dim: |_, a, b| not(&less(a, b)), ..LOGIC },
];

impl Operator for Binary {
    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        self.since
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let operand = cx.dtype(0).or_else(|e| cx.dtype(1).map_err(|_| e));
        let dtype = if self.predicate {
            DType::Bool
        } else {
            operand.clone()?
        };
        cx.set_dtype(0, dtype);
        let (a, b) = (cx.shape(0)?, cx.shape(1)?);
        let shape = match align_legacy(cx.op(), cx.opset(), a.len(), b)? {
            Some(_) => a.clone(),
            None => rules::broadcast(a, b)?,
        };
        cx.set_tensor(0, dtype, shape);
        if cx.opset() >= 7
            && let Ok(operand) = operand
        {
            values::follow_binary(cx, dtype, |a, b| (self.dim)(operand, a, b));
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (a, b) = (cx.tensor(0)?, cx.tensor(1)?);
        let shape = rules::symbolic(b.dims());
        let aligned = match align_legacy(cx.op(), cx.opset(), a.rank(), &shape)? {
            Some(shape) => {
                let aligned = b.reshape(rules::concrete(&shape)?)?;
                if a::broadcast_dims(a, &aligned)?.as_slice() != a.dims() {
                    return Err(cx.invalid("operand 1 does not broadcast to operand 0"));
                }
                aligned
            }
            None => b.clone(),
        };
        Ok(vec![(self.eval)(cx, a, &aligned)?.into()])
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(7) && self.since[0] < 7 {
            upgrade_legacy(cx)?;
        }
        Ok(())
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        self.quant
    }
}

/// The shape in which the second operand broadcasts by today's rule, where a node is older than
/// opset 7 and asks for broadcasting.
fn align_legacy(op: &ir::Op, opset: i64, rank: usize, b: &Shape) -> Result<Option<Shape>, Misfit> {
    if opset >= 7 || op.int("broadcast", 0) == 0 {
        return Ok(None);
    }
    let after = trailing_axes(op, rank, b.len())?;
    let ones = std::iter::repeat_n(Dim::known(1), after);
    Ok(Some(b.iter().cloned().chain(ones).collect()))
}

/// How many axes of the first operand come after those the second is aligned with.
fn trailing_axes(op: &ir::Op, rank: usize, b_rank: usize) -> Result<usize, Misfit> {
    let Some(axis) = op.attr("axis").and_then(ir::Attr::as_int) else {
        return Ok(0);
    };
    let misfit = || {
        Misfit(format!(
            "axis {axis} does not fit ranks {rank} and {b_rank}"
        ))
    };
    let axis = rules::axis(axis, rank.max(1))?;
    rank.checked_sub(axis + b_rank).ok_or_else(misfit)
}

/// Takes the attributes of old broadcasting away, and lets an Unsqueeze align the second operand.
fn upgrade_legacy(cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
    if cx.op().int("broadcast", 0) != 0 && cx.op().attr("axis").is_some() {
        let unknown = || UpgradeError::new("broadcasting needs the ranks of both operands");
        let (a, b) = (
            cx.rank(0).ok_or_else(unknown)?,
            cx.rank(1).ok_or_else(unknown)?,
        );
        let after = trailing_axes(cx.op(), a, b)?;
        if after > 0 {
            let axes = (b..b + after).map(|i| i as i64).collect();
            unsqueeze(cx, 1, axes);
        }
    }
    for key in ["axis", "broadcast", "consumed_inputs"] {
        cx.op_mut().attrs.shift_remove(key);
    }
    Ok(())
}

/// Integers are rounded towards zero, and floats not.
fn divide(dtype: DType, a: &Dim, b: &Dim) -> Dim {
    if dtype.is_float() {
        let quotient = a.floor_div(b);
        let exact = &quotient * b == *a;
        return if exact { quotient } else { Dim::UNKNOWN };
    }
    if let (Some(a), Some(b)) = (a.as_const(), b.as_const()) {
        return a.checked_div(b).into();
    }
    if a.provably_ge(0) && b.provably_ge(1) {
        a.floor_div(b)
    } else {
        Dim::UNKNOWN
    }
}

/// Both kinds of remainder, where they agree.
fn modulo(a: &Dim, b: &Dim) -> Dim {
    if a.provably_ge(0) && b.provably_ge(1) {
        a.rem(b)
    } else {
        Dim::UNKNOWN
    }
}

fn truth(value: bool) -> Dim {
    Dim::known(i64::from(value))
}

fn not(a: &Dim) -> Dim {
    a.as_const().map(|a| i64::from(a == 0)).into()
}

fn and(a: &Dim, b: &Dim) -> Dim {
    match (a.as_const(), b.as_const()) {
        (Some(0), _) | (_, Some(0)) => truth(false),
        (Some(_), Some(_)) => truth(true),
        _ => Dim::UNKNOWN,
    }
}

fn or(a: &Dim, b: &Dim) -> Dim {
    not(&and(&not(a), &not(b)))
}

fn equal(a: &Dim, b: &Dim) -> Dim {
    if a.is_unknown() || b.is_unknown() {
        Dim::UNKNOWN
    } else if a == b {
        truth(true)
    } else if a.provably_ne(b) {
        truth(false)
    } else {
        Dim::UNKNOWN
    }
}

fn not_equal(a: &Dim, b: &Dim) -> Dim {
    not(&equal(a, b))
}

fn less(a: &Dim, b: &Dim) -> Dim {
    if (b - a).provably_ge(1) {
        truth(true)
    } else if (a - b).provably_ge(0) {
        truth(false)
    } else {
        Dim::UNKNOWN
    }
}
