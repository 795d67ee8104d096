//! Categories: LabelEncoder maps each to a value, CategoryMapper text to integers or back,
//! OneHotEncoder each to a one among zeros.

use std::collections::HashMap;

use onnxq_ir::{Attr, Op};
use onnxq_tensor::{Bytes, DType, Dim, Dims, Tensor};

use super::ML;
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        data::{self, Run},
        rules,
    },
};

pub(super) struct CategoryMapper;
pub(super) struct LabelEncoder;
pub(super) struct OneHotEncoder;

/// A category. Floats are told apart by their value: all that are no number are one.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Text(Bytes),
    Int(i64),
    Float(u64),
}

impl Key {
    fn float(x: f64) -> Key {
        // Zero has two signs, which are equal.
        Key::Float(if x.is_nan() { f64::NAN } else { x + 0.0 }.to_bits())
    }

    /// The elements of a tensor.
    fn of(t: &Tensor) -> Result<Vec<Key>, EvalError> {
        if let Some(strings) = t.strings() {
            return Ok(strings.iter().cloned().map(Key::Text).collect());
        }
        Ok(match t.dtype().is_float() {
            true => t.to_f64s()?.iter().map(|&x| Key::float(x)).collect(),
            false => t.to_i64s()?.into_iter().map(Key::Int).collect(),
        })
    }
}

/// The list in the attribute `prefix` with the ending of its type, as a tensor.
fn list(op: &Op, prefix: &str) -> Option<Tensor> {
    let attr = |ending: &str| op.attr(&format!("{prefix}{ending}"));
    if let Some(Attr::Strings(s)) = attr("strings") {
        return Tensor::from_strings(Dims::from_slice(&[s.len()]), s.clone()).ok();
    }
    if let Some(ints) = attr("int64s").and_then(Attr::as_ints) {
        return Some(Tensor::vector(ints.to_vec()));
    }
    if let Some(floats) = attr("floats").and_then(Attr::as_floats) {
        return Some(Tensor::vector(floats.to_vec()));
    }
    attr("tensor").and_then(Attr::as_tensor).cloned()
}

/// What a category is that has no value.
fn default(op: &Op, dtype: DType) -> Result<Tensor, EvalError> {
    if let Some(t) = op.attr("default_tensor").and_then(Attr::as_tensor) {
        return Ok(t.clone());
    }
    Ok(match dtype {
        DType::String => {
            let text = match op.attr("default_string") {
                Some(Attr::String(text)) => text.clone(),
                _ => Bytes::from_static(b"_Unused"),
            };
            Tensor::from_strings(Dims::new(), vec![text])?
        }
        d if d.is_float() => Tensor::scalar(op.float("default_float", -0.0)).cast(d, true)?,
        d => Tensor::scalar(op.int("default_int64", -1)).cast(d, true)?,
    })
}

impl Operator for LabelEncoder {
    fn domain(&self) -> &'static str {
        ML
    }

    fn name(&self) -> &'static str {
        "LabelEncoder"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 2, 4]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = match list(cx.op(), "values_") {
            Some(values) => values.dtype(),
            // Opset 1: text to its place in the list, or the other way.
            None => match cx.dtype(0)? {
                DType::String => DType::I64,
                _ => DType::String,
            },
        };
        cx.set_dtype(0, dtype);
        cx.set_tensor(0, dtype, cx.shape(0)?.clone());
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let (keys, values) = match (list(cx.op(), "keys_"), list(cx.op(), "values_")) {
            (Some(keys), Some(values)) => (keys, values),
            _ => {
                let classes = list(cx.op(), "classes_");
                let classes = classes.ok_or_else(|| cx.invalid("there are no keys and values"))?;
                let places = Tensor::vector((0..classes.len() as i64).collect());
                match x.dtype() {
                    DType::String => (classes, places),
                    _ => (places, classes),
                }
            }
        };
        Ok(vec![mapped(cx, &keys, &values)?])
    }
}

/// The value of each element of operand 0.
fn mapped(cx: &EvalContext<'_>, keys: &Tensor, values: &Tensor) -> Result<Value, EvalError> {
    if keys.len() != values.len() {
        return Err(cx.invalid(format!("{} keys, {} values", keys.len(), values.len())));
    }
    let x = cx.tensor(0)?;
    let map: HashMap<Key, usize> = Key::of(keys)?.into_iter().zip(0..).collect();
    let default = default(cx.op(), values.dtype())?;
    let run = |key: &Key| map.get(key).map_or(Run::one(1, 0), |&i| Run::one(0, i));
    let elements = Key::of(x)?;
    let y = data::gather(&[values, &default], x.dims(), elements.iter().map(run))?;
    Ok(y.into())
}

impl Operator for CategoryMapper {
    fn domain(&self) -> &'static str {
        ML
    }

    fn name(&self) -> &'static str {
        "CategoryMapper"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = match cx.dtype(0)? {
            DType::String => DType::I64,
            _ => DType::String,
        };
        cx.set_dtype(0, dtype);
        cx.set_tensor(0, dtype, cx.shape(0)?.clone());
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let ints = Tensor::vector(cx.op().ints("cats_int64s").unwrap_or_default().to_vec());
        let strings = match cx.op().attr("cats_strings") {
            Some(Attr::Strings(s)) => s.clone(),
            _ => Vec::new(),
        };
        let strings = Tensor::from_strings(Dims::from_slice(&[strings.len()]), strings)?;
        Ok(vec![match cx.tensor(0)?.dtype() {
            DType::String => mapped(cx, &strings, &ints)?,
            _ => mapped(cx, &ints, &strings)?,
        }])
    }
}

impl Operator for OneHotEncoder {
    fn domain(&self) -> &'static str {
        ML
    }

    fn name(&self) -> &'static str {
        "OneHotEncoder"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, DType::F32);
        let categories = list(cx.op(), "cats_").ok_or_else(|| Unknown::new("no categories"))?;
        let mut shape = cx.shape(0)?.clone();
        shape.push(Dim::known(categories.len() as i64));
        cx.set_tensor(0, DType::F32, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let categories = list(cx.op(), "cats_").ok_or_else(|| cx.invalid("no categories"))?;
        let map: HashMap<Key, usize> = Key::of(&categories)?.into_iter().zip(0..).collect();
        let whole = match x.dtype() {
            DType::String => x.clone(),
            _ => x.cast(DType::I64, true)?,
        };
        let mut dims = Dims::from(x.dims());
        dims.push(categories.len());
        let mut y = vec![0f32; rules::limited(&dims)?];
        for (i, key) in Key::of(&whole)?.iter().enumerate() {
            match map.get(key) {
                Some(&place) => y[i * categories.len() + place] = 1.0,
                None if cx.op().int("zeros", 1) != 0 => {}
                None => return Err(cx.invalid(format!("element {i} is no category"))),
            }
        }
        Ok(vec![Tensor::from_vec(dims, y)?.into()])
    }
}
