//! The verifier.
//!
//! A model is well formed if
//! - every graph has one `Return`, whose operands are all there and as many as the outputs;
//! - inputs and constants have no operands and one result, `Return` has no result;
//! - every use is of a result that exists, and no operand is given twice or past the last;
//! - no node depends on its own result;
//! - the input list has every input once, and otherwise constants only;
//! - each region of a node has the node's captures as its last inputs;
//! - a value that is used has a name;
//! - the type of a constant is that of its value;
//! - attribute references occur in function bodies only;
//! - every domain in use is imported, and a model-local function is not called by itself.
//!
//! All violations are reported, each with its place.

use std::{collections::HashSet, fmt};

use petgraph::{Direction::Incoming, visit::EdgeRef};

use crate::{
    Attr, Graph, Model, NodeId, NodeKind, ValueId, build::describe, deep, graph::literal_type,
};

/// A broken invariant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The graph, by name.
    pub graph: String,
    /// The node, by name or first result; empty where it is the graph itself.
    pub node: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "graph '{}'", self.graph)?;
        if !self.node.is_empty() {
            write!(f, ", node {}", self.node)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Model {
    /// Every violation of the invariants of the IR; none if the model is well formed.
    pub fn verify(&self) -> Vec<Violation> {
        let mut v = Verifier {
            found: Vec::new(),
            in_function: false,
        };
        let imported = |domain: &str| self.opsets.contains_key(domain);
        let local: HashSet<&str> = self.functions.keys().map(|id| id.domain.as_str()).collect();
        v.graph(&self.graph);
        v.domains(&self.graph, &|d| imported(d) || local.contains(d));
        v.in_function = true;
        for function in self.functions.values() {
            v.graph(&function.graph);
            let imported = |d: &str| function.opsets.contains_key(d) || local.contains(d);
            v.domains(&function.graph, &imported);
        }
        self.verify_calls(&mut v);
        v.found
    }

    /// Finds functions that call themselves, through others or directly.
    fn verify_calls(&self, v: &mut Verifier) {
        // Functions without calls to functions that are still there go first, as in a
        // topological sort.
        let calls: Vec<Vec<usize>> = self
            .functions
            .values()
            .map(|f| {
                let mut calls = Vec::new();
                f.graph.for_each_graph(&mut |g: &Graph| {
                    for op in g.node_ids().filter_map(|n| g.op(n)) {
                        let callee = self.callee(op);
                        calls.extend(callee.and_then(|(id, _)| self.functions.get_index_of(id)));
                    }
                });
                calls
            })
            .collect();
        let mut callers = vec![Vec::new(); calls.len()];
        for (caller, callees) in calls.iter().enumerate() {
            for &callee in callees {
                callers[callee].push(caller);
            }
        }
        let mut open: Vec<usize> = calls.iter().map(Vec::len).collect();
        let mut ready: Vec<usize> = (0..calls.len()).filter(|&i| open[i] == 0).collect();
        while let Some(i) = ready.pop() {
            for &caller in &callers[i] {
                open[caller] -= 1;
                if open[caller] == 0 {
                    ready.push(caller);
                }
            }
        }
        for (i, id) in self
            .functions
            .keys()
            .enumerate()
            .filter(|&(i, _)| open[i] > 0)
        {
            v.found.push(Violation {
                graph: id.name.clone(),
                node: String::new(),
                message: format!("the function calls itself (function {i} of the model)"),
            });
        }
    }
}

struct Verifier {
    found: Vec<Violation>,
    in_function: bool,
}

impl Verifier {
    fn report(&mut self, graph: &Graph, n: Option<NodeId>, message: impl Into<String>) {
        self.found.push(Violation {
            graph: graph.name.clone(),
            node: n.map_or_else(String::new, |n| describe(graph.node(n))),
            message: message.into(),
        });
    }

    fn graph(&mut self, g: &Graph) {
        deep(|| {
            for n in g.node_ids() {
                self.edges(g, n);
                self.node(g, n);
            }
            self.signature(g);
            if let Some(n) = g.cycle() {
                self.report(g, Some(n), "depends on its own result");
            }
        });
    }

    fn edges(&mut self, g: &Graph, n: NodeId) {
        let count = g.node(n).operand_count();
        let mut given = vec![false; count];
        let edges = g
            .nodes
            .edges_directed(n, Incoming)
            .filter(|e| e.weight().is_live());
        for edge in edges {
            let (source, edge) = (edge.source(), *edge.weight());
            match given.get_mut(edge.operand as usize) {
                None => self.report(g, Some(n), format!("operand {} of {count}", edge.operand)),
                Some(given) => {
                    if std::mem::replace(given, true) {
                        let message = format!("operand {} is given twice", edge.operand);
                        self.report(g, Some(n), message);
                    }
                }
            }
            match g.node(source).results.get(edge.result as usize) {
                None => {
                    let message = format!(
                        "operand {} is result {} of {}, which has none such",
                        edge.operand,
                        edge.result,
                        describe(g.node(source))
                    );
                    self.report(g, Some(n), message);
                }
                Some(value) if value.name.is_empty() => {
                    let message = format!("operand {} has no name", edge.operand);
                    self.report(g, Some(n), message);
                }
                Some(_) => {}
            }
        }
    }

    fn node(&mut self, g: &Graph, n: NodeId) {
        let node = g.node(n);
        if !matches!(node.kind, NodeKind::Op(_) | NodeKind::Return) {
            if node.operand_count() != 0 {
                self.report(g, Some(n), "an input or constant has operands");
            }
            if node.results.len() != 1 {
                self.report(g, Some(n), "an input or constant has not one result");
            }
        }
        match &node.kind {
            NodeKind::Return if n != g.ret() => self.report(g, Some(n), "a second Return"),
            NodeKind::Return if !node.results.is_empty() => {
                self.report(g, Some(n), "Return has results");
            }
            NodeKind::Constant(c)
                if g.ty(ValueId { node: n, result: 0 }) != Some(&literal_type(&c.value)) =>
            {
                self.report(
                    g,
                    Some(n),
                    "the type of the constant is not that of its value",
                );
            }
            NodeKind::Op(op) => {
                if op.captures > node.operand_count() {
                    self.report(g, Some(n), "captures more values than it has operands");
                }
                for (name, attr) in &op.attrs {
                    if matches!(attr, Attr::Ref { .. }) && !self.in_function {
                        let message =
                            format!("attribute '{name}' is a reference outside a function");
                        self.report(g, Some(n), message);
                    }
                }
                for (name, region) in op.regions() {
                    self.captures(g, n, op.captures, name, region);
                    self.graph(region);
                }
            }
            _ => {}
        }
    }

    fn captures(&mut self, g: &Graph, n: NodeId, captures: usize, name: &str, region: &Graph) {
        let inputs = region.inputs();
        let Some(first) = inputs.len().checked_sub(captures) else {
            let message = format!("region '{name}' has fewer inputs than the node captures");
            return self.report(g, Some(n), message);
        };
        if inputs[first..].iter().any(|&i| !region.node(i).is_input()) {
            self.report(
                g,
                Some(n),
                format!("region '{name}' has a constant for a capture"),
            );
        }
    }

    fn signature(&mut self, g: &Graph) {
        let results = g.results();
        if results.len() != g.outputs.len() {
            let message = format!("{} outputs, {} results", g.outputs.len(), results.len());
            self.report(g, None, message);
        }
        for (i, output) in g.outputs.iter().enumerate() {
            if results.get(i).copied().flatten().is_none() {
                self.report(g, None, format!("output '{}' has no value", output.name));
            }
        }
        let mut listed = HashSet::new();
        for &n in g.inputs() {
            if !g.nodes.contains_node(n) {
                self.report(g, None, "the input list has a node that is not there");
            } else if !g.node(n).is_input() && !g.node(n).is_constant() {
                self.report(g, Some(n), "is listed as an input");
            } else if !listed.insert(n) {
                self.report(g, Some(n), "is listed twice as an input");
            }
        }
        for n in g.node_ids().filter(|&n| g.node(n).is_input()) {
            if !listed.contains(&n) {
                self.report(g, Some(n), "is an input that is not listed");
            }
        }
    }

    fn domains(&mut self, g: &Graph, imported: &dyn Fn(&str) -> bool) {
        deep(|| {
            for n in g.order() {
                let Some(op) = g.op(n) else { continue };
                if !imported(&op.domain) {
                    let message = format!("domain '{}' is not imported", op.domain);
                    self.report(g, Some(n), message);
                }
                for (_, region) in op.regions() {
                    self.domains(region, imported);
                }
            }
        });
    }
}

impl Graph {
    /// A node that depends on its own result, if there is one.
    pub fn cycle(&self) -> Option<NodeId> {
        let mut open = vec![0usize; self.node_bound()];
        for (_, target, _) in self.live_edges() {
            open[target.index()] += 1;
        }
        let mut ready: Vec<NodeId> = self.node_ids().filter(|n| open[n.index()] == 0).collect();
        let mut done = 0;
        while let Some(n) = ready.pop() {
            done += 1;
            for edge in self.nodes.edges(n).filter(|e| e.weight().is_live()) {
                let target = edge.target();
                open[target.index()] -= 1;
                if open[target.index()] == 0 {
                    ready.push(target);
                }
            }
        }
        if done == self.node_count() {
            return None;
        }
        // Among what is left, walk backwards until a node comes again: it is on a cycle.
        let mut n = self.node_ids().find(|n| open[n.index()] > 0)?;
        let mut seen = HashSet::new();
        while seen.insert(n) {
            let source = |v: &ValueId| open[v.node.index()] > 0;
            n = self.operands(n).into_iter().flatten().find(source)?.node;
        }
        Some(n)
    }
}
