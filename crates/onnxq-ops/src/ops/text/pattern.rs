//! RegexFullMatch: whether a regular expression matches the whole of each string. The syntax is
//! that of RE2, from which that of the `regex` crate derives; time is linear in the string.

use onnxq_tensor::{DType, Tensor};
use regex::RegexBuilder;

use super::{strings, text};
use crate::{EvalContext, EvalError, InferContext, Operator, Unknown, Value};

pub(super) struct RegexFullMatch;

impl Operator for RegexFullMatch {
    fn name(&self) -> &'static str {
        "RegexFullMatch"
    }

    fn since(&self) -> &'static [i64] {
        &[20]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, DType::Bool);
        cx.set_tensor(0, DType::Bool, cx.shape(0)?.clone());
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = strings(cx, 0)?;
        let pattern = cx.op().str("pattern").unwrap_or_default();
        // A pattern may ask for a huge automaton; so much of memory it may take.
        let whole = RegexBuilder::new(&format!(r"\A(?:{pattern})\z"))
            .size_limit(1 << 22)
            .build()
            .map_err(|e| cx.invalid(format!("attribute 'pattern': {e}")))?;
        let matches = |s| Ok(whole.is_match(text(cx, s)?));
        let y = x.iter().map(matches).collect::<Result<_, EvalError>>()?;
        Ok(vec![Tensor::from_bools(cx.tensor(0)?.dims(), y)?.into()])
    }
}
