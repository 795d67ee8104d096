//! From a graph to steps.

use onnxq_ir::{Graph, Model, NodeId, NodeKind, Op, ValueId, def::Literal};
use onnxq_ops::{
    EvalError, Value,
    interpret::{Interpreter, at_node},
};
use onnxq_tensor::{DType, Tensor};
use smallvec::SmallVec;

use super::{
    Call, Input, Made, Operand, Plan, Source, Step, Wanted,
    data::Data,
    steps::{Epilogue, Kernel, Known, NodeContext, PRODUCT_OPERANDS, kernel},
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
        slots: 0,
        constants: Vec::new(),
    };
    for &n in graph.inputs() {
        lowering.add_slots(n);
    }
    let needed = graph.needed();
    let is_open = |n: &NodeId| needed[n.index()] && lowering.sources[n.index()].is_empty();
    let mut order = graph.order();
    order.retain(is_open);
    for &n in &order {
        match &graph.node(n).kind {
            NodeKind::Constant(c) => lowering.add_constant(n, &c.value)?,
            NodeKind::Op(op) if lowering.is_constant(n, op, &*wanted) => {
                lowering.evaluate(n, op)?
            }
            _ => {}
        }
    }
    let mut roles = lowering.chains(&order, &*wanted);
    let mut steps = Vec::new();
    for n in order {
        let Some(op) = graph.op(n) else { continue };
        if !lowering.sources[n.index()].is_empty() {
            continue;
        }
        lowering.add_slots(n);
        match std::mem::take(&mut roles[n.index()]) {
            Role::Alone => steps.push(lowering.single(n, op, &*wanted)),
            Role::Inner => {}
            Role::Last(chain) => steps.push(lowering.chain(n, &chain, &*wanted)),
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

    /// Whether `op` is the operator whose one result is an attribute.
    fn is_constant(&self, n: NodeId, op: &Op, wanted: &Wanted<'_>) -> bool {
        let graph = &self.model.graph;
        self.is_standard(n, op) && op.op_type == "Constant" && !wanted(graph, graph.result(n, 0))
    }

    /// Makes the result of a node without operands a constant.
    fn evaluate(&mut self, n: NodeId, op: &Op) -> Result<(), EvalError> {
        let results = Interpreter::new(self.model).run_node(op, &[], 1);
        let results = results.map_err(|e| at_node(self.model.graph.node(n), e))?;
        self.sources[n.index()].push(Source::Constant(self.constants.len()));
        self.constants
            .extend(results.into_iter().next().map(Data::Value));
        Ok(())
    }

    fn context<'a>(&'a self, n: NodeId, op: &'a Op, epilogue: Epilogue) -> NodeContext<'a> {
        NodeContext {
            graph: &self.model.graph,
            node: n,
            op,
            opset: self.model.opsets.get("").copied().unwrap_or(1),
            known: self,
            epilogue,
        }
    }

    /// Whether `op` is an operator of the standard domain, with one result.
    fn is_standard(&self, n: NodeId, op: &Op) -> bool {
        let results = self.model.graph.node(n).results.len();
        op.domain.is_empty() && results == 1 && self.model.callee(op).is_none()
    }

    /// One node as a step.
    fn single(&mut self, n: NodeId, op: &'m Op, wanted: &Wanted<'_>) -> Step<'m> {
        let made = self
            .is_standard(n, op)
            .then(|| kernel(&self.context(n, op, Epilogue::default())));
        let operands = self.operands(n);
        let outside = |(i, operand): (usize, &Option<_>)| operand.map(|_| Operand::Outside(i));
        let call = Call {
            node: n,
            op,
            operands: operands.iter().enumerate().map(outside).collect(),
            results: self.model.graph.node(n).results.len(),
        };
        self.step(
            SmallVec::from_iter([call]),
            made.flatten(),
            operands,
            wanted,
        )
    }

    /// A product and what follows it, as a step.
    fn chain(&mut self, n: NodeId, chain: &Chain, wanted: &Wanted<'_>) -> Step<'m> {
        let graph = &self.model.graph;
        let mut operands = SmallVec::new();
        let mut calls: SmallVec<[Call<'m>; 1]> = SmallVec::new();
        let mut first = None;
        for (i, &m) in chain.nodes.iter().enumerate() {
            let Some(op) = graph.op(m) else { continue };
            first = first.or(Some((m, op)));
            let before = i.checked_sub(1).map(|i| chain.nodes[i]);
            let mut refs = SmallVec::new();
            for v in graph.operands(m) {
                refs.push(match v {
                    None => None,
                    Some(v) if Some(v.node) == before => Some(Operand::Inside(i - 1, 0)),
                    Some(v) => {
                        operands.push(self.source(v).map(|source| (source, false)));
                        Some(Operand::Outside(operands.len() - 1))
                    }
                });
                if i == 0 && v.is_none() {
                    operands.push(None);
                }
            }
            if i == 0 {
                operands.resize(PRODUCT_OPERANDS, None);
            }
            calls.push(Call {
                node: m,
                op,
                operands: refs,
                results: 1,
            });
        }
        let made = first.and_then(|(m, op)| kernel(&self.context(m, op, chain.epilogue)));
        debug_assert_eq!(calls.last().map(|c| c.node), Some(n));
        self.step(calls, made, operands, wanted)
    }

    fn operands(&self, n: NodeId) -> SmallVec<[Option<(Source, bool)>; 4]> {
        let operands = self.model.graph.operands(n).into_iter();
        operands
            .map(|v| self.source(v?).map(|source| (source, false)))
            .collect()
    }

    fn step(
        &mut self,
        calls: SmallVec<[Call<'m>; 1]>,
        kernel: Option<Box<dyn Kernel>>,
        operands: SmallVec<[Option<(Source, bool)>; 4]>,
        wanted: &Wanted<'_>,
    ) -> Step<'m> {
        if kernel.is_some() {
            for (source, _) in operands.iter().flatten() {
                if let Source::Constant(i) = *source {
                    self.constants[i] = aligned(&self.constants[i]);
                }
            }
        }
        let graph = &self.model.graph;
        let last = calls.last().map_or(graph.ret(), |call| call.node);
        let results = (0..graph.node(last).results.len()).map(|i| {
            let value = graph.result(last, i);
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
            results: results.collect(),
            calls,
            kernel,
            operands,
        }
    }

    /// Which products take what follows them into their step, by index of the node.
    fn chains(&self, nodes: &[NodeId], wanted: &Wanted<'_>) -> Vec<Role> {
        let graph = &self.model.graph;
        let mut roles: Vec<Role> = Vec::new();
        roles.resize_with(graph.node_bound(), Role::default);
        for &n in nodes {
            if !graph.is(n, "Conv") {
                continue;
            }
            let Some(chain) = self.chain_from(n, &roles, wanted) else {
                continue;
            };
            if let Some((&last, inner)) = chain.nodes.split_last() {
                for m in inner {
                    roles[m.index()] = Role::Inner;
                }
                roles[last.index()] = Role::Last(chain);
            }
        }
        roles
    }

    /// The product `n`, an Add, a Relu or Clip, as far as they are there.
    fn chain_from(&self, n: NodeId, roles: &[Role], wanted: &Wanted<'_>) -> Option<Chain> {
        let graph = &self.model.graph;
        let mut chain = Chain {
            nodes: SmallVec::from_iter([n]),
            epilogue: Epilogue::default(),
        };
        let mut last = n;
        loop {
            let op = graph.op(last)?;
            let v = graph.result(last, 0);
            if !self.is_standard(last, op) || !is_inner(graph, v, wanted) {
                break;
            }
            let user = graph.sole_use(v)?;
            let Some(op) = graph.op(user.node) else { break };
            let free = matches!(roles[user.node.index()], Role::Alone);
            if !free || !self.is_standard(user.node, op) {
                break;
            }
            let cx = self.context(user.node, op, Epilogue::default());
            let activations = [0, 1].map(|i| graph.operand(user.node, i));
            if op.is("Add") && !chain.epilogue.adds && cx.opset >= 7 {
                // A constant is no tensor of the same dimensions, as a rule.
                let computed = |v: &ValueId| graph.op(v.node).is_some();
                if !activations.iter().all(|v| v.as_ref().is_some_and(computed)) {
                    break;
                }
                chain.epilogue.adds = true;
                chain.nodes.push(user.node);
            } else if user.operand == 0
                && let Some(clamp) = cx.as_clamp()
            {
                chain.epilogue.clamp = clamp;
                chain.nodes.push(user.node);
                break;
            } else {
                break;
            }
            last = user.node;
        }
        (chain.nodes.len() > 1).then_some(chain)
    }
}

impl Known for Lowering<'_> {
    fn tensor(&self, v: ValueId) -> Option<&Tensor> {
        match self.source(v)? {
            Source::Constant(i) => self.constants.get(i)?.tensor(),
            Source::Slot(_) => None,
        }
    }
}

/// What becomes of a node.
#[derive(Default)]
enum Role {
    /// A step of its own.
    #[default]
    Alone,
    /// Part of the step of a later node.
    Inner,
    /// The last node of a chain.
    Last(Chain),
}

/// A product and what follows it.
#[derive(Default)]
struct Chain {
    nodes: SmallVec<[NodeId; 3]>,
    epilogue: Epilogue,
}

/// Whether `v` has one use, by another node, and nobody else wants it.
fn is_inner(graph: &Graph, v: ValueId, wanted: &Wanted<'_>) -> bool {
    graph.sole_use(v).is_some_and(|u| u.node != graph.ret()) && !wanted(graph, v)
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
