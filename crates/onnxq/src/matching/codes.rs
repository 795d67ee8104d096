//! Which values of a graph are codes, and what they stand for: `scale * (code - zero_point)`.
//!
//! The operators say so of their operands and results. What moves codes without looking at them
//! (Reshape, MaxPool, Gather, ...) leaves their parameters as they are. Operand orders are those of
//! `com.microsoft` and ONNX, see `docs/ops.md`.

use std::collections::{HashMap, HashSet};

use onnxq_ir::{Graph, NodeId, Op, ValueId};
use smallvec::{SmallVec, smallvec};

/// What codes stand for.
#[derive(Clone, PartialEq, Debug)]
pub struct Parameters {
    /// The scale is the product of these values: one, or two of a bias.
    pub scales: SmallVec<[ValueId; 2]>,
    /// 0 where left out.
    pub zero_point: Option<ValueId>,
    /// The axis that scales are along, where there is more than one.
    pub axis: i64,
    /// How many elements share a scale along the axis; 0 where it is one.
    pub block_size: i64,
}

/// The codes of a graph.
#[derive(Debug, Default)]
pub(super) struct Codes {
    /// Codes whose parameters are known.
    pub(super) parameters: HashMap<ValueId, Parameters>,
    /// Sums of products of codes.
    pub(super) sums: HashSet<ValueId>,
    /// What they stand for, which may still lack a bias.
    pub(super) dequantized_sums: HashSet<ValueId>,
}

/// An operator whose operands and results are codes, by the places of operands: codes, scale, zero
/// point.
struct Quantized {
    op_type: &'static str,
    operands: &'static [(usize, usize, usize)],
    /// Scale and zero point of the result.
    result: Option<(usize, usize)>,
}

const fn quantized(
    op_type: &'static str,
    operands: &'static [(usize, usize, usize)],
    result: Option<(usize, usize)>,
) -> Quantized {
    Quantized {
        op_type,
        operands,
        result,
    }
}

static QUANTIZED: &[Quantized] = &[
    quantized("DequantizeLinear", &[(0, 1, 2)], None),
    quantized("QuantizeLinear", &[], Some((1, 2))),
    quantized("QLinearConv", &[(0, 1, 2), (3, 4, 5)], Some((6, 7))),
    quantized("QLinearMatMul", &[(0, 1, 2), (3, 4, 5)], Some((6, 7))),
    quantized("QGemm", &[(0, 1, 2), (3, 4, 5)], Some((7, 8))),
    quantized("QLinearAdd", &[(0, 1, 2), (3, 4, 5)], Some((6, 7))),
    quantized("QLinearMul", &[(0, 1, 2), (3, 4, 5)], Some((6, 7))),
    quantized("QLinearWhere", &[(1, 2, 3), (4, 5, 6)], Some((7, 8))),
    quantized("QLinearSigmoid", &[(0, 1, 2)], Some((3, 4))),
    quantized("QLinearLeakyRelu", &[(0, 1, 2)], Some((3, 4))),
    quantized("QLinearSoftmax", &[(0, 1, 2)], Some((3, 4))),
    quantized("QLinearAveragePool", &[(0, 1, 2)], Some((3, 4))),
    quantized("QLinearGlobalAveragePool", &[(0, 1, 2)], Some((3, 4))),
    quantized("QLinearReduceMean", &[(0, 1, 2)], Some((3, 4))),
    quantized("DynamicQuantizeMatMul", &[(1, 2, 3)], None),
    quantized("MatMulIntegerToFloat", &[(0, 2, 4), (1, 3, 5)], None),
    quantized("DynamicQuantizeLSTM", &[(1, 8, 9), (2, 10, 11)], None),
    quantized("QAttention", &[(0, 3, 6), (1, 4, 7)], None),
];

/// Operators that give codes of their first operand as they are, or several operands' together.
const CARRIES: &[&str] = &[
    "Concat",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "MaxPool",
    "Pad",
    "Reshape",
    "Resize",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

impl Codes {
    pub(super) fn of(graph: &Graph) -> Codes {
        let mut codes = Codes::default();
        let order = graph.op_order();
        for &n in &order {
            if let Some(op) = graph.op(n) {
                codes.operator(graph, n, op);
                codes.carry(graph, n, op, Direction::Down);
                codes.sums(graph, n, op);
            }
        }
        for &n in order.iter().rev() {
            if let Some(op) = graph.op(n) {
                codes.carry(graph, n, op, Direction::Up);
            }
        }
        // Sums are dequantized by the scales of both factors.
        for &n in &order {
            if let Some(op) = graph.op(n) {
                codes.weight_of_sums(graph, n, op);
            }
        }
        codes
    }

    fn set(&mut self, v: Option<ValueId>, parameters: Option<Parameters>) {
        if let (Some(v), Some(parameters)) = (v, parameters) {
            self.parameters.entry(v).or_insert(parameters);
        }
    }

    fn operator(&mut self, graph: &Graph, n: NodeId, op: &Op) {
        let parameters = |scale: usize, zero_point: usize, axis: i64| {
            Some(Parameters {
                scales: smallvec![graph.operand(n, scale)?],
                zero_point: graph.operand(n, zero_point),
                axis,
                block_size: op.int("block_size", 0),
            })
        };
        if op.is("DynamicQuantizeLinear") {
            let results = [1, 2].map(|i| graph.result(n, i));
            let parameters = Parameters {
                scales: smallvec![results[0]],
                zero_point: Some(results[1]),
                axis: 0,
                block_size: 0,
            };
            self.set(Some(graph.result(n, 0)), Some(parameters));
        }
        if op.op_type == "QLinearConcat" {
            self.set(Some(graph.result(n, 0)), parameters(0, 1, 0));
            for i in (2..graph.node(n).operand_count()).step_by(3) {
                self.set(graph.operand(n, i), parameters(i + 1, i + 2, 0));
            }
        }
        let Some(known) = QUANTIZED.iter().find(|q| q.op_type == op.op_type) else {
            return;
        };
        for &(codes, scale, zero_point) in known.operands {
            self.set(
                graph.operand(n, codes),
                parameters(scale, zero_point, axis(op, codes)),
            );
        }
        if let Some((scale, zero_point)) = known.result {
            let result = graph.node(n).results.first().map(|_| graph.result(n, 0));
            self.set(result, parameters(scale, zero_point, axis(op, 0)));
        }
        let bias = match op.op_type.as_str() {
            "QLinearConv" => Some(8),
            "QGemm" => Some(6),
            _ => None,
        };
        if let Some(bias) = bias.and_then(|i| graph.operand(n, i))
            && let (Some(x), Some(w)) = (graph.operand(n, 1), graph.operand(n, 4))
        {
            let parameters = Parameters {
                scales: smallvec![x, w],
                zero_point: None,
                axis: -1,
                block_size: 0,
            };
            self.set(Some(bias), Some(parameters));
        }
    }

    /// What is only moved has the same parameters before and after.
    fn carry(&mut self, graph: &Graph, n: NodeId, op: &Op, direction: Direction) {
        if !op.domain.is_empty() || !CARRIES.contains(&op.op_type.as_str()) {
            return;
        }
        let operands = graph.operands(n);
        let together = if op.is("Concat") { operands.len() } else { 1 };
        let operands = operands.into_iter().take(together).flatten();
        let results = (0..graph.node(n).results.len()).map(|i| graph.result(n, i));
        let (from, to): (Vec<ValueId>, Vec<ValueId>) = match direction {
            Direction::Down => (operands.collect(), results.collect()),
            Direction::Up => (results.collect(), operands.collect()),
        };
        let known = from.iter().find_map(|v| self.parameters.get(v)).cloned();
        for v in to {
            self.set(Some(v), known.clone());
        }
    }

    fn sums(&mut self, graph: &Graph, n: NodeId, op: &Op) {
        let of_sums = |i| graph.operand(n, i).is_some_and(|v| self.sums.contains(&v));
        match op.op_type.as_str() {
            "MatMulInteger" | "ConvInteger" => {
                self.sums.insert(graph.result(n, 0));
            }
            "Cast" if of_sums(0) => {
                self.sums.insert(graph.result(n, 0));
            }
            "Mul" if of_sums(0) || of_sums(1) => {
                self.dequantized_sums.insert(graph.result(n, 0));
            }
            "DequantizeLinear" if of_sums(0) => {
                self.dequantized_sums.insert(graph.result(n, 0));
                // They are no codes of a tensor.
                if let Some(v) = graph.operand(n, 0) {
                    self.parameters.remove(&v);
                }
            }
            _ => {}
        }
    }

    /// The parameters of a constant factor of MatMulInteger or ConvInteger: the sums are
    /// dequantized by `x_scale * w_scale`.
    fn weight_of_sums(&mut self, graph: &Graph, n: NodeId, op: &Op) {
        if !matches!(op.op_type.as_str(), "MatMulInteger" | "ConvInteger") {
            return;
        }
        let scale = scale_of_sums(graph, graph.result(n, 0));
        let factors = scale.filter(|v| graph.is(v.node, "Mul"));
        let factors = factors.map(|v| graph.operands(v.node)).unwrap_or_default();
        for (i, zero_point) in [(0, 2), (1, 3)] {
            let constant = graph.operand(n, i).filter(|v| graph.tensor(*v).is_some());
            let scale = factors
                .iter()
                .flatten()
                .find(|v| graph.tensor(**v).is_some());
            if let (Some(v), Some(&scale)) = (constant, scale) {
                let parameters = Parameters {
                    scales: smallvec![scale],
                    zero_point: graph.operand(n, zero_point),
                    axis: if op.is("ConvInteger") { 0 } else { -1 },
                    block_size: 0,
                };
                self.set(Some(v), Some(parameters));
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Down,
    Up,
}

/// The axis of the scales of operand `i`.
fn axis(op: &Op, i: usize) -> i64 {
    match (op.op_type.as_str(), i) {
        ("QuantizeLinear" | "DequantizeLinear", _) => op.int("axis", 1),
        ("QGemm", 3) if op.int("transB", 0) != 0 => 0,
        ("QLinearMatMul", 0) => -2,
        ("QGemm" | "QLinearMatMul" | "DynamicQuantizeMatMul" | "MatMulIntegerToFloat", _) => -1,
        ("QAttention", _) => -1,
        _ => 0,
    }
}

/// What sums are multiplied with, on the way over Cast.
fn scale_of_sums(graph: &Graph, mut sums: ValueId) -> Option<ValueId> {
    loop {
        let user = graph.uses(sums).first().copied()?;
        let op = graph.op(user.node)?;
        match op.op_type.as_str() {
            "Cast" => sums = graph.result(user.node, 0),
            "DequantizeLinear" => return graph.operand(user.node, 1),
            "Mul" => return graph.operand(user.node, 1 - (user.operand as usize).min(1)),
            _ => return None,
        }
    }
}
