//! From a graph to steps.

use onnxq_ir::{Model, NodeId, NodeKind, Op, ValueId, def::Literal};
use onnxq_ops::{EvalError, Value, interpret::at_node};
use onnxq_tensor::{DType, Tensor};
use smallvec::SmallVec;

use super::{
    Call, Input, Made, Operand, Plan, Source, Step, Wanted,
    data::Data,
    steps::{FAMILIES, Kernel, NodeContext},
};

/// Operators that give their first operand other dimensions.
const VIEWS: &[&str] = &[
    "Dropout",
    "Flatten",
    "Identity",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
];

/// Whether the elements of the result are those of operand 0, in order.
pub(super) fn is_view(op: &Op) -> bool {
    op.domain.is_empty() && VIEWS.contains(&op.op_type.as_str())
}

/// The plan of `model`.
pub(super) fn plan<'m>(model: &'m Model, wanted: Box<Wanted<'m>>) -> Result<Plan<'m>, EvalError> {
    let graph = &model.graph;
    let mut lowering = Lowering {
        model,
        sources: vec![SmallVec::new(); graph.node_bound()],
        listed: vec![false; graph.node_bound()],
        slots: 0,
        constants: Vec::new(),
    };
    for &n in graph.inputs() {
        lowering.listed[n.index()] = true;
        lowering.add_slots(n);
    }
    let needed = graph.needed();
    let mut steps = Vec::new();
    for n in graph.order() {
        if !needed[n.index()] || lowering.listed[n.index()] {
            continue;
        }
        match &graph.node(n).kind {
            NodeKind::Constant(c) => lowering.add_constant(n, &c.value)?,
            NodeKind::Op(op) => {
                lowering.add_slots(n);
                steps.push(lowering.step(n, op, &*wanted));
            }
            NodeKind::Input | NodeKind::Return => {}
        }
    }
    let results = graph.results().into_iter().zip(&graph.outputs);
    let outputs: Vec<_> = results
        .map(|(v, output)| (v.and_then(|v| lowering.source(v)), output))
        .collect();
    let inputs = graph.inputs().iter().map(|&n| {
        let value = ValueId { node: n, result: 0 };
        Input {
            value,
            slot: match lowering.source(value) {
                Some(Source::Slot(slot)) => slot,
                _ => 0,
            },
            default: graph.tensor(value).map(constant),
            observed: graph.node(n).is_input() && wanted(graph, value),
            used: true,
        }
    });
    let mut inputs: Vec<Input> = inputs.collect();
    let kept = outputs.iter().filter_map(|(source, _)| *source);
    mark_last_uses(&mut steps, &mut inputs, kept, lowering.slots);
    Ok(Plan {
        model,
        steps,
        slots: lowering.slots,
        constants: lowering.constants,
        inputs,
        outputs,
        wanted,
    })
}

struct Lowering<'m> {
    model: &'m Model,
    /// By index of the node, then by result.
    sources: Vec<SmallVec<[Source; 1]>>,
    /// The nodes that are inputs, constants that callers may override among them.
    listed: Vec<bool>,
    slots: usize,
    constants: Vec<Data>,
}

impl<'m> Lowering<'m> {
    fn source(&self, v: ValueId) -> Option<Source> {
        self.sources[v.node.index()].get(v.result as usize).copied()
    }

    fn add_slots(&mut self, n: NodeId) {
        let results = self.model.graph.node(n).results.len();
        let slots = self.slots..self.slots + results;
        self.sources[n.index()] = slots.map(Source::Slot).collect();
        self.slots += results;
    }

    fn add_constant(&mut self, n: NodeId, literal: &Literal) -> Result<(), EvalError> {
        let Literal::Dense(tensor) = literal else {
            let e = EvalError::Unsupported("evaluation of sparse constants".to_owned());
            return Err(at_node(self.model.graph.node(n), e));
        };
        self.sources[n.index()].push(Source::Constant(self.constants.len()));
        self.constants.push(constant(tensor));
        Ok(())
    }

    fn step(&mut self, n: NodeId, op: &'m Op, wanted: &Wanted<'_>) -> Step<'m> {
        let graph = &self.model.graph;
        let kernel = self.kernel(n, op);
        let operands: SmallVec<[_; 4]> = graph
            .operands(n)
            .into_iter()
            .map(|v| self.source(v?).map(|source| (source, false)))
            .collect();
        if kernel.is_some() {
            for (source, _) in operands.iter().flatten() {
                if let Source::Constant(i) = *source {
                    self.constants[i] = aligned(&self.constants[i]);
                }
            }
        }
        let results = graph.node(n).results.len();
        let outside = |(i, operand): (usize, &Option<_>)| operand.map(|_| Operand::Outside(i));
        let call = Call {
            node: n,
            op,
            operands: operands.iter().enumerate().map(outside).collect(),
            results,
        };
        let made = (0..results).map(|i| {
            let value = graph.result(n, i);
            Made {
                value,
                slot: match self.source(value) {
                    Some(Source::Slot(slot)) => slot,
                    _ => 0,
                },
                observed: wanted(graph, value),
                used: true,
            }
        });
        Step {
            results: made.collect(),
            calls: SmallVec::from_iter([call]),
            kernel,
            operands,
        }
    }

    fn kernel(&self, n: NodeId, op: &Op) -> Option<Box<dyn Kernel>> {
        let results = self.model.graph.node(n).results.len();
        if !op.domain.is_empty() || results != 1 || self.model.callee(op).is_some() {
            return None;
        }
        let cx = NodeContext { op };
        let named = |(names, _): &&(&[&str], _)| names.contains(&op.op_type.as_str());
        let (_, family) = FAMILIES.iter().find(named)?;
        family(&cx)
    }
}

/// Marks each operand that is the last use of its value, and results that have no use.
fn mark_last_uses(
    steps: &mut [Step<'_>],
    inputs: &mut [Input],
    kept: impl Iterator<Item = Source>,
    slots: usize,
) {
    let mut used = vec![false; slots];
    for source in kept {
        if let Source::Slot(slot) = source {
            used[slot] = true;
        }
    }
    for step in steps.iter_mut().rev() {
        for made in &mut step.results {
            made.used = used[made.slot];
        }
        let ending: SmallVec<[usize; 4]> = step
            .operands
            .iter()
            .flatten()
            .filter_map(|(source, _)| match *source {
                Source::Slot(slot) if !used[slot] => Some(slot),
                _ => None,
            })
            .collect();
        // Of several operands that are the same value, the last one ends it.
        for (source, last) in step.operands.iter_mut().rev().flatten() {
            if let Source::Slot(slot) = *source
                && ending.contains(&slot)
                && !used[slot]
            {
                used[slot] = true;
                *last = true;
            }
        }
    }
    for input in inputs {
        input.used = used[input.slot];
    }
}

fn constant(tensor: &Tensor) -> Data {
    Data::Value(Value::Tensor(tensor.clone()))
}

/// The same constant with its floats aligned, which in a file they need not be.
fn aligned(data: &Data) -> Data {
    match data.tensor() {
        Some(tensor) if tensor.dtype() == DType::F32 && data.floats().is_none() => {
            let elements = tensor.as_slice::<f32>().map(|e| e.into_owned());
            match elements.and_then(|e| Tensor::from_vec(tensor.dims(), e)) {
                Ok(copy) => {
                    tensor.release();
                    constant(&copy)
                }
                Err(_) => data.clone(),
            }
        }
        _ => data.clone(),
    }
}
