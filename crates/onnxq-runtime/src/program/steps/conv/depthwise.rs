//! Convolutions of each channel by itself.

use onnxq_kernels::{
    Cpu, DepthwiseWeights, Image, Line, Requantize, Residual, Window, bytes, bytes_mut,
    depthwise_packed_len, depthwise_scratch_lines, pack_depthwise,
};
use onnxq_ops::EvalError;
use onnxq_tensor::Tensor;

use super::{Codes, Shape};
use crate::program::{
    call::Call,
    steps::{Kernel, product::product_name},
    threads::cut,
};

/// A depthwise convolution to codes.
pub(super) struct Depthwise {
    shape: Shape,
    signed: bool,
    padding: u8,
    window: Window,
    weights: Vec<Line>,
    narrow: bool,
    offset: Vec<i32>,
    codes: Codes,
}

impl Depthwise {
    /// Packs the weights. `zeros` are the zero points as [`packed_zeros`] gives them.
    ///
    /// [`packed_zeros`]: crate::program::steps::product::packed_zeros
    #[expect(clippy::too_many_arguments, reason = "the parts of one operator")]
    pub(super) fn new(
        shape: Shape,
        signed: bool,
        zero: i32,
        w: &Tensor,
        zeros: &[i32],
        w_signed: bool,
        bias: &[i32],
        codes: Codes,
    ) -> Depthwise {
        let window = Window {
            kernel: shape.window.kernel,
            strides: shape.window.strides,
            dilations: shape.window.dilations,
            pads: shape.window.begin,
        };
        // The kernel takes zero points of the weights as they are, not as products pack them.
        let shift = if w_signed { 0 } else { 128 };
        let zeros: Vec<i32> = match (zeros.is_empty(), w_signed) {
            (true, true) => Vec::new(),
            (true, false) => vec![shift],
            (false, _) => zeros.iter().map(|z| z + shift).collect(),
        };
        let len = depthwise_packed_len(&window, shape.channels);
        let mut weights = vec![Line::ZERO; Line::count(len)];
        let mut sums = vec![0; shape.channels];
        let to = &mut bytes_mut(&mut weights)[..len];
        let packed = pack_depthwise(w.bytes(), w_signed, &zeros, &window, to, &mut sums);
        let narrow = packed.narrow;
        let offset = bias.iter().zip(&sums);
        let offset = offset.map(|(bias, sum)| bias.wrapping_sub(zero.wrapping_mul(*sum)));
        Depthwise {
            offset: offset.collect(),
            shape,
            signed,
            padding: zero as u8,
            window,
            weights,
            narrow,
            codes,
        }
    }
}

impl Kernel for Depthwise {
    fn name(&self, cpu: Cpu) -> String {
        let add = if self.codes.added.is_some() {
            "+add"
        } else {
            ""
        };
        product_name(
            &format!("conv{add} {}", self.shape.name()),
            self.signed,
            cpu,
        )
    }

    fn operations(&self) -> u64 {
        self.shape.operations()
    }

    fn scratch(&self, threads: usize) -> usize {
        depthwise_scratch_lines(&self.window) * threads
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.bytes(0), call.result(0));
        let other = self
            .codes
            .added
            .map(|added| (added, call.bytes(added.operand)));
        let scratch = std::mem::take(&mut call.scratch);
        let each = depthwise_scratch_lines(&self.window);
        let shape = &self.shape;
        let [x_len, y_len] = shape.image_lens();
        let row = shape.window.output[1] * shape.channels;
        let weights = DepthwiseWeights {
            data: bytes(&self.weights),
            channels: shape.channels,
            window: self.window,
            narrow: self.narrow,
        };
        for i in 0..shape.images {
            let kernel = onnxq_kernels::Depthwise {
                image: Image {
                    data: &x[i * x_len..][..x_len],
                    signed: self.signed,
                    dims: [shape.window.input[0], shape.window.input[1], shape.channels],
                },
                pad: self.padding,
                window: self.window,
                weights,
                offset: &self.offset,
                result: shape.window.output,
            };
            let mut rest = &mut y[i * y_len..][..y_len];
            let mut scratch = scratch.chunks_mut(each.max(1));
            let mut parts = Vec::new();
            // About twenty operations each nanosecond.
            let nanoseconds = shape.operations() / 20 / shape.images as u64;
            let threads = call.threads.parts(nanoseconds);
            for rows in cut(shape.window.output[0], threads, 4) {
                let (part, tail) = rest.split_at_mut(rows.len() * row);
                rest = tail;
                parts.push((rows, part, scratch.next().unwrap_or_default()));
            }
            let cpu = call.cpu;
            call.threads.run(parts, |(rows, y, scratch)| {
                let residual = other.map(|(added, data)| Residual {
                    data: &data[i * y_len + rows.start * row..][..y.len()],
                    signed: added.signed,
                    scales: added.scales,
                    zeros: added.zeros,
                    bounds: added.bounds,
                });
                let to = Requantize {
                    scale: &self.codes.scale,
                    zero: self.codes.zero,
                    bounds: self.codes.bounds,
                    residual,
                };
                kernel.run(cpu, rows, y, &to, scratch);
            });
        }
        Ok(())
    }
}
