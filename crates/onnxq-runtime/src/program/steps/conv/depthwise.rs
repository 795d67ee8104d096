//! Convolutions of each channel by itself.

use std::ops::Range;

use onnxq_kernels::{
    Cpu, DepthwiseWeights, Image, Line, Requantize, Window, bytes, bytes_mut, depthwise_packed_len,
    depthwise_scratch_lines, pack_depthwise,
};
use onnxq_ops::EvalError;
use onnxq_tensor::Tensor;

use super::{Codes, Shape, write_images};
use crate::program::{
    call::Call,
    source::{Code, Expr, Written, record},
    steps::{
        Kernel,
        product::{product_name, write_requantize},
    },
    threads::cut,
};

/// The packed weights of a depthwise convolution.
pub(super) struct Columns {
    window: Window,
    data: Vec<Line>,
    narrow: bool,
    /// The sum of the weights of each channel.
    sums: Vec<i32>,
}

impl Columns {
    /// Packs the weights. `zeros` are the zero points as [`packed_zeros`] gives them.
    ///
    /// [`packed_zeros`]: crate::program::steps::product::packed_zeros
    pub(super) fn new(shape: &Shape, w: &Tensor, zeros: &[i32], w_signed: bool) -> Columns {
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
        let mut data = vec![Line::ZERO; Line::count(len)];
        let mut sums = vec![0; shape.channels];
        let to = &mut bytes_mut(&mut data)[..len];
        let packed = pack_depthwise(w.bytes(), w_signed, &zeros, &window, to, &mut sums);
        let narrow = packed.narrow;
        Columns {
            window,
            data,
            narrow,
            sums,
        }
    }

    /// What is added to the sums of each channel, for a zero point of the operand.
    pub(super) fn offsets(&self, bias: impl Iterator<Item = i32>, zero: i32) -> Vec<i32> {
        let less = |(bias, &sum): (i32, &i32)| bias.wrapping_sub(zero.wrapping_mul(sum));
        bias.zip(&self.sums).map(less).collect()
    }

    pub(super) fn scratch(&self, threads: usize) -> usize {
        depthwise_scratch_lines(&self.window) * threads
    }

    /// Computes the offsets and the scales of each channel as source text, into `offset` and `scales`.
    pub(super) fn write_columns(&self, code: &mut Code<'_>, by_channel: bool) {
        let channels = self.sums.len();
        let lines = Line::count(4 * channels);
        code.scratch();
        code.line(&format!(
            "let (offset, scratch) = scratch.split_at_mut({lines});"
        ));
        code.bind(
            "offset",
            format!("&mut elements_mut::<i32>(offset)[..{channels}]"),
        );
        let sums = code.integers(&self.sums);
        let arguments = vec![
            "zero".into(),
            sums,
            "&[]".into(),
            0usize.into(),
            "offset".into(),
        ];
        code.call("zero_offsets", arguments);
        code.line(&format!(
            "let (scales, scratch) = scratch.split_at_mut({lines});"
        ));
        code.bind(
            "scales",
            format!("&mut elements_mut::<f32>(scales)[..{channels}]"),
        );
        let count = if by_channel { channels } else { 1 };
        let scale = format!("&scale[..{count}]");
        code.call(
            "column_scales",
            vec![scale.into(), "&[]".into(), "scales".into()],
        );
    }

    /// The convolution of the image `x` as source text, into `conv`.
    pub(super) fn write(
        &self,
        code: &mut Code<'_>,
        shape: &Shape,
        signed: bool,
        pad: impl Into<Expr>,
        offset: impl Into<Expr>,
    ) {
        code.bind("window", Expr::from(self.window));
        let [x_len, _] = shape.image_lens();
        let image = record!(Image {
            data: format!("&x[..{x_len}]"),
            signed: signed,
            dims: [shape.window.input[0], shape.window.input[1], shape.channels],
        });
        let weights = record!(DepthwiseWeights {
            data: code.bytes(bytes(&self.data)),
            channels: shape.channels,
            window: "window",
            narrow: self.narrow,
        });
        let conv = record!(Depthwise {
            image: image,
            pad: pad,
            window: "window",
            weights: weights,
            offset: offset,
            result: shape.window.output,
        });
        code.bind("conv", conv);
    }

    /// Computes all images from `x` to `y` by rows, spread over the threads of the call. `part` is
    /// called with the convolution of an image, its rows, where they begin in `y`, these, and scratch memory.
    #[expect(clippy::too_many_arguments, reason = "the parts of one operator")]
    pub(super) fn run<T: Send>(
        &self,
        shape: &Shape,
        call: &mut Call<'_>,
        x: &[u8],
        signed: bool,
        zero: i32,
        offset: &[i32],
        y: &mut [T],
        part: impl Fn(&onnxq_kernels::Depthwise<'_>, Range<usize>, usize, &mut [T], &mut [Line]) + Sync,
    ) {
        let scratch = std::mem::take(&mut call.scratch);
        let each = self.scratch(1);
        let [x_len, y_len] = shape.image_lens();
        let row = shape.window.output[1] * shape.channels;
        for (i, y) in y.chunks_exact_mut(y_len).take(shape.images).enumerate() {
            let kernel = onnxq_kernels::Depthwise {
                image: Image {
                    data: &x[i * x_len..][..x_len],
                    signed,
                    dims: [shape.window.input[0], shape.window.input[1], shape.channels],
                },
                pad: zero as u8,
                window: self.window,
                weights: DepthwiseWeights {
                    data: bytes(&self.data),
                    channels: shape.channels,
                    window: self.window,
                    narrow: self.narrow,
                },
                offset,
                result: shape.window.output,
            };
            let mut rest = y;
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
            call.threads.run(parts, |(rows, y, scratch)| {
                let at = i * y_len + rows.start * row;
                part(&kernel, rows, at, y, scratch);
            });
        }
    }
}

/// A depthwise convolution to codes.
pub(super) struct Depthwise {
    /// For a profile.
    what: String,
    shape: Shape,
    signed: bool,
    zero: i32,
    columns: Columns,
    offset: Vec<i32>,
    /// By channel.
    scale: Vec<f32>,
    codes: Codes,
}

impl Depthwise {
    /// Packs the weights. `zeros` are the zero points as [`packed_zeros`] gives them.
    ///
    /// [`packed_zeros`]: crate::program::steps::product::packed_zeros
    #[expect(clippy::too_many_arguments, reason = "the parts of one operator")]
    pub(super) fn new(
        what: String,
        shape: Shape,
        signed: bool,
        zero: i32,
        w: &Tensor,
        zeros: &[i32],
        w_signed: bool,
        bias: &[i32],
        scale: Vec<f32>,
        codes: Codes,
    ) -> Depthwise {
        let columns = Columns::new(&shape, w, zeros, w_signed);
        Depthwise {
            what,
            offset: columns.offsets(bias.iter().copied(), zero),
            shape,
            signed,
            zero,
            columns,
            scale,
            codes,
        }
    }
}

impl Kernel for Depthwise {
    fn name(&self, cpu: Cpu) -> String {
        product_name(&self.what, self.signed, cpu)
    }

    fn operations(&self) -> u64 {
        self.shape.operations()
    }

    fn scratch(&self, threads: usize) -> usize {
        self.columns.scratch(threads)
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.bytes(0), call.result(0));
        let other = self
            .codes
            .added
            .and_then(|added| Some((added, call.bytes(added.operand?))));
        let (shape, cpu) = (&self.shape, call.cpu);
        let (signed, offset) = (self.signed, &self.offset[..]);
        let part = |kernel: &onnxq_kernels::Depthwise<'_>,
                    rows: Range<usize>,
                    at: usize,
                    y: &mut [u8],
                    scratch: &mut [Line]| {
            let residual = other.map(|(added, data)| added.residual(Some(&data[at..][..y.len()])));
            let to = Requantize {
                scale: &self.scale,
                zero: self.codes.zero,
                bounds: self.codes.bounds,
                residual,
            };
            kernel.run(cpu, rows, y, &to, scratch);
        };
        self.columns
            .run(shape, call, x, signed, self.zero, offset, y, part);
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let (shape, codes) = (&self.shape, &self.codes);
        code.operand(0, "x", "u8");
        if let Some(operand) = codes.added.and_then(|added| added.operand) {
            code.operand(operand, "other", "u8");
        }
        code.result(0, "y", "u8");
        let lens = shape.image_lens();
        let y_len = lens[1];
        write_images(code, shape.images, lens, codes.added.is_some(), |code| {
            let offset = code.integers(&self.offset);
            let columns = &self.columns;
            columns.write(code, shape, self.signed, self.zero as u8, offset);
            let other = format!("&other[..{y_len}]");
            let added = codes.added.map(|added| (added, other.into()));
            write_requantize(code, &self.scale, codes.zero, codes.bounds, added);
            let arguments = vec![
                code.cpu(),
                format!("0..{}", shape.window.output[0]).into(),
                format!("&mut y[..{y_len}]").into(),
                "&requantize".into(),
                code.scratch(),
            ];
            code.call("conv.run", arguments);
        });
        Ok(())
    }
}
