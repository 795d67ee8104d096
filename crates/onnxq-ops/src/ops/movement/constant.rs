//! Tensors made from nothing, or from their shape: `Constant`, `ConstantOfShape`, `Range`,
//! `EyeLike`.

use bytes::Bytes;
use onnxq_ir::{self as ir, Attr};
use onnxq_tensor::{DType, Dim, Dims, Shape, Tensor};

use crate::{
    EvalContext, EvalError, Fact, InferContext, Operator, SymTensor, Unknown, Value,
    ops::{
        number::{self, for_number},
        rules::{self, Misfit},
        values,
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&Constant, &ConstantOfShape, &Range, &EyeLike];

/// The value in the one attribute that is set.
struct Constant;

impl Constant {
    fn value(op: &ir::Op) -> Result<Tensor, Misfit> {
        let strings = |values: &[Bytes], dims: Dims| {
            Tensor::from_strings(dims, values.to_vec()).map_err(|e| Misfit(e.to_string()))
        };
        let one = || Dims::from_slice(&[]);
        for (key, attr) in &op.attrs {
            return match (key.as_str(), attr) {
                ("value", Attr::Tensor(t)) => Ok(t.clone()),
                ("value_float", Attr::Float(v)) => Ok(Tensor::scalar(*v)),
                ("value_int", Attr::Int(v)) => Ok(Tensor::scalar(*v)),
                ("value_string", Attr::String(v)) => strings(std::slice::from_ref(v), one()),
                ("value_floats", Attr::Floats(v)) => Ok(Tensor::vector(v.clone())),
                ("value_ints", Attr::Ints(v)) => Ok(Tensor::vector(v.clone())),
                ("value_strings", Attr::Strings(v)) => strings(v, Dims::from_slice(&[v.len()])),
                ("sparse_value", Attr::SparseTensor(s)) => dense(s),
                _ => continue,
            };
        }
        Err(Misfit::new("no attribute has a value"))
    }
}

/// A sparse tensor with its zeros.
fn dense(sparse: &ir::SparseTensor) -> Result<Tensor, Misfit> {
    let of = |e: onnxq_tensor::TensorError| Misfit(e.to_string());
    let shape: Shape = sparse.dims.iter().map(|&d| Dim::known(d)).collect();
    let dims = rules::concrete(&shape).map_err(|e| Misfit(e.to_string()))?;
    let indices = sparse.indices.to_i64s().map_err(of)?;
    let count = sparse.values.len();
    let depth = if sparse.indices.rank() == 2 {
        dims.len()
    } else {
        1
    };
    if indices.len() != count * depth || sparse.values.dtype().is_packed() {
        return Err(Misfit::new("the indices of the sparse value do not fit it"));
    }
    let zeros = Tensor::zeros(sparse.values.dtype(), dims.clone()).map_err(of)?;
    let mut bytes = zeros.bytes().to_vec();
    let width = sparse.values.dtype().bits() / 8;
    for (i, value) in sparse.values.bytes().chunks_exact(width.max(1)).enumerate() {
        let index = &indices[i * depth..(i + 1) * depth];
        let place = if sparse.indices.rank() == 2 {
            let place = |at: usize, (&i, &d): (&i64, &usize)| {
                let i = usize::try_from(i).ok().filter(|&i| i < d)?;
                Some(at * d + i)
            };
            index.iter().zip(&dims).try_fold(0, place)
        } else {
            usize::try_from(index[0]).ok()
        };
        let slot = place
            .and_then(|p| bytes.get_mut(p.checked_mul(width)?..(p + 1).checked_mul(width)?))
            .ok_or_else(|| Misfit::new("an index of the sparse value is out of range"))?;
        slot.copy_from_slice(value);
    }
    Tensor::new(sparse.values.dtype(), dims, bytes).map_err(of)
}

impl Operator for Constant {
    fn name(&self) -> &'static str {
        "Constant"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 9, 11, 12, 13, 19, 21, 23, 24, 25]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set(0, Fact::of_constant(&Constant::value(cx.op())?));
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        Ok(vec![Constant::value(cx.op())?.into()])
    }
}

/// A tensor of one value everywhere, of the shape in operand 0.
struct ConstantOfShape;

impl ConstantOfShape {
    fn value(op: &ir::Op) -> Tensor {
        let value = op.attr("value").and_then(Attr::as_tensor);
        value.cloned().unwrap_or_else(|| Tensor::scalar(0f32))
    }
}

impl Operator for ConstantOfShape {
    fn name(&self) -> &'static str {
        "ConstantOfShape"
    }

    fn since(&self) -> &'static [i64] {
        &[9, 20, 21, 23, 24, 25]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let value = ConstantOfShape::value(cx.op());
        cx.set_dtype(0, value.dtype());
        let mut shape: Shape = match cx.value(0) {
            Ok(shape) => shape.elems.iter().cloned().collect(),
            Err(_) => std::iter::repeat_n(Dim::UNKNOWN, values::vector_len(cx, 0)?).collect(),
        };
        for (i, d) in shape.iter_mut().enumerate() {
            if d.is_unknown() {
                *d = cx.fresh(0, i);
            }
        }
        cx.set_tensor(0, value.dtype(), shape);
        let len = cx
            .result(0)
            .dims()
            .and_then(|dims| rules::limited(&dims).ok());
        if let (Some(len @ ..=SymTensor::MAX_LEN), Ok(elem)) = (len, value.scalar_i64()) {
            cx.set_value(
                0,
                SymTensor {
                    dtype: value.dtype(),
                    dims: cx.result(0).dims().unwrap_or_default(),
                    elems: vec![Dim::known(elem); len],
                },
            );
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let shape: Shape = cx.ints(0)?.into_iter().map(Dim::known).collect();
        let value = ConstantOfShape::value(cx.op());
        let dims = rules::concrete(&shape)?;
        Ok(vec![Tensor::fill(value.dtype(), dims, &value)?.into()])
    }
}

/// `start`, `start + delta`, ... as long as it is before `limit`.
struct Range;

impl Operator for Range {
    fn name(&self) -> &'static str {
        "Range"
    }

    fn since(&self) -> &'static [i64] {
        &[11, 27]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx
            .dtype(0)
            .or_else(|e| cx.dtype(1).or(cx.dtype(2)).map_err(|_| e))?;
        cx.set_tensor(0, dtype, [cx.fresh(0, 0)].into_iter().collect());
        let scalar = |i: usize| {
            cx.value(i)
                .map(|v| v.elems.first().cloned().unwrap_or_default())
        };
        let (start, limit, delta) = (scalar(0)?, scalar(1)?, scalar(2)?);
        if !dtype.is_int() {
            return Ok(());
        }
        let zero = Dim::known(0);
        let len = if delta.provably_ge(1) {
            (&limit - &start).ceil_div(&delta).max(&zero)
        } else if delta.provably_le(-1) {
            (&start - &limit).ceil_div(&-&delta).max(&zero)
        } else {
            return Err(Unknown::new("the sign of the step is unknown"));
        };
        match len.as_const() {
            Some(n) if n <= SymTensor::MAX_LEN as i64 => {
                let elems: Vec<Dim> = (0..n).map(|i| &start + i * &delta).collect();
                let dims = Dims::from_slice(&[elems.len()]);
                cx.set_value(0, SymTensor { dtype, dims, elems });
            }
            _ if len.is_unknown() => {}
            _ => cx.set_tensor(0, dtype, [len].into_iter().collect()),
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let dtype = cx.tensor(0)?.dtype();
        let operand = |i: usize| number::widen(cx.tensor(i)?);
        let (start, limit, delta) = (operand(0)?, operand(1)?, operand(2)?);
        let len = if dtype.is_int() {
            let (start, limit, delta) = (
                i128::from(start.scalar_i64()?),
                i128::from(limit.scalar_i64()?),
                i128::from(delta.scalar_i64()?),
            );
            if delta == 0 {
                return Err(cx.invalid("the step is 0"));
            }
            let span = (limit - start) * delta.signum();
            let step = delta.abs();
            usize::try_from((span + step - 1).div_euclid(step).max(0)).unwrap_or(usize::MAX)
        } else {
            let (start, limit, delta) = (
                start.scalar_f64()?,
                limit.scalar_f64()?,
                delta.scalar_f64()?,
            );
            let len = ((limit - start) / delta).ceil();
            if len.is_nan() {
                return Err(cx.invalid("the number of elements is not defined"));
            }
            len.max(0.0) as usize
        };
        rules::limited(&[len])?;
        let out = for_number!(
            start.dtype(),
            T => {
                let (start, delta) = (start.item::<T>()?, delta.item::<T>()?);
                let mut at = start;
                let mut next = || {
                    let here = at;
                    at = number::Number::add(at, delta);
                    here
                };
                Tensor::vector((0..len).map(|_| next()).collect::<Vec<T>>())
            },
            return Err(cx.unsupported_type(dtype))
        );
        Ok(vec![number::narrow(out, dtype)?.into()])
    }
}

/// A matrix of zeros with ones on diagonal `k`, of the shape of operand 0.
struct EyeLike;

impl EyeLike {
    fn dtype(op: &ir::Op, operand: DType) -> Result<DType, Misfit> {
        match op.attr("dtype").and_then(Attr::as_int) {
            Some(code) => i32::try_from(code)
                .ok()
                .and_then(DType::from_onnx)
                .ok_or_else(|| Misfit::new("attribute 'dtype' is no element type")),
            None => Ok(operand),
        }
    }
}

impl Operator for EyeLike {
    fn name(&self) -> &'static str {
        "EyeLike"
    }

    fn since(&self) -> &'static [i64] {
        &[9, 22]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = EyeLike::dtype(cx.op(), cx.dtype(0)?)?;
        cx.set_dtype(0, dtype);
        cx.set_tensor(0, dtype, cx.shape(0)?.clone());
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let &[rows, columns] = x.dims() else {
            return Err(cx.invalid(format!("rank {} instead of 2", x.rank())));
        };
        let k = cx.op().int("k", 0);
        let on_diagonal = |i: usize| {
            let (row, column) = ((i / columns) as i64, (i % columns) as i64);
            row.saturating_add(k) == column
        };
        let ones = (0..rows * columns).map(on_diagonal).collect();
        let eye = Tensor::from_bools(x.dims(), ones)?;
        let dtype = EyeLike::dtype(cx.op(), x.dtype())?;
        Ok(vec![eye.cast(dtype, true)?.into()])
    }
}
