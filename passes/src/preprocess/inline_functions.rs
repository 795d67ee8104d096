//! Puts the bodies of model-local functions in the place of their calls, so that the passes after
//! it see every weight and every operator.
//!
//! ```text
//! y = Dense <alpha = 2.0> (x, W)        =>   y_h = MatMul(x, W)
//! Dense <alpha> (a, b) => (c) {              y = LeakyRelu <alpha = 2.0> (y_h)
//!     h = MatMul(a, b)
//!     c = LeakyRelu <alpha = @alpha> (h)
//! }
//! ```
//!
//! Calls in regions and in bodies of other functions are replaced too. A body of an earlier opset
//! is brought to that of the model, with the types of the call; the model is brought to that of a
//! body of a later one. Values take the names of the call's results, inner ones
//! `<first result>_<inner name>`.
//!
//! Does not fire, and warns, where
//! - the function is named in `keep`: what computes quantization parameters is known by its name;
//! - an operator of the body cannot be brought to the opset of the model, or the body imports
//!   another version of a custom domain than the model;
//! - the call passes a graph as an attribute, or leaves out an operand that is also a result.
//!
//! It is an error if a function calls itself, or if inlining would give more than a million nodes.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use onnxq_ir::{Function, FunctionId, Graph, Model, NodeId, Op, ValueId, deep, def::Opsets};
use onnxq_ops::{infer, interpret::bind_attributes, upgrade};
use onnxq_pass::{
    OptionInfo, OptionKind, Options, Pass, PassContext, PassError, PassInfo, describe,
};

use super::graft::{Graft, release};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "inline-functions",
    summary: "put the bodies of model-local functions in the place of their calls",
    options: &[OptionInfo {
        name: "keep",
        kind: OptionKind::List,
        default: "ComputeQuantizationParameters",
        help: "names of functions that stay",
    }],
    build,
};

fn build(opts: &mut Options) -> Result<Box<dyn Pass>, onnxq_pass::Error> {
    let keep = vec!["ComputeQuantizationParameters".to_owned()];
    Ok(Box::new(InlineFunctions {
        keep: opts.take("keep", keep)?,
    }))
}

/// Functions that call functions that call functions grow exponentially.
const MAX_NODES: usize = 1_000_000;

struct InlineFunctions {
    keep: Vec<String>,
}

impl Pass for InlineFunctions {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        if model.functions.is_empty() {
            return Ok(());
        }
        let functions = std::mem::take(&mut model.functions);
        let stays: HashSet<FunctionId> = functions
            .keys()
            .filter(|id| self.keep.contains(&id.name))
            .cloned()
            .collect();
        let sizes = Sizes::of(&functions);
        if let Some(i) = sizes.of.iter().position(Option::is_none) {
            return Err(PassError::new(format_args!(
                "function '{}' calls itself",
                functions.keys()[i].name
            )));
        }
        let total = sizes.total(&model.graph, &functions);
        if total > MAX_NODES {
            return Err(PassError::new(format_args!(
                "the functions of the model come to {total} nodes, more than {MAX_NODES}"
            )));
        }
        model.functions = functions;
        raise_opset(model, &stays, cx);
        let imported = model.opsets.clone();
        let mut inliner = Inliner {
            functions: std::mem::take(&mut model.functions),
            opsets: std::mem::take(&mut model.opsets),
            stays,
            refused: HashSet::new(),
            cx,
        };
        if inliner.needs_types() {
            model.functions = inliner.functions.clone();
            model.opsets = inliner.opsets.clone();
            infer::annotate(model);
        }
        inliner.graph(&mut model.graph);
        model.functions = inliner.functions;
        model.opsets = inliner.opsets;
        model.sweep();
        drop_unused_imports(model, &imported);
        Ok(())
    }
}

/// How many nodes each function comes to with everything inlined.
struct Sizes {
    /// In the order of the functions; `None` for one that calls itself, in the end.
    of: Vec<Option<usize>>,
}

impl Sizes {
    fn of(functions: &IndexMap<FunctionId, Function>) -> Sizes {
        let calls: Vec<Vec<usize>> = functions
            .values()
            .map(|f| calls(&f.graph, functions))
            .collect();
        let own = |f: &Function| {
            let mut count = 0;
            f.graph
                .for_each_graph(&mut |g: &Graph| count += g.node_count());
            count
        };
        let mut of: Vec<Option<usize>> = vec![None; functions.len()];
        let mut callers = vec![Vec::new(); functions.len()];
        for (caller, callees) in calls.iter().enumerate() {
            for &callee in callees {
                callers[callee].push(caller);
            }
        }
        // Those that call none that is still open come first, as in a topological sort.
        let mut open: Vec<usize> = calls.iter().map(Vec::len).collect();
        let mut ready: Vec<usize> = (0..open.len()).filter(|&i| open[i] == 0).collect();
        while let Some(i) = ready.pop() {
            let inner = calls[i].iter().map(|&callee| of[callee].unwrap_or(0));
            of[i] = Some(inner.fold(own(&functions[i]), usize::saturating_add));
            for &caller in &callers[i] {
                open[caller] -= 1;
                if open[caller] == 0 {
                    ready.push(caller);
                }
            }
        }
        Sizes { of }
    }

    fn total(&self, graph: &Graph, functions: &IndexMap<FunctionId, Function>) -> usize {
        let sizes = calls(graph, functions)
            .into_iter()
            .map(|i| self.of[i].unwrap_or(0));
        sizes.fold(0, usize::saturating_add)
    }
}

fn callee(op: &Op) -> FunctionId {
    FunctionId {
        domain: op.domain.clone(),
        name: op.op_type.clone(),
        overload: op.overload.clone(),
    }
}

/// The functions that the graph and its regions call, each as often as it is called.
fn calls(graph: &Graph, functions: &IndexMap<FunctionId, Function>) -> Vec<usize> {
    let mut calls = Vec::new();
    graph.for_each_graph(&mut |g: &Graph| {
        let ops = g.node_ids().filter_map(|n| g.op(n));
        calls.extend(ops.filter_map(|op| functions.get_index_of(&callee(op))));
    });
    calls
}

/// Brings the main graph to the latest opset among the functions that will be inlined.
fn raise_opset(model: &mut Model, stays: &HashSet<FunctionId>, cx: &mut PassContext) {
    let inlined = model.functions.iter().filter(|(id, _)| !stays.contains(id));
    let latest = inlined.filter_map(|(_, f)| f.opsets.get("").copied()).max();
    let Some(latest) = latest else { return };
    match model.opset("") {
        None => {
            model.opsets.insert(String::new(), latest);
        }
        Some(opset) if opset < latest => {
            infer::annotate(model);
            // Bodies are brought along call by call, where their types are known.
            let functions = std::mem::take(&mut model.functions);
            let upgraded = upgrade::upgrade(model, latest);
            model.functions = functions;
            if let Err(obstacles) = upgraded {
                for o in obstacles {
                    cx.warning(format_args!(
                        "functions of opset {latest} stay: node {}: {}",
                        o.node, o.reason
                    ));
                }
            }
        }
        Some(_) => {}
    }
}

/// Removes the imports of domains that only calls used, which are gone.
fn drop_unused_imports(model: &mut Model, before: &Opsets) {
    let mut used: HashSet<String> = HashSet::from([String::new()]);
    model.for_each_graph(|g| {
        let ops = g.node_ids().filter_map(|n| g.op(n));
        used.extend(ops.map(|op| op.domain.clone()));
    });
    used.extend(model.functions.keys().map(|id| id.domain.clone()));
    // Those of domains with operators may serve programs that read the file.
    let known: HashSet<&str> = onnxq_ops::all().map(|op| op.domain()).collect();
    model.opsets.retain(|domain, _| {
        used.contains(domain) || (before.contains_key(domain) && known.contains(domain.as_str()))
    });
}

struct Inliner<'a> {
    functions: IndexMap<FunctionId, Function>,
    opsets: Opsets,
    stays: HashSet<FunctionId>,
    /// Functions of which it has been said why they stay.
    refused: HashSet<FunctionId>,
    cx: &'a mut PassContext,
}

impl Inliner<'_> {
    /// Whether a body has to be brought to a later opset, which asks for types.
    fn needs_types(&self) -> bool {
        let opset = self.opsets.get("");
        let inlined = self
            .functions
            .iter()
            .filter(|(id, _)| !self.stays.contains(*id));
        inlined
            .filter_map(|(_, f)| f.opsets.get(""))
            .any(|v| Some(v) < opset)
    }

    fn graph(&mut self, graph: &mut Graph) {
        let mut pending = graph.op_order();
        pending.reverse();
        while let Some(n) = pending.pop() {
            if let Some(ops) = self.call(graph, n) {
                pending.extend(ops.into_iter().rev());
                continue;
            }
            let has_regions = |op: &Op| op.regions().next().is_some();
            if graph.op(n).is_some_and(has_regions)
                && let Some(op) = graph.op_mut(n)
            {
                for region in op.regions_mut() {
                    deep(|| self.graph(region));
                }
            }
        }
    }

    /// Replaces the call `n`; gives the nodes that came.
    fn call(&mut self, graph: &mut Graph, n: NodeId) -> Option<Vec<NodeId>> {
        let op = graph.op(n)?;
        let id = callee(op);
        let function = self.functions.get(&id)?;
        if self.stays.contains(&id) {
            return None;
        }
        let operands = graph.operands(n);
        let body = match self.body(graph, n, op, function) {
            Ok(body) => body,
            Err(reason) => {
                let at = describe(graph, n).to_string();
                if self.refused.insert(id) {
                    self.cx
                        .warning(format_args!("the call {at} is not inlined: {reason}"));
                }
                return None;
            }
        };
        if !self.cx.begin_rewrite("inline-call", describe(graph, n)) {
            return None;
        }
        for (domain, &version) in &self.functions[&id].opsets {
            self.opsets.entry(domain.clone()).or_insert(version);
        }
        Some(replace_call(graph, n, body, &operands))
    }

    /// The body with attributes bound, at the opset of the model.
    fn body(
        &self,
        graph: &Graph,
        n: NodeId,
        op: &Op,
        function: &Function,
    ) -> Result<Graph, String> {
        if op.captures > 0 || op.attrs.values().any(|a| !a.graphs().is_empty()) {
            return Err("it passes a graph".into());
        }
        let body = bind_attributes(function, op);
        let operands = graph.operands(n);
        let inputs: HashMap<NodeId, usize> = body
            .inputs()
            .iter()
            .enumerate()
            .map(|(i, &n)| (n, i))
            .collect();
        let left_out = |v: ValueId| {
            let i = inputs.get(&v.node)?;
            operands.get(*i).copied().flatten().is_none().then_some(*i)
        };
        if let Some(i) = body.results().into_iter().flatten().find_map(left_out) {
            return Err(format!("it leaves out operand {i}, which is also a result"));
        }
        let local: HashSet<&str> = self.functions.keys().map(|id| id.domain.as_str()).collect();
        for (domain, version) in &function.opsets {
            if let Some(here) = self.opsets.get(domain)
                && here != version
                && !domain.is_empty()
                && !local.contains(domain.as_str())
            {
                return Err(format!(
                    "it imports version {version} of domain '{domain}', the model {here}"
                ));
            }
        }
        let here = self.opsets.get("").copied();
        match (function.opsets.get("").copied(), here) {
            (Some(version), Some(here)) if version < here => {
                self.upgrade_body(graph, n, body, function, here)
            }
            (Some(version), Some(here)) if version > here => {
                Err(format!("it is of opset {version}, the model of {here}"))
            }
            _ => Ok(body),
        }
    }

    fn upgrade_body(
        &self,
        graph: &Graph,
        n: NodeId,
        mut body: Graph,
        function: &Function,
        to: i64,
    ) -> Result<Graph, String> {
        let operands = graph.operands(n);
        for (i, &input) in body.inputs().to_vec().iter().enumerate() {
            let v = operands.get(i).copied().flatten();
            let ty = v.and_then(|v| graph.ty(v).cloned());
            body.set_type(
                ValueId {
                    node: input,
                    result: 0,
                },
                ty,
            );
        }
        let mut model = Model {
            opsets: function.opsets.clone(),
            graph: body,
            functions: self.functions.clone(),
            ..Model::default()
        };
        infer::annotate(&mut model);
        model.functions.clear();
        match upgrade::upgrade(&mut model, to) {
            Ok(_) => Ok(std::mem::take(&mut model.graph)),
            Err(obstacles) => {
                let reasons = obstacles
                    .iter()
                    .map(|o| format!("node {}: {}", o.node, o.reason));
                Err(reasons.collect::<Vec<_>>().join("; "))
            }
        }
    }
}

fn replace_call(
    graph: &mut Graph,
    n: NodeId,
    body: Graph,
    operands: &[Option<ValueId>],
) -> Vec<NodeId> {
    // Names of values are unique where those of nodes need not be.
    let node = graph.node(n);
    let first = node.results.iter().find(|v| !v.name.is_empty());
    let call = first.map_or(node.name.as_str(), |v| &v.name).to_owned();
    let grafted = Graft {
        inputs: operands,
        rename: &|_, inner: &str| format!("{call}_{inner}"),
        keep_sunk: true,
        // Those in a function hold for any call.
        keep_types: false,
    }
    .run(graph, body);
    let came: HashSet<NodeId> = grafted.ops.iter().map(|&(new, _)| new).collect();
    let mut named: HashSet<ValueId> = HashSet::new();
    for i in 0..graph.node(n).results.len() {
        let Some(new) = grafted.results.get(i).copied().flatten() else {
            continue;
        };
        let old = graph.result(n, i);
        let value = graph.value(old).clone();
        if came.contains(&new.node) && !value.name.is_empty() && named.insert(new) {
            *graph.value_mut(new) = value;
        }
        graph.replace_uses(old, new);
    }
    release(graph, n);
    grafted.ops.into_iter().map(|(new, _)| new).collect()
}
