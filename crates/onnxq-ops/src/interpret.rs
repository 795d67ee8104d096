//! The interpreter: evaluates a graph node by node, in canonical order, freeing each value after
//! its last use. It is the reference: whatever runs faster must give its results.

use std::{cell::Cell, collections::HashMap};

use onnxq_ir::{self as ir, Graph, Model, NodeId, NodeKind, ValueId, deep};
use onnxq_tensor::Tensor;

use crate::{EvalContext, EvalError, Value, lookup};

/// What evaluation needs to know of the model around a graph.
#[derive(Clone, Copy)]
pub struct Interpreter<'a> {
    model: &'a Model,
    opsets: &'a ir::def::Opsets,
    observe: Option<&'a Observer<'a>>,
    observe_regions: bool,
    intercept: Option<&'a Interceptor<'a>>,
    fuel: Option<&'a Cell<u64>>,
}

/// Sees every value of a graph when it is produced.
pub type Observer<'a> = dyn Fn(&Graph, ValueId, &Value) + 'a;

/// Sees the results of every node when they are produced, inputs and constants included, in regions
/// too, and may put others in their place.
pub type Interceptor<'a> = dyn Fn(&Graph, NodeId, &mut [Option<Value>]) + 'a;

impl<'a> Interpreter<'a> {
    /// An interpreter for the graphs of `model`.
    pub fn new(model: &'a Model) -> Interpreter<'a> {
        Interpreter {
            model,
            opsets: &model.opsets,
            observe: None,
            observe_regions: false,
            intercept: None,
            fuel: None,
        }
    }

    /// The same, with `observe` called for every value of the graph that [`run`](Self::run) is
    /// given.
    #[must_use]
    pub fn observed(self, observe: &'a Observer<'a>) -> Interpreter<'a> {
        Interpreter {
            observe: Some(observe),
            ..self
        }
    }

    /// The same, with `observe` called for every value of every region that is run, each time, at
    /// whatever depth. Bodies of functions are no regions.
    #[must_use]
    pub fn observed_in_regions(self, observe: &'a Observer<'a>) -> Interpreter<'a> {
        Interpreter {
            observe: Some(observe),
            observe_regions: true,
            ..self
        }
    }

    /// The same, with `intercept` called for every node of the graph that [`run`](Self::run) is
    /// given and of its regions, but not of function bodies.
    #[must_use]
    pub fn intercepted(self, intercept: &'a Interceptor<'a>) -> Interpreter<'a> {
        Interpreter {
            intercept: Some(intercept),
            ..self
        }
    }

    /// The same, with a bound on the work: each run of a graph, region or body takes one unit of
    /// `fuel`, each operation another, and one more for every [`ELEMENTS_PER_UNIT`] elements of its
    /// results. What is left afterwards stays in `fuel`.
    ///
    /// Where it does not suffice, evaluation ends with [`EvalError::OutOfFuel`]. Without this, a
    /// loop runs as long as the model says.
    #[must_use]
    pub fn fuelled(self, fuel: &'a Cell<u64>) -> Interpreter<'a> {
        Interpreter {
            fuel: Some(fuel),
            ..self
        }
    }

    fn spend(&self, units: u64) -> Result<(), EvalError> {
        let Some(fuel) = self.fuel else { return Ok(()) };
        let left = fuel.get().checked_sub(units);
        fuel.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(EvalError::OutOfFuel)
    }

    /// The results of `graph` for `inputs`, one for each entry of its input list; an entry that is
    /// a constant may be `None`.
    ///
    /// # Errors
    /// Names the node that failed.
    pub fn run(&self, graph: &Graph, inputs: Vec<Option<Value>>) -> Result<Vec<Value>, EvalError> {
        deep(|| self.run_graph(graph, inputs))
    }

    fn run_graph(
        &self,
        graph: &Graph,
        inputs: Vec<Option<Value>>,
    ) -> Result<Vec<Value>, EvalError> {
        self.spend(1)?;
        let needed = graph.needed();
        let order: Vec<NodeId> = graph
            .order()
            .into_iter()
            .filter(|n| needed[n.index()])
            .collect();
        let mut last_use: Vec<usize> = vec![usize::MAX; graph.node_bound()];
        for (at, &n) in order.iter().enumerate() {
            for v in graph.operands(n).into_iter().flatten() {
                last_use[v.node.index()] = at;
            }
        }
        for v in graph.results().into_iter().flatten() {
            last_use[v.node.index()] = usize::MAX;
        }
        let mut values: Vec<Vec<Option<Value>>> = vec![Vec::new(); graph.node_bound()];
        for (&n, value) in graph.inputs().iter().zip(inputs) {
            let default = || graph.node(n).tensor().cloned().map(Value::Tensor);
            values[n.index()] = vec![value.or_else(default)];
        }
        for (at, &n) in order.iter().enumerate() {
            let node = graph.node(n);
            match &node.kind {
                NodeKind::Constant(c) => {
                    if values[n.index()].is_empty() {
                        values[n.index()] = vec![Some(constant(&c.value)?)];
                    }
                }
                NodeKind::Op(op) => {
                    let operands: Vec<Option<Value>> = graph
                        .operands(n)
                        .into_iter()
                        .map(|v| v.and_then(|v| value(&values, v)))
                        .collect();
                    let results = self
                        .run_node(op, &operands, node.results.len())
                        .and_then(|results| self.spend(units(&results)).map(|()| results))
                        .map_err(|e| at_node(node, e))?;
                    drop(operands);
                    values[n.index()] = results.into_iter().map(Some).collect();
                    for v in graph.operands(n).into_iter().flatten() {
                        if last_use[v.node.index()] == at {
                            values[v.node.index()].fill(None);
                        }
                    }
                }
                NodeKind::Input | NodeKind::Return => {}
            }
            if let Some(intercept) = self.intercept {
                intercept(graph, n, &mut values[n.index()]);
            }
            if let Some(observe) = self.observe {
                for (i, value) in values[n.index()].iter().enumerate() {
                    if let Some(value) = value {
                        observe(
                            graph,
                            ValueId {
                                node: n,
                                result: i as u32,
                            },
                            value,
                        );
                    }
                }
            }
        }
        let results = graph.results().into_iter().zip(&graph.outputs);
        results
            .map(|(v, output)| {
                v.and_then(|v| value(&values, v)).ok_or_else(|| {
                    EvalError::Invalid(format!("output '{}' has no value", output.name))
                })
            })
            .collect()
    }

    /// The results of one operation.
    ///
    /// # Errors
    /// The operator is unknown, or its evaluation fails.
    pub fn run_node(
        &self,
        op: &ir::Op,
        operands: &[Option<Value>],
        results: usize,
    ) -> Result<Vec<Value>, EvalError> {
        if let Some((_, function)) = self.model.callee(op) {
            return self.call(op, function, operands);
        }
        let Some(operator) = lookup(&op.domain, &op.op_type) else {
            return Err(EvalError::Unsupported(format!(
                "operator {}",
                op.qualified()
            )));
        };
        let opset = self.opsets.get(&op.domain).copied().unwrap_or(1);
        let inner = Interpreter {
            observe: self.observe.filter(|_| self.observe_regions),
            ..*self
        };
        let region = move |graph: &Graph, inputs: Vec<Value>| {
            inner.run(graph, inputs.into_iter().map(Some).collect())
        };
        operator.eval(&EvalContext::new(op, opset, operands, results, &region).in_run())
    }

    fn call(
        &self,
        op: &ir::Op,
        function: &ir::Function,
        operands: &[Option<Value>],
    ) -> Result<Vec<Value>, EvalError> {
        let body = bind_attributes(function, op);
        let inner = Interpreter {
            opsets: &function.opsets,
            observe: None,
            intercept: None,
            ..*self
        };
        let mut inputs = operands.to_vec();
        inputs.resize(body.inputs().len(), None);
        inner.run(&body, inputs)
    }
}

/// How many elements of results count as one operation more.
pub const ELEMENTS_PER_UNIT: usize = 1024;

/// What an operation with these results takes.
fn units(results: &[Value]) -> u64 {
    let elements: usize = results
        .iter()
        .filter_map(Value::as_tensor)
        .map(Tensor::len)
        .sum();
    1 + (elements / ELEMENTS_PER_UNIT) as u64
}

fn value(values: &[Vec<Option<Value>>], v: ValueId) -> Option<Value> {
    values[v.node.index()].get(v.result as usize)?.clone()
}

/// The error `e` of `node`, which it then names.
pub fn at_node(node: &ir::Node, e: EvalError) -> EvalError {
    let op = node.op().map_or_else(String::new, ir::Op::qualified);
    let name = if node.name.is_empty() {
        node.results.first().map_or("", |v| v.name.as_str())
    } else {
        node.name.as_str()
    };
    EvalError::At {
        node: format!("'{name}' ({op})"),
        source: Box::new(e),
    }
}

fn constant(literal: &ir::def::Literal) -> Result<Value, EvalError> {
    match literal {
        ir::def::Literal::Dense(t) => Ok(Value::Tensor(t.clone())),
        ir::def::Literal::Sparse(_) => Err(EvalError::Unsupported(
            "evaluation of sparse constants".to_owned(),
        )),
    }
}

/// The body of `function` with attribute references replaced by what the call `op` gives, or by
/// the defaults; a reference to neither is dropped, so that the operator's own default counts.
pub fn bind_attributes(function: &ir::Function, op: &ir::Op) -> Graph {
    let mut given: HashMap<&str, &ir::Attr> = function
        .attribute_defaults
        .iter()
        .map(|(k, a)| (k.as_str(), a))
        .collect();
    given.extend(op.attrs.iter().map(|(k, a)| (k.as_str(), a)));
    let mut body = function.graph.clone();
    body.for_each_graph_mut(&mut |g: &mut Graph| {
        for n in g.node_ids().collect::<Vec<_>>() {
            let is_ref = |a: &ir::Attr| matches!(a, ir::Attr::Ref { .. });
            if !g.op(n).is_some_and(|op| op.attrs.values().any(is_ref)) {
                continue;
            }
            let Some(inner) = g.op_mut(n) else { continue };
            for attr in inner.attrs.values_mut() {
                if let ir::Attr::Ref { name, .. } = attr
                    && let Some(&bound) = given.get(name.as_str())
                {
                    *attr = bound.clone();
                }
            }
            inner.attrs.retain(|_, a| !is_ref(a));
        }
    });
    body
}
