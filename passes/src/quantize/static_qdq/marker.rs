//! Marks single operands and results: what [`marks`](super::marks) applies rules with.

use std::collections::HashMap;

use onnxq_ir::{Graph, NodeId, ValueId};
use onnxq_quant::FloatType;
use onnxq_tensor::{DType, Tensor};
use smallvec::SmallVec;

use super::{
    super::unfold::literal,
    facts::is_dequantized,
    marks::{Bias, Constraints, Mark, Marks, Source},
    rules::Rule,
    settings::StaticSettings,
};

/// A graph that is being marked.
pub(super) struct Marker<'a> {
    pub(super) graph: &'a Graph,
    pub(super) settings: &'a StaticSettings,
    pub(super) opset: i64,
    pub(super) constraints: &'a Constraints,
    pub(super) marks: Marks,
    /// Tensors that were marked since nodes were last looked at again.
    pub(super) queue: Vec<ValueId>,
    /// Nodes that wait for a tensor to be marked.
    pub(super) waiting: HashMap<ValueId, SmallVec<[(NodeId, Rule); 1]>>,
}

impl Marker<'_> {
    /// The float type of `v`, if it has one that is quantized.
    pub(super) fn float(&self, v: ValueId) -> Option<FloatType> {
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

    pub(super) fn constant(&self, v: ValueId) -> Option<Tensor> {
        literal(self.graph, v)
    }

    pub(super) fn operand_constant(&self, n: NodeId, i: usize) -> Option<Tensor> {
        let tensor = self.constant(self.graph.operand(n, i)?)?;
        FloatType::from_dtype(tensor.dtype()).ok()?;
        Some(tensor)
    }

    pub(super) fn excludes_output(&self, n: NodeId) -> bool {
        let list = &self.settings.exclude_output;
        self.graph
            .op(n)
            .is_some_and(|op| list.contains(&op.op_type))
    }

    pub(super) fn insert(&mut self, n: NodeId, v: ValueId, source: Source, replace: bool) {
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
    pub(super) fn activation(&mut self, n: NodeId, i: usize) {
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
    pub(super) fn results(&mut self, n: NodeId) {
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
    pub(super) fn follow(&mut self, n: NodeId, i: usize, count: usize) -> bool {
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
    pub(super) fn weight(&mut self, n: NodeId, i: usize, channels: Option<i64>) {
        let Some(v) = self.graph.operand(n, i) else {
            return;
        };
        let Some(tensor) = self.operand_constant(n, i) else {
            return self.activation(n, i);
        };
        let axis = self.weight_axis(n, v, &tensor, channels);
        self.insert(n, v, Source::Weight { axis }, axis.is_some());
    }

    pub(super) fn weight_axis(
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
            None => self.settings.axis(&op.op_type, channels?),
        };
        let axis = if axis < 0 { axis + rank } else { axis };
        (0..rank).contains(&axis).then_some(axis as usize)
    }

    pub(super) fn bias(&mut self, n: NodeId, i: usize, input: usize, weight: usize) {
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
    pub(super) fn pads_with_what_is_there(&self, n: NodeId) -> bool {
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
