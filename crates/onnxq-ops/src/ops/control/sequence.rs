//! Sequences: `SequenceEmpty`, `SequenceConstruct`, `SequenceAt`, `SequenceLength`,
//! `SequenceInsert`, `SequenceErase`.

use std::sync::Arc;

use onnxq_ir::{Attr, Type};
use onnxq_tensor::{DType, Shape, Tensor};

use super::join::join;
use crate::{
    EvalContext, EvalError, Fact, InferContext, Operator, Unknown, Value, ops::rules::Misfit,
};

/// One operator on sequences.
struct Sequence {
    name: &'static str,
    infer: fn(&mut InferContext<'_>) -> Result<(), Unknown>,
    eval: fn(&EvalContext<'_>) -> Result<Value, EvalError>,
}

#[rustfmt::skip]
pub(crate) static OPERATORS: &[&dyn Operator] = &[
    &Sequence { name: "SequenceEmpty", infer: infer_empty, eval: |_| Ok(sequence(Vec::new())) },
    &Sequence { name: "SequenceConstruct", infer: infer_construct, eval: eval_construct },
    &Sequence { name: "SequenceAt", infer: infer_at, eval: eval_at },
    &Sequence { name: "SequenceLength", infer: infer_length, eval: eval_length },
    &Sequence { name: "SequenceInsert", infer: infer_insert, eval: eval_insert },
    &Sequence { name: "SequenceErase", infer: infer_erase, eval: eval_erase },
];

impl Operator for Sequence {
    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        &[11]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        (self.infer)(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        Ok(vec![(self.eval)(cx)?])
    }
}

pub(super) fn sequence(values: Vec<Value>) -> Value {
    Value::Sequence(Arc::new(values))
}

/// The sequence that is operand `i`.
pub(super) fn elements<'a>(cx: &EvalContext<'a>, i: usize) -> Result<&'a [Value], EvalError> {
    match cx.value(i) {
        Some(Value::Sequence(s)) => Ok(s),
        Some(_) => Err(EvalError::Operand {
            index: i,
            message: "expected a sequence".to_owned(),
        }),
        None => Err(EvalError::Missing { index: i }),
    }
}

/// The type of the elements of the sequence that is operand `i`.
pub(super) fn element_type(cx: &InferContext<'_>, i: usize) -> Result<Type, Unknown> {
    match cx.ty(i)? {
        Type::Sequence(Some(element)) => Ok((**element).clone()),
        Type::Sequence(None) => Err(Unknown::new("the type of the elements is unknown")),
        _ => Err(Unknown::new(format!("operand {i} is no sequence"))),
    }
}

fn infer_empty(cx: &mut InferContext<'_>) -> Result<(), Unknown> {
    let dtype = match cx.op().attr("dtype").and_then(Attr::as_int) {
        Some(code) => i32::try_from(code)
            .ok()
            .and_then(DType::from_onnx)
            .ok_or_else(|| Misfit::new("attribute 'dtype' is no element type"))?,
        None => DType::F32,
    };
    let element = Type::tensor(dtype, None);
    cx.set_type(0, Type::Sequence(Some(Box::new(element))));
    Ok(())
}

fn infer_construct(cx: &mut InferContext<'_>) -> Result<(), Unknown> {
    let mut element = Fact::of_type(cx.ty(0)?.clone());
    for i in 1..cx.len() {
        element = join(&element, &Fact::of_type(cx.ty(i)?.clone()));
    }
    cx.set_type(0, Type::Sequence(element.ty.map(Box::new)));
    Ok(())
}

fn eval_construct(cx: &EvalContext<'_>) -> Result<Value, EvalError> {
    let tensor = |i: usize| Ok(cx.tensor(i)?.clone().into());
    Ok(sequence(
        (0..cx.len())
            .map(tensor)
            .collect::<Result<_, EvalError>>()?,
    ))
}

fn infer_at(cx: &mut InferContext<'_>) -> Result<(), Unknown> {
    let element = element_type(cx, 0)?;
    cx.set_type(0, element);
    Ok(())
}

/// The position in a sequence that operand `i` means: up to `len` itself where something is
/// inserted (`end`).
fn position(cx: &EvalContext<'_>, i: usize, len: usize, end: bool) -> Result<usize, EvalError> {
    let position = cx.tensor(i)?.scalar_i64()?;
    let count = len + usize::from(end);
    let from_front = if position < 0 {
        position.saturating_add(len as i64)
    } else {
        position
    };
    usize::try_from(from_front)
        .ok()
        .filter(|&p| p < count)
        .ok_or_else(|| cx.invalid(format!("position {position} in a sequence of {len}")))
}

fn eval_at(cx: &EvalContext<'_>) -> Result<Value, EvalError> {
    let elements = elements(cx, 0)?;
    Ok(elements[position(cx, 1, elements.len(), false)?].clone())
}

fn infer_length(cx: &mut InferContext<'_>) -> Result<(), Unknown> {
    cx.set_tensor(0, DType::I64, Shape::new());
    Ok(())
}

fn eval_length(cx: &EvalContext<'_>) -> Result<Value, EvalError> {
    Ok(Tensor::scalar(elements(cx, 0)?.len() as i64).into())
}

fn infer_insert(cx: &mut InferContext<'_>) -> Result<(), Unknown> {
    cx.set_type(0, Type::Sequence(None));
    let element = join(
        &Fact::of_type(element_type(cx, 0)?),
        &Fact::of_type(cx.ty(1)?.clone()),
    );
    cx.set_type(0, Type::Sequence(element.ty.map(Box::new)));
    Ok(())
}

fn eval_insert(cx: &EvalContext<'_>) -> Result<Value, EvalError> {
    let mut elements = elements(cx, 0)?.to_vec();
    let at = match cx.value(2) {
        Some(_) => position(cx, 2, elements.len(), true)?,
        None => elements.len(),
    };
    elements.insert(at, cx.tensor(1)?.clone().into());
    Ok(sequence(elements))
}

fn infer_erase(cx: &mut InferContext<'_>) -> Result<(), Unknown> {
    cx.set_type(0, cx.ty(0)?.clone());
    Ok(())
}

fn eval_erase(cx: &EvalContext<'_>) -> Result<Value, EvalError> {
    let mut elements = elements(cx, 0)?.to_vec();
    let at = match cx.value(1) {
        Some(_) => position(cx, 1, elements.len(), false)?,
        None => (elements.len().checked_sub(1))
            .ok_or_else(|| cx.invalid("an empty sequence has no last element"))?,
    };
    elements.remove(at);
    Ok(sequence(elements))
}
