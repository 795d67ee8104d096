//! Strings: joined, split, normalized, matched, and counted as n-grams.

use std::{str, sync::Arc};

use onnxq_tensor::Bytes;

use crate::{EvalContext, EvalError, Operator};

mod concat;
mod ngrams;
mod normalize;
mod pattern;
mod split;

pub(super) static OPERATORS: &[&dyn Operator] = &[
    &concat::StringConcat,
    &ngrams::TfIdfVectorizer,
    &normalize::StringNormalizer,
    &pattern::RegexFullMatch,
    &split::StringSplit,
];

/// The strings that are operand `i`.
fn strings(cx: &EvalContext<'_>, i: usize) -> Result<Arc<[Bytes]>, EvalError> {
    let strings = cx.tensor(i)?.strings().cloned();
    strings.ok_or_else(|| EvalError::Operand {
        index: i,
        message: "expected strings".to_owned(),
    })
}

/// A string as text.
fn text<'a>(cx: &EvalContext<'_>, bytes: &'a Bytes) -> Result<&'a str, EvalError> {
    str::from_utf8(bytes).map_err(|e| cx.invalid(format!("a string that is no UTF-8: {e}")))
}
