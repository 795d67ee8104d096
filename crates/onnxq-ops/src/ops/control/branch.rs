//! `If`.

use onnxq_tensor::Tensor;

use super::join::join;
use crate::{EvalContext, EvalError, Fact, InferContext, Operator, Unknown, Value};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&If];

/// One of two graphs without inputs, chosen by operand 0.
struct If;

/// The truth of a tensor of one element.
pub(super) fn truth(cx: &EvalContext<'_>, t: &Tensor) -> Result<bool, EvalError> {
    match t.as_bools()?[..] {
        [truth] => Ok(truth),
        _ => Err(cx.invalid(format!("the condition has shape {:?}", t.dims()))),
    }
}

/// The truth that is known of a value.
pub(super) fn known_truth(fact: &Fact) -> Option<bool> {
    match fact.value.as_ref()?.elems[..] {
        [ref truth] => Some(truth.as_const()? != 0),
        _ => None,
    }
}

impl Operator for If {
    fn name(&self) -> &'static str {
        "If"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 11, 13, 16, 19, 21, 23, 24, 25]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let chosen = cx.fact(0).ok().and_then(known_truth);
        let then_facts = cx.region("then_branch", Vec::new())?;
        let else_facts = cx.region("else_branch", Vec::new())?;
        for i in 0..cx.results() {
            let fact = match (chosen, then_facts.get(i), else_facts.get(i)) {
                (Some(true), Some(fact), _) | (Some(false), _, Some(fact)) => fact.clone(),
                (None, Some(a), Some(b)) => join(a, b),
                _ => return Err(Unknown::new("the branches have too few results")),
            };
            cx.set(i, fact);
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let branch = if truth(cx, cx.tensor(0)?)? {
            "then_branch"
        } else {
            "else_branch"
        };
        cx.run_region(branch, Vec::new())
    }
}
