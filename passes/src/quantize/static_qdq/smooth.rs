//! Scales channels of activations down and the rows of weights that meet them up, before ranges
//! are taken: SmoothQuant (Xiao et al., 2022).
//!
//! ```text
//! y = MatMul(x, W)   =>   y = MatMul(Mul(x, 1/s), s*W)      s = max|x|^alpha / max|W|^(1-alpha)
//! ```
//!
//! by channel, for products of the options' choice with a constant weight. A few channels of large
//! numbers, such as large language models have, would leave the others few steps of their common
//! scale; weights are more even, and can take over some of the difference. Products of one
//! activation share `s`, of all their weights.
//!
//! What computes `x` is made to compute `x/s`, where it has constants to scale: normalizations and
//! multiplications, beside the original if that has other users; products whose result has no other.
//! Elsewhere a Mul is inserted, and stays float.
//!
//! *Invariant*: up to rounding, the model computes what it did. Tensors with `overrides` are left
//! alone, since those hold for the numbers as they were.

use std::collections::HashSet;

use indexmap::{IndexMap, IndexSet};
use onnxq_ir::{Graph, Model, NodeId, Op, Value, ValueId};
use onnxq_pass::{PassContext, PassError};
use onnxq_quant::{CalibrationSpec, Ranges, TensorRange, ValueRange};
use onnxq_tensor::Tensor;

use super::{
    super::{
        insert_static_qdq::INFO,
        options::complain,
        source::{RangeRequest, RangeSource},
        unfold::literal,
    },
    marks::{Marks, Source, eligible},
    settings::StaticSettings,
};
use crate::preprocess::channels::{Layout, scaled, vector};

/// Bounds of a scale: normal numbers of float16, as are their reciprocals.
const LEAST: f64 = 1e-4;
const MOST: f64 = 1e4;

/// What became of a model.
pub(in crate::quantize) struct Smoothed {
    /// The nodes that scale activations and nothing else, graph by graph.
    pub(in crate::quantize) scalings: Vec<HashSet<NodeId>>,
    /// The ranges of the new model, where those of the old one come from a table.
    pub(in crate::quantize) table: Option<Ranges>,
}

/// The products of one activation.
struct Group {
    x: ValueId,
    channels: usize,
    products: Vec<Product>,
}

struct Product {
    node: NodeId,
    weight: ValueId,
    tensor: Tensor,
    /// The rows, which meet channels of the activation.
    rows: Layout,
}

/// Smooths the graphs that `marks` are of.
///
/// # Errors
/// Ranges of channels are not known, or calibration fails.
pub(in crate::quantize) fn smooth(
    model: &mut Model,
    settings: &StaticSettings,
    alpha: f64,
    marks: &[&Marks],
    source: &RangeSource,
    cx: &mut PassContext,
) -> Result<Smoothed, PassError> {
    let mut tensors = IndexMap::new();
    let mut graphs: Vec<Vec<Group>> = Vec::new();
    let mut names: HashSet<String> = HashSet::new();
    model.graph.for_each_graph(&mut |graph: &Graph| {
        for n in graph.node_ids() {
            let results = graph.node(n).results.iter();
            names.extend(results.map(|value| value.name.clone()));
        }
        if let Some(marks) = marks
            .get(graphs.len())
            .filter(|_| settings.subgraphs || std::ptr::eq(graph, &model.graph))
        {
            let groups = groups(graph, settings, marks);
            tensors.extend(groups.iter().map(|g| wanted(graph, g.x)));
            graphs.push(groups);
        }
    });
    let known = ranges(model, tensors, source, cx)?;
    let mut work = Smoother {
        settings,
        alpha,
        known,
        names,
        table: Ranges::default(),
        smoothed: 0,
        cx,
    };
    let mut scalings: Vec<HashSet<NodeId>> = Vec::new();
    let mut graphs = graphs.into_iter();
    let mut visit = |graph: &mut Graph| {
        let groups = graphs.next().unwrap_or_default();
        let apply = |group: &Group| work.apply(graph, group);
        scalings.push(groups.iter().filter_map(apply).collect());
    };
    match settings.subgraphs {
        true => model.graph.for_each_graph_mut(&mut visit),
        false => visit(&mut model.graph),
    }
    let muls: usize = scalings.iter().map(HashSet::len).sum();
    work.cx.note(format_args!(
        "`smooth-quant` scales {} activations, {muls} of them by a Mul",
        work.smoothed
    ));
    let table = match source {
        RangeSource::Table(ranges) => {
            let mut table = ranges.clone();
            for (name, range) in work.table.iter() {
                table.insert(name, range.clone());
            }
            Some(table)
        }
        RangeSource::Data(_) => None,
    };
    Ok(Smoothed { scalings, table })
}

fn wanted(graph: &Graph, x: ValueId) -> (String, Option<i64>) {
    (graph.value(x).name.clone(), Some(-1))
}

/// The ranges of channels.
fn ranges(
    model: &Model,
    tensors: IndexMap<String, Option<i64>>,
    source: &RangeSource,
    cx: &mut PassContext,
) -> Result<Ranges, PassError> {
    match source {
        RangeSource::Data(_) if tensors.is_empty() => Ok(Ranges::default()),
        RangeSource::Data(data) => {
            let request = RangeRequest {
                tensors,
                spec: CalibrationSpec::MINMAX,
            };
            let mut progress = |done, total| cx.progress("samples", done, total);
            data.calibrate(model, &request, &mut progress)
                .map_err(PassError::new)
        }
        RangeSource::Table(ranges) => {
            let whole =
                |name: &&String| !matches!(ranges.get(name), Some(TensorRange::Channels { .. }));
            let missing: Vec<String> = tensors.keys().filter(whole).cloned().collect();
            match complain::few(&missing) {
                Some(list) => Err(PassError::new(format_args!(
                    "`smooth-quant` needs ranges of the channels of {list}, which the table does \
                     not have"
                ))
                .with_help("give calibration data, with `--calibration-data`")),
                None => Ok(ranges.clone()),
            }
        }
    }
}

/// The products of a graph that can be smoothed, in the order of the graph, by activation.
fn groups(graph: &Graph, settings: &StaticSettings, marks: &Marks) -> Vec<Group> {
    let mut groups: IndexMap<(ValueId, usize), Group> = IndexMap::new();
    let free = |v: ValueId| {
        let mark = marks.tensors.get(&v)?;
        (!settings.overrides.has(&graph.value(v).name)).then_some(mark)
    };
    for (&n, _) in marks.nodes.iter().filter(|(_, takes_part)| **takes_part) {
        let (Some(x), Some(weight)) = (graph.operand(n, 0), graph.operand(n, 1)) else {
            continue;
        };
        let computed = free(x).is_some_and(|mark| mark.constant.is_none());
        let Some(mark) = free(weight).filter(|_| computed) else {
            continue;
        };
        let (Source::Weight { .. }, Some(tensor)) = (mark.source, &mark.constant) else {
            continue;
        };
        let Some(rows) = rows(graph, n, tensor) else {
            continue;
        };
        let channels = rows.channels();
        let group = groups.entry((x, channels)).or_insert_with(|| Group {
            x,
            channels,
            products: Vec::new(),
        });
        group.products.push(Product {
            node: n,
            weight,
            tensor: tensor.clone(),
            rows,
        });
    }
    groups.into_values().collect()
}

/// Where rows lie in the weight of a product whose activation has its channels last.
fn rows(graph: &Graph, n: NodeId, weight: &Tensor) -> Option<Layout> {
    let op = graph.op(n)?;
    let last = match &*op.op_type {
        "MatMul" if op.domain.is_empty() => false,
        "Gemm" if op.domain.is_empty() && op.int("transA", 0) == 0 => op.int("transB", 0) != 0,
        _ => return None,
    };
    layout(weight, last)
}

/// The last axis of a tensor, or the one before it.
fn layout(tensor: &Tensor, last: bool) -> Option<Layout> {
    let (&columns, rest) = tensor.dims().split_last()?;
    if tensor.is_empty() {
        return None;
    }
    let (outer, width, inner) = match last {
        true => (rest, columns, 1),
        false => {
            let (&rows, outer) = rest.split_last()?;
            (outer, rows, columns)
        }
    };
    Some(Layout {
        outer: outer.iter().product(),
        groups: 1,
        width,
        inner,
    })
}

/// The largest magnitude in each channel.
fn magnitudes(tensor: &Tensor, layout: Layout) -> Option<Vec<f64>> {
    let mut largest = vec![0f32; layout.width];
    let values = tensor.to_f32s().ok()?;
    for block in values.chunks_exact(layout.width * layout.inner) {
        for (most, values) in largest.iter_mut().zip(block.chunks_exact(layout.inner)) {
            *most = values.iter().fold(*most, |most, v| most.max(v.abs()));
        }
    }
    Some(largest.into_iter().map(f64::from).collect())
}

/// What the magnitude of an activation is divided by, and that of its weights multiplied with.
fn scale(x: f64, weight: f64, alpha: f64) -> f64 {
    let s = x.powf(alpha) / weight.powf(1.0 - alpha);
    match x > 0.0 && weight > 0.0 && s.is_finite() {
        true => s.clamp(LEAST, MOST),
        false => 1.0,
    }
}

struct Smoother<'a> {
    settings: &'a StaticSettings,
    alpha: f64,
    known: Ranges,
    /// The names of all values.
    names: HashSet<String>,
    /// Ranges of the new values.
    table: Ranges,
    /// How many activations are scaled.
    smoothed: usize,
    cx: &'a mut PassContext,
}

impl Smoother<'_> {
    /// Smooths the products of a group; the node that scales, if it does nothing else.
    fn apply(&mut self, graph: &mut Graph, group: &Group) -> Option<NodeId> {
        let name = graph.value(group.x).name.clone();
        let Some(TensorRange::Channels { axis, ranges }) = self.known.get(&name) else {
            return None;
        };
        let rank = graph.ty(group.x).and_then(|ty| Some(ty.shape()?.len()));
        if *axis != -1 && rank.is_none_or(|rank| *axis + 1 != rank as i64) {
            return None;
        }
        let ranges = ranges.clone();
        let scales = self.scales(group, &ranges)?;
        let scaled_weight = |p: &Product| scaled(&p.tensor, p.rows, &scales);
        let weights: Option<Vec<Tensor>> = group.products.iter().map(scaled_weight).collect();
        let weights = weights?;
        let inverse: Vec<f64> = scales.iter().map(|s| 1.0 / s).collect();
        let dtype = weights.first()?.dtype();
        let factor = vector(dtype, &inverse)?;
        if !self.cx.begin_rewrite(INFO.name, &name) {
            return None;
        }
        let (x, scaling) = match self.fold(graph, group, &inverse) {
            Some(x) => (x, None),
            None => {
                let constant = self.name(&name, "smooth_scale");
                let constant = graph.add_constant(constant, factor);
                let smoothed = self.name(&name, "smoothed");
                let x = graph.insert(Op::new("Mul"), &[group.x, constant], smoothed);
                (x, Some(x.node))
            }
        };
        let divided = |(range, k): (&ValueRange, &f64)| {
            ValueRange::new(
                (f64::from(range.lo) * k) as f32,
                (f64::from(range.hi) * k) as f32,
            )
        };
        let range = TensorRange::Channels {
            axis: -1,
            ranges: ranges.iter().zip(&inverse).map(divided).collect(),
        };
        self.table.insert(graph.value(x).name.clone(), range);
        // A weight may be transposed for some of them.
        let mut done: IndexMap<(ValueId, usize), ValueId> = IndexMap::new();
        for (product, tensor) in group.products.iter().zip(weights) {
            let weight = *done
                .entry((product.weight, product.rows.inner))
                .or_insert_with(|| {
                    let name = self.name(&graph.value(product.weight).name, "smoothed");
                    graph.add_constant(name, tensor)
                });
            graph.set_operand(product.node, 0, Some(x));
            graph.set_operand(product.node, 1, Some(weight));
        }
        let n = group.x.node;
        let results = 0..graph.node(n).results.len();
        if graph.op(n).is_some()
            && !results
                .into_iter()
                .any(|i| graph.is_used(graph.result(n, i)))
        {
            // Its copy is what its operands have as a user.
            graph.set_operands(n, &[]);
        }
        self.smoothed += 1;
        scaling
    }

    /// The scale of each channel; `None` where there is nothing to do.
    fn scales(&self, group: &Group, ranges: &[ValueRange]) -> Option<Vec<f64>> {
        if ranges.len() != group.channels {
            return None;
        }
        let mut weights = vec![0f64; group.channels];
        for product in &group.products {
            let of_one = magnitudes(&product.tensor, product.rows)?;
            weights
                .iter_mut()
                .zip(of_one)
                .for_each(|(w, m)| *w = w.max(m));
        }
        let magnitude = |r: &ValueRange| f64::from(r.hi.abs().max(r.lo.abs()));
        let pairs = ranges.iter().map(magnitude).zip(weights);
        let scales: Vec<f64> = pairs.map(|(x, w)| scale(x, w, self.alpha)).collect();
        scales.iter().any(|&s| s != 1.0).then_some(scales)
    }

    /// A name of no other value.
    fn name(&mut self, base: &str, suffix: &str) -> String {
        let numbered = |i: usize| match i {
            1 => format!("{base}_{suffix}"),
            _ => format!("{base}_{suffix}_{i}"),
        };
        let mut name = numbered(1);
        for i in 2.. {
            if self.names.insert(name.clone()) {
                break;
            }
            name = numbered(i);
        }
        name
    }

    /// The activation, computed to scale by a copy of the node that computes it.
    fn fold(&mut self, graph: &mut Graph, group: &Group, inverse: &[f64]) -> Option<ValueId> {
        let n = group.x.node;
        let products: IndexSet<NodeId> = group.products.iter().map(|p| p.node).collect();
        let uses = graph.uses(group.x);
        let alone = uses
            .iter()
            .all(|u| u.operand == 0 && products.contains(&u.node));
        // The copy goes by the same name in the lists of the options, if it has the same name.
        if group.x.result != 0 || !alone && eligible(self.settings, graph, n).is_none() {
            return None;
        }
        let mut constants = Vec::new();
        for (i, last) in scaled_operands(graph, n, alone)? {
            let Some(v) = graph.operand(n, i) else {
                continue;
            };
            let tensor = literal(graph, v)?;
            let layout = layout(&tensor, last).filter(|l| l.channels() == inverse.len())?;
            if self.settings.overrides.has(&graph.value(v).name) {
                return None;
            }
            constants.push((i, v, scaled(&tensor, layout, inverse)?));
        }
        let op = graph.op(n)?.clone();
        let mut operands = graph.operands(n);
        for (i, v, tensor) in constants {
            let name = self.name(&graph.value(v).name, "smoothed");
            operands[i] = Some(graph.add_constant(name, tensor));
        }
        let node = match (&*graph.node(n).name, alone) {
            ("", _) => String::new(),
            (name, true) => name.to_owned(),
            (name, false) => format!("{name}_smoothed"),
        };
        let name = self.name(&graph.value(group.x).name, "smoothed");
        let copy = graph.add_node(node, op, &operands, [Value::new(name, None)]);
        Some(graph.result(copy, 0))
    }
}

/// The operands that scale with the result of `n`, each with whether channels are its last axis,
/// else the one before; `alone` if nothing but the products uses the result.
fn scaled_operands(graph: &Graph, n: NodeId, alone: bool) -> Option<Vec<(usize, bool)>> {
    let op = graph.op(n).filter(|op| op.domain.is_empty())?;
    let rank = |v: ValueId| Some(graph.ty(v)?.shape()?.len());
    match &*op.op_type {
        "LayerNormalization" => Some(vec![(1, true), (2, true)]),
        "RMSNormalization" => Some(vec![(1, true)]),
        // Its channels are the second axis.
        "BatchNormalization" if op.int("training_mode", 0) == 0 => {
            let last = graph.operand(n, 0).and_then(rank) == Some(2);
            last.then(|| vec![(1, true), (2, true)])
        }
        "Mul" => {
            let constant = |&i: &usize| {
                let operand = graph.operand(n, i);
                operand.is_some_and(|v| literal(graph, v).is_some())
            };
            Some(vec![([0, 1].into_iter().find(constant)?, true)])
        }
        // A vector has no output channels.
        "MatMul" if alone => {
            let matrix = graph.operand(n, 1).and_then(rank)? >= 2;
            matrix.then(|| vec![(1, true)])
        }
        // Channels run over the rows of a transposed weight, which is a matrix.
        "Gemm" if alone => Some(vec![(1, op.int("transB", 0) == 0), (2, true)]),
        _ => None,
    }
}
