//! `Loop`.

use onnxq_ir::{Attr, Type};
use onnxq_tensor::{DType, Dim, Dims, Shape, Tensor};

use super::{
    branch::{known_truth, truth},
    join::{fixed_point, without_shape},
    stack,
};
use crate::{EvalContext, EvalError, Fact, InferContext, Operator, Unknown, Value};

pub(crate) static OPERATORS: &[&dyn Operator] = &[&Loop];

/// Runs `body` at most operand 0 times, as long as a condition (at first operand 1) holds.
///
/// The body maps the number of the step, the condition and the carried values to the next
/// condition, the next carried values, and values of which those of all steps are stacked.
struct Loop;

/// A loop that takes more steps than this is given up.
const MAX_STEPS: i64 = 1 << 24;

impl Loop {
    /// How many values are carried.
    fn carried(operands: usize) -> usize {
        operands.saturating_sub(2)
    }
}

impl Operator for Loop {
    fn name(&self) -> &'static str {
        "Loop"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 11, 13, 16, 19, 21, 23, 24, 25]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let carried = Loop::carried(cx.len());
        let initial = (2..cx.len()).map(|i| cx.fact(i).cloned().unwrap_or_default());
        let initial: Vec<Fact> = initial.collect();
        // Whenever the body runs the condition holds.
        let holds = Tensor::from_bools(Dims::new(), vec![true]);
        let holds = holds.map(|t| Fact::of_constant(&t)).unwrap_or_default();
        let number = Fact::of_type(Type::tensor(DType::I64, Some(Shape::new())));
        let quick = cx.depth() > InferContext::DEEP;
        let (carried_facts, results) = fixed_point(initial, quick, |before| {
            let mut inputs = vec![number.clone(), holds.clone()];
            inputs.extend_from_slice(before);
            let mut results = cx.region("body", inputs)?;
            // The condition comes first; it is kept at the end.
            if !results.is_empty() {
                results.rotate_left(1);
            }
            Ok::<_, Unknown>(results)
        })?;
        for (i, mut fact) in carried_facts.into_iter().enumerate() {
            // What comes in as an optional value may be carried on as the value itself, which
            // the result is after the first step.
            let optional = matches!(cx.ty(2 + i), Ok(Type::Optional(_)));
            if optional && fact.ty.is_none() {
                fact.ty = results
                    .get(i)
                    .and_then(|f| f.ty.as_ref().map(without_shape));
            }
            cx.set(i, fact);
        }
        let stays = |fact: Option<&Fact>| fact.and_then(known_truth) == Some(true);
        let unconditional = stays(results.last()) && (!cx.has(1) || stays(cx.fact(1).ok()));
        let steps = match cx.value(0) {
            Ok(limit) if unconditional => {
                let limit = limit.elems.first().cloned().unwrap_or_default();
                limit.max(&Dim::known(0))
            }
            _ => Dim::UNKNOWN,
        };
        let steps = if steps.is_unknown() {
            cx.fresh(carried, 0)
        } else {
            steps
        };
        for i in carried..cx.results() {
            let Some(fact) = results.get(i) else { break };
            if let Some(dtype) = fact.dtype() {
                cx.set_dtype(i, dtype);
                if let Some(shape) = fact.shape() {
                    let shape = std::iter::once(&steps).chain(shape).cloned().collect();
                    cx.set_tensor(i, dtype, shape);
                }
            }
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let carried = Loop::carried(cx.len());
        let limit = cx.optional(0)?.map(Tensor::scalar_i64).transpose()?;
        let mut holds = cx.optional(1)?.map_or(Ok(true), |t| truth(cx, t))?;
        let value = |i: usize| cx.value(i).cloned().ok_or(EvalError::Missing { index: i });
        let mut state = (2..cx.len()).map(value).collect::<Result<Vec<_>, _>>()?;
        let stacked = cx.results().saturating_sub(carried);
        let mut stacks: Vec<Vec<Tensor>> = vec![Vec::new(); stacked];
        let mut step = 0;
        while holds && limit.is_none_or(|limit| step < limit) {
            if step >= MAX_STEPS {
                return Err(cx.unsupported(format!("more than {MAX_STEPS} steps")));
            }
            let condition = Tensor::from_bools(Dims::new(), vec![true])?;
            let mut inputs = vec![Tensor::scalar(step).into(), condition.into()];
            inputs.append(&mut state);
            let mut results = cx.run_region("body", inputs)?;
            if results.len() != 1 + carried + stacked {
                return Err(cx.invalid("the body has the wrong number of results"));
            }
            for (stack, value) in stacks.iter_mut().zip(results.split_off(1 + carried)) {
                stack.push(stack::tensor(cx, value)?);
            }
            state = results.split_off(1);
            holds = match results.first().and_then(Value::as_tensor) {
                Some(t) => truth(cx, t)?,
                None => return Err(cx.invalid("the condition is no tensor")),
            };
            step += 1;
        }
        let body = cx.op().attr("body").and_then(Attr::as_graph);
        for (i, tensors) in stacks.iter().enumerate() {
            let output = body.and_then(|g| g.outputs.get(1 + carried + i));
            state.push(stack::stack(cx, tensors, 0, output)?.into());
        }
        Ok(state)
    }
}
