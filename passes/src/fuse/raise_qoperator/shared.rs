//! What nodes share: values that are dequantized once, names that no two have.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use onnxq_ir::{Graph, NodeId, ValueId};

/// What a DequantizeLinear is told apart by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) codes: ValueId,
    pub(super) scale: ValueId,
    pub(super) zero: Option<ValueId>,
    pub(super) axis: Option<i64>,
}

/// What is known of one graph: that which is rewritten now.
#[derive(Default)]
pub(super) struct Shared {
    /// The address of the graph: while a pass rewrites, graphs stay where they are.
    graph: Cell<usize>,
    /// What has been dequantized already.
    floats: RefCell<HashMap<Key, ValueId>>,
    /// The names of nodes, of which ONNX Runtime accepts none twice.
    names: RefCell<HashMap<String, usize>>,
}

impl Shared {
    fn enter(&self, graph: &Graph) {
        let address = std::ptr::from_ref(graph) as usize;
        if self.graph.replace(address) != address {
            *self.floats.borrow_mut() = dequantized(graph, graph.op_order());
            let nodes = graph.op_order().into_iter().map(|n| graph.node(n));
            *self.names.borrow_mut() = nodes.map(|node| (node.name.clone(), 0)).collect();
        }
    }

    pub(super) fn get(&self, graph: &Graph, key: Key) -> Option<ValueId> {
        self.enter(graph);
        let floats = *self.floats.borrow().get(&key)?;
        // What lost its uses has let go of its operands.
        graph.operand(floats.node, 0)?;
        Some(floats)
    }

    /// `codes` have taken the place of others, with their uses.
    pub(super) fn produced(&self, graph: &Graph, codes: ValueId) {
        self.enter(graph);
        let users = graph.uses(codes).into_iter().map(|u| u.node);
        self.floats.borrow_mut().extend(dequantized(graph, users));
    }

    pub(super) fn insert(&self, key: Key, floats: ValueId) {
        self.floats.borrow_mut().insert(key, floats);
    }

    /// `name`, or with a number where a node has it.
    pub(super) fn name(&self, graph: &Graph, name: String) -> String {
        self.enter(graph);
        let mut names = self.names.borrow_mut();
        let mut unique = name.clone();
        while !unique.is_empty() && names.contains_key(&unique) {
            let last = names.entry(name.clone()).or_default();
            *last += 1;
            unique = format!("{name}_{last}");
        }
        names.insert(unique.clone(), 0);
        unique
    }
}

/// What `nodes` dequantize, with one scale.
fn dequantized(graph: &Graph, nodes: impl IntoIterator<Item = NodeId>) -> HashMap<Key, ValueId> {
    let found = nodes.into_iter().filter_map(|n| {
        let plain = graph.is(n, "DequantizeLinear") && graph.op(n)?.attrs.is_empty();
        let key = Key {
            codes: graph.operand(n, 0)?,
            scale: graph.operand(n, 1)?,
            zero: graph.operand(n, 2),
            axis: None,
        };
        plain.then(|| (key, graph.result(n, 0)))
    });
    found.collect()
}
