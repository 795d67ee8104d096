//! Following the elements of shape tensors through operators.

use onnxq_tensor::{DType, Dim, Dims, Tensor};

use super::{data, rules};
use crate::{EvalContext, EvalError, InferContext, Operator, SymTensor, Unknown, Value};

/// Follows elements through an operator that only moves them: `moved` are the operands they come
/// from, all others must be constant. Types of the results must be set.
///
/// The operator is evaluated on the numbers of the elements instead of the elements.
pub(super) fn follow_moved(cx: &mut InferContext<'_>, operator: &dyn Operator, moved: &[usize]) {
    let results = (0..cx.results()).map(|i| followed_len(cx, i));
    if results.sum::<Option<usize>>().is_none() {
        return;
    }
    // Number 0 is what an operator fills in by itself: zero.
    let mut elems = vec![Dim::known(0)];
    let mut dtype = None;
    let mut operands: Vec<Option<Value>> = Vec::with_capacity(cx.len());
    for i in 0..cx.len() {
        if !cx.has(i) {
            operands.push(None);
        } else if moved.contains(&i) {
            let Ok(value) = cx.value(i) else { return };
            if *dtype.get_or_insert(value.dtype) != value.dtype {
                return;
            }
            let first = elems.len() as i64;
            let numbers = (first..first + value.elems.len() as i64).collect();
            let Ok(t) = Tensor::from_vec(value.dims.clone(), numbers) else {
                return;
            };
            elems.extend(value.elems.iter().cloned());
            operands.push(Some(t.into()));
        } else {
            let Some(t) = cx.constant(i) else { return };
            operands.push(Some(t.clone().into()));
        }
    }
    let no_region = |_: &_, _| Err(EvalError::Unsupported("a region".to_owned()));
    let cx_eval = EvalContext::new(cx.op(), cx.opset(), &operands, cx.results(), &no_region);
    let Ok(results) = operator.eval(&cx_eval) else {
        return;
    };
    for (i, result) in results.iter().enumerate() {
        let Some(t) = result.as_tensor() else {
            continue;
        };
        let Ok(numbers) = t.as_slice::<i64>() else {
            continue;
        };
        let elem = |&n: &i64| elems.get(n as usize).cloned().unwrap_or_default();
        cx.set_value(
            i,
            SymTensor {
                dtype: dtype.unwrap_or(DType::I64),
                dims: t.dims().into(),
                elems: numbers.iter().map(elem).collect(),
            },
        );
    }
}

/// The length of the vector that is operand `i`, whatever its elements: the rank of what they
/// describe.
pub(super) fn vector_len(cx: &InferContext<'_>, i: usize) -> Result<usize, Unknown> {
    const MAX_RANK: i64 = 256;
    match cx.shape(i)?.as_slice() {
        [len] => match len.as_const() {
            Some(len @ 0..=MAX_RANK) => Ok(len as usize),
            _ => Err(Unknown(format!("the length of operand {i} is unknown"))),
        },
        _ => Err(Unknown(format!("operand {i} is no vector"))),
    }
}

/// The number of elements of result `i`, if it is few enough to be followed.
fn followed_len(cx: &InferContext<'_>, i: usize) -> Option<usize> {
    let dims = cx.result(i).dims()?;
    let len = rules::limited(&dims).ok()?;
    (len <= SymTensor::MAX_LEN).then_some(len)
}

/// Sets result 0 to `f` of the elements of operands 0 and 1, broadcast, if they are known.
pub(super) fn follow_binary(
    cx: &mut InferContext<'_>,
    dtype: DType,
    f: impl Fn(&Dim, &Dim) -> Dim,
) {
    let (Ok(a), Ok(b)) = (cx.value(0), cx.value(1)) else {
        return;
    };
    if let Some(value) = zip(a, b, dtype, f) {
        cx.set_value(0, value);
    }
}

/// `f` of the elements of two tensors, broadcast.
pub(super) fn zip(
    a: &SymTensor,
    b: &SymTensor,
    dtype: DType,
    f: impl Fn(&Dim, &Dim) -> Dim,
) -> Option<SymTensor> {
    let shape = rules::broadcast(&rules::symbolic(&a.dims), &rules::symbolic(&b.dims)).ok()?;
    let dims: Dims = rules::concrete(&shape).ok()?;
    if rules::count(&dims) > SymTensor::MAX_LEN {
        return None;
    }
    let elems = data::zip((&a.elems, &a.dims), (&b.elems, &b.dims), &dims, f);
    Some(SymTensor { dtype, dims, elems })
}

/// Sets result 0 to `f` of the elements of operand 0, if they are known.
pub(super) fn follow_unary(cx: &mut InferContext<'_>, dtype: DType, f: impl Fn(&Dim) -> Dim) {
    let Ok(value) = cx.value(0) else { return };
    let elems = value.elems.iter().map(f).collect();
    let dims = value.dims.clone();
    cx.set_value(0, SymTensor { dtype, dims, elems });
}
