//! Signals: Fourier transforms, the windows they are seen through, and mel filters.

use crate::Operator;

mod dft;
mod mel;
mod stft;
mod window;

pub(super) static OPERATORS: &[&dyn Operator] = &[
    &dft::Dft,
    &mel::MelWeightMatrix,
    &stft::Stft,
    &window::Window {
        name: "BlackmanWindow",
        terms: [0.42, 0.5, 0.08],
    },
    &window::Window {
        name: "HammingWindow",
        terms: [25.0 / 46.0, 21.0 / 46.0, 0.0],
    },
    &window::Window {
        name: "HannWindow",
        terms: [0.5, 0.5, 0.0],
    },
];

/// The element type in attribute `output_datatype`.
fn output_type(op: &onnxq_ir::Op) -> Option<onnxq_tensor::DType> {
    let code = i32::try_from(op.int("output_datatype", 1)).ok()?;
    onnxq_tensor::DType::from_onnx(code)
}
