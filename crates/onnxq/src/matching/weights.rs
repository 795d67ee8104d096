//! Weights and biases in codes, and the float tensors they were made of.

use std::collections::HashSet;

use onnxq_ir::{Graph, ValueId};
use onnxq_tensor::{DType, Tensor};

use super::{FloatPlace, Graphs, Matcher, Parameters, Place, names};

/// A constant in codes, and the float tensor that it stands for.
#[derive(Clone, Debug)]
pub struct MatchedWeight {
    /// The codes in the quantized model: a constant, or computed from constants.
    pub codes: Place,
    /// What they stand for.
    pub parameters: Parameters,
    /// Whether it is a bias.
    pub role: Role,
    /// The float tensors of the name: the same, or of different models, of which one may have been
    /// changed by folding. At least one.
    pub floats: Vec<FloatPlace>,
    /// The name of the node of the float model that uses it; of several, the first.
    pub node: String,
    /// The operator of that node.
    pub op: String,
}

/// What a constant is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A factor, or a table.
    Weight,
    /// What is added to sums.
    Bias,
}

impl<'m> Matcher<'m> {
    /// Matches all constants that are in codes, each once.
    pub(super) fn weights(&mut self) -> Vec<MatchedWeight> {
        let mut weights = Vec::new();
        let mut seen = HashSet::new();
        let graphs: Vec<(usize, &'m Graph)> = self.quantized.iter().collect();
        for (number, graph) in graphs {
            for n in graph.order() {
                if !self.constant[number][n.index()] {
                    continue;
                }
                for i in 0..graph.node(n).results.len() {
                    let v = graph.result(n, i);
                    let Some(parameters) = self.codes[number].parameters.get(&v).cloned() else {
                        continue;
                    };
                    let place = Place {
                        graph: number,
                        value: v,
                    };
                    // Regions have copies of the constants that they share.
                    let address = graph.tensor(v).map(|t| t.bytes().as_ptr() as usize);
                    let moved = is_moved(graph, v);
                    if moved || !seen.insert((graph.value(v).name.as_str(), address)) {
                        continue;
                    }
                    match self.weight(graph, place, parameters) {
                        Some(weight) => weights.push(weight),
                        None if self.is_old(&graph.value(v).name, self.quantized.path(number)) => {}
                        None => self.unmatched.push(place),
                    }
                }
            }
        }
        weights
    }

    fn weight(&self, graph: &Graph, place: Place, parameters: Parameters) -> Option<MatchedWeight> {
        let v = place.value;
        let path = self.quantized.path(place.graph);
        let mut floats = self.constants_named(&graph.value(v).name, path);
        if floats.is_empty() && graph.op(v.node).is_some() {
            let source = graph.operand(v.node, 0)?;
            floats = self.constants_named(&graph.value(source).name, path);
        }
        if floats.is_empty() {
            let users = graph.uses(v);
            let dequantized = users
                .iter()
                .filter(|u| graph.is(u.node, "DequantizeLinear"));
            let mut results = dequantized.map(|u| graph.result(u.node, 0));
            floats = self.constants_named(&graph.value(results.next()?).name, path);
        }
        let first = *floats.first()?;
        let (node, op) = user(&self.floats[first.model], first.place);
        let dtype = graph.ty(v).and_then(|ty| ty.dtype());
        let role = match dtype {
            Some(DType::I32) => Role::Bias,
            _ => Role::Weight,
        };
        Some(MatchedWeight {
            codes: place,
            parameters,
            role,
            floats,
            node,
            op,
        })
    }

    /// The constants that `name` is derived from, of every float model.
    fn constants_named(&self, name: &str, path: &str) -> Vec<FloatPlace> {
        let find = |model: usize, name: &str| {
            let place = self.floats[model].find(name, path)?;
            let place = self.source(model, place);
            let constant = &self.float_constant[model][place.graph];
            let is = constant[place.value.node.index()] && self.may_be_float(model, place);
            is.then_some(FloatPlace { model, place })
        };
        let all = |name: &str| {
            let found = (0..self.floats.len()).filter_map(|model| find(model, name));
            let found: Vec<FloatPlace> = found.collect();
            (!found.is_empty()).then_some(found)
        };
        names::base(name, all).unwrap_or_default()
    }
}

/// Whether codes are those of another constant, reshaped or the like.
fn is_moved(graph: &Graph, v: ValueId) -> bool {
    graph
        .op(v.node)
        .is_some_and(|op| op.op_type != "QuantizeLinear" && !op.is("Constant"))
}

/// The node that uses a value, on the way over what moves its elements; of several, the first.
fn user(graphs: &Graphs<'_>, place: Place) -> (String, String) {
    const MOVES: &[&str] = &[
        "Cast",
        "Concat",
        "DequantizeLinear",
        "Identity",
        "QuantizeLinear",
        "Reshape",
        "Slice",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    ];
    let graph = graphs.graph(place.graph);
    let mut v = place.value;
    loop {
        let found = graph.uses(v).first().copied();
        let Some((u, op)) = found.and_then(|u| Some((u, graph.op(u.node)?))) else {
            return Default::default();
        };
        if op.domain.is_empty() && MOVES.contains(&op.op_type.as_str()) {
            v = graph.result(u.node, 0);
            continue;
        }
        return (graph.node(u.node).name.clone(), op.qualified());
    }
}

/// How the codes of a weight lie beside the elements of its float tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// In the same order, the shape may be another.
    Same,
    /// With the last two dimensions swapped.
    Transposed,
}

/// In which layouts a tensor of dimensions `codes` may hold the elements of one of `float`.
pub(crate) fn layouts(codes: &[usize], float: &Tensor) -> Vec<Layout> {
    let mut layouts = Vec::new();
    let elements: usize = codes.iter().product();
    if elements == float.len() {
        layouts.push(Layout::Same);
        let swapped = |dims: &[usize]| {
            let (&last, rest) = dims.split_last()?;
            let (&before, outer) = rest.split_last()?;
            Some([outer, &[last, before]].concat())
        };
        if swapped(codes).is_some_and(|dims| dims == float.dims()) {
            if codes != float.dims() {
                layouts.clear();
            }
            layouts.push(Layout::Transposed);
        }
    }
    layouts
}
