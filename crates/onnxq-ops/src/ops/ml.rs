//! Operators of `ai.onnx.ml` on tensors: features that are selected, scaled and encoded, linear
//! models, and ensembles of trees. Those on maps are not here.

use crate::{EvalContext, EvalError, Operator};

mod classify;
mod encode;
mod features;
mod linear;
mod trees;

const ML: &str = "ai.onnx.ml";

pub(super) static OPERATORS: &[&dyn Operator] = &[
    &classify::Classifier {
        name: "LinearClassifier",
        since: &[1],
        ints: "classlabels_ints",
        pairs: false,
    },
    &classify::Classifier {
        name: "SVMClassifier",
        since: &[1],
        ints: "classlabels_ints",
        pairs: true,
    },
    &classify::Classifier {
        name: "TreeEnsembleClassifier",
        since: &[1, 3, 5],
        ints: "classlabels_int64s",
        pairs: false,
    },
    &encode::CategoryMapper,
    &encode::LabelEncoder,
    &encode::OneHotEncoder,
    &features::ArrayFeatureExtractor,
    &features::Binarizer,
    &features::FeatureVectorizer,
    &features::Imputer,
    &features::Normalizer,
    &features::Scaler,
    &linear::LinearRegressor,
    &trees::TreeEnsemble,
    &trees::TreeEnsembleRegressor,
];

/// What is done with the scores of a row in the end.
#[derive(Clone, Copy)]
enum Transform {
    None,
    Softmax,
    Logistic,
    /// The softmax of the scores that are not zero.
    SoftmaxZero,
}

impl Transform {
    fn of(cx: &EvalContext<'_>, name: &str) -> Result<Transform, EvalError> {
        match name {
            "NONE" => Ok(Transform::None),
            "SOFTMAX" => Ok(Transform::Softmax),
            "LOGISTIC" => Ok(Transform::Logistic),
            "SOFTMAX_ZERO" => Ok(Transform::SoftmaxZero),
            other => Err(cx.unsupported(format!("post_transform '{other}'"))),
        }
    }

    fn apply(self, row: &mut [f64]) {
        let max = row.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x));
        match self {
            Transform::None => return,
            Transform::Logistic => {
                row.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp()));
                return;
            }
            Transform::Softmax => row.iter_mut().for_each(|x| *x = (*x - max).exp()),
            Transform::SoftmaxZero => {
                let nonzero = row.iter_mut().filter(|x| **x != 0.0);
                nonzero.for_each(|x| *x = (*x - max).exp());
            }
        }
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
    }
}
