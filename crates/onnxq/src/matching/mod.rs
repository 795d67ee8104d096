//! [`Matching`]: which tensors of a quantized model stand for which tensors of the float model.
//!
//! Passes keep the names of tensors and derive the names of what they add from them (see
//! `docs/ARCHITECTURE.md`), so a file is all that is needed: names are followed back to the float
//! model, and where a name does not say enough, QuantizeLinear, DequantizeLinear and Cast are. The
//! models that the quantization tool of ONNX Runtime writes are matched in the same way.
//!
//! A float tensor is looked for in several models, in their order: a weight that `preprocess` has
//! folded, say, is none of the original file but of the preprocessed model.
//!
//! *Invariant*: what is matched as [`Form::Float`] or [`Form::Codes`] stands for the float tensor
//! itself, element by element; what does so only in part, such as sums without their bias, is
//! [`Form::Partial`].

mod codes;
mod graphs;
mod layers;
mod names;
mod weights;

use std::collections::HashMap;

use indexmap::IndexMap;
use onnxq_ir::{Graph, Model, NodeKind, ValueId};

pub use codes::Parameters;
pub use graphs::{Graphs, Place};
pub use layers::Layer;
pub(crate) use weights::{Layout, layouts};
pub use weights::{MatchedWeight, Role};

use codes::Codes;

/// What is matched, and what is not.
#[derive(Debug)]
pub struct Matching<'m> {
    /// The graphs of the float models.
    pub floats: Vec<Graphs<'m>>,
    /// The graphs of the quantized model.
    pub quantized: Graphs<'m>,
    /// Constants in codes, in the order of the quantized model.
    pub weights: Vec<MatchedWeight>,
    /// Float tensors that are computed, in the order of the quantized model.
    pub activations: Vec<MatchedActivation>,
    /// Quantized tensors without a float twin.
    pub unmatched: Vec<Place>,
}

/// A tensor of one of the float models.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FloatPlace {
    /// Which of them.
    pub model: usize,
    /// Where in it.
    pub place: Place,
}

/// A computed tensor of a float model, and what stands for it.
#[derive(Clone, Debug)]
pub struct MatchedActivation {
    /// The float tensor.
    pub float: FloatPlace,
    /// What stands for it in the quantized model, at least one, in the order of that model.
    pub forms: Vec<(Place, Form)>,
    /// What computes it.
    pub layer: Layer,
}

/// How a tensor of the quantized model stands for a float tensor.
#[derive(Clone, PartialEq, Debug)]
pub enum Form {
    /// In floats.
    Float,
    /// In floats that codes stand for.
    Dequantized,
    /// In codes.
    Codes(Parameters),
    /// In sums of products of codes, or what they stand for, from which a bias may be missing; in
    /// what is clamped only when it is put in codes.
    Partial,
}

impl<'m> Matching<'m> {
    /// Matches the tensors of `quantized` with those of `floats`, the first of which counts where
    /// more than one has a name.
    pub fn new(floats: &[&'m Model], quantized: &'m Model) -> Matching<'m> {
        let mut matcher = Matcher::new(floats, quantized);
        matcher.activations();
        let weights = matcher.weights();
        let Matcher {
            floats,
            quantized,
            twins,
            unmatched,
            ..
        } = matcher;
        let mut activations: Vec<MatchedActivation> = twins
            .into_iter()
            .map(|(float, forms)| MatchedActivation {
                float,
                forms,
                layer: Layer::default(),
            })
            .collect();
        layers::find(&floats, &mut activations);
        Matching {
            floats,
            quantized,
            weights,
            activations,
            unmatched,
        }
    }

    /// The name of a tensor of a float model.
    pub fn float_name(&self, float: FloatPlace) -> &'m str {
        self.floats[float.model].name(float.place)
    }

    /// How many tensors of the quantized model are quantized, and how many of them are matched.
    pub fn quantized_count(&self) -> (usize, usize) {
        let is_quantized = |(_, form): &&(Place, Form)| *form != Form::Float;
        let forms = self.activations.iter().flat_map(|a| &a.forms);
        let matched = self.weights.len() + forms.filter(is_quantized).count();
        (matched + self.unmatched.len(), matched)
    }
}

/// The work in progress.
struct Matcher<'m> {
    floats: Vec<Graphs<'m>>,
    quantized: Graphs<'m>,
    /// By graph of the quantized model.
    codes: Vec<Codes>,
    /// By graph, then by vertex of the quantized model.
    constant: Vec<Vec<bool>>,
    float_constant: Vec<Vec<Vec<bool>>>,
    /// By float model, then by graph.
    float_codes: Vec<Vec<Codes>>,
    twins: IndexMap<FloatPlace, Vec<(Place, Form)>>,
    unmatched: Vec<Place>,
}

impl<'m> Matcher<'m> {
    fn new(floats: &[&'m Model], quantized: &'m Model) -> Matcher<'m> {
        let floats: Vec<Graphs<'m>> = floats.iter().map(|m| Graphs::new(m)).collect();
        let quantized = Graphs::new(quantized);
        let codes = |graphs: &Graphs<'m>| graphs.iter().map(|(_, g)| Codes::of(g)).collect();
        Matcher {
            codes: codes(&quantized),
            float_codes: floats.iter().map(codes).collect(),
            constant: quantized.constants(),
            float_constant: floats.iter().map(Graphs::constants).collect(),
            floats,
            quantized,
            twins: IndexMap::new(),
            unmatched: Vec::new(),
        }
    }

    fn activations(&mut self) {
        let graphs: Vec<(usize, &'m Graph)> = self.quantized.iter().collect();
        for (number, graph) in graphs {
            let needed = graph.needed();
            let mut known = HashMap::new();
            for n in graph.order() {
                let computed = matches!(graph.node(n).kind, NodeKind::Op(_) | NodeKind::Input);
                if !computed || self.constant[number][n.index()] || !needed[n.index()] {
                    continue;
                }
                for i in 0..graph.node(n).results.len() {
                    self.activation(number, graph, graph.result(n, i), &mut known);
                }
            }
        }
    }

    /// Finds the twin of a computed value. `known` has those found so far in this graph.
    fn activation(
        &mut self,
        number: usize,
        graph: &'m Graph,
        v: ValueId,
        known: &mut HashMap<ValueId, FloatPlace>,
    ) {
        let place = Place {
            graph: number,
            value: v,
        };
        let Some(form) = self.form(number, graph, v) else {
            return;
        };
        let path = self.quantized.path(number);
        let name = &graph.value(v).name;
        let through = || match graph.op(v.node)?.op_type.as_str() {
            "QuantizeLinear" | "DynamicQuantizeLinear" | "DequantizeLinear" | "Cast" => {
                known.get(&graph.operand(v.node, 0)?).copied()
            }
            _ => None,
        };
        let twin = match form {
            Form::Float => self.named(name, path).or_else(through),
            Form::Codes(_) | Form::Dequantized => {
                let found = through().or_else(|| self.derived(name, path));
                found.or_else(|| self.dequantized_as(graph, v, path))
            }
            Form::Partial => self.derived(name, path),
        };
        let form = match twin {
            Some(twin) if form == Form::Float && self.lacks_clamp(graph, v, twin) => Form::Partial,
            _ => form,
        };
        match twin {
            Some(twin) => {
                if form != Form::Partial {
                    known.insert(v, twin);
                }
                self.twins.entry(twin).or_default().push((place, form));
            }
            None if form == Form::Float || self.is_old(name, path) => {}
            None => self.unmatched.push(place),
        }
    }

    /// Whether a Relu or Clip gives the float tensor, and `v` something else: the clamp is left to
    /// the codes that `v` is put in.
    fn lacks_clamp(&self, graph: &Graph, v: ValueId, twin: FloatPlace) -> bool {
        let op = |graph: &'_ Graph, v: ValueId| graph.op(v.node).map(|op| op.op_type.clone());
        let float = self.floats[twin.model].graph(twin.place.graph);
        let clamp = op(float, twin.place.value).filter(|op| op == "Relu" || op == "Clip");
        clamp.is_some_and(|clamp| {
            let users = graph.uses(v);
            let quantized = |u: &onnxq_ir::Use| graph.is(u.node, "QuantizeLinear");
            op(graph, v).is_none_or(|op| op != clamp) && users.iter().any(quantized)
        })
    }

    /// What kind of tensor `v` is; `None` for what is of no interest, such as a computed scale.
    fn form(&self, number: usize, graph: &Graph, v: ValueId) -> Option<Form> {
        let codes = &self.codes[number];
        if let Some(parameters) = codes.parameters.get(&v) {
            return Some(Form::Codes(parameters.clone()));
        }
        if codes.sums.contains(&v) {
            return Some(Form::Partial);
        }
        let path = self.quantized.path(number);
        let same_name = self.named(&graph.value(v).name, path).is_some();
        if codes.dequantized_sums.contains(&v) {
            return Some(if same_name {
                Form::Float
            } else {
                Form::Partial
            });
        }
        let op = graph.op(v.node);
        if op.is_some_and(|op| op.op_type == "DequantizeLinear") {
            return Some(Form::Dequantized);
        }
        // The second and third result of DynamicQuantizeLinear, and the like.
        let through = op.is_some_and(|op| op.is("Cast"));
        (same_name || through).then_some(Form::Float)
    }

    /// The float tensor of this very name.
    fn named(&self, name: &str, path: &str) -> Option<FloatPlace> {
        let find = |(model, graphs): (usize, &Graphs<'m>)| {
            let place = self.source(model, graphs.find(name, path)?);
            self.may_be_float(model, place)
                .then_some(FloatPlace { model, place })
        };
        self.floats.iter().enumerate().find_map(find)
    }

    /// The float tensor whose name `name` is derived from.
    fn derived(&self, name: &str, path: &str) -> Option<FloatPlace> {
        names::base(name, |base| self.named(base, path))
    }

    /// The float tensor that codes are dequantized to.
    fn dequantized_as(&self, graph: &Graph, v: ValueId, path: &str) -> Option<FloatPlace> {
        let users = graph.uses(v);
        let mut dequantize = users
            .iter()
            .filter(|u| graph.is(u.node, "DequantizeLinear"));
        dequantize.find_map(|u| self.derived(&graph.value(graph.result(u.node, 0)).name, path))
    }

    /// Whether a float model has a tensor of this name, quantized as it is.
    fn is_old(&self, name: &str, path: &str) -> bool {
        let mut floats = self.floats.iter();
        floats.any(|graphs| graphs.find(name, path).is_some())
    }

    /// Where the float model has Q/DQ itself: the tensor that it quantizes.
    fn source(&self, model: usize, place: Place) -> Place {
        let graph = self.floats[model].graph(place.graph);
        let operand = |v: ValueId, op: &str| {
            graph
                .is(v.node, op)
                .then(|| graph.operand(v.node, 0))
                .flatten()
        };
        let mut value = place.value;
        loop {
            let codes = operand(value, "DequantizeLinear").unwrap_or(value);
            match operand(codes, "QuantizeLinear") {
                Some(source) => value = source,
                None => return Place { value, ..place },
            }
        }
    }

    /// Whether a tensor of a float model is one of floats, or of a type not known.
    fn may_be_float(&self, model: usize, place: Place) -> bool {
        let codes = &self.float_codes[model][place.graph];
        if codes.parameters.contains_key(&place.value) || codes.sums.contains(&place.value) {
            return false;
        }
        let ty = self.floats[model].graph(place.graph).ty(place.value);
        match ty.map(|ty| ty.as_tensor()) {
            Some(Some(tensor)) => tensor.dtype.is_none_or(|dtype| dtype.is_float()),
            Some(None) => false,
            None => true,
        }
    }
}
