//! Kernels of programs, by family. Each family is one file, and lines in [`FAMILIES`].

mod added;
mod attention;
mod batched;
mod broadcast;
mod byte_softmax;
mod columns;
mod combine;
mod conv;
mod elementwise;
mod float;
mod float_math;
mod gather;
mod interpolate;
pub(super) mod layout;
mod masks;
mod matmul;
mod movement;
mod padding;
mod pool;
mod product;
mod recurrent;
pub(super) mod reference;
mod resize;
mod rows;
mod strided;
mod table;
mod view;

use onnxq_ir::{NodeId, Op};
use onnxq_kernels::Cpu;
use onnxq_ops::EvalError;

use super::{
    call::Call,
    lower::Lowering,
    source::{Code, Written, unwritten},
};

/// Computes the results of a step.
pub(super) trait Kernel: Send + Sync {
    /// What it is, for a profile.
    fn name(&self, cpu: Cpu) -> String;

    /// Lines of scratch memory that it needs.
    fn scratch(&self, _threads: usize) -> usize {
        0
    }

    /// Multiplications and additions of integer products.
    fn operations(&self) -> u64 {
        0
    }

    /// Whether it asks the reference, for want of a kernel.
    fn by_reference(&self) -> bool {
        false
    }

    /// The number of the last operand, if the result may take its place where nobody else needs it. It becomes `None` then: the
    /// operand is none any more, but in the result's memory before the step.
    fn overwritable(&mut self) -> Option<&mut Option<usize>> {
        None
    }

    /// Computes the results.
    ///
    /// # Errors
    /// What only data can show.
    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError>;

    /// Writes what [`run`](Kernel::run) does, on one thread, as source text.
    ///
    /// # Errors
    /// It has no such form.
    fn write(&self, _code: &mut Code<'_>) -> Written {
        unwritten("it is not made of kernels that generated code can carry along")
    }
}

/// Adds the steps of a node, and of what follows it, or does nothing.
type Family = fn(&mut Lowering<'_>, NodeId, &Op) -> Option<()>;

/// The families, each with the operators that it is asked for.
#[rustfmt::skip]
static FAMILIES: &[(&[&str], Family)] = &[
    (&["QLinearConv"], conv::qlinear),
    (&["QLinearMatMul"], matmul::qlinear),
    (&["QLinearMatMul"], batched::codes),
    (&["com.microsoft.QGemm"], matmul::qgemm),
    (&["ConvTranspose"], conv::transposed::transposed),
    (&["ConvInteger"], conv::dynamic::defer),
    (&["DequantizeLinear"], conv::dynamic::dequantize),
    (&["MatMulInteger"], matmul::defer),
    (&["DequantizeLinear"], matmul::dynamic),
    (&["QuantizeLinear"], rows::quantized),
    (&["QuantizeLinear"], elementwise::quantize),
    (&["DequantizeLinear"], table::chain),
    (&["DequantizeLinear"], elementwise::dequantize),
    (&["DynamicQuantizeLinear"], elementwise::dynamic_quantize),
    (&["com.microsoft.QLinearAdd"], combine::add),
    (&["com.microsoft.QLinearMul"], combine::multiply),
    (&["com.microsoft.QLinearLeakyRelu", "com.microsoft.QLinearSigmoid"], table::function),
    (&["MaxPool"], pool::max),
    (&["com.microsoft.QLinearAveragePool"], pool::average),
    (&["com.microsoft.QLinearGlobalAveragePool"], pool::global_average),
    (&["Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"], view::view),
    (&["Transpose"], view::transpose),
    (&["Shape"], view::shape),
    (&["Gather"], gather::gather),
    (&["And", "Or", "Xor"], masks::logic),
    (&["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"], masks::compare),
    (&["Cast"], masks::cast),
    (&["Not"], masks::not),
    (&["Where"], masks::choose),
    (&["MatMul"], attention::attention),
    (&["MatMul"], batched::floats),
    (&["Add", "Sub", "Mul", "Div"], float_math::two),
    (&["Softmax", "LogSoftmax"], rows::softmax),
    (&["com.microsoft.QLinearSoftmax"], byte_softmax::softmax),
    (&["LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"], rows::normalize),
    (&["GRU", "LSTM", "com.microsoft.DynamicQuantizeLSTM"], recurrent::recurrent),
    (&["Resize", "Upsample"], resize::resize),
    (&["Resize", "Upsample"], interpolate::linear),
    (&["Concat"], movement::concat),
    (&["com.microsoft.QLinearConcat"], movement::qlinear_concat),
    (&["Slice"], movement::slice),
    (&["Split"], movement::split),
];

/// Adds the steps of a node by the first family that has any.
pub(super) fn lower(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let qualified = op.qualified();
    let named = FAMILIES
        .iter()
        .filter(|(names, _)| names.contains(&qualified.as_str()));
    for (_, family) in named {
        if family(lowering, n, op).is_some() {
            return Some(());
        }
    }
    float_math::one(lowering, n, op).or_else(|| float::lower(lowering, n, op))
}
