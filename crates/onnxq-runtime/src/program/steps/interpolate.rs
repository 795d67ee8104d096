//! Resize and Upsample of images by linear interpolation, of floats, or of codes between a DequantizeLinear and a
//! QuantizeLinear: exactly what the reference makes of them.

use onnxq_ir::{NodeId, Op};
use onnxq_kernels::{
    Cpu, Interpolate, Line, Pairs, Quantize, Quantized, interpolate_scratch_lines,
};
use onnxq_ops::{EvalError, Value, resize_taps};
use onnxq_tensor::DType;

use super::{
    Kernel,
    elementwise::{dequantization_of, quantization_of},
};
use crate::program::{
    call::Call,
    lower::{Layout, Lowering},
    source::{Code, Expr, Written, record},
    threads::{cut, elementwise},
};

/// [`Pairs`] of one axis.
#[derive(Default)]
struct Axis {
    at: Vec<u32>,
    weights: Vec<f32>,
}

impl Axis {
    /// Of an axis of `from` elements that has `to` in the result. Nothing where one is made of other than two.
    fn of(taps: Option<Vec<onnxq_ops::Taps>>, from: usize, to: usize) -> Option<Axis> {
        (taps.as_ref().map_or(from, Vec::len) == to).then_some(())?;
        let mut axis = Axis::default();
        for taps in taps.into_iter().flatten() {
            let [a, b] = taps?.try_into().ok()?;
            for (at, weight) in [a, b] {
                axis.at.push(u32::try_from(at).ok()?);
                axis.weights.push(weight as f32);
            }
        }
        Some(axis)
    }

    fn view(&self) -> Pairs<'_> {
        Pairs {
            at: &self.at,
            weights: &self.weights,
        }
    }

    fn write(&self, code: &mut Code<'_>) -> Expr {
        record!(Pairs {
            at: code.indices(&self.at),
            weights: code.floats(&self.weights),
        })
    }
}

struct Linear {
    /// Images, or planes of images.
    images: usize,
    /// Height, width, and channels that lie together.
    dims: [usize; 3],
    rows: Axis,
    columns: Axis,
    /// Height and width of the result.
    to: [usize; 2],
    codes: Option<(Quantized, Quantize)>,
}

/// Resize and Upsample of images, if how is known before any run.
pub(super) fn linear(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let graph = lowering.graph;
    let linear = ["linear", "bilinear"].contains(&op.str("mode")?);
    let (dtype, result) = lowering.type_of(graph.result(n, 0))?;
    (linear && dtype == DType::F32).then_some(())?;
    let operands = graph.operands(n);
    let constants = operands[1..].iter().map(|v| {
        let Some(v) = *v else { return Some(None) };
        Some(Some(Value::Tensor(lowering.constant(v)?.clone())))
    });
    let constants: Vec<Option<Value>> = constants.collect::<Option<_>>()?;
    let (mut v, mut last, mut codes) = (operands.first().copied()??, n, None);
    if let Some(before) = graph.op(v.node)
        && let Some(from) = dequantization_of(lowering, v.node, before)
        && let Some((user, 0, next)) = lowering.sole_user(graph.result(n, 0))
        && let Some(to) = quantization_of(lowering, user, next)
    {
        (v, last, codes) = (graph.operand(v.node, 0)?, user, Some((from, to)));
    }
    let home = lowering.home(v)?.clone();
    let [images, channels, height, width] = home.dims[..] else {
        return None;
    };
    let fits = (codes.is_some() || home.dtype == DType::F32)
        && result.len() == 4
        && result[..2] == home.dims[..2]
        && !home.dims.contains(&0)
        && !result.contains(&0);
    fits.then_some(())?;
    let opset = lowering.model.opsets.get("").copied().unwrap_or(1);
    let taps = resize_taps(op, opset, &home.dims, &constants).ok()?;
    let [None, None, rows, columns] = <[_; 4]>::try_from(taps).ok()? else {
        return None;
    };
    let (images, channels) = match home.layout {
        Layout::Plain => (images * channels, 1),
        Layout::ChannelsLast => (images, channels),
    };
    let kernel = Linear {
        images,
        dims: [height, width, channels],
        rows: Axis::of(rows, height, result[2])?,
        columns: Axis::of(columns, width, result[3])?,
        to: [result[2], result[3]],
        codes,
    };
    if last != n {
        lowering.absorb(last);
    }
    lowering.push_result(n, last, Box::new(kernel), &[home.place], home.layout)
}

impl Linear {
    /// Elements of an image of the operand, and of the result.
    fn lens(&self) -> [usize; 2] {
        let [height, width, channels] = self.dims;
        [height * width, self.to[0] * self.to[1]].map(|pixels| pixels * channels)
    }

    fn scratch_lines(&self) -> usize {
        interpolate_scratch_lines(self.dims, self.to[1])
    }

    fn view(&self) -> Interpolate<'_> {
        Interpolate {
            dims: self.dims,
            rows: self.rows.view(),
            columns: self.columns.view(),
        }
    }

    /// Calls `f` with each image and each part of its result, and the rows that the part is.
    fn each<T: Sync, U: Send>(
        &self,
        call: &mut Call<'_>,
        x: &[T],
        y: &mut [U],
        f: impl Fn(&[T], std::ops::Range<usize>, &mut [U], &mut [Line]) + Sync,
    ) {
        let [from, to] = self.lens();
        let scratch = std::mem::take(&mut call.scratch);
        let images = x.chunks_exact(from).zip(y.chunks_exact_mut(to));
        for (x, mut y) in images.take(self.images) {
            let mut scratch = scratch.chunks_mut(self.scratch_lines());
            let mut parts = Vec::new();
            for rows in cut(self.to[0], call.threads.parts(4 * elementwise(to)), 1) {
                let (part, rest) = y.split_at_mut(rows.len() * (to / self.to[0]));
                y = rest;
                parts.push((rows, part, scratch.next().unwrap_or_default()));
            }
            call.threads
                .run(parts, |(rows, y, scratch)| f(x, rows, y, scratch));
        }
    }
}

impl Kernel for Linear {
    fn name(&self, _: Cpu) -> String {
        "resize linear".to_owned()
    }

    fn scratch(&self, threads: usize) -> usize {
        self.scratch_lines() * threads.max(1)
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (cpu, resize) = (call.cpu, self.view());
        match self.codes {
            Some((from, to)) => {
                let (x, y) = (call.bytes(0), call.result(0));
                self.each(call, x, y, |x, rows, y, scratch| {
                    resize.codes(cpu, x, from, rows, y, to, scratch);
                });
            }
            None => {
                let (x, y) = (call.floats(0), call.result_floats(0));
                self.each(call, x, y, |x, rows, y, scratch| {
                    resize.floats(cpu, x, rows, y, scratch);
                });
            }
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let element = if self.codes.is_some() { "u8" } else { "f32" };
        code.operand(0, "x", element);
        code.result(0, "y", element);
        let resize = record!(Interpolate {
            dims: self.dims,
            rows: self.rows.write(code),
            columns: self.columns.write(code),
        });
        code.bind("resize", resize);
        let [from, to] = self.lens();
        let (mut x, mut y) = (format!("&x[..{from}]"), format!("&mut y[..{to}]"));
        if self.images > 1 {
            code.open(&format!("for image in 0..{}", self.images));
            x = format!("&x[image * {from}..][..{from}]");
            y = format!("&mut y[image * {to}..][..{to}]");
        }
        let rows = Expr::from(format!("0..{}", self.to[0]));
        let cpu = code.cpu();
        match self.codes {
            Some((from, to)) => {
                let (from, to) = (Expr::from(from), Expr::from(to));
                let arguments = vec![cpu, x.into(), from, rows, y.into(), to, code.scratch()];
                code.call("resize.codes", arguments);
            }
            None => {
                let arguments = vec![cpu, x.into(), rows, y.into(), code.scratch()];
                code.call("resize.floats", arguments);
            }
        }
        if self.images > 1 {
            code.close();
        }
        Ok(())
    }
}
