//! From the flat form of files to the graph: names become edges.
//!
//! A region that reads a value of an outer graph captures it: the value becomes a trailing operand
//! of the owning node and a trailing input of the region, through as many levels as lie between.
//! A constant of an outer graph is copied into the region instead (the bytes are shared), so that
//! a weight looks constant where it is used.

use std::collections::HashMap;

use indexmap::{IndexMap, IndexSet};

use crate::{
    Error, Function, FunctionId, Graph, Model, Node, NodeExtra, NodeId, NodeKind, Op, Value,
    ValueExtra, ValueId, deep,
    def::{FunctionDef, GraphDef, InitializerDef, Literal, ModelDef, NodeDef, Opsets, ValueDef},
};

/// How deep graphs may be nested in attributes.
pub const MAX_NESTING: usize = 1000;

pub(crate) fn model(def: ModelDef) -> Result<Model, Error> {
    // Before version 4 of the format every initializer had to be listed as an input as well, and
    // none could be overridden.
    let listed_are_constant = def.ir_version < 4;
    let graph = build(
        def.graph,
        &mut Scope {
            listed_are_constant,
            ..Scope::default()
        },
    )?;
    let mut functions = IndexMap::new();
    for f in def.functions {
        let (id, function) = function(f)?;
        if functions.contains_key(&id) {
            return Err(Error::DuplicateFunction(id.name));
        }
        functions.insert(id, function);
    }
    Ok(Model {
        ir_version: def.ir_version,
        opsets: standard_opsets(def.opsets),
        producer_name: def.producer_name,
        producer_version: def.producer_version,
        domain: def.domain,
        model_version: def.model_version,
        doc: def.doc,
        metadata: def.metadata,
        graph,
        functions,
        training: def.training,
        configurations: def.configurations,
    })
}

/// `ai.onnx` is another name for the standard domain.
fn standard_domain(domain: String) -> String {
    if domain == "ai.onnx" {
        String::new()
    } else {
        domain
    }
}

fn standard_opsets(opsets: Opsets) -> Opsets {
    opsets
        .into_iter()
        .map(|(domain, version)| (standard_domain(domain), version))
        .collect()
}

fn function(def: FunctionDef) -> Result<(FunctionId, Function), Error> {
    let id = FunctionId {
        domain: standard_domain(def.domain),
        name: def.name,
        overload: def.overload,
    };
    let defaults = def.attribute_defaults.into_iter().map(|(k, a)| {
        let graph = |g| build(g, &mut Scope::default());
        Ok((k, a.try_map_graphs(graph)?))
    });
    let attribute_defaults = defaults.collect::<Result<_, Error>>()?;
    let (inner, input_info) = def.value_info.into_iter().partition(|v| {
        // Types of inputs are given here too, since a function declares none.
        !def.inputs.contains(&v.name)
    });
    let names = |names: Vec<String>| names.into_iter().map(|n| ValueDef::new(n, None)).collect();
    let body = GraphDef {
        name: id.name.clone(),
        inputs: names(def.inputs),
        outputs: names(def.outputs),
        value_info: inner,
        nodes: def.nodes,
        doc: def.doc,
        metadata: def.metadata,
        ..GraphDef::default()
    };
    let function = Function {
        graph: build(body, &mut Scope::default())?,
        attributes: def.attributes,
        attribute_defaults,
        opsets: standard_opsets(def.opsets),
        input_info,
    };
    Ok((id, function))
}

/// The names visible from the graphs around the one being built.
#[derive(Default)]
struct Scope {
    /// What each name means, innermost last: a constant, or `None` for any other value.
    names: HashMap<String, Vec<Option<Literal>>>,
    depth: usize,
    listed_are_constant: bool,
}

fn build(def: GraphDef, scope: &mut Scope) -> Result<Graph, Error> {
    if scope.depth > MAX_NESTING {
        return Err(Error::TooDeep { limit: MAX_NESTING });
    }
    deep(|| Builder::declare(def, scope)?.connect(scope)).map(|(graph, _)| graph)
}

struct Builder {
    graph: Graph,
    /// What each name of this graph is. Constants of outer graphs and captures join as they are met.
    values: IndexMap<String, ValueId>,
    nodes: Vec<(NodeId, NodeDef)>,
    outputs: Vec<ValueDef>,
    captures: IndexSet<String>,
    value_info: HashMap<String, ValueDef>,
}

impl Builder {
    /// First pass: a vertex for every input, initializer and node, so that nodes may come in any
    /// order.
    fn declare(def: GraphDef, scope: &mut Scope) -> Result<Builder, Error> {
        let mut graph = Graph::new(def.name);
        graph.doc = def.doc;
        graph.metadata = def.metadata;
        graph.annotations = def.annotations;
        let mut b = Builder {
            graph,
            values: IndexMap::with_capacity(def.nodes.len() * 2),
            nodes: Vec::with_capacity(def.nodes.len()),
            outputs: def.outputs,
            captures: IndexSet::new(),
            value_info: def
                .value_info
                .into_iter()
                .map(|v| (v.name.clone(), v))
                .collect(),
        };
        let mut initializers: IndexMap<String, InitializerDef> = IndexMap::new();
        for i in def.initializers {
            let name = i.name.clone();
            if initializers.insert(name.clone(), i).is_some() {
                return Err(b.duplicate(&name));
            }
        }
        for input in def.inputs {
            let id = match initializers.get_mut(&input.name) {
                Some(i) => {
                    let literal = i.value.clone();
                    let v = b.add_constant(&input.name, literal, &i.doc, &i.metadata);
                    b.graph.list_constant(v.node);
                    v
                }
                None => b.graph.add_input(input.name.clone(), input.ty),
            };
            set_value_extra(b.graph.value_mut(id), input.doc, input.metadata);
            b.define(input.name, id)?;
        }
        for (name, i) in initializers {
            if !b.values.contains_key(&name) {
                let id = b.add_constant(&name, i.value, &i.doc, &i.metadata);
                b.define(name, id)?;
            }
        }
        for node in def.nodes {
            b.declare_node(node)?;
        }
        // Let regions see what this graph defines.
        for (name, &v) in &b.values {
            let constant = match &b.graph.node(v.node).kind {
                NodeKind::Constant(c) => Some(c.value.clone()),
                _ => None,
            };
            scope.names.entry(name.clone()).or_default().push(constant);
        }
        if !scope.listed_are_constant {
            for &n in &b.graph.inputs {
                let name = &b.graph.node(n).results[0].name;
                if let Some(top) = scope.names.get_mut(name).and_then(|s| s.last_mut()) {
                    *top = None;
                }
            }
        }
        Ok(b)
    }

    fn add_constant(
        &mut self,
        name: &str,
        value: Literal,
        doc: &str,
        metadata: &crate::def::Metadata,
    ) -> ValueId {
        let v = self.graph.add_literal(Value::new(name, None), value, false);
        if !doc.is_empty() || !metadata.is_empty() {
            let extra = self.graph.node_mut(v.node).extra_mut();
            extra.doc = doc.to_owned();
            extra.metadata = metadata.clone();
        }
        v
    }

    fn declare_node(&mut self, mut node: NodeDef) -> Result<(), Error> {
        let results = node.outputs.iter().map(|name| {
            let info = self.value_info.remove(name).unwrap_or_default();
            let mut value = Value::new(name.clone(), info.ty);
            set_value_extra(&mut value, info.doc, info.metadata);
            value
        });
        let op = Op {
            domain: standard_domain(std::mem::take(&mut node.domain)),
            op_type: std::mem::take(&mut node.op_type),
            overload: std::mem::take(&mut node.overload),
            ..Op::default()
        };
        let mut vertex = Node::new(NodeKind::Op(op), std::mem::take(&mut node.name));
        vertex.results = results.collect();
        let extra = NodeExtra {
            doc: std::mem::take(&mut node.doc),
            metadata: std::mem::take(&mut node.metadata),
            attr_docs: std::mem::take(&mut node.attr_docs),
            configurations: std::mem::take(&mut node.configurations),
        };
        if extra != NodeExtra::default() {
            vertex.extra = Some(Box::new(extra));
        }
        let n = self.graph.nodes.add_node(vertex);
        for (i, name) in node
            .outputs
            .iter()
            .enumerate()
            .filter(|(_, name)| !name.is_empty())
        {
            self.define(
                name.clone(),
                ValueId {
                    node: n,
                    result: i as u32,
                },
            )?;
        }
        self.nodes.push((n, node));
        Ok(())
    }

    fn define(&mut self, name: String, v: ValueId) -> Result<(), Error> {
        if name.is_empty() {
            return Err(Error::EmptyName {
                graph: self.graph.name.clone(),
            });
        }
        match self.values.insert(name.clone(), v) {
            None => Ok(()),
            Some(_) => Err(self.duplicate(&name)),
        }
    }

    fn duplicate(&self, name: &str) -> Error {
        Error::Duplicate {
            graph: self.graph.name.clone(),
            value: name.to_owned(),
        }
    }

    /// Second pass: operands, regions, results. Gives back the names it captures, in the order of
    /// the trailing inputs.
    fn connect(mut self, scope: &mut Scope) -> Result<(Graph, IndexSet<String>), Error> {
        let own: Vec<String> = self.values.keys().cloned().collect();
        let nodes = std::mem::take(&mut self.nodes);
        for (n, def) in nodes {
            self.connect_node(n, def, scope)?;
        }
        for output in std::mem::take(&mut self.outputs) {
            let v = self
                .resolve(&output.name, scope)
                .ok_or_else(|| Error::UndefinedOutput {
                    graph: self.graph.name.clone(),
                    value: output.name.clone(),
                })?;
            let value = self.graph.value_mut(v);
            if value.ty.is_none() {
                value.ty.clone_from(&output.ty);
            }
            self.graph.add_output(output, v);
        }
        for name in &own {
            if let Some(stack) = scope.names.get_mut(name) {
                stack.pop();
                if stack.is_empty() {
                    scope.names.remove(name);
                }
            }
        }
        if let Some(n) = self.graph.cycle() {
            let node = self.graph.node(n);
            return Err(Error::Cycle {
                graph: self.graph.name.clone(),
                node: describe(node),
            });
        }
        Ok((self.graph, self.captures))
    }

    fn connect_node(&mut self, n: NodeId, def: NodeDef, scope: &mut Scope) -> Result<(), Error> {
        let mut operands = Vec::with_capacity(def.inputs.len());
        for name in &def.inputs {
            operands.push(if name.is_empty() {
                None
            } else {
                Some(
                    self.resolve(name, scope)
                        .ok_or_else(|| self.undefined(n, name))?,
                )
            });
        }
        // Each region captures names of its own; all get the union, in one order.
        let mut captured: IndexSet<String> = IndexSet::new();
        let mut regions: Vec<IndexSet<String>> = Vec::new();
        let mut attrs = IndexMap::with_capacity(def.attrs.len());
        for (key, attr) in def.attrs {
            let attr = attr.try_map_graphs(|g| {
                scope.depth += 1;
                if scope.depth > MAX_NESTING {
                    return Err(Error::TooDeep { limit: MAX_NESTING });
                }
                let (graph, captures) = deep(|| Builder::declare(g, scope)?.connect(scope))?;
                scope.depth -= 1;
                captured.extend(captures.iter().cloned());
                regions.push(captures);
                Ok(graph)
            })?;
            attrs.insert(key, attr);
        }
        for name in &captured {
            operands.push(Some(
                self.resolve(name, scope)
                    .ok_or_else(|| self.undefined(n, name))?,
            ));
        }
        self.graph.set_operands(n, &operands);
        let op = self
            .graph
            .op_mut(n)
            .expect("nodes of the list are operations");
        op.attrs = attrs;
        op.captures = captured.len();
        for (region, captures) in op.regions_mut().zip(regions) {
            align_captures(region, &captures, &captured);
        }
        Ok(())
    }

    fn undefined(&self, n: NodeId, value: &str) -> Error {
        Error::Undefined {
            graph: self.graph.name.clone(),
            node: describe(self.graph.node(n)),
            value: value.to_owned(),
        }
    }

    /// The value of this name here; one of an outer graph is captured or copied.
    fn resolve(&mut self, name: &str, scope: &Scope) -> Option<ValueId> {
        if let Some(&v) = self.values.get(name) {
            return Some(v);
        }
        let v = match scope.names.get(name)?.last()? {
            Some(literal) => self
                .graph
                .add_literal(Value::new(name, None), literal.clone(), true),
            None => {
                self.captures.insert(name.to_owned());
                self.graph.add_input(name, None)
            }
        };
        self.values.insert(name.to_owned(), v);
        Some(v)
    }
}

/// Gives `region` the trailing inputs `all`, of which it has `own` in its own order.
fn align_captures(region: &mut Graph, own: &IndexSet<String>, all: &IndexSet<String>) {
    let first = region.inputs.len() - own.len();
    let present = region.inputs.split_off(first);
    for name in all {
        match own.get_index_of(name) {
            Some(i) => region.inputs.push(present[i]),
            None => {
                region.add_input(name.clone(), None);
            }
        }
    }
}

fn set_value_extra(value: &mut Value, doc: String, metadata: crate::def::Metadata) {
    if !doc.is_empty() || !metadata.is_empty() {
        value.extra = Some(Box::new(ValueExtra { doc, metadata }));
    }
}

/// A node for a message: its name or its first result, and its operator.
pub(crate) fn describe(node: &Node) -> String {
    let what = node.op().map_or_else(String::new, Op::qualified);
    let first = node.results.first().map_or("", |v| v.name.as_str());
    if node.name.is_empty() {
        format!("{what} -> '{first}'")
    } else {
        format!("'{}' ({what})", node.name)
    }
}
