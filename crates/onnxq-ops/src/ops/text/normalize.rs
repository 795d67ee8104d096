//! StringNormalizer: strings without those that are stop words, in lower or upper case.
//!
//! The operand is a vector, or a matrix of one row. Where nothing is left, the result is one empty
//! string. The locale is not looked at: cases are those of Unicode.

use onnxq_ir::Attr;
use onnxq_tensor::{Bytes, DType, Dim, Dims, Tensor};

use super::{strings, text};
use crate::{EvalContext, EvalError, InferContext, Operator, Unknown, Value};

pub(super) struct StringNormalizer;

impl Operator for StringNormalizer {
    fn name(&self) -> &'static str {
        "StringNormalizer"
    }

    fn since(&self) -> &'static [i64] {
        &[10]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, DType::String);
        let mut shape = cx.shape(0)?.clone();
        let last = shape.len().checked_sub(1);
        let last = last.ok_or_else(|| Unknown::new("an operand of rank 0"))?;
        let all_stay = match cx.op().attr("stopwords") {
            Some(Attr::Strings(words)) => words.is_empty(),
            _ => true,
        };
        shape[last] = match (all_stay, shape[last].as_const()) {
            (true, Some(1..)) => shape[last].clone(),
            (_, Some(0 | 1)) => Dim::known(1),
            _ => cx.fresh(0, last),
        };
        cx.set_tensor(0, DType::String, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = strings(cx, 0)?;
        let rank = match cx.tensor(0)?.dims() {
            [_] => 1,
            [1, _] => 2,
            dims => return Err(cx.invalid(format!("strings of {dims:?}"))),
        };
        let change = |s: &str| match cx.op().str("case_change_action").unwrap_or("NONE") {
            "NONE" => Ok(s.to_owned()),
            "LOWER" => Ok(s.to_lowercase()),
            "UPPER" => Ok(s.to_uppercase()),
            other => Err(cx.invalid(format!("attribute 'case_change_action' is '{other}'"))),
        };
        let sensitive = cx.op().int("is_case_sensitive", 0) != 0;
        let key = |s: &str| match sensitive {
            true => s.to_owned(),
            false => s.to_lowercase(),
        };
        let stop: Vec<String> = match cx.op().attr("stopwords") {
            Some(Attr::Strings(words)) => words
                .iter()
                .map(|w| Ok(key(text(cx, w)?)))
                .collect::<Result<_, EvalError>>()?,
            _ => Vec::new(),
        };
        let mut y = Vec::with_capacity(x.len());
        for word in x.iter() {
            let word = text(cx, word)?;
            if !stop.contains(&key(word)) {
                y.push(Bytes::from(change(word)?));
            }
        }
        if y.is_empty() {
            y.push(Bytes::new());
        }
        let mut dims = Dims::from_elem(1, rank);
        dims[rank - 1] = y.len();
        Ok(vec![Tensor::from_strings(dims, y)?.into()])
    }
}
