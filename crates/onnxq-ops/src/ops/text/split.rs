//! StringSplit: the parts of each string along a new axis, filled up with empty strings, and how
//! many there are. Without a delimiter, strings are split at white space, which never leaves empty
//! parts.

use onnxq_ir::Attr;
use onnxq_tensor::{Bytes, DType, Dims, Tensor};

use super::{strings, text};
use crate::{EvalContext, EvalError, InferContext, Operator, Unknown, Value, ops::rules};

pub(super) struct StringSplit;

impl Operator for StringSplit {
    fn name(&self) -> &'static str {
        "StringSplit"
    }

    fn since(&self) -> &'static [i64] {
        &[20]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, DType::String);
        cx.set_dtype(1, DType::I64);
        let mut shape = cx.shape(0)?.clone();
        cx.set_tensor(1, DType::I64, shape.clone());
        shape.push(cx.fresh(0, shape.len()));
        cx.set_tensor(0, DType::String, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = strings(cx, 0)?;
        let most = cx.op().attr("maxsplit").and_then(Attr::as_int);
        let most = most
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(usize::MAX);
        let delimiter = cx.op().str("delimiter").unwrap_or_default();
        let mut parts = Vec::with_capacity(x.len());
        for s in x.iter() {
            let s = text(cx, s)?;
            parts.push(match delimiter {
                "" => at_spaces(s, most),
                _ => s.splitn(most.saturating_add(1), delimiter).collect(),
            });
        }
        let longest = parts.iter().map(Vec::len).max().unwrap_or(0);
        let counts = parts.iter().map(|p| p.len() as i64).collect();
        let mut dims = Dims::from(cx.tensor(0)?.dims());
        let counts = Tensor::from_vec(dims.clone(), counts)?;
        dims.push(longest);
        rules::limited(&dims)?;
        let mut y = Vec::with_capacity(x.len() * longest);
        for parts in parts {
            let missing = longest - parts.len();
            y.extend(
                parts
                    .into_iter()
                    .map(|p| Bytes::copy_from_slice(p.as_bytes())),
            );
            y.resize(y.len() + missing, Bytes::new());
        }
        Ok(vec![Tensor::from_strings(dims, y)?.into(), counts.into()])
    }
}

/// The words of a string, split at most so often; the last one is all that is left.
fn at_spaces(s: &str, most: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = s.trim_start();
    while !rest.is_empty() {
        if words.len() == most {
            words.push(rest);
            break;
        }
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        words.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    words
}
