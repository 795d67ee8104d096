//! From the graph to the flat form of files: edges become names.
//!
//! Names of inputs and outputs of the main graph stay as they are; any other name that is taken in
//! this graph or in one around it gets a number. Captures become plain references to outer
//! names, copied constants are written once, in the main graph.

use std::collections::{HashMap, HashSet};

use crate::{
    Attr, Constant, Function, FunctionId, Graph, Model, Node, NodeExtra, NodeId, NodeKind, Op,
    Type, Value, ValueId, deep,
    def::{FunctionDef, GraphDef, InitializerDef, Literal, ModelDef, NodeDef, ValueDef},
};

pub(crate) fn model(model: &Model) -> ModelDef {
    ModelDef {
        ir_version: model.ir_version,
        opsets: model.opsets.clone(),
        producer_name: model.producer_name.clone(),
        producer_version: model.producer_version.clone(),
        domain: model.domain.clone(),
        model_version: model.model_version,
        doc: model.doc.clone(),
        metadata: model.metadata.clone(),
        graph: main_graph(&model.graph),
        functions: model
            .functions
            .iter()
            .map(|(id, f)| function(id, f))
            .collect(),
        training: model.training.clone(),
        configurations: model.configurations.clone(),
    }
}

fn main_graph(graph: &Graph) -> GraphDef {
    let mut names = Names::default();
    let mut shared = Shared::collect(graph);
    let mut def = Flattener::new(graph, Place::Main, &mut names, &mut shared).run(&[]);
    let mut hoisted: Vec<Hoisted> = shared.constants;
    hoisted.retain(|h| !h.in_main);
    // As they are ordered once they are unused constants of the main graph.
    hoisted.sort_by(|a, b| a.name.cmp(&b.name));
    for hoisted in hoisted {
        def.initializers
            .push(initializer(hoisted.name, hoisted.literal, None));
    }
    def
}

fn function(id: &FunctionId, function: &Function) -> FunctionDef {
    let mut names = Names::default();
    let mut shared = Shared::default();
    let f = Flattener::new(&function.graph, Place::Function, &mut names, &mut shared);
    let body = f.run(&[]);
    let mut value_info = function.input_info.clone();
    value_info.extend(body.value_info);
    let defaults = function.attribute_defaults.iter().map(|(k, a)| {
        let graph = |g: &Graph| {
            let (mut names, mut shared) = (Names::default(), Shared::default());
            Flattener::new(g, Place::Region, &mut names, &mut shared).run(&[])
        };
        (k.clone(), a.map_graphs(graph))
    });
    FunctionDef {
        domain: id.domain.clone(),
        name: id.name.clone(),
        overload: id.overload.clone(),
        inputs: body.inputs.into_iter().map(|v| v.name).collect(),
        outputs: body.outputs.into_iter().map(|v| v.name).collect(),
        attributes: function.attributes.clone(),
        attribute_defaults: defaults.collect(),
        opsets: function.opsets.clone(),
        nodes: body.nodes,
        value_info,
        doc: body.doc,
        metadata: body.metadata,
    }
}

/// The names taken in the graph being written and in those around it.
#[derive(Default)]
struct Names {
    taken: HashSet<String>,
    /// The last number tried for a name that was taken, so that many equal names stay linear.
    last: HashMap<String, usize>,
}

impl Names {
    /// `hint`, or `hint_1`, `hint_2`, ... where that is taken.
    fn unique(&mut self, hint: &str) -> String {
        let hint = if hint.is_empty() { "value" } else { hint };
        if self.taken.insert(hint.to_owned()) {
            return hint.to_owned();
        }
        let mut i = self.last.get(hint).copied().unwrap_or(0);
        loop {
            i += 1;
            let name = format!("{hint}_{i}");
            if self.taken.insert(name.clone()) {
                self.last.insert(hint.to_owned(), i);
                return name;
            }
        }
    }
}

/// Constants that regions have copies of, written once in the main graph.
#[derive(Default)]
struct Shared {
    constants: Vec<Hoisted>,
    by_hint: HashMap<String, Vec<usize>>,
}

struct Hoisted {
    literal: Literal,
    hint: String,
    /// Assigned with the other names of the main graph.
    name: String,
    /// Whether the main graph has the constant as a vertex of its own.
    in_main: bool,
}

impl Shared {
    fn collect(graph: &Graph) -> Shared {
        let mut shared = Shared::default();
        for region in graph.regions() {
            shared.collect_region(region);
        }
        shared
    }

    fn collect_region(&mut self, region: &Graph) {
        deep(|| {
            for n in region.order() {
                match &region.node(n).kind {
                    NodeKind::Constant(c) if c.sunk => {
                        let hint = &region.node(n).results[0].name;
                        if self.find(hint, &c.value).is_none() {
                            self.by_hint
                                .entry(hint.clone())
                                .or_default()
                                .push(self.constants.len());
                            self.constants.push(Hoisted {
                                literal: c.value.clone(),
                                hint: hint.clone(),
                                name: String::new(),
                                in_main: false,
                            });
                        }
                    }
                    NodeKind::Op(op) => {
                        for (_, region) in op.regions() {
                            self.collect_region(region);
                        }
                    }
                    _ => {}
                }
            }
        });
    }

    fn find(&self, hint: &str, literal: &Literal) -> Option<usize> {
        let same = |&i: &usize| same_literal(&self.constants[i].literal, literal);
        self.by_hint.get(hint)?.iter().copied().find(same)
    }
}

fn same_literal(a: &Literal, b: &Literal) -> bool {
    match (a, b) {
        (Literal::Dense(a), Literal::Dense(b)) => a.same(b),
        (Literal::Sparse(a), Literal::Sparse(b)) => {
            a.dims == b.dims && a.values.same(&b.values) && a.indices.same(&b.indices)
        }
        _ => false,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Main,
    Region,
    Function,
}

struct Flattener<'a> {
    graph: &'a Graph,
    place: Place,
    names: &'a mut Names,
    shared: &'a mut Shared,
    order: Vec<NodeId>,
    /// The names of results, by node index.
    of: Vec<Vec<String>>,
    /// Names to give back when this graph is done.
    own: Vec<String>,
    /// The number of inputs that are not captures.
    formal: usize,
    /// The values that are a result of the graph under its name.
    bound: HashSet<ValueId>,
    /// Results that need an `Identity`, with their names and their place among the results.
    copies: Vec<(usize, ValueId, String)>,
}

impl<'a> Flattener<'a> {
    fn new(
        graph: &'a Graph,
        place: Place,
        names: &'a mut Names,
        shared: &'a mut Shared,
    ) -> Flattener<'a> {
        let of = vec![Vec::new(); graph.node_bound()];
        Flattener {
            graph,
            place,
            names,
            shared,
            order: graph.order(),
            of,
            own: vec![],
            formal: 0,
            bound: HashSet::new(),
            copies: vec![],
        }
    }

    /// Writes the graph. `captured` are the outer names of its trailing inputs.
    fn run(mut self, captured: &[String]) -> GraphDef {
        let graph = self.graph;
        let formal = graph.inputs().len().saturating_sub(captured.len());
        self.formal = formal;
        for n in graph.node_ids() {
            self.of[n.index()] = vec![String::new(); graph.node(n).results.len()];
        }
        for &n in &graph.inputs()[..formal] {
            let name = self.unique(&graph.node(n).results[0].name);
            self.of[n.index()] = vec![name];
        }
        for (&n, name) in graph.inputs()[formal..].iter().zip(captured) {
            self.of[n.index()] = vec![name.clone()];
        }
        let outputs = self.name_outputs();
        self.name_shared();
        self.name_rest();
        let mut def = GraphDef {
            name: graph.name.clone(),
            doc: graph.doc.clone(),
            metadata: graph.metadata.clone(),
            annotations: graph.annotations.clone(),
            ..GraphDef::default()
        };
        for &n in &graph.inputs()[..formal] {
            let node = graph.node(n);
            def.inputs
                .push(self.value_def(&node.results[0], &self.of[n.index()][0]));
        }
        for (output, name) in graph.outputs.iter().zip(outputs) {
            def.outputs.push(ValueDef {
                name,
                ..output.clone()
            });
        }
        for (output, v) in def.outputs.iter_mut().zip(graph.results()) {
            if output.ty.is_none() {
                output.ty = v.and_then(|v| graph.ty(v).cloned());
            }
        }
        self.write_vertices(&mut def);
        for name in &self.own {
            self.names.taken.remove(name);
        }
        def
    }

    /// Writes every vertex in canonical order, copies where they would be in it were they nodes:
    /// behind what the results up to theirs need.
    fn write_vertices(&mut self, def: &mut GraphDef) {
        let order = std::mem::take(&mut self.order);
        let mut copies = std::mem::take(&mut self.copies).into_iter().peekable();
        if copies.peek().is_none() {
            order.iter().for_each(|&n| self.write_vertex(n, def));
            return;
        }
        let mut place = vec![0; self.of.len()];
        for (at, n) in order.iter().enumerate() {
            place[n.index()] = at;
        }
        // By result: the last vertex that it and those before it need.
        let mut last = 0;
        let mut behind = Vec::with_capacity(self.graph.outputs.len());
        for v in self.graph.results() {
            last = v.map_or(last, |v| place[v.node.index()].max(last));
            behind.push(last);
        }
        for (at, &n) in order.iter().enumerate() {
            self.write_vertex(n, def);
            while let Some((_, source, output)) = copies.next_if(|&(i, ..)| behind[i] <= at) {
                def.nodes.push(NodeDef {
                    op_type: "Identity".to_owned(),
                    inputs: vec![self.name_of(Some(source))],
                    outputs: vec![output],
                    ..NodeDef::default()
                });
            }
        }
    }

    fn unique(&mut self, hint: &str) -> String {
        let name = self.names.unique(hint);
        self.own.push(name.clone());
        name
    }

    /// Names the outputs, and the values that are theirs alone.
    fn name_outputs(&mut self) -> Vec<String> {
        let graph = self.graph;
        let captures: HashSet<NodeId> = graph.inputs()[self.formal..].iter().copied().collect();
        let mut outputs = Vec::with_capacity(graph.outputs.len());
        for (i, (output, v)) in graph.outputs.iter().zip(graph.results()).enumerate() {
            let Some(v) = v else {
                outputs.push(output.name.clone());
                continue;
            };
            let node = graph.node(v.node);
            let given = self.of[v.node.index()][v.result as usize].clone();
            let is_own = match &node.kind {
                NodeKind::Op(_) => given.is_empty(),
                NodeKind::Input => given == output.name && !captures.contains(&v.node),
                NodeKind::Constant(c) => {
                    let free = given.is_empty() && !self.names.taken.contains(&output.name);
                    node.results[0].name == output.name
                        && (free || given == output.name)
                        && self.place != Place::Function
                        && self.hoisted(v.node, c).is_none()
                }
                NodeKind::Return => false,
            };
            outputs.push(if is_own && !given.is_empty() {
                given
            } else {
                let name = self.unique(&output.name);
                if is_own {
                    self.of[v.node.index()][v.result as usize].clone_from(&name);
                    self.bound.insert(v);
                } else {
                    self.copies.push((i, v, name.clone()));
                }
                name
            });
        }
        outputs
    }

    fn hoisted(&self, n: NodeId, c: &Constant) -> Option<usize> {
        (self.place == Place::Region)
            .then(|| {
                self.shared
                    .find(&self.graph.node(n).results[0].name, &c.value)
            })
            .flatten()
    }

    /// In the main graph, names the constants that regions refer to.
    fn name_shared(&mut self) {
        if self.place != Place::Main {
            return;
        }
        for &n in &self.order.clone() {
            let node = self.graph.node(n);
            let NodeKind::Constant(c) = &node.kind else {
                continue;
            };
            let Some(i) = self.shared.find(&node.results[0].name, &c.value) else {
                continue;
            };
            if self.of[n.index()][0].is_empty() {
                let name = self.unique(&node.results[0].name);
                self.of[n.index()][0] = name;
            }
            if !self.shared.constants[i].in_main {
                self.shared.constants[i].in_main = true;
                self.shared.constants[i]
                    .name
                    .clone_from(&self.of[n.index()][0]);
            }
        }
        for i in 0..self.shared.constants.len() {
            if !self.shared.constants[i].in_main {
                let hint = self.shared.constants[i].hint.clone();
                self.shared.constants[i].name = self.unique(&hint);
            }
        }
    }

    fn name_rest(&mut self) {
        let graph = self.graph;
        for n in self.order.clone() {
            let node = graph.node(n);
            if let NodeKind::Constant(c) = &node.kind
                && let Some(i) = self.hoisted(n, c)
            {
                self.of[n.index()][0].clone_from(&self.shared.constants[i].name);
                continue;
            }
            for (i, value) in node.results.iter().enumerate() {
                if !self.of[n.index()][i].is_empty() {
                    continue;
                }
                let v = ValueId {
                    node: n,
                    result: i as u32,
                };
                if !value.name.is_empty() || graph.is_used(v) {
                    self.of[n.index()][i] = self.unique(&value.name);
                }
            }
        }
    }

    fn name_of(&self, v: Option<ValueId>) -> String {
        v.map_or_else(String::new, |v| {
            self.of[v.node.index()][v.result as usize].clone()
        })
    }

    fn value_def(&self, value: &Value, name: &str) -> ValueDef {
        let mut def = ValueDef::new(name, value.ty.clone());
        if let Some(extra) = &value.extra {
            def.doc.clone_from(&extra.doc);
            def.metadata.clone_from(&extra.metadata);
        }
        def
    }

    fn write_vertex(&mut self, n: NodeId, def: &mut GraphDef) {
        let node = self.graph.node(n);
        match &node.kind {
            NodeKind::Input | NodeKind::Return => {}
            NodeKind::Constant(c) => {
                let name = self.of[n.index()][0].clone();
                if self.place == Place::Function {
                    def.nodes.push(constant_node(name, &c.value));
                } else if self.hoisted(n, c).is_none() {
                    let extra = node.extra.as_deref();
                    def.initializers
                        .push(initializer(name, c.value.clone(), extra));
                }
            }
            NodeKind::Op(op) => self.write_op(n, node, op, def),
        }
    }

    fn write_op(&mut self, n: NodeId, node: &Node, op: &Op, def: &mut GraphDef) {
        let mut inputs: Vec<String> = self
            .graph
            .operands(n)
            .into_iter()
            .map(|v| self.name_of(v))
            .collect();
        let captured = inputs.split_off(inputs.len().saturating_sub(op.captures));
        let attrs = op.attrs.iter().map(|(key, attr)| {
            let region = |g: &Graph| {
                let (names, shared) = (&mut *self.names, &mut *self.shared);
                deep(|| Flattener::new(g, Place::Region, names, shared).run(&captured))
            };
            (key.clone(), Attr::map_graphs(attr, region))
        });
        let attrs = attrs.collect();
        for (i, (value, name)) in node.results.iter().zip(&self.of[n.index()]).enumerate() {
            let known = value.ty.as_ref().is_some_and(is_informative) || value.extra.is_some();
            // The types of outputs are in the signature.
            let bound = self.bound.contains(&ValueId {
                node: n,
                result: i as u32,
            });
            if known && !name.is_empty() && !bound {
                def.value_info.push(self.value_def(value, name));
            }
        }
        let NodeExtra {
            doc,
            metadata,
            attr_docs,
            configurations,
        } = node.extra.as_deref().cloned().unwrap_or_default();
        def.nodes.push(NodeDef {
            name: node.name.clone(),
            domain: op.domain.clone(),
            op_type: op.op_type.clone(),
            overload: op.overload.clone(),
            inputs,
            outputs: self.of[n.index()].clone(),
            attrs,
            attr_docs,
            doc,
            metadata,
            configurations,
        });
    }
}

/// Whether a type says anything that a reader of the file could use: the checker refuses a
/// tensor type without an element type.
fn is_informative(ty: &Type) -> bool {
    match ty {
        Type::Tensor(t) | Type::SparseTensor(t) => t.dtype.is_some(),
        _ => true,
    }
}

fn initializer(name: String, value: Literal, extra: Option<&NodeExtra>) -> InitializerDef {
    let (doc, metadata) = extra
        .map(|e| (e.doc.clone(), e.metadata.clone()))
        .unwrap_or_default();
    InitializerDef {
        name,
        value,
        doc,
        metadata,
    }
}

fn constant_node(name: String, value: &Literal) -> NodeDef {
    let (key, attr) = match value {
        Literal::Dense(t) => ("value", Attr::Tensor(t.clone())),
        Literal::Sparse(s) => ("sparse_value", Attr::SparseTensor(s.clone())),
    };
    NodeDef {
        op_type: "Constant".to_owned(),
        outputs: vec![name],
        attrs: [(key.to_owned(), attr)].into_iter().collect(),
        ..NodeDef::default()
    }
}
