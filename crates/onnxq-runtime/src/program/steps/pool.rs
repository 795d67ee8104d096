//! Pooling of codes, channels last.

use std::ops::Range;

use onnxq_ir::{NodeId, Op};
use onnxq_kernels::{
    Average, Cpu, Image, Quantize, Quantized, Window, global_average as average_of_all,
};
use onnxq_ops::EvalError;
use onnxq_tensor::DType;

use super::{Kernel, elementwise::byte_bounds};
use crate::{
    plan,
    program::{
        call::Call,
        lower::{Layout, Lowering},
        source::{Code, Expr, Written, record},
        threads::cut,
    },
};

/// What is made of each window.
enum Kind {
    Max,
    Average(Average),
}

struct Pool {
    kind: Kind,
    window: plan::Window2,
    images: usize,
    channels: usize,
    signed: bool,
}

/// MaxPool of bytes.
pub(super) fn max(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let results = &lowering.graph.node(n).results;
    (results.len() == 1 && op.int("storage_order", 0) == 0).then_some(())?;
    pool(lowering, n, op, Kind::Max)
}

/// QLinearAveragePool.
pub(super) fn average(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let (from, to) = parameters(lowering, n)?;
    let includes = op.int("count_include_pad", 0) != 0;
    (op.int("channels_last", 0) == 0).then_some(())?;
    let padding = match op.ints("pads") {
        _ if !includes => None,
        None if op.attr("auto_pad").is_some() => return None,
        None => Some([0, 0]),
        Some(&[_, after]) => Some([0, usize::try_from(after).ok()?]),
        Some(&[_, _, below, right]) => Some([below, right].map(|p| p.max(0) as usize)),
        Some(_) => return None,
    };
    let average = Average {
        from,
        to,
        padding,
        zero_first: true,
    };
    pool(lowering, n, op, Kind::Average(average))
}

fn pool(lowering: &mut Lowering<'_>, n: NodeId, op: &Op, kind: Kind) -> Option<()> {
    let home = lowering.operand(n, 0)?;
    byte_bounds(home.dtype)?;
    ((3..=4).contains(&home.dims.len()) && !home.dims.contains(&0)).then_some(())?;
    let kernel = Pool {
        kind,
        window: plan::Window::of(op)?.place(&home.dims[2..], None)?,
        images: home.dims[0],
        channels: home.dims[1],
        signed: home.dtype == DType::I8,
    };
    let x = lowering.channels_last(lowering.graph.operand(n, 0)?)?;
    lowering.push_node(n, Box::new(kernel), &[x.place], Layout::ChannelsLast)
}

/// Of the operand and of the result.
fn parameters(lowering: &Lowering<'_>, n: NodeId) -> Option<(Quantized, Quantize)> {
    let signed = byte_bounds(lowering.operand(n, 0)?.dtype)?[0] < 0;
    let from = Quantized {
        scale: lowering.scalar(n, 1)?,
        zero: lowering.zero_point(n, 2)?,
        signed,
    };
    let to = Quantize::new(lowering.scalar(n, 3)?, lowering.zero_point(n, 4)?, signed);
    Some((from, to))
}

impl Kernel for Pool {
    fn name(&self, _: Cpu) -> String {
        let [height, width] = self.window.kernel;
        match self.kind {
            Kind::Max => format!("max pool {height}x{width}"),
            Kind::Average(_) => format!("average pool {height}x{width}"),
        }
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.bytes(0), call.result(0));
        let (w, c, cpu) = (&self.window, self.channels, call.cpu);
        let x_len = w.input[0] * w.input[1] * c;
        let row = w.output[1] * c;
        for (i, y) in y
            .chunks_exact_mut(w.output[0] * row)
            .take(self.images)
            .enumerate()
        {
            let kernel = onnxq_kernels::Pool {
                image: Image {
                    data: &x[i * x_len..][..x_len],
                    signed: self.signed,
                    dims: [w.input[0], w.input[1], c],
                },
                window: Window {
                    kernel: w.kernel,
                    strides: w.strides,
                    dilations: w.dilations,
                    pads: w.begin,
                },
                result: w.output,
            };
            let taps = w.kernel[0] * w.kernel[1];
            let threads = call.threads.parts((y.len() * taps / 40) as u64);
            let mut rest = y;
            let mut parts: Vec<(Range<usize>, &mut [u8])> = Vec::new();
            for rows in cut(w.output[0], threads, 1) {
                let (part, tail) = rest.split_at_mut(rows.len() * row);
                rest = tail;
                parts.push((rows, part));
            }
            call.threads.run(parts, |(rows, y)| match &self.kind {
                Kind::Max => kernel.max(cpu, rows, y),
                Kind::Average(by) => kernel.average(cpu, by, rows, y),
            });
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let (w, c) = (&self.window, self.channels);
        let x_len = w.input[0] * w.input[1] * c;
        let y_len = w.output[0] * w.output[1] * c;
        code.operand(0, "x", "u8");
        code.result(0, "y", "u8");
        let (mut x, mut y) = (format!("&x[..{x_len}]"), format!("&mut y[..{y_len}]"));
        if self.images > 1 {
            code.open(&format!("for image in 0..{}", self.images));
            x = format!("&x[image * {x_len}..][..{x_len}]");
            y = format!("&mut y[image * {y_len}..][..{y_len}]");
        }
        let image = record!(Image {
            data: x,
            signed: self.signed,
            dims: [w.input[0], w.input[1], c],
        });
        let window = Window {
            kernel: w.kernel,
            strides: w.strides,
            dilations: w.dilations,
            pads: w.begin,
        };
        let pool = record!(Pool {
            image: image,
            window: window,
            result: w.output,
        });
        code.bind("pool", pool);
        let (cpu, rows) = (code.cpu(), format!("0..{}", w.output[0]).into());
        match self.kind {
            Kind::Max => code.call("pool.max", vec![cpu, rows, y.into()]),
            Kind::Average(average) => {
                code.bind("average", Expr::from(average));
                code.call("pool.average", vec![cpu, "&average".into(), rows, y.into()]);
            }
        }
        if self.images > 1 {
            code.close();
        }
        Ok(())
    }
}

struct GlobalAverage {
    images: usize,
    channels: usize,
    space: usize,
    from: Quantized,
    to: Quantize,
}

/// QLinearGlobalAveragePool.
pub(super) fn global_average(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let (from, to) = parameters(lowering, n)?;
    let [images, channels, space] = lowering.operand(n, 0)?.image()?;
    (op.int("channels_last", 0) == 0 && channels * space > 0).then_some(())?;
    let kernel = GlobalAverage {
        images,
        channels,
        space,
        from,
        to,
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
        let images = x.chunks_exact(self.space * self.channels);
        let y = y.chunks_exact_mut(self.channels).take(self.images);
        for (x, y) in images.zip(y) {
            average_of_all(call.cpu, x, self.from, self.to, y);
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        code.operand(0, "x", "u8");
        code.result(0, "y", "u8");
        code.bind("from", Expr::from(self.from));
        code.bind("to", Expr::from(self.to));
        let (size, channels) = (self.space * self.channels, self.channels);
        let (mut x, mut y) = (format!("&x[..{size}]"), format!("&mut y[..{channels}]"));
        if self.images > 1 {
            code.open(&format!("for image in 0..{}", self.images));
            x = format!("&x[image * {size}..][..{size}]");
            y = format!("&mut y[image * {channels}..][..{channels}]");
        }
        let arguments = vec![code.cpu(), x.into(), "from".into(), "to".into(), y.into()];
        code.call("global_average", arguments);
        if self.images > 1 {
            code.close();
        }
        Ok(())
    }
}
