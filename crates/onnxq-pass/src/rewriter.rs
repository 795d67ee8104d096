//! [`Rewriter`]: what a local rewrite matches and changes a graph with.
//!
//! ```text
//! fn drop_identity(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
//!     rw.is(n, "Identity")?;
//!     let x = rw.operand(n, 0)?;
//!     rw.replace(rw.result(n, 0), x)
//! }
//! ```
//!
//! `None` means that nothing matched *and nothing changed*: reading comes first, writing last.
//! Nodes are never removed here. A node that lost its last use lets go of its operands when the
//! rewrite is done, so that [`Rewriter::sole_use`] counts live uses only, and is swept after the
//! pass; until then every `NodeId` stays what it is.

use std::{collections::HashSet, fmt};

use onnxq_ir::{Attr, Graph, NodeId, Op, Type, Use, Value, ValueId, def::Opsets};
use onnxq_tensor::{DType, Shape, Tensor};

use crate::PassContext;

/// A graph, seen from a rewrite.
pub struct Rewriter<'a> {
    pub(crate) graph: &'a mut Graph,
    pub(crate) cx: &'a mut PassContext,
    pub(crate) opsets: &'a Opsets,
    pub(crate) rule: &'a str,
    /// Constants that callers may override, sorted.
    pub(crate) overridable: &'a [NodeId],
    pub(crate) misses: &'a mut HashSet<(NodeId, String)>,
    pub(crate) trace: &'a mut Trace,
}

/// What a rewrite did, to know where to look next.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// Nodes that are new or different.
    pub(crate) changed: Vec<NodeId>,
    /// Nodes that use other operands than before.
    pub(crate) moved: Vec<NodeId>,
    /// Nodes that lost a use.
    pub(crate) released: Vec<NodeId>,
}

/// A node for messages: its name, else that of its first result, and its operator.
pub fn describe(graph: &Graph, n: NodeId) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        let node = graph.node(n);
        let first = node.results.first().map_or("", |v| v.name.as_str());
        let name = if node.name.is_empty() {
            first
        } else {
            &node.name
        };
        match node.op() {
            Some(op) => write!(f, "{name} ({})", op.qualified()),
            None => f.write_str(name),
        }
    })
}

/// Reading. Whatever does not match is `None`.
impl Rewriter<'_> {
    /// The graph.
    pub fn graph(&self) -> &Graph {
        self.graph
    }

    /// The context of the pass.
    pub fn cx(&mut self) -> &mut PassContext {
        self.cx
    }

    /// The version of the standard operator set here.
    pub fn opset(&self) -> i64 {
        self.opset_of("").unwrap_or(1)
    }

    /// The version of the operator set of `domain`, if it is imported.
    pub fn opset_of(&self, domain: &str) -> Option<i64> {
        self.opsets.get(domain).copied()
    }

    /// Goes on if `n` is `op_type` of the standard domain.
    pub fn is(&self, n: NodeId, op_type: &str) -> Option<()> {
        self.graph.is(n, op_type).then_some(())
    }

    /// Goes on if `n` is `op_type` of `domain`.
    pub fn is_in(&self, n: NodeId, domain: &str, op_type: &str) -> Option<()> {
        let op = self.graph.op(n)?;
        (op.domain == domain && op.op_type == op_type).then_some(())
    }

    /// The operation at `n`.
    pub fn op(&self, n: NodeId) -> Option<&Op> {
        self.graph.op(n)
    }

    /// The operand `i` of `n`, unless it is left out.
    pub fn operand(&self, n: NodeId, i: usize) -> Option<ValueId> {
        self.graph.operand(n, i)
    }

    /// The result `i` of `n`.
    pub fn result(&self, n: NodeId, i: usize) -> ValueId {
        self.graph.result(n, i)
    }

    /// The node that computes `v`, if that is `op_type` of the standard domain.
    pub fn producer(&self, v: ValueId, op_type: &str) -> Option<NodeId> {
        self.graph.is(v.node, op_type).then_some(v.node)
    }

    /// The only use of `v`. Being a result of the graph is a use: by its `Return`.
    pub fn sole_use(&self, v: ValueId) -> Option<Use> {
        self.graph.sole_use(v)
    }

    /// The tensor, if `v` is a dense constant that no caller can override.
    pub fn constant(&self, v: ValueId) -> Option<Tensor> {
        let tensor = self.graph.tensor(v)?;
        let fixed = self.overridable.binary_search(&v.node).is_err();
        fixed.then(|| tensor.clone())
    }

    /// The integer attribute of `n`, or the default.
    pub fn attr_int(&self, n: NodeId, key: &str, default: i64) -> i64 {
        self.op(n).map_or(default, |op| op.int(key, default))
    }

    /// The float attribute of `n`, or the default.
    pub fn attr_float(&self, n: NodeId, key: &str, default: f32) -> f32 {
        self.op(n).map_or(default, |op| op.float(key, default))
    }

    /// The integers of an attribute of `n`, or the default.
    pub fn attr_ints(&self, n: NodeId, key: &str, default: &[i64]) -> Vec<i64> {
        let found = self.op(n).and_then(|op| op.ints(key));
        found.unwrap_or(default).to_vec()
    }

    /// The string attribute of `n`, or the default.
    pub fn attr_str(&self, n: NodeId, key: &str, default: &str) -> String {
        let found = self.op(n).and_then(|op| op.str(key));
        found.unwrap_or(default).to_owned()
    }

    /// The type of `v`, as far as known.
    pub fn ty(&self, v: ValueId) -> Option<&Type> {
        self.graph.ty(v)
    }

    /// The element type of `v`, if it is a dense tensor.
    pub fn dtype(&self, v: ValueId) -> Option<DType> {
        self.ty(v)?.dtype()
    }

    /// The shape of `v`, if it is a dense tensor of known rank.
    pub fn shape(&self, v: ValueId) -> Option<&Shape> {
        self.ty(v)?.shape()
    }

    /// The name of `v`.
    pub fn name(&self, v: ValueId) -> &str {
        &self.graph.value(v).name
    }

    /// A name derived from that of `v`: `conv1_out` and `quantized` give `conv1_out_quantized`.
    pub fn derive(&self, v: ValueId, suffix: &str) -> String {
        format!("{}_{suffix}", self.name(v))
    }

    /// Says, under `-v`, why a near match at `n` is none; always `None`.
    pub fn miss(&mut self, n: NodeId, why: impl fmt::Display) -> Option<()> {
        if self.cx.is_verbose() {
            let line = format!("{} at {}: {why}", self.rule, describe(self.graph, n));
            // A node is visited again when its neighbours change.
            if self.misses.insert((n, line.clone())) {
                self.cx.verbose(line);
            }
        }
        None
    }
}

/// Changing.
impl Rewriter<'_> {
    /// Makes every use of `old` a use of `new`, which gets the type of `old` if it has none.
    /// `None` if there was no use to move.
    pub fn replace(&mut self, old: ValueId, new: ValueId) -> Option<()> {
        let uses = self.graph.uses(old);
        if old == new || uses.is_empty() {
            return None;
        }
        self.graph.replace_uses(old, new);
        if self.graph.ty(new).is_none() {
            let ty = self.graph.ty(old).cloned();
            self.graph.set_type(new, ty);
        }
        self.trace.moved.extend(uses.iter().map(|u| u.node));
        self.trace.moved.push(new.node);
        self.trace.released.push(old.node);
        Some(())
    }

    /// Adds an operation with one result of this name; the node has the same name.
    pub fn insert(&mut self, op: Op, operands: &[ValueId], name: impl Into<String>) -> ValueId {
        let v = self.graph.insert(op, operands, name);
        self.trace.changed.push(v.node);
        v
    }

    /// Adds an operation with any operands and results.
    pub fn insert_node(
        &mut self,
        name: impl Into<String>,
        op: Op,
        operands: &[Option<ValueId>],
        results: impl IntoIterator<Item = Value>,
    ) -> NodeId {
        let n = self.graph.add_node(name, op, operands, results);
        self.trace.changed.push(n);
        n
    }

    /// Puts another operation in the place of `n`: it takes over name and results, with their
    /// names and types, and every use of them. `None`, and nothing changed, if none is used.
    pub fn replace_node(
        &mut self,
        n: NodeId,
        op: Op,
        operands: &[Option<ValueId>],
    ) -> Option<NodeId> {
        let node = self.graph.node(n);
        let (name, results) = (node.name.clone(), node.results.clone());
        let count = results.len();
        if !is_used(self.graph, n) {
            return None;
        }
        let new = self.insert_node(name, op, operands, results);
        for i in 0..count {
            // Those without uses have nothing to move.
            let _ = self.replace(self.result(n, i), self.result(new, i));
        }
        Some(new)
    }

    /// Adds a constant.
    pub fn insert_constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        self.graph.add_constant(name, tensor)
    }

    /// Makes `v` the operand `i` of `n`, or leaves it out.
    pub fn set_operand(&mut self, n: NodeId, i: usize, v: Option<ValueId>) {
        if let Some(old) = self.graph.operand(n, i) {
            self.trace.released.push(old.node);
        }
        self.graph.set_operand(n, i, v);
        self.trace.changed.push(n);
    }

    /// The operation at `n`, to change its attributes.
    pub fn op_mut(&mut self, n: NodeId) -> Option<&mut Op> {
        self.trace.changed.push(n);
        self.graph.op_mut(n)
    }

    /// Sets an attribute of the operation at `n`.
    pub fn set_attr(&mut self, n: NodeId, key: &str, value: impl Into<Attr>) {
        if let Some(op) = self.op_mut(n) {
            op.attrs.insert(key.to_owned(), value.into());
        }
    }

    /// Sets the type of `v`.
    pub fn set_type(&mut self, v: ValueId, ty: Option<Type>) {
        self.graph.set_type(v, ty);
    }

    /// Gives `v` another name.
    pub fn rename(&mut self, v: ValueId, name: impl Into<String>) {
        self.graph.value_mut(v).name = name.into();
    }

    /// The graph, to change in ways for which there is no method here; `n` is a node that
    /// changes, from which the driver finds what to visit again.
    pub fn graph_mut(&mut self, n: NodeId) -> &mut Graph {
        self.trace.changed.push(n);
        self.trace.released.push(n);
        self.graph
    }
}

/// Whether any result of `n` is used.
pub(crate) fn is_used(graph: &Graph, n: NodeId) -> bool {
    (0..graph.node(n).results.len()).any(|i| graph.is_used(graph.result(n, i)))
}
