//! [`Model`]: a graph, the functions it may call, and what a file says about itself.

use bytes::Bytes;
use indexmap::IndexMap;

use crate::{
    Attr, Error, Graph, Op, build, deep,
    def::{Metadata, ModelDef, Opsets, ValueDef},
    flatten,
};

/// A model.
///
/// Two models are equal if they print the same: node identities and the history of edits do not
/// count.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "most fields are the specification's")]
pub struct Model {
    pub ir_version: i64,
    /// Operator sets imported: domain (`""` is the standard one) to version.
    pub opsets: Opsets,
    pub producer_name: String,
    pub producer_version: String,
    pub domain: String,
    pub model_version: i64,
    pub doc: String,
    pub metadata: Metadata,
    pub graph: Graph,
    /// The model-local functions.
    pub functions: IndexMap<FunctionId, Function>,
    pub training: Vec<Bytes>,
    pub configurations: Vec<Bytes>,
}

/// What identifies a model-local function.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the specification's")]
pub struct FunctionId {
    pub domain: String,
    pub name: String,
    pub overload: String,
}

/// A model-local function. Its inputs have no types; constants in it are written as `Constant`
/// nodes.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the specification's")]
pub struct Function {
    /// The body; its inputs and results are those of the function.
    pub graph: Graph,
    /// Attributes that a call must give.
    pub attributes: Vec<String>,
    /// Attributes with a default.
    pub attribute_defaults: IndexMap<String, Attr>,
    pub opsets: Opsets,
    /// Declared types of inner values that are not results of nodes of the body.
    pub input_info: Vec<ValueDef>,
}

impl Model {
    /// Builds the graph form of a model.
    ///
    /// # Errors
    /// Names the graph and node where a value is defined twice or not at all, where nodes form a
    /// cycle, or where graphs are nested more than [`MAX_NESTING`](crate::MAX_NESTING) deep.
    pub fn from_def(def: ModelDef) -> Result<Model, Error> {
        build::model(def)
    }

    /// The model as files and text write it, in canonical order and with unique names.
    pub fn to_def(&self) -> ModelDef {
        flatten::model(self)
    }

    /// The version of the operator set imported for `domain`.
    pub fn opset(&self, domain: &str) -> Option<i64> {
        self.opsets.get(domain).copied()
    }

    /// The function that `op` calls, if it is one of the model's.
    pub fn callee(&self, op: &Op) -> Option<(&FunctionId, &Function)> {
        if self.functions.is_empty() {
            return None;
        }
        let id = FunctionId {
            domain: op.domain.clone(),
            name: op.op_type.clone(),
            overload: op.overload.clone(),
        };
        self.functions.get_key_value(&id)
    }

    /// Calls `visit` for the main graph, each function body, and all regions of them, regions
    /// before the graph that owns them, in canonical order.
    pub fn for_each_graph(&self, mut visit: impl FnMut(&Graph)) {
        for function in self.functions.values() {
            function.graph.for_each_graph(&mut visit);
        }
        self.graph.for_each_graph(&mut visit);
    }

    /// Like [`for_each_graph`](Model::for_each_graph), to change.
    pub fn for_each_graph_mut(&mut self, mut visit: impl FnMut(&mut Graph)) {
        for function in self.functions.values_mut() {
            function.graph.for_each_graph_mut(&mut visit);
        }
        self.graph.for_each_graph_mut(&mut visit);
    }

    /// Removes what no result needs, everywhere, and functions that are not called. Returns how
    /// many vertices went.
    pub fn sweep(&mut self) -> usize {
        let mut removed = self.graph.sweep();
        if !self.functions.is_empty() {
            self.retain_called_functions();
            for function in self.functions.values_mut() {
                removed += function.graph.sweep();
            }
        }
        removed
    }

    fn retain_called_functions(&mut self) {
        let mut called = vec![false; self.functions.len()];
        let mut pending: Vec<usize> = self.calls(&self.graph);
        while let Some(i) = pending.pop() {
            if !std::mem::replace(&mut called[i], true) {
                pending.extend(self.calls(&self.functions[i].graph));
            }
        }
        let mut called = called.into_iter();
        self.functions.retain(|_, _| called.next() == Some(true));
    }

    fn calls(&self, graph: &Graph) -> Vec<usize> {
        let mut calls = Vec::new();
        graph.for_each_graph(&mut |g: &Graph| {
            for op in g.node_ids().filter_map(|n| g.op(n)) {
                if let Some((id, _)) = self.callee(op) {
                    calls.extend(self.functions.get_index_of(id));
                }
            }
        });
        calls
    }
}

impl Graph {
    /// Calls `visit` for every region in this graph and for the graph, inner ones first.
    pub fn for_each_graph(&self, visit: &mut impl FnMut(&Graph)) {
        deep(|| {
            if self
                .node_ids()
                .any(|n| self.op(n).is_some_and(|op| op.regions().next().is_some()))
            {
                for region in self.regions() {
                    region.for_each_graph(visit);
                }
            }
            visit(self);
        });
    }

    /// Like [`for_each_graph`](Graph::for_each_graph), to change.
    pub fn for_each_graph_mut(&mut self, visit: &mut impl FnMut(&mut Graph)) {
        deep(|| {
            let has_regions = |n: &_| self.op(*n).is_some_and(|op| op.regions().next().is_some());
            let mut owners: Vec<_> = self.node_ids().filter(has_regions).collect();
            if owners.len() > 1 {
                let has_regions =
                    |n: &_| self.op(*n).is_some_and(|op| op.regions().next().is_some());
                owners = self.order();
                owners.retain(has_regions);
            }
            for n in owners {
                let mut changed = false;
                if let Some(op) = self.nodes[n].op_mut() {
                    for region in op.regions_mut() {
                        let before = region.revision();
                        region.for_each_graph_mut(visit);
                        changed |= region.revision() != before;
                    }
                }
                if changed {
                    self.stamp();
                }
            }
            visit(self);
        });
    }
}

impl PartialEq for Model {
    fn eq(&self, other: &Model) -> bool {
        deep(|| self.to_def() == other.to_def())
    }
}
