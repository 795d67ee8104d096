//! The graph: operations and constants as vertices, uses of values as edges.
//!
//! An edge says which result of its source is which operand of its target. Inputs and constants
//! are vertices without operands, and the results of the graph are the operands of one `Return`
//! vertex, so that [`Graph::replace_uses`] covers graph outputs like any other use.
//!
//! *Order* is computed from structure ([`Graph::order`]), never stored. *Removal* is deferred to
//! [`Graph::sweep`]: until then a node that lost its uses stays, and so does every `NodeId`.
//! *Regions* (bodies of If, Loop, Scan) are owned by attributes and isolated: what they capture
//! comes in through trailing operands and parameters.
//!
//! Every change stamps a new [`revision`](Graph::revision), from one counter for all graphs: equal
//! revisions mean equal graphs, which is what analyses are cached by.

use std::sync::atomic::{AtomicU64, Ordering};

use onnxq_tensor::Tensor;
use petgraph::{
    Direction::{Incoming, Outgoing},
    stable_graph::{EdgeIndex, NodeIndex, StableDiGraph},
    visit::{EdgeRef, IntoEdgeReferences},
};
use smallvec::SmallVec;

use crate::{
    Constant, Node, NodeKind, Op, Type, Value, deep,
    def::{Literal, Metadata, ValueDef},
};

/// A vertex of a [`Graph`]. Valid until the node is swept.
pub type NodeId = NodeIndex<u32>;

/// A value: a result of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ValueId {
    /// The node.
    pub node: NodeId,
    /// Which of its results.
    pub result: u32,
}

/// A use of a value: an operand of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Use {
    /// The node.
    pub node: NodeId,
    /// Which of its operands.
    pub operand: u32,
}

/// Operands of a node in order; `None` is one left out.
pub type Operands = SmallVec<[Option<ValueId>; 4]>;

/// An edge: `result` of the source is `operand` of the target.
///
/// petgraph unlinks an edge by walking the lists of both ends, which is quadratic for a value
/// with many uses. A use that moved is therefore only marked, and sweeping drops it; nodes count
/// the uses that are live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    pub(crate) result: u32,
    pub(crate) operand: u32,
}

impl Edge {
    const MOVED: u32 = u32::MAX;

    pub(crate) fn is_live(self) -> bool {
        self.operand != Edge::MOVED
    }
}

/// A graph, see the [module](self).
#[derive(Debug)]
pub struct Graph {
    /// `GraphProto.name`.
    pub name: String,
    /// `doc_string`.
    pub doc: String,
    /// `metadata_props`.
    pub metadata: Metadata,
    /// `quantization_annotation`: tensor name, and its parameters' names by role.
    pub annotations: Vec<(String, Metadata)>,
    /// Name and declared type of each result; the values are the operands of `Return`.
    pub outputs: Vec<ValueDef>,
    pub(crate) nodes: StableDiGraph<Node, Edge>,
    pub(crate) inputs: Vec<NodeId>,
    ret: NodeId,
    revision: u64,
}

fn next_revision() -> u64 {
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    COUNTER.fetch_add(1, Ordering::Relaxed)
}

impl Default for Graph {
    fn default() -> Graph {
        Graph::new("")
    }
}

impl Graph {
    /// A graph without inputs and results.
    pub fn new(name: impl Into<String>) -> Graph {
        let mut nodes = StableDiGraph::new();
        let ret = nodes.add_node(Node::new(NodeKind::Return, String::new()));
        Graph {
            name: name.into(),
            doc: String::new(),
            metadata: Metadata::new(),
            annotations: Vec::new(),
            outputs: Vec::new(),
            nodes,
            inputs: Vec::new(),
            ret,
            revision: next_revision(),
        }
    }

    // Reading.

    /// The stamp of the last change; equal stamps mean equal graphs.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The node `n`.
    pub fn node(&self, n: NodeId) -> &Node {
        &self.nodes[n]
    }

    /// The operation at `n`, if it is one.
    pub fn op(&self, n: NodeId) -> Option<&Op> {
        self.nodes[n].op()
    }

    /// Whether `n` is an operation `op_type` of the standard domain.
    pub fn is(&self, n: NodeId, op_type: &str) -> bool {
        self.op(n).is_some_and(|op| op.is(op_type))
    }

    /// The value `v`.
    pub fn value(&self, v: ValueId) -> &Value {
        &self.nodes[v.node].results[v.result as usize]
    }

    /// The type of `v`, as far as known.
    pub fn ty(&self, v: ValueId) -> Option<&Type> {
        self.value(v).ty.as_ref()
    }

    /// The tensor, if `v` is a dense constant.
    pub fn tensor(&self, v: ValueId) -> Option<&Tensor> {
        self.nodes[v.node].tensor()
    }

    /// Every vertex, in no particular order.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.node_indices()
    }

    /// The number of vertices.
    pub fn node_count(&self) -> usize {
        self.nodes.node_count()
    }

    /// One more than the largest index of a vertex: the length of a table indexed by
    /// `NodeId::index`.
    pub fn node_bound(&self) -> usize {
        petgraph::visit::NodeIndexable::node_bound(&self.nodes)
    }

    /// The inputs in order. One that is a constant is an initializer also listed as an input: a
    /// default that callers may override.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// The `Return` vertex.
    pub fn ret(&self) -> NodeId {
        self.ret
    }

    /// The result `i` of `n`.
    pub fn result(&self, n: NodeId, i: usize) -> ValueId {
        debug_assert!(i < self.nodes[n].results.len());
        ValueId {
            node: n,
            result: i as u32,
        }
    }

    /// All operands of `n`.
    pub fn operands(&self, n: NodeId) -> Operands {
        let mut operands = Operands::from_elem(None, self.nodes[n].operand_count());
        for edge in self
            .nodes
            .edges_directed(n, Incoming)
            .filter(|e| e.weight().is_live())
        {
            operands[edge.weight().operand as usize] = Some(ValueId {
                node: edge.source(),
                result: edge.weight().result,
            });
        }
        operands
    }

    /// The operand `i` of `n`; `None` where it is left out.
    pub fn operand(&self, n: NodeId, i: usize) -> Option<ValueId> {
        self.nodes
            .edges_directed(n, Incoming)
            .find(|e| e.weight().operand as usize == i)
            .map(|e| ValueId {
                node: e.source(),
                result: e.weight().result,
            })
    }

    /// The values that are the results of the graph.
    pub fn results(&self) -> Operands {
        self.operands(self.ret)
    }

    /// The uses of `v`, sorted.
    pub fn uses(&self, v: ValueId) -> SmallVec<[Use; 4]> {
        let mut uses: SmallVec<[Use; 4]> = self
            .nodes
            .edges(v.node)
            .filter(|e| e.weight().is_live() && e.weight().result == v.result)
            .map(|e| Use {
                node: e.target(),
                operand: e.weight().operand,
            })
            .collect();
        uses.sort_unstable();
        uses
    }

    /// Whether `v` has a use.
    pub fn is_used(&self, v: ValueId) -> bool {
        let node = &self.nodes[v.node];
        if node.use_count == 0 || node.results.len() == 1 {
            return node.use_count > 0;
        }
        self.nodes
            .edges(v.node)
            .any(|e| e.weight().is_live() && e.weight().result == v.result)
    }

    /// The use of `v`, if there is exactly one.
    pub fn sole_use(&self, v: ValueId) -> Option<Use> {
        let node = &self.nodes[v.node];
        if node.use_count == 0 || (node.results.len() == 1 && node.use_count > 1) {
            return None;
        }
        let mut live = self
            .nodes
            .edges(v.node)
            .filter(|e| e.weight().is_live())
            .take(node.use_count as usize)
            .filter(|e| e.weight().result == v.result);
        let edge = live.next()?;
        let found = Use {
            node: edge.target(),
            operand: edge.weight().operand,
        };
        live.next().is_none().then_some(found)
    }

    /// Whether `v` is a result of the graph.
    pub fn is_output(&self, v: ValueId) -> bool {
        self.nodes.edges(v.node).any(|e| {
            e.weight().is_live() && e.weight().result == v.result && e.target() == self.ret
        })
    }

    // Changing.

    pub(crate) fn stamp(&mut self) {
        self.revision = next_revision();
    }

    /// The node `n`, to change. Operands change through [`Graph::set_operand`].
    pub fn node_mut(&mut self, n: NodeId) -> &mut Node {
        self.stamp();
        &mut self.nodes[n]
    }

    /// The operation at `n`, to change, if it is one.
    pub fn op_mut(&mut self, n: NodeId) -> Option<&mut Op> {
        self.stamp();
        self.nodes[n].op_mut()
    }

    /// The value `v`, to change.
    pub fn value_mut(&mut self, v: ValueId) -> &mut Value {
        self.stamp();
        &mut self.nodes[v.node].results[v.result as usize]
    }

    /// Sets the type of `v`, stamping only where it differs.
    pub fn set_type(&mut self, v: ValueId, ty: Option<Type>) {
        if self.value(v).ty != ty {
            self.value_mut(v).ty = ty;
        }
    }

    fn add_vertex(&mut self, kind: NodeKind, name: String, result: Value) -> ValueId {
        self.stamp();
        let mut node = Node::new(kind, name);
        node.results.push(result);
        ValueId {
            node: self.nodes.add_node(node),
            result: 0,
        }
    }

    /// Adds an input after the others.
    pub fn add_input(&mut self, name: impl Into<String>, ty: Option<Type>) -> ValueId {
        let v = self.add_vertex(NodeKind::Input, String::new(), Value::new(name, ty));
        self.inputs.push(v.node);
        v
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        self.add_literal(Value::new(name, None), Literal::Dense(tensor), false)
    }

    /// Adds a constant, dense or sparse. Its type is set from the value.
    pub fn add_literal(&mut self, mut result: Value, value: Literal, sunk: bool) -> ValueId {
        result.ty = Some(literal_type(&value));
        self.add_vertex(
            NodeKind::Constant(Constant { value, sunk }),
            String::new(),
            result,
        )
    }

    /// Adds an operation.
    pub fn add_node(
        &mut self,
        name: impl Into<String>,
        op: Op,
        operands: &[Option<ValueId>],
        results: impl IntoIterator<Item = Value>,
    ) -> NodeId {
        self.stamp();
        let mut node = Node::new(NodeKind::Op(op), name.into());
        node.results = results.into_iter().collect();
        let n = self.nodes.add_node(node);
        self.set_operands(n, operands);
        n
    }

    /// Adds an operation with one result of the given name; the node has the same name.
    pub fn insert(&mut self, op: Op, operands: &[ValueId], name: impl Into<String>) -> ValueId {
        let name = name.into();
        let operands: Operands = operands.iter().copied().map(Some).collect();
        let n = self.add_node(name.clone(), op, &operands, [Value::new(name, None)]);
        self.result(n, 0)
    }

    /// Adds a result of the graph.
    pub fn add_output(&mut self, output: ValueDef, value: ValueId) {
        let i = self.outputs.len();
        self.outputs.push(output);
        self.set_operand(self.ret, i, Some(value));
    }

    pub(crate) fn add_use(&mut self, v: ValueId, user: NodeId, operand: u32) {
        let edge = Edge {
            result: v.result,
            operand,
        };
        self.nodes.add_edge(v.node, user, edge);
        self.nodes[v.node].use_count += 1;
    }

    fn end_use(&mut self, edge: EdgeIndex) {
        if let Some((source, _)) = self.nodes.edge_endpoints(edge) {
            self.nodes[edge].operand = Edge::MOVED;
            self.nodes[source].use_count -= 1;
        }
    }

    fn edge_of_operand(&self, n: NodeId, i: usize) -> Option<EdgeIndex> {
        self.nodes
            .edges_directed(n, Incoming)
            .find(|e| e.weight().operand as usize == i)
            .map(|e| e.id())
    }

    /// Makes `v` the operand `i` of `n`, or leaves it out; adds operands where `i` is past the
    /// last.
    pub fn set_operand(&mut self, n: NodeId, i: usize, v: Option<ValueId>) {
        self.stamp();
        if i < self.nodes[n].operand_count() {
            if let Some(edge) = self.edge_of_operand(n, i) {
                self.end_use(edge);
            }
        } else {
            self.nodes[n].operand_count = i as u32 + 1;
        }
        if let Some(v) = v {
            debug_assert!((v.result as usize) < self.nodes[v.node].results.len());
            self.add_use(v, n, i as u32);
        }
    }

    /// Replaces all operands of `n`.
    pub fn set_operands(&mut self, n: NodeId, operands: &[Option<ValueId>]) {
        self.stamp();
        let old: SmallVec<[EdgeIndex; 8]> = self
            .nodes
            .edges_directed(n, Incoming)
            .filter(|e| e.weight().is_live())
            .map(|e| e.id())
            .collect();
        for edge in old {
            self.end_use(edge);
        }
        self.nodes[n].operand_count = operands.len() as u32;
        for (i, v) in operands.iter().enumerate() {
            if let Some(v) = v {
                self.add_use(*v, n, i as u32);
            }
        }
    }

    /// Makes every use of `old` a use of `new`; returns how many there were.
    ///
    /// Results of the graph keep their names: those belong to the signature.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) -> usize {
        self.replace_uses_if(old, new, |_| true)
    }

    /// Makes every use of `old` that satisfies `which` a use of `new`; returns how many did.
    pub fn replace_uses_if(
        &mut self,
        old: ValueId,
        new: ValueId,
        mut which: impl FnMut(Use) -> bool,
    ) -> usize {
        if old == new {
            return 0;
        }
        let edges: Vec<(EdgeIndex, NodeId, u32)> = self
            .nodes
            .edges_directed(old.node, Outgoing)
            .filter(|e| e.weight().is_live() && e.weight().result == old.result)
            .filter(|e| {
                which(Use {
                    node: e.target(),
                    operand: e.weight().operand,
                })
            })
            .map(|e| (e.id(), e.target(), e.weight().operand))
            .collect();
        if !edges.is_empty() {
            self.stamp();
        }
        for &(edge, target, operand) in &edges {
            self.end_use(edge);
            self.add_use(new, target, operand);
        }
        edges.len()
    }

    /// Turns the input list entry of a constant into a plain constant: callers can no longer
    /// override it. Returns whether it was listed.
    pub fn unlist_constant(&mut self, n: NodeId) -> bool {
        let listed = self.inputs.len();
        if self.nodes[n].is_constant() {
            self.inputs.retain(|&m| m != n);
        }
        let changed = self.inputs.len() != listed;
        if changed {
            self.stamp();
        }
        changed
    }

    /// Like [`unlist_constant`](Graph::unlist_constant) for every constant in the input list;
    /// returns how many there were.
    pub fn unlist_constants(&mut self) -> usize {
        let listed = self.inputs.len();
        let nodes = &self.nodes;
        self.inputs.retain(|&n| !nodes[n].is_constant());
        let unlisted = listed - self.inputs.len();
        if unlisted > 0 {
            self.stamp();
        }
        unlisted
    }

    /// Lists a constant among the inputs: a default that callers may override.
    pub fn list_constant(&mut self, n: NodeId) {
        debug_assert!(self.nodes[n].is_constant());
        self.stamp();
        self.inputs.push(n);
    }

    /// Every region of every operation, one level down, in canonical order.
    pub fn regions(&self) -> impl Iterator<Item = &Graph> {
        self.order()
            .into_iter()
            .filter_map(|n| self.op(n))
            .flat_map(|op| op.regions().map(|r| r.1))
    }

    /// The live edges as `(source, target, edge)`, in no particular order.
    pub(crate) fn live_edges(&self) -> impl Iterator<Item = (NodeId, NodeId, Edge)> {
        self.nodes
            .edge_references()
            .filter(|e| e.weight().is_live())
            .map(|e| (e.source(), e.target(), *e.weight()))
    }
}

/// The type of a constant.
pub(crate) fn literal_type(value: &Literal) -> Type {
    use crate::TensorType;
    use onnxq_tensor::Dim;
    match value {
        Literal::Dense(t) => Type::dense(t.dtype(), t.dims()),
        Literal::Sparse(s) => Type::SparseTensor(TensorType {
            dtype: Some(s.values.dtype()),
            shape: Some(s.dims.iter().map(|&d| Dim::known(d)).collect()),
        }),
    }
}

impl Clone for Graph {
    fn clone(&self) -> Graph {
        deep(|| Graph {
            name: self.name.clone(),
            doc: self.doc.clone(),
            metadata: self.metadata.clone(),
            annotations: self.annotations.clone(),
            outputs: self.outputs.clone(),
            nodes: self.nodes.clone(),
            inputs: self.inputs.clone(),
            ret: self.ret,
            revision: self.revision,
        })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // Regions are dropped inside this call, on a stack that grows with their depth.
        deep(|| self.nodes.clear());
    }
}
