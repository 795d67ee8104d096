//! Features: selected, compared with a threshold, filled in, scaled.

use onnxq_ir::Attr;
use onnxq_tensor::{DType, Dim, Dims, Shape, Tensor};

use super::ML;
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        data::{self, Run},
        numeric::{Real, real_tensor, same_type},
        rules,
    },
};

/// The elements at the indices that are operand 1, along the last axis.
pub(super) struct ArrayFeatureExtractor;

impl Operator for ArrayFeatureExtractor {
    fn domain(&self) -> &'static str {
        ML
    }

    fn name(&self) -> &'static str {
        "ArrayFeatureExtractor"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let mut shape = match &cx.shape(0)?[..] {
            [] => return Err(Unknown::new("an operand of rank 0")),
            [_] => Shape::from_iter([Dim::known(1)]),
            [outer @ .., _] => Shape::from(outer),
        };
        let count = cx.shape(1).map_or(Dim::UNKNOWN, |s| rules::product(s));
        shape.push(match count.is_unknown() {
            true => cx.fresh(0, shape.len()),
            false => count,
        });
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let [outer @ .., size] = x.dims() else {
            return Err(cx.invalid("an operand of rank 0"));
        };
        let index = |i: i64| usize::try_from(i).ok().filter(|i| i < size);
        let indices: Option<Vec<usize>> = cx.ints(1)?.into_iter().map(index).collect();
        let indices = indices.ok_or_else(|| cx.invalid("an index that is out of range"))?;
        let mut dims = Dims::from(if outer.is_empty() { &[1] } else { outer });
        let rows = rules::count(&dims);
        dims.push(indices.len());
        let runs =
            (0..rows).flat_map(|row| indices.iter().map(move |i| Run::one(0, row * size + i)));
        Ok(vec![data::gather(&[x], dims, runs)?.into()])
    }
}

/// One where an element exceeds `threshold`, else zero.
pub(super) struct Binarizer;

impl Operator for Binarizer {
    fn domain(&self) -> &'static str {
        ML
    }

    fn name(&self) -> &'static str {
        "Binarizer"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_type(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let threshold = f64::from(cx.op().float("threshold", 0.0));
        let above = |&x: &f64| f32::from(u8::from(x > threshold));
        let y = x
            .cast(DType::F64, true)?
            .to_f64s()?
            .iter()
            .map(above)
            .collect();
        let y = Tensor::from_vec(x.dims(), y)?;
        Ok(vec![y.cast(x.dtype(), true)?.into()])
    }
}

/// The features of all operands side by side, as `float`.
pub(super) struct FeatureVectorizer;

impl Operator for FeatureVectorizer {
    fn domain(&self) -> &'static str {
        ML
    }

    fn name(&self) -> &'static str {
        "FeatureVectorizer"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, DType::F32);
        let (mut rows, mut width) = (Dim::known(1), Dim::known(0));
        for i in 0..cx.len() {
            match &cx.shape(i)?[..] {
                [features] => width = width + features,
                [n, features] => (rows, width) = (n.clone(), width + features),
                other => return Err(Unknown(format!("features of rank {}", other.len()))),
            }
        }
        cx.set_tensor(0, DType::F32, Shape::from_iter([rows, width]));
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let mut parts = Vec::with_capacity(cx.len());
        for i in 0..cx.len() {
            let t = cx.tensor(i)?.cast(DType::F32, true)?;
            parts.push(match *t.dims() {
                [features] => t.reshape(&[1, features][..])?,
                [_, _] => t,
                _ => return Err(cx.invalid(format!("features of {:?}", t.dims()))),
            });
        }
        let rows = parts.first().map_or(1, |t| t.dims()[0]);
        if parts.iter().any(|t| t.dims()[0] != rows) {
            return Err(cx.invalid("operands of different numbers of rows"));
        }
        let sources: Vec<&Tensor> = parts.iter().collect();
        let width = |t: &Tensor| t.dims()[1];
        let dims = [rows, parts.iter().map(width).sum()];
        let parts = &parts;
        let row = |row: usize| {
            let run = move |(source, t): (usize, &Tensor)| Run {
                source,
                start: row * width(t),
                len: width(t),
            };
            parts.iter().enumerate().map(run)
        };
        let y = data::gather(&sources, &dims[..], (0..rows).flat_map(row))?;
        Ok(vec![y.into()])
    }
}

/// The number for feature `i` in a list that has one for each, or one for all.
fn of_feature<T: Copy>(list: &[T], i: usize) -> T {
    list[i % list.len()]
}

/// Another number in place of one that stands for a missing one.
pub(super) struct Imputer;

impl Operator for Imputer {
    fn domain(&self) -> &'static str {
        ML
    }

    fn name(&self) -> &'static str {
        "Imputer"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_type(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, op) = (cx.tensor(0)?, cx.op());
        let features = x.dims().last().copied().unwrap_or(1);
        let fits = |len: usize| match len == 1 || len == features && len > 0 {
            true => Ok(()),
            false => Err(cx.invalid(format!("{len} values for {features} features"))),
        };
        let y = if x.dtype().is_float() {
            let imputed = op.attr("imputed_value_floats").and_then(Attr::as_floats);
            let imputed = imputed.unwrap_or_default();
            fits(imputed.len())?;
            let missing = op.float("replaced_value_float", 0.0);
            let is_missing = |x: f32| x == missing || x.is_nan() && missing.is_nan();
            let value = |(i, &x): (usize, &f32)| match is_missing(x) {
                true => of_feature(imputed, i % features),
                false => x,
            };
            real_tensor(
                x.dtype(),
                x.dims(),
                f32::read(x)?.iter().enumerate().map(value).collect(),
            )?
        } else {
            let imputed = op.ints("imputed_value_int64s").unwrap_or_default();
            fits(imputed.len())?;
            let missing = op.int("replaced_value_int64", 0);
            let value = |(i, x): (usize, i64)| match x == missing {
                true => of_feature(imputed, i % features),
                false => x,
            };
            let y = x.to_i64s()?.into_iter().enumerate().map(value).collect();
            crate::ops::numeric::int_tensor(x.dtype(), x.dims(), y)?
        };
        Ok(vec![y])
    }
}

/// Result 0 is of `float`, in the shape of operand 0.
fn float_like(cx: &mut InferContext<'_>) -> Result<(), Unknown> {
    cx.set_dtype(0, DType::F32);
    cx.set_tensor(0, DType::F32, cx.shape(0)?.clone());
    Ok(())
}

/// Operand 0 in `f64`, whatever its type.
pub(super) fn numbers(cx: &EvalContext<'_>) -> Result<Vec<f64>, EvalError> {
    let wide = cx.tensor(0)?.cast(DType::F64, true)?;
    Ok(wide.to_f64s()?.into_owned())
}

/// Each row divided by its largest element, the sum of its sizes, or its length.
pub(super) struct Normalizer;

impl Operator for Normalizer {
    fn domain(&self) -> &'static str {
        ML
    }

    fn name(&self) -> &'static str {
        "Normalizer"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        float_like(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let dims = cx.tensor(0)?.dims();
        let size = match *dims {
            [size] | [_, size] => size.max(1),
            _ => return Err(cx.invalid(format!("an operand of {dims:?}"))),
        };
        let divisor: fn(&[f64]) -> f64 = match cx.op().str("norm").unwrap_or("MAX") {
            "MAX" => |row| row.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x)),
            "L1" => |row| row.iter().map(|x| x.abs()).sum(),
            "L2" => |row| row.iter().map(|x| x * x).sum::<f64>().sqrt(),
            other => return Err(cx.invalid(format!("attribute 'norm' is '{other}'"))),
        };
        let mut y = numbers(cx)?;
        for row in y.chunks_exact_mut(size) {
            let by = divisor(row);
            if by != 0.0 {
                row.iter_mut().for_each(|x| *x /= by);
            }
        }
        Ok(vec![real_tensor(DType::F32, dims, y)?])
    }
}

/// `(x - offset) * scale`, with one of each for every feature, or for all.
pub(super) struct Scaler;

impl Operator for Scaler {
    fn domain(&self) -> &'static str {
        ML
    }

    fn name(&self) -> &'static str {
        "Scaler"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        float_like(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let dims = cx.tensor(0)?.dims();
        let features = dims.last().copied().unwrap_or(1);
        let list = |key: &str, default: f32| {
            let given = cx.op().attr(key).and_then(Attr::as_floats);
            let list = given.map_or_else(|| vec![default], <[f32]>::to_vec);
            match list.len() {
                len if len == 1 || len == features && len > 0 => Ok(list),
                len => Err(cx.invalid(format!("{len} entries of '{key}'"))),
            }
        };
        let (offset, scale) = (list("offset", 0.0)?, list("scale", 1.0)?);
        let scaled = |(i, x): (usize, f64)| {
            let i = i % features;
            (x - f64::from(of_feature(&offset, i))) * f64::from(of_feature(&scale, i))
        };
        let y = numbers(cx)?.into_iter().enumerate().map(scaled).collect();
        Ok(vec![real_tensor(DType::F32, dims, y)?])
    }
}
