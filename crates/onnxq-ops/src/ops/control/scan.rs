//! `Scan` and `SequenceMap`: a body for each element along an axis, or of a sequence.

use std::sync::Arc;

use onnxq_ir::{self as ir, Attr, Type};
use onnxq_tensor::{Dim, Shape, Tensor};

use super::{join::fixed_point, stack};
use crate::{
    EvalContext, EvalError, Fact, InferContext, Operator, Unknown, UpgradeContext, UpgradeError,
    Value,
    ops::{
        movement::concat::slab,
        rules::{self, Misfit},
    },
};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&Scan, &SequenceMap];

/// Runs `body` for each element of the last `num_scan_inputs` operands along an axis.
///
/// The body maps carried values and one element of each scanned operand to the next carried
/// values, and to values of which those of all steps are stacked along an axis. Opset 8 had
/// lengths as operand 0 and a batch axis first.
struct Scan;

/// What a node says about its operands and results.
struct Layout<'a> {
    op: &'a ir::Op,
    /// Where the carried values begin among the operands.
    first: usize,
    carried: usize,
    scanned: usize,
    stacked: usize,
}

impl<'a> Layout<'a> {
    fn new(
        op: &'a ir::Op,
        opset: i64,
        operands: usize,
        results: usize,
    ) -> Result<Layout<'a>, Misfit> {
        let first = usize::from(opset < 9);
        let scanned = usize::try_from(op.int("num_scan_inputs", 0)).unwrap_or(usize::MAX);
        let carried = operands
            .checked_sub(first)
            .and_then(|n| n.checked_sub(scanned))
            .filter(|_| scanned > 0)
            .ok_or_else(|| Misfit::new("num_scan_inputs does not fit the operands"))?;
        let stacked = results
            .checked_sub(carried)
            .ok_or_else(|| Misfit::new("there are too few results"))?;
        Ok(Layout {
            op,
            first,
            carried,
            scanned,
            stacked,
        })
    }

    fn item(&self, key: &str, i: usize) -> i64 {
        let items = self.op.ints(key).unwrap_or_default();
        items.get(i).copied().unwrap_or(0)
    }

    /// The axis along which scanned operand `i` of this rank is taken apart.
    fn input_axis(&self, i: usize, rank: usize) -> Result<usize, Misfit> {
        rules::axis(self.item("scan_input_axes", i), rank)
    }

    fn input_reversed(&self, i: usize) -> bool {
        self.item("scan_input_directions", i) != 0 || self.item("directions", i) != 0
    }

    fn output_axis(&self, i: usize) -> i64 {
        self.item("scan_output_axes", i)
    }

    fn output_reversed(&self, i: usize) -> bool {
        self.item("scan_output_directions", i) != 0
    }

    /// The results of the carried values `state`, and for the elements of `scanned`.
    fn run(
        &self,
        cx: &EvalContext<'_>,
        mut state: Vec<Value>,
        scanned: &[Tensor],
    ) -> Result<Vec<Value>, EvalError> {
        let mut axes = Vec::with_capacity(self.scanned);
        for (i, x) in scanned.iter().enumerate() {
            axes.push(self.input_axis(i, x.rank())?);
        }
        let steps = scanned[0].dims()[axes[0]];
        if (0..self.scanned).any(|i| scanned[i].dims()[axes[i]] != steps) {
            return Err(cx.invalid("the scanned operands differ in length"));
        }
        let mut stacks: Vec<Vec<Tensor>> = vec![Vec::new(); self.stacked];
        for step in 0..steps {
            for (i, x) in scanned.iter().enumerate() {
                let at = match self.input_reversed(i) {
                    true => steps - 1 - step,
                    false => step,
                };
                let part = slab(x, axes[i], at, 1)?;
                let mut dims = part.dims().to_vec();
                dims.remove(axes[i]);
                state.push(part.reshape(dims)?.into());
            }
            let mut results = cx.run_region("body", state)?;
            if results.len() != self.carried + self.stacked {
                return Err(cx.invalid("the body has the wrong number of results"));
            }
            for (stack, value) in stacks.iter_mut().zip(results.split_off(self.carried)) {
                stack.push(stack::tensor(cx, value)?);
            }
            state = results;
        }
        let body = cx.op().attr("body").and_then(Attr::as_graph);
        for (i, mut tensors) in stacks.into_iter().enumerate() {
            if self.output_reversed(i) {
                tensors.reverse();
            }
            let output = body.and_then(|g| g.outputs.get(self.carried + i));
            let stacked = stack::stack(cx, &tensors, self.output_axis(i), output)?;
            state.push(stacked.into());
        }
        Ok(state)
    }

    /// Opset 8: the same for every sample of a batch.
    fn run_batch(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        if cx.value(0).is_some() {
            return Err(cx.unsupported("sequence_lens"));
        }
        let operands: Result<Vec<&Tensor>, _> = (1..cx.len()).map(|i| cx.tensor(i)).collect();
        let operands = operands?;
        let batch = operands.first().and_then(|t| t.dims().first().copied());
        let batch = batch.unwrap_or(0);
        let mut samples: Vec<Vec<Tensor>> = vec![Vec::new(); cx.results()];
        for sample in 0..batch {
            let mut parts = Vec::with_capacity(operands.len());
            for t in &operands {
                if t.dims().first() != Some(&batch) {
                    return Err(cx.invalid("the operands differ in the size of the batch"));
                }
                parts.push(slab(t, 0, sample, 1)?.reshape(&t.dims()[1..])?);
            }
            let scanned = parts.split_off(self.carried);
            let state = parts.into_iter().map(Value::Tensor).collect();
            for (all, value) in samples.iter_mut().zip(self.run(cx, state, &scanned)?) {
                all.push(stack::tensor(cx, value)?);
            }
        }
        let stacked = samples.iter().map(|all| stack::stack(cx, all, 0, None));
        stacked.map(|t| Ok(t?.into())).collect()
    }
}

/// A fact of a tensor from which only its type is kept, with a changed shape.
fn reshaped(
    fact: &Fact,
    change: impl FnOnce(&mut Shape) -> Result<(), Misfit>,
) -> Result<Fact, Misfit> {
    let Some(Type::Tensor(t)) = &fact.ty else {
        return Ok(Fact::unknown());
    };
    let mut t = t.clone();
    if let Some(shape) = &mut t.shape {
        change(shape)?;
    }
    Ok(Fact::of_type(Type::Tensor(t)))
}

impl Operator for Scan {
    fn name(&self) -> &'static str {
        "Scan"
    }

    fn since(&self) -> &'static [i64] {
        &[8, 9, 11, 16, 19, 21, 23, 24, 25]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let layout = Layout::new(cx.op(), cx.opset(), cx.len(), cx.results())?;
        // Opset 8 has an axis for the batch before everything.
        let batched = layout.first == 1;
        let fact = |cx: &InferContext<'_>, i: usize| -> Result<Fact, Misfit> {
            let fact = cx.fact(layout.first + i).cloned().unwrap_or_default();
            if !batched {
                return Ok(fact);
            }
            reshaped(&fact, |shape| {
                if shape.is_empty() {
                    return Err(Misfit::new("an operand has no axis for the batch"));
                }
                shape.remove(0);
                Ok(())
            })
        };
        let batch = cx.shape(layout.first).ok().and_then(|s| s.first().cloned());
        let initial = (0..layout.carried).map(|i| fact(cx, i));
        let initial = initial.collect::<Result<Vec<Fact>, _>>()?;
        let mut steps = Dim::UNKNOWN;
        let mut elements = Vec::new();
        for i in 0..layout.scanned {
            let whole = fact(cx, layout.carried + i)?;
            elements.push(reshaped(&whole, |shape| {
                let axis = layout.input_axis(i, shape.len())?;
                let length = shape.remove(axis);
                if steps.as_const().is_none() && !length.is_unknown() {
                    steps = length;
                }
                Ok(())
            })?);
        }
        let quick = cx.depth() > InferContext::DEEP;
        let (carried, results) = fixed_point(initial, quick, |before| {
            cx.region("body", [before, &elements].concat())
        })?;
        let with_batch = |fact: &Fact| match &batch {
            Some(batch) if batched => reshaped(fact, |shape| {
                shape.insert(0, batch.clone());
                Ok(())
            }),
            _ if batched => Ok(Fact::unknown()),
            _ => Ok(fact.clone()),
        };
        for (i, fact) in carried.iter().enumerate() {
            cx.set(i, with_batch(fact)?);
        }
        for i in 0..layout.stacked {
            let Some(fact) = results.get(layout.carried + i) else {
                break;
            };
            let fact = reshaped(fact, |shape| {
                let axis = rules::axis(layout.output_axis(i), shape.len() + 1)?;
                shape.insert(axis, steps.clone());
                Ok(())
            })?;
            cx.set(layout.carried + i, with_batch(&fact)?);
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let layout = Layout::new(cx.op(), cx.opset(), cx.len(), cx.results())?;
        if layout.first == 1 {
            return layout.run_batch(cx);
        }
        let value = |i: usize| cx.value(i).cloned().ok_or(EvalError::Missing { index: i });
        let state = (0..layout.carried).map(value).collect::<Result<_, _>>()?;
        let scanned = (layout.carried..cx.len()).map(|i| cx.tensor(i).cloned());
        let scanned = scanned.collect::<Result<Vec<Tensor>, _>>()?;
        layout.run(cx, state, &scanned)
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(9) {
            return Err(UpgradeError::new("Scan of opset 8 works on a batch"));
        }
        Ok(())
    }
}

/// Runs `body` for each element of a sequence (operand 0); tensors among the other operands are
/// the same every time. The results are sequences.
struct SequenceMap;

impl Operator for SequenceMap {
    fn name(&self) -> &'static str {
        "SequenceMap"
    }

    fn since(&self) -> &'static [i64] {
        &[17]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let element = |i: usize| match cx.fact(i).map(|f| (&f.ty, f)) {
            Ok((Some(Type::Sequence(element)), _)) => Fact {
                ty: element.as_deref().cloned(),
                ..Fact::default()
            },
            Ok((_, fact)) => fact.clone(),
            Err(_) => Fact::unknown(),
        };
        let inputs = (0..cx.len()).map(element).collect();
        let results = cx.region("body", inputs)?;
        for (i, fact) in results.into_iter().enumerate() {
            cx.set_type(i, Type::Sequence(fact.ty.map(Box::new)));
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let Some(Value::Sequence(first)) = cx.value(0) else {
            return Err(cx.invalid("operand 0 is no sequence"));
        };
        let mut sequences: Vec<Vec<Value>> = vec![Vec::new(); cx.results()];
        for step in 0..first.len() {
            let input = |i: usize| match cx.value(i) {
                Some(Value::Sequence(s)) => s
                    .get(step)
                    .cloned()
                    .ok_or_else(|| cx.invalid("the sequences differ in length")),
                Some(value) => Ok(value.clone()),
                None => Err(EvalError::Missing { index: i }),
            };
            let inputs = (0..cx.len()).map(input).collect::<Result<_, _>>()?;
            for (sequence, value) in sequences.iter_mut().zip(cx.run_region("body", inputs)?) {
                sequence.push(value);
            }
        }
        let sequence = |values: Vec<Value>| Value::Sequence(Arc::new(values));
        Ok(sequences.into_iter().map(sequence).collect())
    }
}
