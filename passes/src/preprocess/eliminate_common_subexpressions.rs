//! Computes what is computed twice once.
//!
//! ```text
//! y = Sigmoid(x), z = Sigmoid(x)   =>   y, used in both places
//! ```
//!
//! Two nodes are the same if operator, attributes, operands and the number of results are. In
//! canonical order the first one stays.
//!
//! Does not fire
//! - between graphs: what a branch computes may not be computed outside;
//! - where both nodes give results of the graph: the file would need an `Identity`;
//! - on random operators, on `Dropout`, on unknown operators, which may be random too, and on calls
//!   of functions;
//! - on nodes with regions;
//! - on `QuantizeLinear` and `DequantizeLinear`: runtimes look for a pair of its own at each node.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use onnxq_ir::{Attr, FunctionId, Graph, Model, NodeId, Op};
use onnxq_ops::lookup;
use onnxq_pass::{Pass, PassContext, PassError, PassInfo, describe};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "eliminate-common-subexpressions",
    summary: "compute what is computed twice once",
    options: &[],
    build: |_| Ok(Box::new(EliminateCommonSubexpressions)),
};

/// Operators of which two equal nodes are not the same.
const NEVER: &[&str] = &[
    "Bernoulli",
    "DequantizeLinear",
    "Dropout",
    "Multinomial",
    "QuantizeLinear",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];

struct EliminateCommonSubexpressions;

impl Pass for EliminateCommonSubexpressions {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let called = |op: &Op| FunctionId {
            domain: op.domain.clone(),
            name: op.op_type.clone(),
            overload: op.overload.clone(),
        };
        let functions: HashSet<FunctionId> = model.functions.keys().cloned().collect();
        model.for_each_graph_mut(|graph| {
            let is_call = |op: &Op| !functions.is_empty() && functions.contains(&called(op));
            eliminate(graph, &is_call, cx);
        });
        Ok(())
    }
}

fn eliminate(graph: &mut Graph, is_call: &dyn Fn(&Op) -> bool, cx: &mut PassContext) {
    let mut seen: HashMap<u64, Vec<NodeId>> = HashMap::new();
    for n in graph.op_order() {
        let Some(op) = graph.op(n) else { continue };
        if !may_merge(op) || is_call(op) {
            continue;
        }
        let alike = seen.entry(hash(graph, n, op)).or_default();
        match alike.iter().find(|&&first| is_same(graph, first, n)) {
            Some(&first) => {
                if merges(graph, first, n) {
                    if !cx.begin_rewrite("merge-equal", describe(graph, n)) {
                        return;
                    }
                    merge(graph, first, n);
                }
            }
            None => alike.push(n),
        }
    }
}

fn may_merge(op: &Op) -> bool {
    !NEVER.contains(&op.op_type.as_str())
        && op.regions().next().is_none()
        && lookup(&op.domain, &op.op_type).is_some()
}

fn hash(graph: &Graph, n: NodeId, op: &Op) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&op.domain, &op.op_type, &op.overload).hash(&mut hasher);
    graph.operands(n).hash(&mut hasher);
    let mut attrs: Vec<(&String, &Attr)> = op.attrs.iter().collect();
    attrs.sort_by_key(|&(key, _)| key);
    for (key, attr) in attrs {
        key.hash(&mut hasher);
        match attr {
            Attr::Int(v) => v.hash(&mut hasher),
            Attr::Ints(v) => v.hash(&mut hasher),
            Attr::Float(v) => v.to_bits().hash(&mut hasher),
            Attr::String(v) => v.hash(&mut hasher),
            // The rest is rare, and compared in full anyway.
            other => other.kind().hash(&mut hasher),
        }
    }
    hasher.finish()
}

/// Whether both compute the same. Results that one of them leaves out have no name to use.
fn is_same(graph: &Graph, a: NodeId, b: NodeId) -> bool {
    let (Some(x), Some(y)) = (graph.op(a), graph.op(b)) else {
        return false;
    };
    let (left, right) = (&graph.node(a).results, &graph.node(b).results);
    let names = left.iter().zip(right);
    x.op_type == y.op_type
        && x.domain == y.domain
        && x.overload == y.overload
        && same_attrs(x, y)
        && graph.operands(a) == graph.operands(b)
        && left.len() == right.len()
        && names
            .into_iter()
            .all(|(a, b)| a.name.is_empty() == b.name.is_empty())
}

/// Attributes in any order. Nodes with graphs do not come here.
fn same_attrs(a: &Op, b: &Op) -> bool {
    let flat = |attr: &Attr| attr.map_graphs(|_| ());
    let same = |(key, attr): (&String, &Attr)| b.attr(key).is_some_and(|o| flat(o) == flat(attr));
    a.attrs.len() == b.attrs.len() && a.attrs.iter().all(same)
}

/// Whether there is a use to move, and none of a result of the graph onto another.
fn merges(graph: &Graph, first: NodeId, n: NodeId) -> bool {
    let results = || (0..graph.node(n).results.len()).map(|i| graph.result(n, i));
    let outputs = |v| {
        let other = graph.result(first, v);
        graph.is_output(graph.result(n, v)) && graph.is_output(other)
    };
    results().any(|v| graph.is_used(v)) && !(0..results().count()).any(outputs)
}

fn merge(graph: &mut Graph, first: NodeId, n: NodeId) {
    for i in 0..graph.node(n).results.len() {
        let (new, old) = (graph.result(first, i), graph.result(n, i));
        if graph.is_output(old) {
            // The result of the graph keeps its name.
            let name = graph.value(old).name.clone();
            graph.value_mut(new).name = name;
        }
        if graph.ty(new).is_none() {
            let ty = graph.ty(old).cloned();
            graph.set_type(new, ty);
        }
        graph.replace_uses(old, new);
    }
    // A dead user would count as a user.
    graph.set_operands(n, &[]);
}
