//! Classifiers: the label of each row of features, and a score for each label. Types only.

use onnxq_ir::Attr;
use onnxq_tensor::{DType, Dim, Shape};

use super::ML;
use crate::{InferContext, Operator, Unknown};

pub(super) struct Classifier {
    pub(super) name: &'static str,
    pub(super) since: &'static [i64],
    /// The attribute with the labels where they are integers.
    pub(super) ints: &'static str,
    /// Whether there may be a score for each pair of labels instead.
    pub(super) pairs: bool,
}

impl Operator for Classifier {
    fn domain(&self) -> &'static str {
        ML
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        self.since
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let (dtype, labels) = match cx.op().attr("classlabels_strings") {
            Some(Attr::Strings(labels)) if !labels.is_empty() => (DType::String, labels.len()),
            _ => (DType::I64, cx.op().ints(self.ints).map_or(0, <[i64]>::len)),
        };
        cx.set_dtype(0, dtype);
        cx.set_dtype(1, DType::F32);
        let rows = match &cx.shape(0)?[..] {
            [_] => Dim::known(1),
            [rows, _] => rows.clone(),
            other => return Err(Unknown(format!("features of rank {}", other.len()))),
        };
        cx.set_tensor(0, dtype, Shape::from_iter([rows.clone()]));
        let scores = match self.pairs || labels == 0 {
            true => cx.fresh(1, 1),
            false => Dim::known(labels as i64),
        };
        cx.set_tensor(1, DType::F32, Shape::from_iter([rows, scores]));
        Ok(())
    }
}
