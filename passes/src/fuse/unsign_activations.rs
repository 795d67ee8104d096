//! Makes `int8` codes of activations `uint8`, which are the same numbers.
//!
//! ```text
//! DequantizeLinear(QuantizeLinear(x, s, int8 z), s, z)
//! =>
//! DequantizeLinear(QuantizeLinear(x, s, uint8 z + 128), s, z + 128)
//! ```
//!
//! ONNX Runtime does this to QDQ models when it loads them on x86, since the fast products there are
//! those of `uint8` activations and `int8` weights; to operators on codes it cannot do it any more.
//! Weights stay `int8`; constants that are operands like activations are changed with them.
//!
//! Does not fire where codes have another use than DequantizeLinear, or are a result of the graph;
//! with `keep-int8`, for ARM, where products of `int8` are as fast; nor with `compat`.

use std::collections::{HashMap, HashSet};

use onnxq_ir::{Graph, Model, NodeId, NodeKind, Type, Use, Value, ValueId, def::Literal};
use onnxq_pass::{OptionInfo, OptionKind, Pass, PassContext, PassError, PassInfo, describe};
use onnxq_tensor::{DType, Dims, Tensor};

use super::{pattern::MICROSOFT, product};

const KEEP_INT8: OptionInfo = OptionInfo {
    name: "keep-int8",
    kind: OptionKind::Bool,
    default: "false",
    help: "leave int8 codes of activations as they are, for ARM",
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "unsign-activations",
    summary: "make int8 codes of activations uint8, which ONNX Runtime multiplies faster",
    options: &[KEEP_INT8, product::COMPAT],
    build: |opts| {
        let keep: bool = opts.take("keep-int8", false)?;
        let compat: bool = opts.take("compat", false)?;
        Ok(Box::new(UnsignActivations {
            keep: keep || compat,
        }))
    },
};

struct UnsignActivations {
    keep: bool,
}

impl Pass for UnsignActivations {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        if !self.keep {
            model.for_each_graph_mut(|graph| unsign(graph, cx));
        }
        Ok(())
    }
}

/// The codes of one value: what makes them, and what reads them.
struct Codes {
    v: ValueId,
    /// The QuantizeLinear, unless they are constant.
    quantize: Option<NodeId>,
    dequantize: Vec<NodeId>,
}

fn unsign(graph: &mut Graph, cx: &mut PassContext) {
    // What callers may override is no constant.
    let overridable: HashSet<NodeId> = graph.inputs().iter().copied().collect();
    let mut unsigned: HashMap<ValueId, ValueId> = HashMap::new();
    for n in graph.op_order() {
        let Some(codes) = codes(graph, n, &overridable) else {
            continue;
        };
        if !cx.begin_rewrite(INFO.name, describe(graph, n)) {
            return;
        }
        let nodes = codes.quantize.iter().chain(&codes.dequantize);
        for &node in nodes {
            change(graph, node, 2, &mut unsigned);
            if let Some(op) = graph.op_mut(node) {
                // The zero point says it.
                op.attrs.shift_remove("output_dtype");
            }
        }
        if codes.quantize.is_some() {
            if let Some(ty) = graph.ty(codes.v) {
                let ty = Type::tensor(DType::U8, ty.shape().cloned());
                graph.set_type(codes.v, Some(ty));
            }
        } else {
            for &node in &codes.dequantize {
                change(graph, node, 0, &mut unsigned);
            }
        }
    }
}

/// What is to be changed at a QuantizeLinear, or at a DequantizeLinear of a constant.
fn codes(graph: &Graph, n: NodeId, overridable: &HashSet<NodeId>) -> Option<Codes> {
    let signed = |v: ValueId| {
        let tensor = graph.tensor(v).filter(|t| t.dtype() == DType::I8);
        tensor.filter(|_| !overridable.contains(&v.node)).is_some()
    };
    let zero_is_signed = |n| graph.operand(n, 2).is_some_and(signed);
    if is_linear(graph, n, "DequantizeLinear") {
        let v = graph.operand(n, 0).filter(|&v| signed(v))?;
        let uses = graph.uses(graph.result(n, 0));
        let like_activation = uses.iter().all(|u| is_data(graph, u.node, u.operand));
        return (like_activation && !uses.is_empty() && zero_is_signed(n)).then(|| Codes {
            v,
            quantize: None,
            dequantize: vec![n],
        });
    }
    if !is_linear(graph, n, "QuantizeLinear") || !zero_is_signed(n) {
        return None;
    }
    let v = graph.result(n, 0);
    let uses = graph.uses(v);
    let read = uses.iter().all(|u| {
        let dequantizes = is_linear(graph, u.node, "DequantizeLinear");
        u.operand == 0 && dequantizes && zero_is_signed(u.node)
    });
    (read && !uses.is_empty()).then(|| Codes {
        v,
        quantize: Some(n),
        dequantize: uses.iter().map(|u| u.node).collect(),
    })
}

fn is_linear(graph: &Graph, n: NodeId, op_type: &str) -> bool {
    let op = graph.op(n);
    op.is_some_and(|op| op.op_type == op_type && ["", MICROSOFT].contains(&op.domain.as_str()))
}

/// Whether operators on codes take operand `i` of `n` in the type of the activations.
fn is_data(graph: &Graph, n: NodeId, i: u32) -> bool {
    let Some(op) = graph.op(n).filter(|op| op.domain.is_empty()) else {
        return false;
    };
    match op.op_type.as_str() {
        "Add" | "Mul" | "Concat" | "Where" | "Max" | "Min" | "Pad" => true,
        "MatMul" | "Gemm" => i == 0,
        // A table that is looked up, and quantized like what is found.
        "Gather" | "GatherElements" => {
            let uses = graph.uses(graph.result(n, 0));
            let quantizes = |u: &Use| is_linear(graph, u.node, "QuantizeLinear");
            i == 0 && uses.iter().all(quantizes)
        }
        _ => false,
    }
}

/// Puts the constant operand `i` of `n` with 128 more, as `uint8`, in its place.
fn change(graph: &mut Graph, n: NodeId, i: usize, unsigned: &mut HashMap<ValueId, ValueId>) {
    let Some(old) = graph.operand(n, i) else {
        return;
    };
    let new = match unsigned.get(&old) {
        Some(&new) => new,
        None => {
            let Some(tensor) = graph.tensor(old).and_then(shifted) else {
                return;
            };
            let sunk = match &graph.node(old.node).kind {
                NodeKind::Constant(c) => c.sunk,
                _ => false,
            };
            let value = Value::new(graph.value(old).name.clone(), None);
            let new = graph.add_literal(value, Literal::Dense(tensor), sunk);
            unsigned.insert(old, new);
            new
        }
    };
    graph.set_operand(n, i, Some(new));
}

/// In two's complement, 128 more is the other first bit.
fn shifted(tensor: &Tensor) -> Option<Tensor> {
    let bytes: Vec<u8> = tensor.bytes().iter().map(|byte| byte ^ 0x80).collect();
    Tensor::new(DType::U8, Dims::from_slice(tensor.dims()), bytes).ok()
}
