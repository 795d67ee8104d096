//! `TopK` and `Unique`: by the order of elements.

use std::cmp::Ordering;

use onnxq_ir as ir;
use onnxq_tensor::{DType, Dim, Dims, Shape, Tensor};

use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        data::{self, Run},
        legacy,
        number::{self, Number, for_number},
        rules,
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&TopK, &Unique];

/// The `k` largest or smallest elements along an axis, sorted, and their indices. Of equal ones
/// the first counts as better. NaN is larger than any number.
struct TopK;

/// A total order of numbers, in which NaN comes last.
fn order<T: Number>(a: &T, b: &T) -> Ordering {
    a.partial_cmp(b)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

impl Operator for TopK {
    fn name(&self) -> &'static str {
        "TopK"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 10, 11, 24]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        cx.set_dtype(1, DType::I64);
        let mut shape = cx.shape(0)?.clone();
        let axis = rules::axis(cx.op().int("axis", -1), shape.len())?;
        let k = if cx.opset() < 10 {
            Dim::known(cx.op().int("k", 0))
        } else {
            let k = cx.value(1).ok().and_then(|k| k.elems.first());
            k.cloned().unwrap_or_default()
        };
        for i in 0..2 {
            shape[axis] = if k.is_unknown() {
                // Both results have the same.
                cx.fresh(0, axis)
            } else {
                k.clone()
            };
            let dtype = if i == 0 { dtype } else { DType::I64 };
            cx.set_tensor(i, dtype, shape.clone());
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let axis = rules::axis(cx.op().int("axis", -1), x.rank())?;
        let k = if cx.opset() < 10 {
            cx.op().int("k", 0)
        } else {
            cx.tensor(1)?.scalar_i64()?
        };
        let (size, inner) = (x.dims()[axis], rules::count(&x.dims()[axis + 1..]));
        let k = usize::try_from(k)
            .ok()
            .filter(|&k| k <= size)
            .ok_or_else(|| cx.invalid(format!("k is {k} of {size} elements")))?;
        let largest = cx.opset() < 11 || cx.op().int("largest", 1) != 0;
        let outer = rules::count(&x.dims()[..axis]);
        let wide = number::widen(x)?;
        // Sorted whether the node asks for it or not.
        let mut picked = vec![0; outer * k * inner];
        for_number!(
            wide.dtype(),
            T => {
                let v = wide.as_slice::<T>()?;
                let mut along: Vec<usize> = Vec::with_capacity(size);
                for line in 0..outer * inner {
                    let (o, i) = (line / inner, line % inner);
                    let at = |j: usize| &v[(o * size + j) * inner + i];
                    let better = |&a: &usize, &b: &usize| {
                        let order = order::<T>(at(a), at(b));
                        let order = if largest { order.reverse() } else { order };
                        order.then(a.cmp(&b))
                    };
                    along.clear();
                    along.extend(0..size);
                    if k > 0 && k < size {
                        along.select_nth_unstable_by(k - 1, better);
                    }
                    along.truncate(k);
                    along.sort_unstable_by(better);
                    for (rank, &j) in along.iter().enumerate() {
                        picked[(o * k + rank) * inner + i] = j;
                    }
                }
            },
            return Err(cx.unsupported_type(x.dtype()))
        );
        let mut dims = Dims::from(x.dims());
        dims[axis] = k;
        let place = |(n, &j): (usize, &usize)| {
            let (o, i) = (n / (k * inner).max(1), n % inner.max(1));
            Run::new((o * size + j) * inner + i, 1)
        };
        let values = data::gather(&[x], dims.clone(), picked.iter().enumerate().map(place))?;
        let indices = picked.iter().map(|&j| j as i64).collect();
        Ok(vec![values.into(), Tensor::from_vec(dims, indices)?.into()])
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(10) {
            legacy::int_to_operand(cx, "k", 1);
        }
        Ok(())
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::SameScale
    }
}

/// The elements, or the slabs along an axis, that differ from each other: sorted, or in the order
/// in which they first appear; with the indices of their first appearances, for each element
/// which it is, and how often each occurs.
struct Unique;

impl Unique {
    fn axis(op: &ir::Op) -> Option<i64> {
        op.attr("axis").and_then(ir::Attr::as_int)
    }
}

impl Operator for Unique {
    fn name(&self) -> &'static str {
        "Unique"
    }

    fn since(&self) -> &'static [i64] {
        &[11, 28]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let vector = |d: Dim| -> Shape { [d].into_iter().collect() };
        for i in 1..4 {
            cx.set_tensor(i, DType::I64, vector(Dim::UNKNOWN));
        }
        let (mut shape, axis) = match Unique::axis(cx.op()) {
            None => (vector(Dim::UNKNOWN), 0),
            Some(axis) => {
                let shape = cx.shape(0)?.clone();
                let axis = rules::axis(axis, shape.len())?;
                (shape, axis)
            }
        };
        let count = cx.fresh(0, axis);
        let all = match Unique::axis(cx.op()) {
            None => cx.shape(0).map_or(Dim::UNKNOWN, |s| rules::product(s)),
            Some(_) => shape[axis].clone(),
        };
        shape[axis] = count.clone();
        cx.set_tensor(0, dtype, shape);
        cx.set_tensor(1, DType::I64, vector(count.clone()));
        cx.set_tensor(2, DType::I64, vector(all));
        cx.set_tensor(3, DType::I64, vector(count));
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let whole = cx.tensor(0)?;
        let (x, axis) = match Unique::axis(cx.op()) {
            Some(axis) => (whole.clone(), rules::axis(axis, whole.rank())?),
            None => (whole.reshape(vec![whole.len()])?, 0),
        };
        let sorted = cx.op().int("sorted", 1) != 0;
        let (size, inner) = (x.dims()[axis], rules::count(&x.dims()[axis + 1..]));
        let outer = rules::count(&x.dims()[..axis]);
        let ranks = ranks(cx, &x)?;
        // A slab is compared by the ranks of its elements, in their order.
        let slab = |j: usize| {
            let ranks = &ranks;
            (0..outer).flat_map(move |o| {
                let start = (o * size + j) * inner;
                ranks[start..start + inner].iter()
            })
        };
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|&a, &b| slab(a).cmp(slab(b)));
        // Of each kind: where it first appears, and how often.
        let mut kinds: Vec<(usize, usize)> = Vec::new();
        let mut kind_of = vec![0; size];
        for (n, &j) in order.iter().enumerate() {
            if n == 0 || !slab(order[n - 1]).eq(slab(j)) {
                kinds.push((j, 0));
            }
            let kind = kinds.len() - 1;
            kind_of[j] = kind;
            kinds[kind].1 += 1;
        }
        if !sorted {
            let mut by_first: Vec<usize> = (0..kinds.len()).collect();
            by_first.sort_by_key(|&k| kinds[k].0);
            let mut new = vec![0; kinds.len()];
            for (n, &k) in by_first.iter().enumerate() {
                new[k] = n;
            }
            kind_of.iter_mut().for_each(|k| *k = new[*k]);
            kinds = by_first.iter().map(|&k| kinds[k]).collect();
        }
        let mut dims = Dims::from(x.dims());
        dims[axis] = kinds.len();
        let runs = (0..outer).flat_map(|o| {
            let run = move |&(j, _): &(usize, usize)| Run::new((o * size + j) * inner, inner);
            kinds.iter().map(run)
        });
        let values = data::gather(&[&x], dims, runs)?;
        let vector =
            |v: Vec<usize>| Tensor::vector::<i64>(v.into_iter().map(|i| i as i64).collect());
        let mut results: Vec<Value> = vec![
            values.into(),
            vector(kinds.iter().map(|k| k.0).collect()).into(),
            vector(kind_of).into(),
            vector(kinds.iter().map(|k| k.1).collect()).into(),
        ];
        results.truncate(cx.results().max(1));
        Ok(results)
    }
}

/// For each element how many different ones are smaller.
fn ranks(cx: &EvalContext<'_>, x: &Tensor) -> Result<Vec<usize>, EvalError> {
    fn of<T>(values: &[T], order: impl Fn(&T, &T) -> Ordering) -> Vec<usize> {
        let mut by_value: Vec<usize> = (0..values.len()).collect();
        by_value.sort_by(|&a, &b| order(&values[a], &values[b]));
        let mut ranks = vec![0; values.len()];
        let mut rank = 0;
        for pair in by_value.windows(2) {
            if order(&values[pair[0]], &values[pair[1]]).is_ne() {
                rank += 1;
            }
            ranks[pair[1]] = rank;
        }
        ranks
    }
    if let Some(strings) = x.strings() {
        return Ok(of(strings, Ord::cmp));
    }
    if x.dtype() == DType::Bool {
        return Ok(of(&x.as_bools()?, Ord::cmp));
    }
    let wide = number::widen(x)?;
    for_number!(
        wide.dtype(),
        T => Ok(of(&wide.as_slice::<T>()?, order::<T>)),
        Err(cx.unsupported_type(x.dtype()))
    )
}
