//! Pooling of codes, channels last.

use onnxq_ir::{NodeId, Op};
use onnxq_kernels::Cpu;
use onnxq_ops::EvalError;
use onnxq_tensor::DType;

use super::{
    Kernel,
    elementwise::{Quantization, byte_bounds, code},
};
use crate::{
    plan::{Window, Window2},
    program::{
        call::Call,
        lower::{Layout, Lowering},
    },
};

struct MaxPool {
    window: Window2,
    images: usize,
    channels: usize,
    signed: bool,
}

/// MaxPool of bytes.
pub(super) fn max(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let graph = lowering.graph;
    let second = graph.node(n).results.len() > 1;
    if second || op.int("storage_order", 0) != 0 {
        return None;
    }
    let home = lowering.operand(n, 0)?;
    byte_bounds(home.dtype)?;
    (3..=4).contains(&home.dims.len()).then_some(())?;
    let window = Window::of(op)?.place(&home.dims[2..], None)?;
    let kernel = MaxPool {
        window,
        images: home.dims[0],
        channels: home.dims[1],
        signed: home.dtype == DType::I8,
    };
    let x = lowering.channels_last(graph.operand(n, 0)?)?;
    lowering.push_node(n, Box::new(kernel), &[x.place], Layout::ChannelsLast)
}

impl Kernel for MaxPool {
    fn name(&self, _: Cpu) -> String {
        "max pool".to_owned()
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.bytes(0), call.result(0));
        let (w, c) = (&self.window, self.channels);
        let flip = if self.signed { 0x80 } else { 0 };
        let mut at = 0;
        for image in 0..self.images {
            let x = &x[image * w.input[0] * w.input[1] * c..];
            for oy in 0..w.output[0] {
                for ox in 0..w.output[1] {
                    let y = &mut y[at..at + c];
                    at += c;
                    y.fill(0);
                    for ky in 0..w.kernel[0] {
                        let iy = (oy * w.strides[0] + ky * w.dilations[0]).wrapping_sub(w.begin[0]);
                        if iy >= w.input[0] {
                            continue;
                        }
                        for kx in 0..w.kernel[1] {
                            let ix =
                                (ox * w.strides[1] + kx * w.dilations[1]).wrapping_sub(w.begin[1]);
                            if ix >= w.input[1] {
                                continue;
                            }
                            let x = &x[(iy * w.input[1] + ix) * c..][..c];
                            for (y, &x) in y.iter_mut().zip(x) {
                                *y = (*y).max(x ^ flip);
                            }
                        }
                    }
                    for y in y {
                        *y ^= flip;
                    }
                }
            }
        }
        Ok(())
    }
}

struct GlobalAverage {
    images: usize,
    channels: usize,
    space: usize,
    signed: bool,
    x: Quantization,
    y: Quantization,
    bounds: [i32; 2],
}

/// QLinearGlobalAveragePool.
pub(super) fn global_average(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let quantization = |at: usize| {
        Some(Quantization {
            scale: lowering.scalar(n, at)?,
            zero: lowering.zero_point(n, at + 1)?,
        })
    };
    let (x, y) = (quantization(1)?, quantization(3)?);
    (op.int("channels_last", 0) == 0).then_some(())?;
    let home = lowering.operand(n, 0)?;
    let bounds = byte_bounds(home.dtype)?;
    let [images, channels, space] = home.image()?;
    (space > 0).then_some(())?;
    let kernel = GlobalAverage {
        images,
        channels,
        space,
        signed: home.dtype == DType::I8,
        x,
        y,
        bounds,
    };
    let x = lowering.channels_last(lowering.graph.operand(n, 0)?)?;
    lowering.push_node(n, Box::new(kernel), &[x.place], Layout::ChannelsLast)
}

impl Kernel for GlobalAverage {
    fn name(&self, _: Cpu) -> String {
        "global average pool".to_owned()
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.bytes(0), call.result(0));
        let (c, space) = (self.channels, self.space);
        let scale = self.x.scale / (self.y.scale * space as f32);
        for image in 0..self.images {
            let x = &x[image * space * c..][..space * c];
            let mut sums = vec![0i32; c];
            for x in x.chunks_exact(c) {
                for (sum, &x) in sums.iter_mut().zip(x) {
                    *sum += code(x, self.signed);
                }
            }
            for (y, sum) in y[image * c..][..c].iter_mut().zip(sums) {
                let mean = (sum - self.x.zero * space as i32) as f32 * scale;
                let code = mean.round_ties_even() as i32 + self.y.zero;
                *y = code.clamp(self.bounds[0], self.bounds[1]) as u8;
            }
        }
        Ok(())
    }
}
