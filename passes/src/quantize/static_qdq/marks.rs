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
use onnxq_quant::{FloatType, QuantType};
use onnxq_tensor::{DType, Tensor};
use smallvec::SmallVec;

use super::{
    super::unfold::literal,
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
    let picked = listed && !rules::quantizes(op) && settings.names(&graph.node(n).name);
    picked.then_some(op)
}

/// Whether `v` is the result of a DequantizeLinear.
pub(in crate::quantize) fn is_dequantized(graph: &Graph, v: ValueId) -> bool {
    graph
        .op(v.node)
        .is_some_and(|op| rules::quantizes(op) && op.op_type == "DequantizeLinear")
}

/// Whether DequantizeLinear `n` has codes that are computed, of activations, with one scale.
fn has_one_scale(graph: &Graph, n: NodeId) -> bool {
    let operand = |i| graph.operand(n, i);
    let scale = operand(1).and_then(|v| literal(graph, v));
    let codes = operand(0).and_then(|v| graph.ty(v)?.dtype());
    let is_constant = operand(0).is_some_and(|v| literal(graph, v).is_some());
    scale.is_some_and(|s| s.len() == 1)
        && !is_constant
        && codes.is_none_or(|t| QuantType::from_dtype(t).is_some())
}

/// The values that a QuantizeLinear quantizes already, with the DequantizeLinear behind it.
fn quantized(graph: &Graph, order: &[NodeId]) -> HashMap<ValueId, ValueId> {
    let mut found = HashMap::new();
    for &n in order {
        let is_quantize = |op: &Op| rules::quantizes(op) && op.op_type == "QuantizeLinear";
        let Some(v) = graph.operand(n, 0) else {
            continue;
        };
        if graph.op(n).is_some_and(is_quantize) {
            let codes = graph.result(n, 0);
            let back = graph.uses(codes).into_iter().find_map(|u| {
                let op = graph.op(u.node)?;
                let back = u.operand == 0 && rules::quantizes(op);
                back.then(|| graph.result(u.node, 0))
            });
            // Codes that something else takes go by themselves.
            found.entry(v).or_insert(back.unwrap_or(codes));
        }
    }
    found
}

struct Marker<'a> {
    graph: &'a Graph,
    settings: &'a StaticSettings,
    opset: i64,
    constraints: &'a Constraints,
    marks: Marks,
    /// Tensors that were marked since nodes were last looked at again.
    queue: Vec<ValueId>,
    /// Nodes that wait for a tensor to be marked.
    waiting: HashMap<ValueId, SmallVec<[(NodeId, Rule); 1]>>,
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
                (true, _) => self.weight(n, 1, Some(-1)),
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

    /// The float type of `v`, if it has one that is quantized.
    fn float(&self, v: ValueId) -> Option<FloatType> {
        let dtype = match literal(self.graph, v) {
            Some(tensor) => tensor.dtype(),
            None => self.graph.ty(v)?.dtype()?,
        };
        match dtype {
            // The tool of ONNX Runtime does not know bfloat16.
            DType::BF16 if self.settings.compat => None,
            dtype => FloatType::from_dtype(dtype).ok(),
        }
    }

    fn constant(&self, v: ValueId) -> Option<Tensor> {
        literal(self.graph, v)
    }

    fn operand_constant(&self, n: NodeId, i: usize) -> Option<Tensor> {
        let tensor = self.constant(self.graph.operand(n, i)?)?;
        FloatType::from_dtype(tensor.dtype()).ok()?;
        Some(tensor)
    }

    fn excludes_output(&self, n: NodeId) -> bool {
        let list = &self.settings.exclude_output;
        self.graph
            .op(n)
            .is_some_and(|op| list.contains(&op.op_type))
    }

    fn insert(&mut self, n: NodeId, v: ValueId, source: Source, replace: bool) {
        let Some(float) = self.float(v) else {
            return;
        };
        if is_dequantized(self.graph, v) {
            return;
        }
        let constant = self.constant(v);
        let entry = self.marks.tensors.entry(v);
        if matches!(entry, indexmap::map::Entry::Vacant(_)) {
            self.queue.push(v);
        }
        let mark = entry.or_insert_with(|| Mark {
            source,
            float,
            constant,
            askers: SmallVec::new(),
        });
        if replace {
            mark.source = source;
        }
        if mark.askers.last() != Some(&n) {
            mark.askers.push(n);
        }
    }

    /// Operand `i` is quantized like an activation.
    fn activation(&mut self, n: NodeId, i: usize) {
        let Some(v) = self.graph.operand(n, i) else {
            return;
        };
        match self.marks.quantized.get(&v) {
            None => self.insert(n, v, Source::Activation, false),
            // For others; `n` takes it from there.
            Some(&back) if is_dequantized(self.graph, back) => {
                self.marks.rejoined.push((n, i, back));
            }
            Some(_) => {}
        }
    }

    /// Every float result is quantized.
    fn results(&mut self, n: NodeId) {
        if self.excludes_output(n) {
            return;
        }
        for i in 0..self.graph.node(n).results.len() {
            let v = self.graph.result(n, i);
            if !self.marks.quantized.contains_key(&v) {
                self.insert(n, v, Source::Activation, false);
            }
        }
    }

    /// The first `count` results have the parameters of operand `i`.
    fn follow(&mut self, n: NodeId, i: usize, count: usize) -> bool {
        let Some(provider) = self.graph.operand(n, i) else {
            return false;
        };
        if self.excludes_output(n) || self.float(provider).is_none() {
            return false;
        }
        let source = Source::Shared { provider, user: n };
        for i in 0..self.graph.node(n).results.len().min(count) {
            let v = self.graph.result(n, i);
            if !self.marks.quantized.contains_key(&v) {
                self.insert(n, v, source, true);
            }
        }
        true
    }

    /// Operand `i` is quantized as a weight, along `channels` if each channel is to have a scale.
    fn weight(&mut self, n: NodeId, i: usize, channels: Option<i64>) {
        let Some(v) = self.graph.operand(n, i) else {
            return;
        };
        let Some(tensor) = self.operand_constant(n, i) else {
            return self.activation(n, i);
        };
        let axis = self.weight_axis(n, v, &tensor, channels);
        self.insert(n, v, Source::Weight { axis }, axis.is_some());
    }

    fn weight_axis(
        &self,
        n: NodeId,
        v: ValueId,
        tensor: &Tensor,
        channels: Option<i64>,
    ) -> Option<usize> {
        let op = self.graph.op(n)?;
        let rank = tensor.rank() as i64;
        let axis = match self.settings.overrides.axis(&self.graph.value(v).name) {
            Some(given) => given?,
            None if !self.settings.per_channel => return None,
            // A vector has no output channels.
            None if rank < 2 => return None,
            // ONNX Runtime fuses a stack of matrices and then fails on a scale for each column.
            None if rank > 2 && op.is("MatMul") => return None,
            None => self.settings.axis(&op.op_type, channels?),
        };
        let axis = if axis < 0 { axis + rank } else { axis };
        (0..rank).contains(&axis).then_some(axis as usize)
    }

    fn bias(&mut self, n: NodeId, i: usize, input: usize, weight: usize) {
        let graph = self.graph;
        let operand = |i| graph.operand(n, i);
        let (Some(value), Some(input), Some(weight)) =
            (operand(i), operand(input), operand(weight))
        else {
            return;
        };
        let Some(tensor) = self.operand_constant(n, i) else {
            return;
        };
        if self.settings.overrides.has(&graph.value(value).name) {
            return self.weight(n, i, None);
        }
        // A number for each row of a Gemm has no scale where each column has another.
        let is_column = tensor.len() > 1 && tensor.dims().last() == Some(&1);
        if self.settings.per_channel && is_column {
            return;
        }
        if self.settings.quantize_bias && !tensor.is_empty() {
            self.marks.biases.push(Bias {
                node: n,
                operand: i,
                value,
                tensor,
                input,
                weight,
            });
        }
    }

    /// Whether a Pad adds nothing that its operand does not have, or only zeros.
    fn pads_with_what_is_there(&self, n: NodeId) -> bool {
        let Some(op) = self.graph.op(n) else {
            return false;
        };
        match op.str("mode").unwrap_or("constant") {
            "reflect" | "edge" | "wrap" => true,
            "constant" if self.opset < 11 => op.float("value", 0.0) == 0.0,
            "constant" => match self.graph.operand(n, 2) {
                None => true,
                Some(v) => {
                    let value = self
                        .constant(v)
                        .and_then(|t| Some(t.to_f32s().ok()?.into_owned()));
                    value.is_some_and(|v| v.iter().all(|&x| x == 0.0))
                }
            },
            _ => false,
        }
    }
}

/// Between which bounds a Relu or Clip limits its operand; `None` where a bound is computed.
pub(in crate::quantize) fn clip_bounds(graph: &Graph, n: NodeId) -> Option<(f32, f32)> {
    let op = graph.op(n)?;
    if op.is("Relu") {
        return Some((0.0, f32::INFINITY));
    }
    let bound = |i: usize, key: &str, default: f32| match graph.operand(n, i) {
        Some(v) => literal(graph, v)?.to_f32s().ok()?.first().copied(),
        None => Some(op.float(key, default)),
    };
    Some((
        bound(1, "min", f32::NEG_INFINITY)?,
        bound(2, "max", f32::INFINITY)?,
    ))
}

/// The axes of a reduction, where they are constant.
fn reduced_axes(graph: &Graph, n: NodeId) -> Option<Vec<i64>> {
    match graph.operand(n, 1) {
        Some(v) => literal(graph, v)?.to_i64s().ok(),
        None => Some(graph.op(n)?.ints("axes")?.to_vec()),
    }
}
