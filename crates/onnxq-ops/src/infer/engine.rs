//! The walk over a model.

use std::{cell::Cell, collections::HashMap};

use onnxq_ir::{self as ir, Graph, Model, NodeId, NodeKind, Type, ValueId, deep};
use onnxq_tensor::{Dim, element_count};

use super::{
    Fact, InferContext, SymTensor, Unknown,
    fact::{forget_names, merge},
};
use crate::{EvalContext, EvalError, Operator, Value, interpret::bind_attributes, lookup};

/// What is known of the values of a graph and of its regions.
#[derive(Clone, Debug, Default)]
pub struct GraphFacts {
    /// By index of the node, then by result.
    facts: Vec<Vec<Fact>>,
    /// By index of the node: attribute and facts of its regions.
    regions: HashMap<usize, Vec<(String, GraphFacts)>>,
    notes: Vec<Note>,
}

/// Something worth telling about a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// The graph, by name.
    pub graph: String,
    /// The node: its name or first result, and its operator.
    pub node: String,
    /// What is unknown and why, or what contradicts what.
    pub message: String,
    /// Whether it is a contradiction, and not merely something unknown.
    pub contradiction: bool,
}

/// What inference found out about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// In the order of the graph.
    pub notes: Vec<Note>,
}

impl GraphFacts {
    /// What is known of `v`.
    pub fn get(&self, v: ValueId) -> &Fact {
        static UNKNOWN: Fact = Fact {
            ty: None,
            value: None,
            constant: None,
        };
        let node = self.facts.get(v.node.index());
        node.and_then(|f| f.get(v.result as usize))
            .unwrap_or(&UNKNOWN)
    }

    /// What is known of the values of the region in attribute `key` of `n`.
    pub fn region(&self, n: NodeId, key: &str) -> Option<&GraphFacts> {
        self.regions
            .get(&n.index())?
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, f)| f)
    }

    /// What is known of the results of `graph`, whose facts these are.
    pub fn results(&self, graph: &Graph) -> Vec<Fact> {
        let fact = |v: Option<ValueId>| v.map_or_else(Fact::unknown, |v| self.get(v).clone());
        graph.results().into_iter().map(fact).collect()
    }
}

/// What is known of the values of the main graph.
pub fn analyze(model: &Model) -> GraphFacts {
    let engine = Engine {
        model,
        opsets: &model.opsets,
        calls: 0,
        expansions: &Cell::new(MAX_EXPANSIONS + model.graph.node_count()),
        depth: 0,
        scope: "",
    };
    let inputs = model
        .graph
        .inputs()
        .iter()
        .map(|&n| {
            engine
                .input_fact(&model.graph, n)
                .with_symbols(&model.graph.node(n).results[0].name)
        })
        .collect();
    engine.graph(&model.graph, inputs)
}

/// Writes inferred types into the main graph and its regions, outputs included. Types in function
/// bodies depend on the call and are left alone.
pub fn annotate(model: &mut Model) -> Report {
    let facts = analyze(model);
    let mut report = Report::default();
    commit(&mut model.graph, &facts, true, &mut report);
    report
}

fn commit(graph: &mut Graph, facts: &GraphFacts, outermost: bool, report: &mut Report) {
    deep(|| {
        for n in graph.node_ids().collect::<Vec<_>>() {
            // The type of a constant is that of its value, always, and the inputs of a model are
            // as it declares them.
            let declared = outermost && graph.node(n).is_input();
            if declared || graph.node(n).is_constant() {
                continue;
            }
            for i in 0..graph.node(n).results.len() {
                let v = graph.result(n, i);
                graph.set_type(v, facts.get(v).ty.clone());
            }
        }
        let results = facts.results(graph);
        for (output, fact) in graph.outputs.iter_mut().zip(results) {
            if fact.ty.is_some() {
                output.ty = fact.ty;
            }
        }
        let mut owners: Vec<&usize> = facts.regions.keys().collect();
        owners.sort();
        for &index in owners {
            let n = NodeId::new(index);
            let Some(op) = graph.op_mut(n) else { continue };
            for (key, inner) in &facts.regions[&index] {
                if let Some(ir::Attr::Graph(region)) = op.attrs.get_mut(key) {
                    commit(region, inner, false, report);
                }
            }
        }
        report.notes.extend(facts.notes.iter().cloned());
    });
}

#[derive(Clone, Copy)]
struct Engine<'a> {
    model: &'a Model,
    opsets: &'a ir::def::Opsets,
    /// How many functions are being expanded: a function that calls itself ends.
    calls: usize,
    /// How many calls may still be expanded, all together.
    expansions: &'a Cell<usize>,
    /// How many graphs this one is nested in.
    depth: usize,
    /// What tells symbols in this graph from those in others that have values of the same name.
    scope: &'a str,
}

/// Functions that call functions that call functions grow exponentially. So many calls are
/// expanded beside those of a large graph.
const MAX_EXPANSIONS: usize = 10_000;

impl Engine<'_> {
    const MAX_CALLS: usize = 64;

    fn input_fact(&self, graph: &Graph, n: NodeId) -> Fact {
        // An initializer that callers may override has the type of the default only.
        let ty = graph.node(n).results[0].ty.clone();
        Fact {
            ty,
            ..Fact::default()
        }
    }

    fn graph(&self, graph: &Graph, inputs: Vec<Fact>) -> GraphFacts {
        deep(|| {
            let mut out = GraphFacts {
                facts: vec![Vec::new(); graph.node_bound()],
                ..GraphFacts::default()
            };
            for (&n, mut fact) in graph.inputs().iter().zip(inputs) {
                // What a region calls a dimension may have another size whenever it is run.
                let mut annotated = graph.node(n).results[0].ty.clone();
                if let Some(ty) = &mut annotated {
                    forget_names(ty, true);
                }
                fact.ty = merge(fact.ty, annotated.as_ref()).0;
                out.facts[n.index()] = vec![fact];
            }
            for n in graph.order() {
                match &graph.node(n).kind {
                    NodeKind::Constant(_) if out.facts[n.index()].is_empty() => {
                        out.facts[n.index()] = vec![match graph.node(n).tensor() {
                            Some(t) => Fact::of_constant(t),
                            None => self.input_fact(graph, n),
                        }];
                    }
                    NodeKind::Op(op) => self.node(graph, n, op, &mut out),
                    _ => {}
                }
            }
            out
        })
    }

    fn node(&self, graph: &Graph, n: NodeId, op: &ir::Op, out: &mut GraphFacts) {
        let node = graph.node(n);
        let (mut results, regions, unknown) = {
            let operands: Vec<Option<&Fact>> = graph
                .operands(n)
                .into_iter()
                .map(|v| v.map(|v| out.get(v)))
                .collect();
            let names = node.results.iter().map(|v| v.name.as_str()).collect();
            self.op(op, &operands, names)
        };
        let mut note = |message: String, contradiction| {
            let name = if node.name.is_empty() {
                node.results.first().map_or("", |v| v.name.as_str())
            } else {
                node.name.as_str()
            };
            out.notes.push(Note {
                graph: graph.name.clone(),
                node: format!("'{name}' ({})", op.qualified()),
                message,
                contradiction,
            });
        };
        if let Some(Unknown(reason)) = unknown {
            note(reason, false);
        }
        for (value, fact) in node.results.iter().zip(&mut results) {
            let inferred = fact.ty.take().map(without_negative_sizes);
            let (ty, clash) = merge(inferred.clone(), value.ty.as_ref());
            if clash {
                let message = format!(
                    "'{}' is annotated as {}, but is {}",
                    value.name,
                    describe(value.ty.as_ref()),
                    describe(inferred.as_ref())
                );
                note(message, true);
            }
            fact.ty = ty;
        }
        out.facts[n.index()] = results;
        if !regions.is_empty() {
            out.regions.insert(n.index(), regions);
        }
    }

    /// The scope of graphs inside the node whose results have these names.
    fn inner_scope(&self, names: &[&str]) -> String {
        // Graphs nested very deep share one: the length of all scopes stays linear.
        const LONGEST: usize = 1024;
        match names.first() {
            Some(name) if self.scope.len() < LONGEST => format!("{}{name}_", self.scope),
            _ => self.scope.to_owned(),
        }
    }

    /// The facts of the results of `op`, those of its regions, and what is unknown.
    fn op(
        &self,
        op: &ir::Op,
        operands: &[Option<&Fact>],
        names: Vec<&str>,
    ) -> (Vec<Fact>, Vec<(String, GraphFacts)>, Option<Unknown>) {
        let count = names.len();
        if let Some((id, function)) = self.model.callee(op) {
            if self.calls >= Engine::MAX_CALLS {
                let reason = format!("function '{}' is nested too deep", id.name);
                return (vec![Fact::unknown(); count], vec![], Some(Unknown(reason)));
            }
            let Some(left) = self.expansions.get().checked_sub(1) else {
                let reason = format!("function '{}' is one of too many calls", id.name);
                return (vec![Fact::unknown(); count], vec![], Some(Unknown(reason)));
            };
            self.expansions.set(left);
            let body = bind_attributes(function, op);
            let scope = self.inner_scope(&names);
            let inner = Engine {
                scope: &scope,
                opsets: &function.opsets,
                calls: self.calls + 1,
                ..*self
            };
            let mut inputs: Vec<Fact> = operands
                .iter()
                .map(|f| f.cloned().unwrap_or_default())
                .collect();
            inputs.resize(body.inputs().len(), Fact::unknown());
            let mut results = inner.graph(&body, inputs).results(&body);
            results.resize(count, Fact::unknown());
            return (results, vec![], None);
        }
        let Some(operator) = lookup(&op.domain, &op.op_type) else {
            let reason = format!("operator {} is unknown", op.qualified());
            return (vec![Fact::unknown(); count], vec![], Some(Unknown(reason)));
        };
        let opset = self.opsets.get(&op.domain).copied().unwrap_or(1);
        let scope = match op.regions().next() {
            Some(_) => self.inner_scope(&names),
            None => String::new(),
        };
        let inner = Engine {
            scope: &scope,
            depth: self.depth + 1,
            ..*self
        };
        let mut region = |graph: &Graph, inputs: Vec<Fact>| inner.graph(graph, inputs);
        let mut cx = InferContext {
            op,
            opset,
            operands,
            results: vec![Fact::unknown(); count],
            result_names: names,
            region: &mut region,
            regions: Vec::new(),
            depth: self.depth,
            scope: self.scope,
        };
        let unknown = operator.infer(&mut cx).err();
        fold(operator, &mut cx);
        (cx.results, cx.regions, unknown)
    }
}

/// The type with negative sizes unknown: the node fails when it is run, but a file must not say so.
fn without_negative_sizes(mut ty: Type) -> Type {
    if let Type::Tensor(ir::TensorType {
        shape: Some(shape), ..
    }) = &mut ty
    {
        for dim in shape {
            if dim.as_const().is_some_and(|size| size < 0) {
                *dim = Dim::UNKNOWN;
            }
        }
    }
    ty
}

/// Evaluates the node where all operands are small constants and so are the results.
fn fold(operator: &dyn Operator, cx: &mut InferContext<'_>) {
    let small = |fact: &Fact| {
        let dims = fact.dims()?;
        let len = element_count(&dims).ok()?;
        (len <= SymTensor::MAX_LEN).then_some(())
    };
    let is_known = |fact: &Fact| fact.constant.is_some();
    let foldable = !cx.operands.is_empty()
        && cx.op.captures == 0
        && cx.regions.is_empty()
        && cx.results.iter().all(|fact| small(fact).is_some())
        && !cx.results.iter().all(is_known);
    if !foldable {
        return;
    }
    let mut operands = Vec::with_capacity(cx.operands.len());
    for fact in cx.operands {
        operands.push(match fact {
            None => None,
            Some(fact) => match &fact.constant {
                Some(t) if t.len() <= SymTensor::MAX_LEN => Some(Value::Tensor(t.clone())),
                _ => return,
            },
        });
    }
    let no_region = |_: &Graph, _| Err(EvalError::Unsupported("a region".to_owned()));
    let eval = EvalContext::new(cx.op, cx.opset, &operands, cx.results.len(), &no_region);
    let Ok(results) = operator.eval(&eval) else {
        return;
    };
    for (i, result) in results.iter().enumerate() {
        if let Some(t) = result.as_tensor() {
            cx.set(i, Fact::of_constant(t));
        }
    }
}

/// A type for a message.
fn describe(ty: Option<&Type>) -> String {
    match ty {
        Some(Type::Tensor(t)) => {
            let dtype = t.dtype.map_or("?", |d| d.name());
            match &t.shape {
                Some(shape) => {
                    let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
                    format!("{dtype}[{}]", dims.join(", "))
                }
                None => format!("{dtype} of unknown rank"),
            }
        }
        Some(other) => format!("{other:?}"),
        None => "unknown".to_owned(),
    }
}
