//! Reading graphs and nodes, without recursion on how they are nested.

use super::super::lex::Token;
use super::value::Value;
use super::{Parser, Result};
use crate::def::{GraphDef, InitializerDef, Metadata, NodeDef, ValueDef};
use crate::{Attr, MAX_NESTING};

/// A node list being read.
#[derive(Default)]
struct Frame {
    graph: GraphDef,
    open: Option<OpenNode>,
}

/// A node of which a part has been read.
struct OpenNode {
    node: NodeDef,
    next: Part,
    has_inputs: bool,
}

/// What comes next of a node.
enum Part {
    Attribute,
    /// A graph in the list that is the value of this attribute, or the list's end.
    Graphs(String, Vec<GraphDef>),
    /// The graph that is the value of this attribute.
    Graph(String),
    /// A comma, or the end of the attributes.
    AfterAttribute,
    Inputs,
    Tail,
}

/// Why reading a node list stopped.
enum Stop {
    /// At a graph in an attribute.
    Graph,
    /// After its end.
    End,
}

impl Parser<'_> {
    pub(super) fn graph(&mut self) -> Result<GraphDef> {
        let graph = self.graph_head()?;
        self.body(Frame { graph, open: None })
    }

    /// A node list by itself.
    pub(super) fn nodes(&mut self) -> Result<Vec<NodeDef>> {
        self.expect('{')?;
        Ok(self.body(Frame::default())?.nodes)
    }

    /// The nodes of `frame`, from behind the brace, and of every graph in them.
    fn body(&mut self, mut frame: Frame) -> Result<GraphDef> {
        let mut outer = Vec::new();
        loop {
            match self.advance(&mut frame)? {
                Stop::Graph if outer.len() >= MAX_NESTING => {
                    let message = format!("graphs are nested deeper than {MAX_NESTING}");
                    return Err(self.error(self.at, message));
                }
                Stop::Graph => {
                    let graph = self.graph_head()?;
                    outer.push(std::mem::replace(&mut frame, Frame { graph, open: None }));
                }
                Stop::End => {
                    let graph = frame.graph;
                    let Some(parent) = outer.pop() else {
                        return Ok(graph);
                    };
                    frame = parent;
                    if let Some(open) = &mut frame.open {
                        self.attach(open, graph)?;
                    }
                }
            }
        }
    }

    /// Gives a graph to the attribute that it belongs to.
    fn attach(&mut self, open: &mut OpenNode, graph: GraphDef) -> Result<()> {
        match std::mem::replace(&mut open.next, Part::AfterAttribute) {
            Part::Graph(name) => {
                open.node.attrs.insert(name, Attr::Graph(Box::new(graph)));
            }
            Part::Graphs(name, mut graphs) => {
                graphs.push(graph);
                // A comma may come last, as in every list.
                if self.eat(',')? && self.token != Token::Punct(']') {
                    open.next = Part::Graphs(name, graphs);
                } else {
                    self.expect(']')?;
                    open.node.attrs.insert(name, Attr::Graphs(graphs));
                }
            }
            other => open.next = other,
        }
        Ok(())
    }

    /// Reads nodes up to the next graph in an attribute, or to the end.
    fn advance(&mut self, frame: &mut Frame) -> Result<Stop> {
        loop {
            let mut open = match frame.open.take() {
                Some(open) => open,
                None if self.eat('}')? => return Ok(Stop::End),
                None => self.node_head()?,
            };
            match self.node_rest(&mut open)? {
                true => frame.graph.nodes.push(open.node),
                false => {
                    frame.open = Some(open);
                    return Ok(Stop::Graph);
                }
            }
        }
    }

    /// Reads on to the end of the node (true), or to the next graph.
    fn node_rest(&mut self, open: &mut OpenNode) -> Result<bool> {
        loop {
            match &open.next {
                Part::Attribute => self.attribute(open)?,
                Part::Graph(_) | Part::Graphs(..) => return Ok(false),
                Part::AfterAttribute => {
                    open.next = match self.eat(',')? {
                        true if self.token != Token::Punct('>') => Part::Attribute,
                        _ => {
                            self.expect('>')?;
                            if open.has_inputs {
                                Part::Tail
                            } else {
                                Part::Inputs
                            }
                        }
                    };
                }
                Part::Inputs => {
                    self.expect('(')?;
                    open.node.inputs = self.names()?;
                    self.expect(')')?;
                    open.has_inputs = true;
                    open.next = match open.node.attrs.is_empty() && self.eat('<')? {
                        true => Part::Attribute,
                        false => Part::Tail,
                    };
                }
                Part::Tail => {
                    self.node_tail(&mut open.node)?;
                    return Ok(true);
                }
            }
        }
    }

    fn attribute(&mut self, open: &mut OpenNode) -> Result<()> {
        let at = self.at;
        let name = self.name()?;
        if open.node.attrs.contains_key(&name) {
            return Err(self.error(at, "this attribute is given twice"));
        }
        open.next = match self.attr_value()? {
            Value::Attr(attr) => {
                open.node.attrs.insert(name, attr);
                Part::AfterAttribute
            }
            Value::Graph => Part::Graph(name),
            Value::Graphs => Part::Graphs(name, Vec::new()),
        };
        Ok(())
    }

    /// `[label] outputs = domain.Op:overload`
    fn node_head(&mut self) -> Result<OpenNode> {
        let mut node = NodeDef::default();
        if self.eat('[')? {
            if self.token != Token::Punct(']') {
                node.name = self.name()?;
            }
            self.expect(']')?;
        }
        node.outputs = self.names()?;
        self.expect('=')?;
        (node.domain, node.op_type) = self.qualified()?;
        if self.eat(':')? {
            node.overload = self.name()?;
        }
        let next = if self.eat('<')? {
            Part::Attribute
        } else {
            Part::Inputs
        };
        Ok(OpenNode {
            node,
            next,
            has_inputs: false,
        })
    }

    /// `a.b.c` as `a.b` and `c`.
    pub(super) fn qualified(&mut self) -> Result<(String, String)> {
        let (mut domain, mut name) = (String::new(), self.name()?);
        while self.eat('.')? {
            if !domain.is_empty() {
                domain.push('.');
            }
            domain.push_str(&name);
            name = self.name()?;
        }
        Ok((domain, name))
    }

    /// Names, some perhaps left out: `x, , y` as `x, "", y`.
    fn names(&mut self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        loop {
            match &self.token {
                Token::Ident(_) | Token::Str(_) => names.push(self.name()?),
                Token::Punct(',') => names.push(String::new()),
                _ => return Ok(names),
            }
            if !self.eat(',')? {
                return Ok(names);
            }
        }
    }

    fn node_tail(&mut self, node: &mut NodeDef) -> Result<()> {
        self.extra(|p, key| {
            match key {
                "doc_string" => node.doc = p.text()?,
                "attr_docs" => node.attr_docs = p.pairs()?,
                "metadata_props" => node.metadata = p.pairs()?,
                "device_configurations" => node.configurations = p.blobs()?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }

    /// Everything before the nodes, and the brace.
    fn graph_head(&mut self) -> Result<GraphDef> {
        let mut graph = GraphDef {
            name: self.name()?,
            ..GraphDef::default()
        };
        self.expect('(')?;
        self.list(')', |p| {
            let value = p.value()?;
            if p.token == Token::Punct('=') {
                let initializer = p.initializer(value.clone())?;
                graph.initializers.push(InitializerDef {
                    doc: String::new(),
                    metadata: Metadata::new(),
                    ..initializer
                });
            }
            graph.inputs.push(value);
            Ok(())
        })?;
        self.expect_token(&Token::Arrow)?;
        self.expect('(')?;
        self.list(')', |p| {
            graph.outputs.push(p.value()?);
            Ok(())
        })?;
        if self.eat('<')? {
            self.list('>', |p| {
                let value = p.value()?;
                if p.token == Token::Punct('=') {
                    graph.initializers.push(p.initializer(value)?);
                } else {
                    graph.value_info.push(value);
                }
                Ok(())
            })?;
        }
        self.extra(|p, key| {
            match key {
                "doc_string" => graph.doc = p.text()?,
                "metadata_props" => graph.metadata = p.pairs()?,
                "quantization_annotation" => graph.annotations = p.annotations()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        self.expect('{')?;
        Ok(graph)
    }

    fn annotations(&mut self) -> Result<Vec<(String, Metadata)>> {
        let mut annotations = Vec::new();
        self.expect('[')?;
        self.list(']', |p| {
            let tensor = p.text()?;
            p.expect(':')?;
            annotations.push((tensor, p.pairs()?));
            Ok(())
        })?;
        Ok(annotations)
    }

    /// A value, with its type if that is given.
    pub(super) fn value(&mut self) -> Result<ValueDef> {
        let ty = if self.is_type() {
            Some(self.ty()?)
        } else {
            None
        };
        let mut value = ValueDef::new(self.name()?, ty);
        self.extra(|p, key| {
            match key {
                "doc_string" => value.doc = p.text()?,
                "metadata_props" => value.metadata = p.pairs()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(value)
    }
}
