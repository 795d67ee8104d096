//! Whether a node can be computed, and its results.

use onnxq_ir::{Graph, NodeId, Op, Use, ValueId};
use onnxq_ops::{EvalContext, EvalError, Value, lookup};
use onnxq_pass::describe;
use onnxq_tensor::Tensor;

use super::{Folder, Known};

/// What becomes of a node.
pub(super) enum Verdict {
    /// Its results, where they are used.
    Known(Vec<Option<Tensor>>),
    /// It might be computed, but how large the result would be is not known.
    Unsized,
    /// It stays.
    Stays,
}

/// Operators that give other results each time, or that say what is quantized.
const NEVER: &[&str] = &[
    "Bernoulli",
    "DequantizeLinear",
    "Dropout",
    "DynamicQuantizeLinear",
    "Multinomial",
    "QuantizeLinear",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];

/// Operands of more bytes than this are not read to compute a result of unknown size.
const UNSIZED_LIMIT: usize = 64 << 10;

impl Folder<'_> {
    pub(super) fn evaluate(&mut self, graph: &Graph, n: NodeId, known: &Known<'_>) -> Verdict {
        let Some(op) = graph.op(n).filter(|op| self.may_fold(op)) else {
            return Verdict::Stays;
        };
        if let Some(tensors) = inferred(graph, n, known) {
            let size = tensors.iter().flatten().map(Tensor::byte_len).sum();
            return match self.fits(graph, n, size, known) {
                true => Verdict::Known(tensors),
                false => Verdict::Stays,
            };
        }
        let operands = graph.operands(n);
        let constant = |v: &Option<ValueId>| match v {
            Some(v) => known.constant(graph, *v).map(Some),
            None => Some(None),
        };
        let operands: Option<Vec<Option<Tensor>>> = operands.iter().map(constant).collect();
        let Some(operands) = operands.filter(|o| o.iter().any(Option::is_some)) else {
            return Verdict::Stays;
        };
        match size_of_results(graph, n, known) {
            Some(size) if !self.fits(graph, n, size, known) => return Verdict::Stays,
            None if bytes(&operands) > UNSIZED_LIMIT || may_expand(op) => return Verdict::Unsized,
            _ => {}
        }
        let results = graph.node(n).results.len();
        let computed = compute(op, self.opset, &operands, results);
        for t in operands.iter().flatten() {
            t.release();
        }
        match computed {
            Ok(tensors) => {
                let used = |(i, t): (usize, Tensor)| {
                    let v = graph.result(n, i);
                    graph.is_used(v).then_some(t)
                };
                let missing = (tensors.len()..results).any(|i| graph.is_used(graph.result(n, i)));
                if missing {
                    return Verdict::Stays;
                }
                let tensors: Vec<_> = tensors.into_iter().enumerate().map(used).collect();
                let size = tensors.iter().flatten().map(Tensor::byte_len).sum();
                match self.fits(graph, n, size, known) {
                    true => Verdict::Known(tensors),
                    false => Verdict::Stays,
                }
            }
            Err(e) => {
                let at = describe(graph, n);
                self.cx.verbose(format_args!("not computed: {at}: {e}"));
                Verdict::Stays
            }
        }
    }

    fn may_fold(&self, op: &Op) -> bool {
        op.domain.is_empty()
            && op.regions().next().is_none()
            && !NEVER.contains(&op.op_type.as_str())
            && !self.functions.contains(&op.op_type)
    }

    /// Whether constants of `size` bytes may take the place of `n`.
    fn fits(&mut self, graph: &Graph, n: NodeId, size: usize, known: &Known<'_>) -> bool {
        if size <= self.max_bytes {
            return true;
        }
        if size <= PARAMETER_BYTES && is_parameter(graph, n) {
            return true;
        }
        let freed = bytes_freed(graph, n);
        if size > freed && is_part(graph, n, known) {
            return true;
        }
        if size > freed && self.cx.is_verbose() {
            let at = describe(graph, n);
            self.cx.verbose(format_args!(
                "not computed: {at}: {size} bytes would take the place of {freed}"
            ));
        }
        size <= freed
    }
}

/// One number for each of 4096 channels.
const PARAMETER_BYTES: usize = 16 << 10;

/// Whether `n` repeats numbers for the parameters of normalizations and biases of convolutions,
/// only: exporters spell out defaults so, and folding BatchNormalization does away with them.
fn is_parameter(graph: &Graph, n: NodeId) -> bool {
    let is_parameter = |u: &Use| {
        let normalizes = graph.is(u.node, "BatchNormalization");
        let convolves = graph.is(u.node, "Conv") || graph.is(u.node, "ConvTranspose");
        (normalizes && u.operand >= 1) || (convolves && u.operand == 2)
    };
    let uses = graph.uses(graph.result(n, 0));
    graph.is(n, "Expand") && !uses.is_empty() && uses.iter().all(is_parameter)
}

/// The results, if inference knows all that are used.
fn inferred(graph: &Graph, n: NodeId, known: &Known<'_>) -> Option<Vec<Option<Tensor>>> {
    let results = 0..graph.node(n).results.len();
    let result = |i| {
        let v = graph.result(n, i);
        if !graph.is_used(v) {
            return Some(None);
        }
        known.fact(v).constant.clone().map(Some)
    };
    results.map(result).collect()
}

/// The bytes of all results that are used, as far as inference knows their types.
fn size_of_results(graph: &Graph, n: NodeId, known: &Known<'_>) -> Option<usize> {
    let results = (0..graph.node(n).results.len()).map(|i| graph.result(n, i));
    let size = |v: ValueId| {
        let fact = known.fact(v);
        let count = fact
            .dims()?
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d));
        fact.dtype()?.byte_len(count?)
    };
    let mut used = results.filter(|&v| graph.is_used(v)).map(size);
    used.try_fold(0usize, |sum, size| sum.checked_add(size?))
}

fn bytes(operands: &[Option<Tensor>]) -> usize {
    operands.iter().flatten().map(Tensor::byte_len).sum()
}

/// Operators whose result can be large where the operands are small.
fn may_expand(op: &Op) -> bool {
    const EXPANDING: &[&str] = &[
        "CenterCropPad",
        "Col2Im",
        "ConstantOfShape",
        "ConvTranspose",
        "Expand",
        "EyeLike",
        "MaxUnpool",
        "OneHot",
        "Pad",
        "Range",
        "Resize",
        "Tile",
        "Upsample",
    ];
    EXPANDING.contains(&op.op_type.as_str())
}

/// The bytes of the constants of this graph that nothing but `n` uses.
fn bytes_freed(graph: &Graph, n: NodeId) -> usize {
    let mut operands: Vec<ValueId> = graph.operands(n).into_iter().flatten().collect();
    operands.sort_unstable();
    operands.dedup();
    let freed = operands.into_iter().filter_map(|v| {
        let tensor = graph.tensor(v)?;
        let alone = graph.sole_use(v).is_some() || graph.uses(v).iter().all(|u| u.node == n);
        alone.then(|| tensor.byte_len())
    });
    freed.sum()
}

/// Whether `n` takes a part of a constant that nothing else is done with, and all parts together are no more
/// than it: the gates of a cell, which exporters put in another order.
fn is_part(graph: &Graph, n: NodeId, known: &Known<'_>) -> bool {
    let part = |n: NodeId| graph.is(n, "Slice") || graph.is(n, "Split");
    let Some((v, whole)) = graph
        .operand(n, 0)
        .and_then(|v| Some((v, graph.tensor(v)?.byte_len())))
    else {
        return false;
    };
    let mut parts = Vec::new();
    for u in graph.uses(v) {
        if u.operand != 0 || !part(u.node) {
            return false;
        }
        parts.push(size_of_results(graph, u.node, known));
    }
    let together = parts
        .into_iter()
        .try_fold(0usize, |sum, size| sum.checked_add(size?));
    together.is_some_and(|size| size <= whole)
}

fn compute(
    op: &Op,
    opset: i64,
    operands: &[Option<Tensor>],
    results: usize,
) -> Result<Vec<Tensor>, EvalError> {
    let operator = lookup("", &op.op_type)
        .ok_or_else(|| EvalError::Unsupported(format!("operator {}", op.qualified())))?;
    let operands: Vec<Option<Value>> = operands
        .iter()
        .map(|t| t.clone().map(Value::Tensor))
        .collect();
    let no_region = |_: &Graph, _: Vec<Value>| Err(EvalError::Unsupported("a region".into()));
    let values = operator.eval(&EvalContext::new(op, opset, &operands, results, &no_region))?;
    let tensor = |v: Value| match v {
        Value::Tensor(t) => Ok(t),
        _ => Err(EvalError::Invalid("the result is not a tensor".into())),
    };
    values.into_iter().take(results).map(tensor).collect()
}
