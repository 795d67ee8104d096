//! `ScatterElements` (and its older name `Scatter`), `ScatterND`, `TensorScatter`: a tensor with
//! some of its elements replaced by updates, or combined with them.

use onnxq_ir as ir;
use onnxq_tensor::Tensor;

use super::gather::{element_places, slab_places};
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        data::{self, Run},
        number::{self, Number, for_number},
        rules, values,
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[
    &ScatterElements {
        name: "Scatter",
        since: &[9, 11],
    },
    &ScatterElements {
        name: "ScatterElements",
        since: &[11, 13, 16, 18],
    },
    &ScatterND,
    &TensorScatter,
];

/// The tensor `x` after the element at each of `places` has met the update of the same number.
/// The later of two updates of one place comes second.
fn scattered(
    cx: &EvalContext<'_>,
    x: &Tensor,
    updates: &Tensor,
    places: &[usize],
) -> Result<Tensor, EvalError> {
    if places.len() != updates.len() {
        return Err(cx.invalid(format!(
            "{} updates for {} places",
            updates.len(),
            places.len()
        )));
    }
    match cx.op().str("reduction") {
        None | Some("none") => {
            let mut runs: Vec<Run> = (0..x.len()).map(|i| Run::one(0, i)).collect();
            for (update, &place) in places.iter().enumerate() {
                runs[place] = Run::one(1, update);
            }
            data::gather(&[x, updates], x.dims(), runs.into_iter())
        }
        Some(reduction) => reduced(cx, x, updates, places, reduction),
    }
}

fn reduced(
    cx: &EvalContext<'_>,
    x: &Tensor,
    updates: &Tensor,
    places: &[usize],
    reduction: &str,
) -> Result<Tensor, EvalError> {
    let (wide, updates) = (number::widen(x)?, number::widen(updates)?);
    let out = for_number!(
        wide.dtype(),
        T => {
            let f: fn(T, T) -> T = match reduction {
                "add" => Number::add,
                "mul" => Number::mul,
                "max" => Number::maximum,
                "min" => Number::minimum,
                other => return Err(cx.unsupported(format!("reduction '{other}'"))),
            };
            let mut out = wide.as_slice::<T>()?.into_owned();
            for (&place, &update) in places.iter().zip(updates.as_slice::<T>()?.iter()) {
                out[place] = f(out[place], update);
            }
            Tensor::from_vec(x.dims(), out)?
        },
        return Err(cx.unsupported_type(x.dtype()))
    );
    number::narrow(out, x.dtype())
}

/// Sets result 0 to the type of operand 0.
fn infer_same(
    cx: &mut InferContext<'_>,
    operator: &dyn Operator,
    moved: &[usize],
) -> Result<(), Unknown> {
    cx.set_type(0, cx.ty(0)?.clone());
    if matches!(cx.op().str("reduction"), None | Some("none")) {
        values::follow_moved(cx, operator, moved);
    }
    Ok(())
}

struct ScatterElements {
    name: &'static str,
    since: &'static [i64],
}

impl Operator for ScatterElements {
    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        self.since
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        infer_same(cx, self, &[0, 2])
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let places = element_places(cx, x, cx.tensor(1)?)?;
        Ok(vec![scattered(cx, x, cx.tensor(2)?, &places)?.into()])
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(11) {
            cx.op_mut().op_type = "ScatterElements".to_owned();
        }
        Ok(())
    }

    fn quant(&self, _op: &ir::Op) -> QuantRole {
        QuantRole::NotQuantizable
    }
}

struct ScatterND;

impl Operator for ScatterND {
    fn name(&self) -> &'static str {
        "ScatterND"
    }

    fn since(&self) -> &'static [i64] {
        &[11, 13, 16, 18]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        infer_same(cx, self, &[0, 2])
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, at) = (cx.tensor(0)?, cx.tensor(1)?);
        let depth = match at.dims().last() {
            Some(&depth) if depth <= x.rank() => depth,
            _ => return Err(cx.invalid("the indices do not fit the rank of the data")),
        };
        let inner = rules::count(&x.dims()[depth..]);
        let slabs = slab_places(cx, x, at, depth, 0)?;
        let places: Vec<usize> = slabs.into_iter().flat_map(|s| s..s + inner).collect();
        Ok(vec![scattered(cx, x, cx.tensor(2)?, &places)?.into()])
    }
}

/// A cache of keys or values with an update written along the axis of the sequence.
struct TensorScatter;

impl Operator for TensorScatter {
    fn name(&self) -> &'static str {
        "TensorScatter"
    }

    fn since(&self) -> &'static [i64] {
        &[24]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        infer_same(cx, self, &[0, 1])
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (cache, update) = (cx.tensor(0)?, cx.tensor(1)?);
        let axis = rules::axis(cx.op().int("axis", -2), cache.rank())?;
        let fits = cache.rank() == update.rank()
            && (0..cache.rank()).all(|i| i == axis || cache.dims()[i] == update.dims()[i])
            && update.dims()[axis] <= cache.dims()[axis];
        if !fits || axis == 0 {
            return Err(cx.invalid("the update does not fit the cache"));
        }
        let batch = cache.dims()[0];
        let starts = match cx.optional(2)? {
            Some(_) => cx.ints(2)?,
            None => vec![0; batch],
        };
        if starts.len() != batch {
            return Err(cx.invalid("there must be one write index for each sample"));
        }
        let circular = cx.op().str("mode") == Some("circular");
        let (size, len) = (cache.dims()[axis], update.dims()[axis]);
        let prefixes = rules::count(&cache.dims()[1..axis]);
        let inner = rules::count(&cache.dims()[axis + 1..]);
        let mut runs: Vec<Run> = (0..batch * prefixes * size)
            .map(|i| Run::new(i * inner, inner))
            .collect();
        for prefix in 0..batch * prefixes {
            let start = starts[prefix / prefixes.max(1)];
            for i in 0..len {
                let mut at = start.saturating_add(i as i64);
                if circular {
                    at = at.rem_euclid(size as i64);
                }
                let at = usize::try_from(at)
                    .ok()
                    .filter(|&at| at < size)
                    .ok_or_else(|| super::gather::out_of_range(at, size))?;
                runs[prefix * size + at] = Run {
                    source: 1,
                    start: (prefix * len + i) * inner,
                    len: inner,
                };
            }
        }
        let out = data::gather(&[cache, update], cache.dims(), runs.into_iter())?;
        Ok(vec![out.into()])
    }
}
