//! The writer.

mod graph;
mod value;

use std::fmt::{self, Write};

use bytes::Bytes;

use super::PrintOptions;
use super::quote::{self, Lines};
use crate::Attr;
use crate::def::{FunctionDef, Metadata, ModelDef, Opsets};

/// One `key: value` of a header or of `!<...>`.
enum Field<'m> {
    Int(i64),
    Opsets(&'m Opsets),
    Text(&'m str, Lines),
    Pairs(&'m Metadata),
    Blobs(&'m [Bytes]),
    Annotations(&'m [(String, Metadata)]),
}

impl Field<'_> {
    /// Whether the value is what a reader assumes where the field is left out.
    fn is_default(&self) -> bool {
        match self {
            Field::Int(value) => *value == 0,
            Field::Opsets(_) => false,
            Field::Text(text, _) => text.is_empty(),
            Field::Pairs(pairs) => pairs.is_empty(),
            Field::Blobs(blobs) => blobs.is_empty(),
            Field::Annotations(annotations) => annotations.is_empty(),
        }
    }
}

/// Documentation and metadata, which most things can have.
fn notes<'m>(doc: &'m str, metadata: &'m Metadata) -> [(&'static str, Field<'m>); 2] {
    [
        ("doc_string", Field::Text(doc, Lines::One)),
        ("metadata_props", Field::Pairs(metadata)),
    ]
}

pub(super) struct Printer<'w, W> {
    out: &'w mut W,
    options: &'w PrintOptions,
}

impl<'w, W: Write> Printer<'w, W> {
    pub(super) fn new(out: &'w mut W, options: &'w PrintOptions) -> Printer<'w, W> {
        Printer { out, options }
    }

    pub(super) fn model(&mut self, model: &ModelDef) -> fmt::Result {
        let text = |text| Field::Text(text, Lines::Many);
        let mut header = vec![
            ("opset_import", Field::Opsets(&model.opsets)),
            ("producer_name", text(&model.producer_name)),
            ("producer_version", text(&model.producer_version)),
            ("domain", text(&model.domain)),
            ("model_version", Field::Int(model.model_version)),
            ("doc_string", text(&model.doc)),
            ("metadata_props", Field::Pairs(&model.metadata)),
            ("training_info", Field::Blobs(&model.training)),
            ("configuration", Field::Blobs(&model.configurations)),
        ];
        header.retain(|(_, field)| !field.is_default());
        header.insert(0, ("ir_version", Field::Int(model.ir_version)));
        self.header(&header)?;
        self.graph(&model.graph, 0)?;
        self.out.write_char('\n')?;
        model.functions.iter().try_for_each(|f| self.function(f))
    }

    /// `<key: value, ...>`: versions on one line, more on a line each.
    fn header(&mut self, fields: &[(&str, Field<'_>)]) -> fmt::Result {
        let (open, separator, close) = match fields.len() {
            0..=2 => ("<", ", ", ">\n"),
            _ => ("<\n    ", ",\n    ", "\n>\n"),
        };
        self.out.write_str(open)?;
        self.each(fields, separator, |p, (key, field)| p.field(key, field))?;
        self.out.write_str(close)
    }

    fn field(&mut self, key: &str, field: &Field<'_>) -> fmt::Result {
        write!(self.out, "{key}: ")?;
        match field {
            Field::Int(value) => write!(self.out, "{value}"),
            Field::Text(text, lines) => quote::string(self.out, text.as_bytes(), *lines),
            Field::Pairs(pairs) => self.pairs(pairs),
            Field::Opsets(opsets) => self.list("[", *opsets, "]", |p, (domain, version)| {
                quote::string(p.out, domain.as_bytes(), Lines::Many)?;
                write!(p.out, ": {version}")
            }),
            Field::Blobs(blobs) => {
                self.list("[", *blobs, "]", |p, b| quote::string(p.out, b, Lines::One))
            }
            Field::Annotations(annotations) => {
                self.list("[", *annotations, "]", |p, (tensor, parameters)| {
                    quote::string(p.out, tensor.as_bytes(), Lines::One)?;
                    p.out.write_str(": ")?;
                    p.pairs(parameters)
                })
            }
        }
    }

    fn pairs(&mut self, pairs: &Metadata) -> fmt::Result {
        self.list("[", pairs, "]", |p, (key, value)| {
            quote::string(p.out, key.as_bytes(), Lines::One)?;
            p.out.write_str(": ")?;
            quote::string(p.out, value.as_bytes(), Lines::One)
        })
    }

    /// ` !<key: value, ...>` with the fields that say something, if any does.
    fn extra(&mut self, before: &str, fields: &[(&str, Field<'_>)]) -> fmt::Result {
        let mut open = "!<";
        for (key, field) in fields.iter().filter(|(_, field)| !field.is_default()) {
            if open == "!<" {
                self.out.write_str(before)?;
            }
            self.out.write_str(open)?;
            self.field(key, field)?;
            open = ", ";
        }
        if open == "!<" {
            Ok(())
        } else {
            self.out.write_char('>')
        }
    }

    fn function(&mut self, f: &FunctionDef) -> fmt::Result {
        let text = |text| Field::Text(text, Lines::Many);
        let mut header = vec![
            ("overload", text(&f.overload)),
            ("opset_import", Field::Opsets(&f.opsets)),
            ("doc_string", text(&f.doc)),
            ("metadata_props", Field::Pairs(&f.metadata)),
        ];
        header.retain(|(_, field)| !field.is_default());
        header.insert(0, ("domain", text(&f.domain)));
        self.out.write_char('\n')?;
        self.header(&header)?;
        quote::name(self.out, &f.name)?;
        self.out.write_char(' ')?;
        if !f.attributes.is_empty() || !f.attribute_defaults.is_empty() {
            self.list("<", &f.attributes, "", |p, name| quote::name(p.out, name))?;
            for (i, (name, attr)) in f.attribute_defaults.iter().enumerate() {
                if i > 0 || !f.attributes.is_empty() {
                    self.out.write_str(", ")?;
                }
                self.attr_name(name, attr)?;
                match attr {
                    Attr::Graph(g) => self.graph(g, 1)?,
                    Attr::Graphs(gs) => self.list("[", gs, "]", |p, g| p.graph(g, 1))?,
                    _ => self.attr_value(attr)?,
                }
            }
            self.out.write_str("> ")?;
        }
        self.list("(", &f.inputs, ") => ", |p, name| quote::name(p.out, name))?;
        self.list("(", &f.outputs, ")", |p, name| quote::name(p.out, name))?;
        self.constants(&[], &f.value_info, 0)?;
        self.out.write_str("\n{\n")?;
        for node in &f.nodes {
            self.function_node(node)?;
        }
        self.out.write_str("}\n")
    }

    fn list<T>(
        &mut self,
        open: &str,
        items: impl IntoIterator<Item = T>,
        close: &str,
        item: impl FnMut(&mut Self, T) -> fmt::Result,
    ) -> fmt::Result {
        self.out.write_str(open)?;
        self.each(items, ", ", item)?;
        self.out.write_str(close)
    }

    fn each<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        separator: &str,
        mut item: impl FnMut(&mut Self, T) -> fmt::Result,
    ) -> fmt::Result {
        for (i, value) in items.into_iter().enumerate() {
            if i > 0 {
                self.out.write_str(separator)?;
            }
            item(self, value)?;
        }
        Ok(())
    }
}
