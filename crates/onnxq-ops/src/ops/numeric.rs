//! Tensors as numbers to compute with, and dimensions to compute over.
//!
//! Evaluation is written once over [`Real`]: `f32` for float, float16 and bfloat16 (widened, and
//! rounded once at the end), `f64` for double. [`with_real`] chooses by element type. Integers
//! are computed in `i64` with wrapping arithmetic and narrowed at the end, which equals
//! arithmetic modulo the width of their type.

use std::borrow::Cow;

use half::{bf16, f16};
use ndarray::NdFloat;
use onnxq_ir::Op;
use onnxq_tensor::{DType, Dims, Element, Tensor, TensorError};

use super::rules;
use crate::{EvalContext, EvalError, InferContext, Unknown, Value};

/// A float type that evaluation computes in.
pub(super) trait Real: NdFloat + Element {
    /// The nearest value.
    fn of(x: f64) -> Self;

    /// The value, exactly.
    fn wide(self) -> f64;

    /// The elements of a float tensor.
    fn read(t: &Tensor) -> Result<Cow<'_, [Self]>, TensorError>;
}

fn not_float(t: &Tensor) -> TensorError {
    TensorError::Kind {
        expected: "float, double, float16 or bfloat16",
        found: t.dtype(),
    }
}

impl Real for f32 {
    fn of(x: f64) -> f32 {
        x as f32
    }

    fn wide(self) -> f64 {
        f64::from(self)
    }

    fn read(t: &Tensor) -> Result<Cow<'_, [f32]>, TensorError> {
        Ok(match t.dtype() {
            DType::F32 => t.as_slice()?,
            DType::F16 => t.as_slice::<f16>()?.iter().map(|x| x.to_f32()).collect(),
            DType::BF16 => t.as_slice::<bf16>()?.iter().map(|x| x.to_f32()).collect(),
            DType::F64 => t.as_slice::<f64>()?.iter().map(|&x| x as f32).collect(),
            _ => return Err(not_float(t)),
        })
    }
}

impl Real for f64 {
    fn of(x: f64) -> f64 {
        x
    }

    fn wide(self) -> f64 {
        self
    }

    fn read(t: &Tensor) -> Result<Cow<'_, [f64]>, TensorError> {
        Ok(match t.dtype() {
            DType::F64 => t.as_slice()?,
            _ => f32::read(t)?.iter().map(|&x| f64::from(x)).collect(),
        })
    }
}

/// Evaluates `$body` with `$T` the type that elements of `$dtype` are computed in.
macro_rules! with_real {
    ($cx:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            onnxq_tensor::DType::F32 | onnxq_tensor::DType::F16 | onnxq_tensor::DType::BF16 => {
                type $T = f32;
                $body
            }
            onnxq_tensor::DType::F64 => {
                type $T = f64;
                $body
            }
            other => Err($cx.unsupported_type(other)),
        }
    };
}
pub(super) use with_real;

/// A tensor of `dtype` with these values, each rounded once.
pub(super) fn real_tensor<T: Real>(
    dtype: DType,
    dims: &[usize],
    values: Vec<T>,
) -> Result<Value, EvalError> {
    let t = match dtype {
        d if d == T::DTYPE => Tensor::from_vec(dims, values)?,
        DType::F32 => Tensor::from_vec(dims, map(values, |x| x.wide() as f32))?,
        DType::F64 => Tensor::from_vec(dims, map(values, T::wide))?,
        // Through f32, as a float16 result is that of the f32 computation, rounded.
        DType::F16 => Tensor::from_vec(dims, map(values, |x| f16::from_f32(x.wide() as f32)))?,
        DType::BF16 => Tensor::from_vec(dims, map(values, |x| bf16::from_f32(x.wide() as f32)))?,
        other => {
            return Err(EvalError::Tensor(TensorError::Kind {
                expected: "float, double, float16 or bfloat16",
                found: other,
            }));
        }
    };
    Ok(t.into())
}

/// A tensor of the integer type `dtype` with these values modulo its width.
pub(super) fn int_tensor(
    dtype: DType,
    dims: &[usize],
    values: Vec<i64>,
) -> Result<Value, EvalError> {
    let t = match dtype {
        DType::I64 => Tensor::from_vec(dims, values)?,
        DType::U64 => Tensor::from_vec(dims, map(values, |x| x as u64))?,
        DType::I32 => Tensor::from_vec(dims, map(values, |x| x as i32))?,
        DType::U32 => Tensor::from_vec(dims, map(values, |x| x as u32))?,
        DType::I16 => Tensor::from_vec(dims, map(values, |x| x as i16))?,
        DType::U16 => Tensor::from_vec(dims, map(values, |x| x as u16))?,
        DType::I8 => Tensor::from_vec(dims, map(values, |x| x as i8))?,
        DType::U8 => Tensor::from_vec(dims, map(values, |x| x as u8))?,
        DType::Bool => Tensor::from_bools(dims, map(values, |x| x != 0))?,
        d if d.is_int() && d.is_packed() => {
            Tensor::from_packed_bits(d, dims, values.into_iter().map(|x| x as u8))?
        }
        other => {
            return Err(EvalError::Tensor(TensorError::Kind {
                expected: "an integer type",
                found: other,
            }));
        }
    };
    Ok(t.into())
}

fn map<T, U>(values: Vec<T>, f: impl FnMut(T) -> U) -> Vec<U> {
    values.into_iter().map(f).collect()
}

/// The axis in attribute `key` of a tensor of this rank.
pub(super) fn axis_attr(op: &Op, key: &str, default: i64, rank: usize) -> Result<usize, String> {
    rules::axis(op.int(key, default), rank).map_err(|e| format!("attribute '{key}': {}", e.0))
}

/// The dimensions before, at, and after `axis`, multiplied.
pub(super) fn around(dims: &[usize], axis: usize) -> (usize, usize, usize) {
    (
        product(&dims[..axis]),
        dims[axis],
        product(&dims[axis + 1..]),
    )
}

/// The product of some dimensions of a tensor. Where others are zero these may be of any size:
/// callers treat empty tensors apart.
pub(super) fn product(dims: &[usize]) -> usize {
    dims.iter().fold(1, |n: usize, &d| n.saturating_mul(d))
}

/// Result 0 has the type of operand 0.
pub(super) fn same_type(cx: &mut InferContext<'_>) -> Result<(), Unknown> {
    let ty = cx.ty(0)?.clone();
    cx.set_type(0, ty);
    Ok(())
}

/// The shape that two shapes broadcast to (NumPy's rule).
pub(super) fn broadcast_dims(a: &[usize], b: &[usize]) -> Option<Dims> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], i: usize| match (i + dims.len()).checked_sub(rank) {
        Some(j) => dims[j],
        None => 1,
    };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// Row-major strides of `dims`.
pub(super) fn strides_of(dims: &[usize]) -> Dims {
    let mut strides = Dims::from_elem(1, dims.len());
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(dims[i]);
    }
    strides
}

/// Strides of an operand of `dims` that is broadcast to `to`: 0 where it is repeated.
pub(super) fn broadcast_strides(dims: &[usize], to: &[usize]) -> Dims {
    let own = strides_of(dims);
    let missing = to.len() - dims.len();
    (0..to.len())
        .map(|i| match i.checked_sub(missing) {
            Some(j) if dims[j] != 1 => own[j],
            _ => 0,
        })
        .collect()
}

/// Advances a multi-index over `dims`, and with it the offsets into operands of these strides.
/// Returns false after the last.
pub(super) fn advance<const N: usize>(
    index: &mut [usize],
    dims: &[usize],
    strides: [&[usize]; N],
    offsets: &mut [usize; N],
) -> bool {
    for axis in (0..dims.len()).rev() {
        index[axis] += 1;
        for (offset, stride) in offsets.iter_mut().zip(strides) {
            *offset += stride[axis];
        }
        if index[axis] < dims[axis] {
            return true;
        }
        for (offset, stride) in offsets.iter_mut().zip(strides) {
            *offset -= stride[axis] * dims[axis];
        }
        index[axis] = 0;
    }
    false
}

/// Reads the integers of an attribute, or `default` for each of `len` axes.
pub(super) fn ints_attr(
    op: &Op,
    key: &str,
    len: usize,
    default: i64,
    range: std::ops::RangeInclusive<i64>,
) -> Result<Vec<i64>, String> {
    let Some(given) = op.ints(key) else {
        return Ok(vec![default; len]);
    };
    if given.len() != len {
        return Err(format!(
            "attribute '{key}' has {} entries, expected {len}",
            given.len()
        ));
    }
    if let Some(bad) = given.iter().find(|v| !range.contains(v)) {
        return Err(format!("attribute '{key}' contains {bad}"));
    }
    Ok(given.to_vec())
}

/// The tensor that is operand `i`, which must have these dimensions.
pub(super) fn expect_dims<'a>(
    cx: &EvalContext<'a>,
    i: usize,
    dims: &[usize],
) -> Result<&'a Tensor, EvalError> {
    let t = cx.tensor(i)?;
    if t.dims() == dims {
        return Ok(t);
    }
    Err(EvalError::Operand {
        index: i,
        message: format!("expected dimensions {dims:?}, found {:?}", t.dims()),
    })
}
