//! Inputs to measure a model on: their shapes, and numbers that it takes whatever it does with them.

use std::collections::BTreeMap;

use onnxq::{
    Model,
    data::Sample,
    ir::{Graph, NodeId, Type},
    tensor::{Dim, Tensor},
};

use crate::console::Failure;

/// `--shape`: the dimensions of an input, by its name.
pub(in crate::commands) type Shape = (String, Vec<usize>);

/// What a dimension is where neither the model nor anyone else says it.
const UNKNOWN: usize = 1;
/// The same for one that is named like the length of a sequence.
const SEQUENCE: usize = 128;

pub(in crate::commands) fn parse_shape(text: &str) -> Result<Shape, String> {
    let parsed = text.rsplit_once('=').and_then(|(name, dims)| {
        let dims = dims.split('x').map(str::parse).collect::<Result<_, _>>();
        Some((name.to_owned(), dims.ok()?))
    });
    parsed.ok_or_else(|| "expected `NAME=1x3x224x224`".to_owned())
}

/// A sample for a model, and what has been made up for it.
pub(super) fn sample(model: &Model, given: &[Shape]) -> Result<(Sample, Vec<String>), Failure> {
    let graph = &model.graph;
    let mut symbols = Symbols::default();
    for &n in graph.inputs() {
        if let (Some((_, dims)), Some(shape)) = (find(given, graph, n), declared(graph, n)) {
            symbols.learn(shape, dims);
        }
    }
    let mut sample = Sample::new();
    for (i, &n) in graph.inputs().iter().enumerate() {
        let dims = match find(given, graph, n) {
            Some((_, dims)) => Some(dims.clone()),
            None if !graph.node(n).is_input() => None,
            None => Some(symbols.dims(graph, n)?),
        };
        let tensor = dims.map(|dims| values(graph, n, i, &dims));
        sample.push(tensor.transpose()?);
    }
    Ok((sample, symbols.notes()))
}

/// The names of the inputs of a model.
pub(super) fn names(model: &Model) -> impl Iterator<Item = &str> {
    let graph = &model.graph;
    graph.inputs().iter().map(|&n| name(graph, n))
}

fn name(graph: &Graph, n: NodeId) -> &str {
    &graph.value(graph.result(n, 0)).name
}

fn find<'s>(given: &'s [Shape], graph: &Graph, n: NodeId) -> Option<&'s Shape> {
    given.iter().rfind(|(known, _)| known == name(graph, n))
}

fn declared(graph: &Graph, n: NodeId) -> Option<&[Dim]> {
    let ty = graph.ty(graph.result(n, 0));
    ty.and_then(Type::shape).map(|shape| &shape[..])
}

/// What symbols stand for.
#[derive(Default)]
struct Symbols {
    known: BTreeMap<String, usize>,
    made_up: Vec<(String, usize)>,
}

impl Symbols {
    fn learn(&mut self, shape: &[Dim], dims: &[usize]) {
        for (dim, &given) in shape.iter().zip(dims) {
            if let Some(symbol) = dim.is_symbol() {
                self.known.entry(symbol.to_owned()).or_insert(given);
            }
        }
    }

    /// The dimensions of an input for which none are given.
    fn dims(&mut self, graph: &Graph, n: NodeId) -> Result<Vec<usize>, Failure> {
        let name = name(graph, n);
        let Some(shape) = declared(graph, n) else {
            let message = format!("the model does not say what shape input '{name}' has");
            let help = format!("say it: `--shape {name}=...`");
            return Err(Failure::usage(message).with_help(help));
        };
        let dims = shape.iter().enumerate();
        let dims = dims.map(|(axis, dim)| self.dim(dim, || format!("{name}[{axis}]")));
        Ok(dims.collect())
    }

    fn dim(&mut self, dim: &Dim, place: impl Fn() -> String) -> usize {
        for symbol in dim.symbols() {
            if !self.known.contains_key(symbol) {
                let size = size_of_symbol(symbol);
                self.known.insert(symbol.to_owned(), size);
                self.made_up.push((symbol.to_owned(), size));
            }
        }
        let size = dim.eval(|symbol| self.known.get(symbol).map(|&size| size as i64));
        size.and_then(|size| size.try_into().ok())
            .unwrap_or_else(|| {
                self.made_up.push((place(), UNKNOWN));
                UNKNOWN
            })
    }

    fn notes(self) -> Vec<String> {
        let note = |(what, size)| format!("{what} = {size}");
        self.made_up.into_iter().map(note).collect()
    }
}

fn size_of_symbol(symbol: &str) -> usize {
    let symbol = symbol.to_lowercase();
    let is_sequence = ["seq", "token", "length"]
        .iter()
        .any(|w| symbol.contains(w));
    match is_sequence {
        true => SEQUENCE,
        false => UNKNOWN,
    }
}

/// Numbers for an input.
fn values(graph: &Graph, n: NodeId, index: usize, dims: &[usize]) -> Result<Tensor, Failure> {
    let name = name(graph, n);
    let dtype = graph.ty(graph.result(n, 0)).and_then(Type::dtype);
    let failed = |what: &dyn std::fmt::Display| Failure::new(format!("input '{name}': {what}"));
    let dtype = dtype.ok_or_else(|| failed(&"there are no numbers for its type"))?;
    onnxq::sample_values(name, dtype, dims, index).map_err(|e| failed(&e))
}
