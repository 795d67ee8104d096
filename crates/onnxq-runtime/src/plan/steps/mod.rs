//! Kernels for steps, by family. Each family is one file, and a line in [`FAMILIES`].

pub(crate) mod conv;
mod elementwise;
mod matmul;
mod movement;
mod normalization;
mod pool;

use onnxq_ir::{Graph, NodeId, Op, ValueId};
use onnxq_tensor::Tensor;

use super::{
    buffers::Pool,
    data::{Data, Floats},
    kernels::rows::Clamp,
};

/// Computes the one result of a step.
pub(crate) trait Kernel: Send + Sync {
    /// The result for `operands`, those that nobody else uses being free to be overwritten;
    /// `None`, with no operand taken, for what the kernel is not made for.
    fn run(&self, operands: &mut [Option<Data>], pool: &mut Pool) -> Option<Floats>;
}

/// Makes a kernel for a node, if the family has one.
type Family = fn(&NodeContext<'_>) -> Option<Box<dyn Kernel>>;

/// The families, each with the operators of the standard domain that it is asked for.
#[rustfmt::skip]
static FAMILIES: &[(&[&str], Family)] = &[
    (&["Conv"], conv::conv),
    (&["MatMul"], matmul::matmul),
    (&["Gemm"], matmul::gemm),
    (&["Add", "Sub", "Mul", "Div", "Pow"], elementwise::binary),
    (&["Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "Erf", "Gelu", "HardSigmoid", "HardSwish",
       "Exp", "Sqrt", "Neg", "Abs", "Reciprocal"], elementwise::unary),
    (&["MaxPool", "AveragePool"], pool::pool),
    (&["GlobalAveragePool"], pool::global_average),
    (&["ReduceMean", "ReduceSum"], normalization::reduce),
    (&["Softmax"], normalization::softmax),
    (&["LayerNormalization"], normalization::layer),
    (&["BatchNormalization"], normalization::batch),
    (&["Transpose"], movement::transpose),
    (&["Concat"], movement::concat),
];

/// A kernel for a node, if some family has one.
pub(crate) fn kernel(cx: &NodeContext<'_>) -> Option<Box<dyn Kernel>> {
    let named = |(names, _): &&(&[&str], _)| names.contains(&cx.op.op_type.as_str());
    let (_, family) = FAMILIES.iter().find(named)?;
    family(cx)
}

/// What follows a product in the same step.
#[derive(Clone, Copy, Default)]
pub(crate) struct Epilogue {
    /// Whether a tensor of the same dimensions is added, which is the operand after the node's
    /// own [`PRODUCT_OPERANDS`].
    pub(crate) adds: bool,
    pub(crate) clamp: Clamp,
}

/// How many operands a product has at most.
pub(crate) const PRODUCT_OPERANDS: usize = 3;

/// What lowering knows before any run.
pub(crate) trait Known {
    /// The tensor that `v` always is.
    fn tensor(&self, v: ValueId) -> Option<&Tensor>;
}

/// A node to be lowered.
pub(crate) struct NodeContext<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) node: NodeId,
    pub(crate) op: &'a Op,
    /// Of the standard domain.
    pub(crate) opset: i64,
    /// The tensors that are known before any run; not inputs that callers may override.
    pub(crate) known: &'a dyn Known,
    pub(crate) epilogue: Epilogue,
}

impl<'a> NodeContext<'a> {
    /// The tensor, if operand `i` is a constant.
    pub(crate) fn constant(&self, i: usize) -> Option<&'a Tensor> {
        self.known.tensor(self.graph.operand(self.node, i)?)
    }

    /// The bounds that the node gives its operand, if it does nothing else.
    pub(crate) fn as_clamp(&self) -> Option<Clamp> {
        let zero = Some(0.0);
        match self.op.op_type.as_str() {
            "Relu" => Some(Clamp {
                min: zero,
                max: None,
            }),
            "Clip" => {
                let (min, max) = elementwise::clip_bounds(self)?;
                let ordered = min.unwrap_or(f32::MIN) <= max.unwrap_or(f32::MAX);
                ordered.then_some(Clamp { min, max })
            }
            _ => None,
        }
    }
}
