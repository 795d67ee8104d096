//! Writing graphs and nodes.

use std::fmt::{self, Write};

use super::super::quote;
use super::{Field, Printer, notes};
use crate::Attr;
use crate::def::{GraphDef, InitializerDef, NodeDef, ValueDef};

const INDENT: &str = "    ";

/// Indentation stops growing at this level: the text of deeply nested graphs stays linear.
const MAX_INDENT: usize = 32;

/// Inputs, outputs: so many are written on one line.
const MAX_PER_LINE: usize = 8;

/// A graph being written: how far it is.
struct Cursor<'m> {
    graph: &'m GraphDef,
    level: usize,
    node: usize,
    /// Attribute, and graph in it, of the current node that come next.
    inside: Option<(usize, usize)>,
}

impl<W: Write> Printer<'_, W> {
    /// Writes a graph, and those in it one after the other instead of by recursion.
    pub(super) fn graph(&mut self, graph: &GraphDef, level: usize) -> fmt::Result {
        self.graph_head(graph, level)?;
        let mut stack = vec![Cursor {
            graph,
            level,
            node: 0,
            inside: None,
        }];
        self.graphs(&mut stack)
    }

    /// Writes a node of a function with the graphs in it.
    pub(super) fn function_node(&mut self, node: &NodeDef) -> fmt::Result {
        self.indent(1)?;
        let mut inside = None;
        while let Some(graph) = self.node(node, &mut inside, 1)? {
            self.graph(graph, 2)?;
        }
        Ok(())
    }

    fn graphs(&mut self, stack: &mut Vec<Cursor<'_>>) -> fmt::Result {
        while let Some(cursor) = stack.last_mut() {
            let (graph, level) = (cursor.graph, cursor.level);
            let Some(node) = graph.nodes.get(cursor.node) else {
                self.indent(level)?;
                self.out.write_char('}')?;
                stack.pop();
                continue;
            };
            if cursor.inside.is_none() {
                self.indent(level + 1)?;
            }
            match self.node(node, &mut cursor.inside, level + 1)? {
                None => cursor.node += 1,
                Some(graph) => {
                    let level = level + 2;
                    self.graph_head(graph, level)?;
                    stack.push(Cursor {
                        graph,
                        level,
                        node: 0,
                        inside: None,
                    });
                }
            }
        }
        Ok(())
    }

    /// Everything before the nodes.
    fn graph_head(&mut self, graph: &GraphDef, level: usize) -> fmt::Result {
        quote::name(self.out, &graph.name)?;
        self.out.write_char(' ')?;
        self.values(&graph.inputs, level)?;
        self.out.write_str(" => ")?;
        self.values(&graph.outputs, level)?;
        self.constants(&graph.initializers, &graph.value_info, level)?;
        self.out.write_char('\n')?;
        self.indent(level)?;
        let [doc, metadata] = notes(&graph.doc, &graph.metadata);
        let annotations = (
            "quantization_annotation",
            Field::Annotations(&graph.annotations),
        );
        let fields = [doc, metadata, annotations];
        if fields.iter().any(|(_, field)| !field.is_default()) {
            self.extra("", &fields)?;
            self.out.write_char('\n')?;
            self.indent(level)?;
        }
        self.out.write_str("{\n")
    }

    fn indent(&mut self, level: usize) -> fmt::Result {
        (0..level.min(MAX_INDENT)).try_for_each(|_| self.out.write_str(INDENT))
    }

    /// Inputs or outputs.
    fn values(&mut self, values: &[ValueDef], level: usize) -> fmt::Result {
        let many = values.len() > MAX_PER_LINE;
        self.out.write_char('(')?;
        for (i, value) in values.iter().enumerate() {
            self.separate(i, many, level)?;
            self.value(value)?;
        }
        if many {
            self.out.write_char('\n')?;
            self.indent(level)?;
        }
        self.out.write_char(')')
    }

    /// What comes before item `i` of a list that is on one line or has a line for each.
    fn separate(&mut self, i: usize, many: bool, level: usize) -> fmt::Result {
        match (i, many) {
            (0, false) => Ok(()),
            (_, false) => self.out.write_str(", "),
            (_, true) => {
                self.out.write_str(if i == 0 { "\n" } else { ",\n" })?;
                self.indent(level + 1)
            }
        }
    }

    /// `<...>` with initializers and the types of values, one to a line where there are several.
    pub(super) fn constants(
        &mut self,
        initializers: &[InitializerDef],
        value_info: &[ValueDef],
        level: usize,
    ) -> fmt::Result {
        let count = initializers.len() + value_info.len();
        if count == 0 {
            return Ok(());
        }
        let many = count > 1;
        if many {
            self.out.write_char('\n')?;
            self.indent(level)?;
        } else {
            self.out.write_char(' ')?;
        }
        self.out.write_char('<')?;
        for (i, initializer) in initializers.iter().enumerate() {
            self.separate(i, many, level)?;
            self.initializer(initializer)?;
        }
        for (i, value) in value_info.iter().enumerate() {
            self.separate(initializers.len() + i, many, level)?;
            self.value(value)?;
        }
        if many {
            self.out.write_char('\n')?;
            self.indent(level)?;
        }
        self.out.write_char('>')
    }

    /// Writes a node up to the next graph in its attributes, which the caller writes, or up to its
    /// end. `inside` is where it stopped.
    fn node<'m>(
        &mut self,
        node: &'m NodeDef,
        inside: &mut Option<(usize, usize)>,
        level: usize,
    ) -> Result<Option<&'m GraphDef>, fmt::Error> {
        let has_graphs = node.attrs.values().any(|attr| !attr.graphs().is_empty());
        let (mut attr, mut item) = match *inside {
            Some(place) => place,
            None => {
                self.node_head(node)?;
                if !node.attrs.is_empty() && !has_graphs {
                    self.list(" <", &node.attrs, ">", |p, (name, attr)| {
                        p.attr_name(name, attr)?;
                        p.attr_value(attr)
                    })?;
                }
                self.list(" (", &node.inputs, ")", |p, name| quote::name(p.out, name))?;
                (0, 0)
            }
        };
        while has_graphs && let Some((name, value)) = node.attrs.get_index(attr) {
            if item == 0 {
                self.out.write_str(if attr == 0 { " <" } else { "," })?;
                self.out.write_char('\n')?;
                self.indent(level + 1)?;
                self.attr_name(name, value)?;
            }
            let graphs = value.graphs();
            let is_list = matches!(value, Attr::Graphs(_));
            if let Some(graph) = graphs.get(item) {
                self.out.write_str(match (is_list, item) {
                    (false, _) => "",
                    (true, 0) => "[",
                    (true, _) => ", ",
                })?;
                *inside = Some((attr, item + 1));
                return Ok(Some(graph));
            }
            match graphs {
                [] => self.attr_value(value)?,
                _ if is_list => self.out.write_char(']')?,
                _ => {}
            }
            (attr, item) = (attr + 1, 0);
        }
        *inside = None;
        if has_graphs {
            self.out.write_char('\n')?;
            self.indent(level)?;
            self.out.write_char('>')?;
        }
        self.node_tail(node)?;
        Ok(None)
    }

    /// `[label] outputs = domain.Op:overload`
    fn node_head(&mut self, node: &NodeDef) -> fmt::Result {
        if !node.name.is_empty() {
            self.out.write_char('[')?;
            quote::name(self.out, &node.name)?;
            self.out.write_str("] ")?;
        }
        self.list("", &node.outputs, "", |p, name| quote::name(p.out, name))?;
        self.out
            .write_str(if node.outputs.is_empty() { "= " } else { " = " })?;
        if !node.domain.is_empty() {
            quote::qualified(self.out, &node.domain)?;
            self.out.write_char('.')?;
        }
        quote::plain_name(self.out, &node.op_type)?;
        if !node.overload.is_empty() {
            self.out.write_char(':')?;
            quote::plain_name(self.out, &node.overload)?;
        }
        Ok(())
    }

    fn node_tail(&mut self, node: &NodeDef) -> fmt::Result {
        let [doc, metadata] = notes(&node.doc, &node.metadata);
        let attr_docs = ("attr_docs", Field::Pairs(&node.attr_docs));
        let devices = ("device_configurations", Field::Blobs(&node.configurations));
        self.extra(" ", &[doc, attr_docs, metadata, devices])?;
        self.out.write_char('\n')
    }

    /// `name = `, with the kind where the value does not show it.
    pub(super) fn attr_name(&mut self, name: &str, attr: &Attr<GraphDef>) -> fmt::Result {
        quote::plain_name(self.out, name)?;
        let unclear = match attr {
            Attr::Floats(v) => v.is_empty(),
            Attr::Ints(v) => v.is_empty(),
            Attr::Strings(v) => v.is_empty(),
            Attr::Graphs(v) => v.is_empty(),
            Attr::Tensors(_) | Attr::SparseTensors(_) | Attr::Types(_) => true,
            Attr::Type(_) | Attr::Ref { .. } => true,
            _ => false,
        };
        if unclear {
            write!(self.out, ": {}", attr.kind().name())?;
        }
        self.out.write_str(" = ")
    }
}
