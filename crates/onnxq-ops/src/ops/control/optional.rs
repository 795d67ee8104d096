//! Optional values: `Optional`, `OptionalHasElement`, `OptionalGetElement`. Since opset 18 the
//! last two also take what is no optional value.

use std::sync::Arc;

use onnxq_ir::{Attr, Type};
use onnxq_tensor::{DType, Dims, Shape, Tensor};

use crate::{EvalContext, EvalError, InferContext, Operator, Unknown, Value};

pub(crate) static OPERATORS: &[&dyn Operator] =
    &[&Optional, &OptionalHasElement, &OptionalGetElement];

/// Operand 0 as an optional value; without it an absent one of the type in attribute `type`.
struct Optional;

impl Operator for Optional {
    fn name(&self) -> &'static str {
        "Optional"
    }

    fn since(&self) -> &'static [i64] {
        &[15, 28]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let inner = match (cx.has(0), cx.op().attr("type")) {
            (true, _) => Some(cx.ty(0)?.clone()),
            (false, Some(Attr::Type(ty))) => Some(ty.clone()),
            _ => None,
        };
        cx.set_type(0, Type::Optional(inner.map(Box::new)));
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        Ok(vec![Value::Optional(cx.value(0).cloned().map(Arc::new))])
    }
}

struct OptionalHasElement;

impl Operator for OptionalHasElement {
    fn name(&self) -> &'static str {
        "OptionalHasElement"
    }

    fn since(&self) -> &'static [i64] {
        &[15, 18, 28]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_tensor(0, DType::Bool, Shape::new());
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let has = !matches!(cx.value(0), None | Some(Value::Optional(None)));
        Ok(vec![Tensor::from_bools(Dims::new(), vec![has])?.into()])
    }
}

struct OptionalGetElement;

impl Operator for OptionalGetElement {
    fn name(&self) -> &'static str {
        "OptionalGetElement"
    }

    fn since(&self) -> &'static [i64] {
        &[15, 18, 28]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        match cx.ty(0)? {
            Type::Optional(Some(inner)) => cx.set_type(0, (**inner).clone()),
            Type::Optional(None) => return Err(Unknown::new("the type of the element is unknown")),
            _ => cx.set(0, cx.fact(0)?.clone()),
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        match cx.value(0) {
            Some(Value::Optional(Some(value))) => Ok(vec![(**value).clone()]),
            Some(Value::Optional(None)) | None => Err(cx.invalid("the optional value is absent")),
            Some(value) => Ok(vec![value.clone()]),
        }
    }
}
