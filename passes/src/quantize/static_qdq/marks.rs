//! Which tensors are quantized, and what their parameters follow from.
//!
//! Nodes are looked at in the order of the graph, as the quantization tool of ONNX Runtime does.
//! Some take part only if their operands are quantized; where that turns out later, because
//! another node wants it, they are looked at again, so that the outcome does not depend on the
//! order (with `compat` it does). What is dequantized or quantized already, in a model trained for
//! it, counts as quantized and keeps its parameters.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use onnxq_ir::{Graph, NodeId, Op, ValueId};
use onnxq_quant::FloatType;
use onnxq_tensor::Tensor;
use smallvec::SmallVec;

use super::{
    facts::{clip_bounds, has_one_scale, is_dequantized, quantized, reduced_axes},
    marker::Marker,
    rules::{self, Rule},
    settings::StaticSettings,
};

/// What the parameters of a tensor follow from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::quantize) enum Source {
    /// Its range.
    Activation,
    /// Its elements: it is a weight. `axis` runs over its channels, where each has a scale.
    Weight { axis: Option<usize> },
    /// They are those of another tensor, in the eyes of a user of that.
    Shared { provider: ValueId, user: NodeId },
}

/// A tensor to quantize.
#[derive(Clone, Debug)]
pub(in crate::quantize) struct Mark {
    pub(in crate::quantize) source: Source,
    pub(in crate::quantize) float: FloatType,
    /// The constant that it is.
    pub(in crate::quantize) constant: Option<Tensor>,
    /// The nodes because of which it is quantized.
    pub(in crate::quantize) askers: SmallVec<[NodeId; 2]>,
}

/// A bias to quantize.
#[derive(Clone, Debug)]
pub(in crate::quantize) struct Bias {
    pub(in crate::quantize) node: NodeId,
    pub(in crate::quantize) operand: usize,
    pub(in crate::quantize) value: ValueId,
    pub(in crate::quantize) tensor: Tensor,
    pub(in crate::quantize) input: ValueId,
    pub(in crate::quantize) weight: ValueId,
}

/// Nodes that have to stay as they are: found out when parameters are computed.
#[derive(Clone, Debug, Default)]
pub(in crate::quantize) struct Constraints {
    /// Not quantized at all, for want of a range.
    pub(in crate::quantize) excluded: HashSet<NodeId>,
    /// Not quantized either, to keep their operands.
    pub(in crate::quantize) left: HashSet<NodeId>,
    /// Relu and Clip that no range of codes does the work of.
    pub(in crate::quantize) kept: HashSet<NodeId>,
}

/// What is to be done in a graph.
#[derive(Clone, Debug, Default)]
pub(in crate::quantize) struct Marks {
    pub(in crate::quantize) tensors: IndexMap<ValueId, Mark>,
    pub(in crate::quantize) biases: Vec<Bias>,
    /// Relu and Clip that go away, in the order of the graph.
    pub(in crate::quantize) removed: Vec<NodeId>,
    /// Operands that are quantized for other nodes already: where to take them from.
    pub(in crate::quantize) rejoined: Vec<(NodeId, usize, ValueId)>,
    /// The nodes that the options pick, and whether they take part.
    pub(in crate::quantize) nodes: IndexMap<NodeId, bool>,
    /// Nodes that are not picked and are quantized all the same.
    pub(in crate::quantize) guarded: HashSet<NodeId>,
    /// What was quantized before, and the DequantizeLinear of it.
    pub(in crate::quantize) quantized: HashMap<ValueId, ValueId>,
}

/// See [`Marker::guard_transposes`].
const FIRST_WITH_DEFECT: i64 = 21;

/// Finds what is to be done in a graph.
pub(in crate::quantize) fn mark(
    graph: &Graph,
    settings: &StaticSettings,
    opset: i64,
    constraints: &Constraints,
) -> Marks {
    let order = graph.op_order();
    let mut marker = Marker {
        graph,
        settings,
        opset,
        constraints,
        marks: Marks {
            quantized: quantized(graph, &order),
            ..Marks::default()
        },
        queue: Vec::new(),
        waiting: HashMap::new(),
    };
    let needed = graph.needed();
    for n in order {
        if !needed[n.index()] {
            continue;
        }
        let Some(op) = eligible(settings, graph, n) else {
            continue;
        };
        let out = constraints.excluded.contains(&n) || constraints.left.contains(&n);
        let takes_part = !out && {
            let rule = rules::rule(op, settings.op_types.is_some(), settings.compat);
            marker.visit(n, rule)
        };
        marker.marks.nodes.insert(n, takes_part);
        if !settings.compat {
            marker.look_again();
        }
    }
    marker.guard_transposes();
    marker.marks
}

/// The operation at `n`, if the options pick it.
pub(in crate::quantize) fn eligible<'a>(
    settings: &StaticSettings,
    graph: &'a Graph,
    n: NodeId,
) -> Option<&'a Op> {
    let op = graph.op(n)?;
    let listed = match &settings.op_types {
        Some(list) => list.contains(&op.op_type),
        None => rules::is_default(op, settings.compat),
    };
    // ONNX Runtime does not load a dilated average of codes.
    let has_form = !(op.is("AveragePool") && op.attrs.contains_key("dilations"));
    let is_picked = listed && has_form && settings.names(&graph.node(n).name);
    let picked = is_picked && !rules::quantizes(op);
    picked.then_some(op)
}

impl Marker<'_> {
    /// Applies a rule to a node; whether the node takes part.
    fn visit(&mut self, n: NodeId, rule: Rule) -> bool {
        match rule {
            Rule::Product {
                activation,
                weight,
                bias,
                channels,
            } => {
                self.activation(n, activation);
                self.results(n);
                self.weight(n, weight, Some(channels));
                if let Some(bias) = bias {
                    self.bias(n, bias, activation, weight);
                }
                true
            }
            Rule::MatMul => self.matmul(n),
            Rule::Normalization => {
                self.activation(n, 0);
                self.weight(n, 1, None);
                self.bias(n, 2, 0, 1);
                self.results(n);
                true
            }
            Rule::Follow if self.settings.force => {
                self.activation(n, 0);
                self.follow(n, 0, 1);
                true
            }
            Rule::Follow => self.if_marked(n, rule, &[0]) && self.follow(n, 0, 1),
            Rule::Split => {
                self.activation(n, 0);
                self.follow(n, 0, usize::MAX)
            }
            Rule::Lookup => {
                if self.settings.force || self.operand_constant(n, 0).is_some() {
                    self.activation(n, 0);
                    self.follow(n, 0, 1)
                } else {
                    self.if_marked(n, rule, &[0]) && self.follow(n, 0, 1)
                }
            }
            Rule::Pad => {
                for i in 0..self.graph.node(n).operand_count() {
                    self.activation(n, i);
                }
                match self.pads_with_what_is_there(n) {
                    true => self.follow(n, 0, 1),
                    false => {
                        self.results(n);
                        true
                    }
                }
            }
            Rule::Where => {
                if self.settings.force {
                    self.activation(n, 1);
                    self.activation(n, 2);
                } else if !self.if_marked(n, rule, &[1, 2]) {
                    return false;
                }
                self.results(n);
                true
            }
            Rule::Clamp => self.clamp(n),
            Rule::Recurrent => {
                self.weight(n, 1, None);
                self.weight(n, 2, None);
                true
            }
            Rule::Between => self.between(n),
            Rule::Each => {
                for i in 0..self.graph.node(n).operand_count() {
                    self.activation(n, i);
                }
                self.results(n);
                true
            }
        }
    }

    fn matmul(&mut self, n: NodeId) -> bool {
        let constant = [0, 1].map(|i| self.operand_constant(n, i).is_some());
        if self.settings.matmul_const_b_only && !constant[1] {
            return false;
        }
        for (i, &constant) in constant.iter().enumerate() {
            match (constant, i) {
                (false, _) => self.activation(n, i),
                // The columns of what is on the left are not channels of the result; the tool of
                // ONNX Runtime gives each a scale all the same.
                (true, 0) => {
                    let tensor = self.operand_constant(n, 0);
                    let matrix = tensor.is_some_and(|t| t.rank() == 2);
                    let columns = self.settings.compat && matrix;
                    self.weight(n, 0, columns.then_some(1));
                }
                (true, _) => {
                    // Integer products take a scale for each column of one matrix, not of a stack
                    // of them.
                    let tensor = self.operand_constant(n, 1);
                    let matrix = tensor.is_some_and(|t| t.rank() == 2);
                    let given = self.settings.axis("MatMul", i64::MAX) != i64::MAX;
                    self.weight(n, 1, (matrix || given).then_some(1));
                }
            }
        }
        self.results(n);
        true
    }

    fn clamp(&mut self, n: NodeId) -> bool {
        let Some(x) = self.graph.operand(n, 0) else {
            return false;
        };
        // The tool of ONNX Runtime does not heed the option here.
        if self.settings.force && !self.settings.compat {
            self.activation(n, 0);
        }
        if !self.if_marked(n, Rule::Clamp, &[0]) {
            return false;
        }
        if self.can_remove(n, x) {
            let askers = self.marks.tensors.swap_remove(&x).map(|mark| mark.askers);
            self.marks.removed.push(n);
            self.results(n);
            let y = self.graph.result(n, 0);
            if let Some(mark) = self.marks.tensors.get_mut(&y) {
                mark.askers.extend(askers.into_iter().flatten());
            }
        } else {
            self.activation(n, 0);
            self.results(n);
        }
        true
    }

    /// Whether limiting codes to their range does what Relu or Clip `n` does with `x`, as far as
    /// the node tells.
    fn can_remove(&self, n: NodeId, x: ValueId) -> bool {
        let settings = self.settings;
        let graph = self.graph;
        let name = |v: ValueId| &*graph.value(v).name;
        let converted = |v| settings.overrides.converts(name(v));
        let y = graph.result(n, 0);
        !settings.activation_symmetric
            && !settings.keep_activations
            && !self.constraints.kept.contains(&n)
            && !self.excludes_output(n)
            && !converted(x)
            && !converted(y)
            && graph.sole_use(x).is_some()
            && graph.op(x.node).is_some_and(|op| !rules::quantizes(op))
            && self.float(y).is_some()
            && !self.marks.quantized.contains_key(&y)
            && clip_bounds(graph, n).is_some_and(|(lo, hi)| lo <= 0.0 && hi >= 0.0)
    }

    /// See [`Rule::Between`].
    fn between(&mut self, n: NodeId) -> bool {
        let graph = self.graph;
        let mut waits: SmallVec<[usize; 2]> = SmallVec::new();
        for i in 0..graph.node(n).operand_count() {
            let Some(v) = graph.operand(n, i) else {
                continue;
            };
            if self.float(v).is_some() && self.constant(v).is_none() {
                waits.push(i);
            }
        }
        let fits = match graph.op(n) {
            // By a constant, the codes stay what they are.
            Some(op) if op.is("Div") => waits.as_slice() == [0],
            // Means over the pixels of an image.
            Some(op) if op.is("ReduceMean") => {
                let rank = graph
                    .operand(n, 0)
                    .and_then(|v| Some(graph.ty(v)?.shape()?.len()));
                rank == Some(4)
                    && matches!(reduced_axes(graph, n).as_deref(), Some([2 | -2, 3 | -1]))
            }
            _ => !waits.is_empty(),
        };
        if !fits || !self.if_marked(n, Rule::Between, &waits) {
            return false;
        }
        for i in 0..graph.node(n).operand_count() {
            self.activation(n, i);
        }
        self.results(n);
        true
    }

    /// Whether all these operands are quantized; if not, `n` is looked at again when the first
    /// that is not becomes so.
    fn if_marked(&mut self, n: NodeId, rule: Rule, operands: &[usize]) -> bool {
        for &i in operands {
            let Some(v) = self.graph.operand(n, i) else {
                return false;
            };
            if !self.is_marked(v) {
                self.waiting.entry(v).or_default().push((n, rule));
                return false;
            }
        }
        true
    }

    fn look_again(&mut self) {
        while let Some(v) = self.queue.pop() {
            for (n, rule) in self.waiting.remove(&v).into_iter().flatten() {
                let takes_part = self.visit(n, rule);
                self.marks.nodes.insert(n, takes_part);
            }
        }
    }

    /// Quantizes what Transpose makes of signed codes, even if the node is not picked.
    ///
    /// From opset 21 on ONNX Runtime (1.31 at least) does not load a model in which a Transpose of
    /// dequantized signed codes is not quantized again: it moves the DequantizeLinear behind the
    /// Transpose and puts a QuantizeLinear of another type than its zero point before.
    fn guard_transposes(&mut self) {
        if self.opset < FIRST_WITH_DEFECT || self.settings.contrib {
            return;
        }
        let mut at = 0;
        // What is found here may have a Transpose behind it, too.
        while let Some((&v, mark)) = self.marks.tensors.get_index(at) {
            at += 1;
            let qtype = match mark.source {
                Source::Weight { axis: Some(_) } => continue,
                Source::Weight { axis: None } if self.settings.block_size > 0 => continue,
                Source::Weight { axis: None } => self.settings.weight_type,
                _ => self.settings.activation_type,
            };
            if !qtype.is_signed() {
                continue;
            }
            for u in self.graph.uses(v) {
                let y = ValueId {
                    node: u.node,
                    result: 0,
                };
                if self.graph.is(u.node, "Transpose")
                    && !self.marks.tensors.contains_key(&y)
                    && !self.marks.quantized.contains_key(&y)
                {
                    let user = u.node;
                    self.insert(user, y, Source::Shared { provider: v, user }, true);
                    self.marks.guarded.insert(user);
                }
            }
        }
    }

    fn is_marked(&self, v: ValueId) -> bool {
        self.marks.tensors.contains_key(&v) || self.quantized_before(v).is_some()
    }

    /// The DequantizeLinear of codes with one scale that `v` is the result of, or that stands
    /// behind `v`.
    fn quantized_before(&self, v: ValueId) -> Option<NodeId> {
        let v = *self.marks.quantized.get(&v).unwrap_or(&v);
        (is_dequantized(self.graph, v) && has_one_scale(self.graph, v.node)).then_some(v.node)
    }
}

#[cfg(test)]
mod tests {
    use onnxq_ir::{Model, text};

    use super::*;

    fn marks_of(source: &str, options: StaticSettings) -> (Model, Marks) {
        let model = text::parse(source, &()).unwrap();
        let mut model = Model::from_def(model).unwrap();
        onnxq_ops::infer::annotate(&mut model);
        let marks = mark(&model.graph, &options, 17, &Constraints::default());
        (model, marks)
    }

    fn source_of(model: &Model, marks: &Marks, name: &str) -> Option<Source> {
        let find = |v: &&ValueId| model.graph.value(**v).name == name;
        let v = marks.tensors.keys().find(find)?;
        Some(marks.tensors[v].source)
    }

    const MODEL: &str = r#"<ir_version: 8, opset_import: ["": 17]>
        main (float[4, 4] x) => (float[4, 4] t, float[4, 4] r)
        <float[4, 4] W = ["seed": "1"]>
        {
            t = Transpose (x)
            y = MatMul (x, W)
            r = Relu (y)
        }"#;

    #[test]
    fn what_comes_first_is_looked_at_again() {
        let (model, marks) = marks_of(MODEL, StaticSettings::default());
        let source = |name| source_of(&model, &marks, name);
        assert_eq!(source("x"), Some(Source::Activation));
        assert!(matches!(source("t"), Some(Source::Shared { .. })));
        assert_eq!(source("W"), Some(Source::Weight { axis: None }));
        // The Relu goes away, and with it the tensor before it.
        assert_eq!((source("y"), marks.removed.len()), (None, 1));
        assert_eq!(source("r"), Some(Source::Activation));
    }

    #[test]
    fn compat_heeds_the_order() {
        let settings = StaticSettings {
            compat: true,
            ..StaticSettings::default()
        };
        let (model, marks) = marks_of(MODEL, settings);
        assert_eq!(source_of(&model, &marks, "t"), None);
    }

    #[test]
    fn excluded_nodes_ask_for_nothing() {
        let (model, _) = marks_of(MODEL, StaticSettings::default());
        let graph = &model.graph;
        let excluded = graph.op_order().into_iter().collect();
        let constraints = Constraints {
            excluded,
            ..Constraints::default()
        };
        let marks = mark(graph, &StaticSettings::default(), 17, &constraints);
        assert!(marks.tensors.is_empty() && marks.nodes.values().all(|&t| !t));
    }
}
