//! Moves the nodes of one graph into another: the body of a function in the place of a call, a
//! branch in the place of its `If`.

use std::collections::{HashMap, HashSet};

use onnxq_ir::{Graph, NodeId, NodeKind, Operands, ValueId};

/// How to bring nodes over.
pub(super) struct Graft<'a> {
    /// What stands for each input of the body; `None` for one that is left out.
    pub(super) inputs: &'a [Option<ValueId>],
    /// New names.
    pub(super) rename: &'a dyn Fn(Named, &str) -> String,
    /// Whether a constant that belongs to the outermost graph still does: not if it is now in it.
    pub(super) keep_sunk: bool,
    /// Whether to bring the types along.
    pub(super) keep_types: bool,
}

/// What has a name.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Named {
    Node,
    Constant,
    Result,
}

/// What came over.
pub(super) struct Grafted {
    /// The results of the body, where they are now.
    pub(super) results: Operands,
    /// The operations in canonical order, and which they were in the body.
    pub(super) ops: Vec<(NodeId, NodeId)>,
}

impl Graft<'_> {
    /// Moves what the results of `body` need into `graph`.
    pub(super) fn run(&self, graph: &mut Graph, mut body: Graph) -> Grafted {
        let mut moved: HashMap<NodeId, NodeId> = HashMap::new();
        let mut inputs: HashMap<NodeId, Option<ValueId>> = HashMap::new();
        let given = self.inputs.iter().copied().chain(std::iter::repeat(None));
        for (&n, v) in body.inputs().iter().zip(given) {
            if v.is_some() || body.node(n).is_input() {
                inputs.insert(n, v);
            }
        }
        let resolve = |v: ValueId,
                       inputs: &HashMap<NodeId, Option<ValueId>>,
                       moved: &HashMap<NodeId, NodeId>| {
            if let Some(&outer) = inputs.get(&v.node) {
                return outer;
            }
            let node = *moved.get(&v.node)?;
            Some(ValueId { node, ..v })
        };
        let needed = body.needed();
        let mut ops = Vec::new();
        for n in body.order() {
            if !needed[n.index()] || inputs.contains_key(&n) {
                continue;
            }
            let operands: Operands = body
                .operands(n)
                .into_iter()
                .map(|v| v.and_then(|v| resolve(v, &inputs, &moved)))
                .collect();
            let new = self.vertex(graph, &mut body, n, &operands);
            moved.insert(n, new);
            if graph.op(new).is_some() {
                ops.push((new, n));
            }
        }
        let results = body.results().into_iter();
        Grafted {
            results: results
                .map(|v| v.and_then(|v| resolve(v, &inputs, &moved)))
                .collect(),
            ops,
        }
    }

    fn vertex(
        &self,
        graph: &mut Graph,
        body: &mut Graph,
        n: NodeId,
        operands: &Operands,
    ) -> NodeId {
        let node = body.node_mut(n);
        let extra = node.extra.take();
        let mut results = std::mem::take(&mut node.results);
        let named = match node.kind {
            NodeKind::Constant(_) => Named::Constant,
            _ => Named::Result,
        };
        for value in &mut results {
            if !value.name.is_empty() {
                value.name = (self.rename)(named, &value.name);
            }
            value.ty = value.ty.take().filter(|_| self.keep_types);
        }
        let new = match &mut node.kind {
            NodeKind::Op(op) => {
                let mut op = std::mem::take(op);
                leave_out_captures(&mut op, operands);
                let name = match node.name.as_str() {
                    "" => String::new(),
                    name => (self.rename)(Named::Node, name),
                };
                graph.add_node(name, op, operands, results)
            }
            NodeKind::Constant(c) => {
                let value = results.into_iter().next().unwrap_or_default();
                let sunk = c.sunk && self.keep_sunk;
                graph.add_literal(value, c.value.clone(), sunk).node
            }
            NodeKind::Input | NodeKind::Return => {
                unreachable!("inputs stand for other values, Return is not in the order")
            }
        };
        if extra.is_some() {
            graph.node_mut(new).extra = extra;
        }
        new
    }
}

/// Where an optional input of a function is captured by a region and the call leaves it out, the
/// nodes of the region leave it out too.
fn leave_out_captures(op: &mut onnxq_ir::Op, operands: &Operands) {
    let captures = op.captures;
    let first = operands.len().saturating_sub(captures);
    let missing = (0..captures).filter(|i| operands[first + i].is_none());
    let missing: Vec<usize> = missing.collect();
    if missing.is_empty() {
        return;
    }
    onnxq_ir::deep(|| {
        for region in op.regions_mut() {
            let first = region.inputs().len().saturating_sub(captures);
            for i in &missing {
                let Some(&node) = region.inputs().get(first + i) else {
                    continue;
                };
                for u in region.uses(ValueId { node, result: 0 }) {
                    region.set_operand(u.node, u.operand as usize, None);
                    let operands = region.operands(u.node);
                    if let Some(op) = region.op_mut(u.node) {
                        leave_out_captures(op, &operands);
                    }
                }
            }
        }
    });
}

/// Makes `n`, and what it alone used, let go of their operands once they are dead. Uses are
/// counted, and a dead user would count.
pub(super) fn release(graph: &mut Graph, n: NodeId) {
    let mut pending = vec![n];
    while let Some(n) = pending.pop() {
        let results = graph.node(n).results.len();
        let is_used = (0..results).any(|i| graph.is_used(graph.result(n, i)));
        if graph.op(n).is_none() || is_used {
            continue;
        }
        let operands = graph.operands(n);
        graph.set_operands(n, &[]);
        pending.extend(operands.into_iter().flatten().map(|v| v.node));
    }
}

/// The names of a graph's values. Nodes and constants may share names with others, but what is
/// inferred of a result's dimensions is told apart by its name.
#[derive(Default)]
pub(super) struct Names {
    taken: HashSet<String>,
    /// The last number tried for a name, so that many equal names stay linear.
    last: HashMap<String, usize>,
}

impl Names {
    pub(super) fn of(graph: &Graph) -> Names {
        let results = graph.node_ids().flat_map(|n| &graph.node(n).results);
        Names {
            taken: results.map(|v| v.name.clone()).collect(),
            last: HashMap::new(),
        }
    }

    /// `name`, or with a number where that is taken.
    pub(super) fn unique(&mut self, name: &str) -> String {
        let mut unique = name.to_owned();
        while !self.taken.insert(unique.clone()) {
            let last = self.last.entry(name.to_owned()).or_default();
            *last += 1;
            unique = format!("{name}_{last}");
        }
        unique
    }
}
