//! Functions of codes, and to and from codes.

use onnxq_ir::{NodeId, Op, ValueId};
use onnxq_kernels::{AxisScales, Cpu, Planes, Quantize, Quantized};
use onnxq_ops::EvalError;
use onnxq_tensor::DType;

use super::Kernel;
use crate::program::{
    call::{Call, elements},
    lower::{Home, Layout, Lowering},
    source::{Change, Code, Expr, Written, record},
    threads::{cut, elementwise},
};

/// What codes stand for: `(code - zero) · scale`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Quantization {
    pub(super) scale: f32,
    pub(super) zero: i32,
}

impl Quantization {
    /// Of operands `at` and `at + 1`, one number each.
    pub(super) fn of(lowering: &Lowering<'_>, n: NodeId, at: usize) -> Option<Quantization> {
        Some(Quantization {
            scale: lowering.scalar(n, at)?,
            zero: lowering.zero_point(n, at + 1)?,
        })
    }

    /// How floats become codes of a type of bytes.
    pub(super) fn to(self, dtype: DType) -> Option<Quantize> {
        Some(Quantize {
            scale: self.scale,
            zero: self.zero,
            bounds: byte_bounds(dtype)?,
        })
    }

    /// How codes of a type of bytes become floats.
    pub(super) fn from(self, dtype: DType) -> Option<Quantized> {
        Some(Quantized {
            scale: self.scale,
            zero: self.zero,
            signed: byte_bounds(dtype)?[0] < 0,
        })
    }
}

/// The least and the greatest code of a type of bytes.
pub(super) fn byte_bounds(dtype: DType) -> Option<[i32; 2]> {
    match dtype {
        DType::I8 => Some([-128, 127]),
        DType::U8 => Some([0, 255]),
        _ => None,
    }
}

/// The integer that a byte is.
pub(super) fn code(byte: u8, signed: bool) -> i32 {
    match signed {
        true => i32::from(byte as i8),
        false => i32::from(byte),
    }
}

/// `clamp(rne(x) + zero)`.
pub(super) fn rounded(x: f32, zero: i32, [low, high]: [i32; 2]) -> i32 {
    let (least, greatest) = ((low - zero) as f32, (high - zero) as f32);
    let x = x.round_ties_even();
    let x = if x > least { x } else { least };
    x.min(greatest) as i32 + zero
}

/// What a QuantizeLinear with one scale, of floats to bytes, does.
pub(super) fn quantization_of(lowering: &Lowering<'_>, n: NodeId, op: &Op) -> Option<Quantize> {
    let plain =
        op.is("QuantizeLinear") && op.int("block_size", 0) == 0 && op.attr("precision").is_none();
    let (from, _) = lowering.type_of(lowering.graph.operand(n, 0)?)?;
    (plain && from == DType::F32).then_some(())?;
    let (dtype, _) = lowering.type_of(lowering.graph.result(n, 0))?;
    Quantization::of(lowering, n, 1)?.to(dtype)
}

/// What the codes stand for that a DequantizeLinear with one scale takes from bytes to floats.
pub(super) fn dequantization_of(lowering: &Lowering<'_>, n: NodeId, op: &Op) -> Option<Quantized> {
    let plain = op.is("DequantizeLinear") && op.int("block_size", 0) == 0;
    let (to, _) = lowering.type_of(lowering.graph.result(n, 0))?;
    (plain && to == DType::F32).then_some(())?;
    let (dtype, _) = lowering.type_of(lowering.graph.operand(n, 0)?)?;
    Quantization::of(lowering, n, 1)?.from(dtype)
}

struct QuantizeStep {
    to: Quantize,
    /// Images, channels and positions of an operand whose result has the channels last.
    image: Option<[usize; 3]>,
    len: usize,
}

/// QuantizeLinear of floats to bytes by one scale; of an image, with its channels last.
pub(super) fn quantize(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let to = quantization_of(lowering, n, op)?;
    let graph = lowering.graph;
    let home = lowering.home(graph.operand(n, 0)?)?.clone();
    let turn = home.layout == Layout::Plain
        && home.dims.len() == 4
        && wants_channels_last(lowering, graph.result(n, 0));
    let image = home.image().filter(|_| turn);
    let layout = match turn {
        true => Layout::ChannelsLast,
        false => home.layout,
    };
    let kernel = QuantizeStep {
        to,
        image,
        len: home.len(),
    };
    lowering.push_node(n, Box::new(kernel), &[home.place], layout)
}

/// Whether what takes these codes wants their channels last, as all do that work on images.
fn wants_channels_last(lowering: &Lowering<'_>, v: ValueId) -> bool {
    let graph = lowering.graph;
    let plain = [
        "MatMul",
        "Transpose",
        "Reshape",
        "Flatten",
        "Gather",
        "Softmax",
        "DequantizeLinear",
    ];
    let uses = graph.uses(v);
    let mut operators = uses.iter().filter_map(|u| graph.op(u.node));
    operators.any(|op| !plain.iter().any(|name| op.op_type.ends_with(name)))
}

impl Kernel for QuantizeStep {
    fn name(&self, _: Cpu) -> String {
        match self.image {
            Some(_) => "quantize to channels last".to_owned(),
            None => "quantize".to_owned(),
        }
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.floats(0), call.result(0));
        let (cpu, to) = (call.cpu, self.to);
        let Some([images, channels, space]) = self.image else {
            call.threads.spread(&mut y[..self.len], 64, |at, y| {
                to.run(cpu, &x[at..][..y.len()], y);
            });
            return Ok(());
        };
        let planes = Planes {
            channels,
            pixels: space,
            padded: channels,
            fill: 0,
        };
        let size = channels * space;
        let mut parts = Vec::new();
        let mut rest = &mut y[..self.len];
        for i in 0..images {
            for range in cut(space, call.threads.parts(elementwise(size)), 64) {
                let (part, tail) = rest.split_at_mut(range.len() * channels);
                rest = tail;
                parts.push((i, range, part));
            }
        }
        call.threads.run(parts, |(i, range, y)| {
            planes.quantize(cpu, &x[i * size..][..size], to, range, y);
        });
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        code.operand(0, "x", "f32");
        code.result(0, "y", "u8");
        code.changes(Change {
            scale: self.to.scale,
            zero: self.to.zero,
            signed: self.to.bounds[0] < 0,
            quantizes: true,
            channels_last: self.image.is_some_and(|[_, channels, _]| channels > 1),
        });
        let (cpu, len) = (code.cpu(), self.len);
        code.bind("quantize", Expr::from(self.to));
        let Some([images, channels, space]) = self.image else {
            let (x, y) = (format!("&x[..{len}]"), format!("&mut y[..{len}]"));
            code.call("quantize.run", vec![cpu, x.into(), y.into()]);
            return Ok(());
        };
        let planes = record!(Planes {
            channels: channels,
            pixels: space,
            padded: channels,
            fill: 0u8,
        });
        code.bind("planes", planes);
        let size = channels * space;
        let (mut x, mut y) = (format!("&x[..{len}]"), format!("&mut y[..{len}]"));
        if images > 1 {
            code.open(&format!("for image in 0..{images}"));
            x = format!("&x[image * {size}..][..{size}]");
            y = format!("&mut y[image * {size}..][..{size}]");
        }
        let (pixels, to) = (format!("0..{space}"), "quantize".into());
        let arguments = vec![cpu, x.into(), to, pixels.into(), y.into()];
        code.call("planes.quantize", arguments);
        if images > 1 {
            code.close();
        }
        Ok(())
    }
}

enum Dequantize {
    Bytes(Quantized),
    /// Integers of 32 bits.
    Integers(Quantization),
    /// Bytes with a scale for each index of an axis.
    Axis {
        scales: Vec<f32>,
        zeros: Vec<i32>,
        inner: usize,
        signed: bool,
    },
}

/// DequantizeLinear of bytes or sums.
pub(super) fn dequantize(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let graph = lowering.graph;
    let home = lowering.home(graph.operand(n, 0)?)?.clone();
    let (to, _) = lowering.type_of(graph.result(n, 0))?;
    (to == DType::F32 && op.int("block_size", 0) == 0).then_some(())?;
    if let Some(from) = dequantization_of(lowering, n, op) {
        let kernel = (Dequantize::Bytes(from), home.len());
        return lowering.push_node(n, Box::new(kernel), &[home.place], home.layout);
    }
    if home.dtype == DType::I32 {
        let from = Quantization::of(lowering, n, 1)?;
        let kernel = (Dequantize::Integers(from), home.len());
        return lowering.push_node(n, Box::new(kernel), &[home.place], home.layout);
    }
    let signed = byte_bounds(home.dtype)?[0] < 0;
    let scales = lowering
        .constant_operand(n, 1)?
        .as_slice::<f32>()
        .ok()?
        .into_owned();
    let zeros = match graph.operand(n, 2) {
        None => Vec::new(),
        Some(_) => {
            let zeros = lowering.constant_operand(n, 2)?.to_i64s().ok()?;
            let zeros: Result<Vec<i32>, _> = zeros.into_iter().map(i32::try_from).collect();
            zeros.ok()?
        }
    };
    let rank = home.dims.len();
    let axis = op.int("axis", 1);
    let axis = if axis < 0 {
        axis.checked_add(rank as i64)?
    } else {
        axis
    };
    let axis = usize::try_from(axis).ok().filter(|&a| a < rank)?;
    let fits = scales.len() == home.dims[axis] && (zeros.is_empty() || zeros.len() == scales.len());
    (fits && !scales.is_empty()).then_some(())?;
    let home = lowering.plain(graph.operand(n, 0)?)?;
    let inner = home.dims[axis + 1..].iter().product();
    let kernel = Dequantize::Axis {
        scales,
        zeros,
        inner,
        signed,
    };
    lowering.push_node(
        n,
        Box::new((kernel, home.len())),
        &[home.place],
        Layout::Plain,
    )
}

/// With the number of elements.
impl Kernel for (Dequantize, usize) {
    fn name(&self, _: Cpu) -> String {
        "dequantize".to_owned()
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y, cpu) = (call.bytes(0), call.result_floats(0), call.cpu);
        let (kernel, len) = self;
        let y = &mut y[..*len];
        match kernel {
            Dequantize::Bytes(from) => call.threads.spread(y, 64, |at, y| {
                from.dequantize(cpu, &x[at..][..y.len()], y);
            }),
            Dequantize::Integers(from) => {
                let x: &[i32] = elements(x);
                call.threads.spread(y, 64, |at, y| {
                    let x = &x[at..][..y.len()];
                    onnxq_kernels::dequantize_integers(cpu, x, from.scale, from.zero, y);
                });
            }
            Dequantize::Axis {
                scales,
                zeros,
                inner,
                signed,
            } => {
                let by = AxisScales {
                    scales,
                    zeros,
                    inner: *inner,
                };
                call.threads.spread(y, scales.len() * inner, |at, y| {
                    by.dequantize(cpu, &x[at..][..y.len()], *signed, y);
                });
            }
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let (kernel, len) = self;
        let element = match kernel {
            Dequantize::Integers(_) => "i32",
            _ => "u8",
        };
        code.operand(0, "x", element);
        code.result(0, "y", "f32");
        let cpu = code.cpu();
        let (x, y) = (format!("&x[..{len}]"), format!("&mut y[..{len}]"));
        let (x, y) = (Expr::from(x), Expr::from(y));
        match kernel {
            Dequantize::Bytes(from) => {
                code.changes(Change {
                    scale: from.scale,
                    zero: from.zero,
                    signed: from.signed,
                    quantizes: false,
                    channels_last: false,
                });
                code.bind("codes", Expr::from(*from));
                code.call("codes.dequantize", vec![cpu, x, y]);
            }
            Dequantize::Integers(from) => {
                let arguments = vec![cpu, x, from.scale.into(), from.zero.into(), y];
                code.call("dequantize_integers", arguments);
            }
            Dequantize::Axis {
                scales,
                zeros,
                inner,
                signed,
            } => {
                let by = record!(AxisScales {
                    scales: code.floats(scales),
                    zeros: code.integers(zeros),
                    inner: *inner,
                });
                code.bind("codes", by);
                code.call("codes.dequantize", vec![cpu, x, (*signed).into(), y]);
            }
        }
        Ok(())
    }
}

/// DynamicQuantizeLinear: the range, the parameters, the codes.
struct DynamicQuantize {
    len: usize,
}

/// DynamicQuantizeLinear.
pub(super) fn dynamic_quantize(lowering: &mut Lowering<'_>, n: NodeId, _: &Op) -> Option<()> {
    let home = lowering.operand(n, 0)?.clone();
    (home.dtype == DType::F32).then_some(())?;
    let kernel = DynamicQuantize { len: home.len() };
    let results = [0, 1, 2].map(|i| lowering.graph.result(n, i));
    let mut places = Vec::new();
    let mut homes: Vec<Home> = Vec::new();
    for (i, &v) in results.iter().enumerate() {
        let layout = if i == 0 { home.layout } else { Layout::Plain };
        let made = lowering.make(v, layout)?;
        places.push(made.place);
        homes.push(made);
    }
    lowering.push(lowering.name(n), Box::new(kernel), &[home.place], &places);
    for (v, home) in results.into_iter().zip(homes) {
        lowering.settle(v, home);
    }
    Some(())
}

impl Kernel for DynamicQuantize {
    fn name(&self, _: Cpu) -> String {
        "dynamic quantize".to_owned()
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, cpu) = (&call.floats(0)[..self.len], call.cpu);
        let mut ranges =
            vec![[f32::INFINITY, f32::NEG_INFINITY]; call.threads.parts(elementwise(self.len))];
        let cuts = cut(x.len(), ranges.len(), 64);
        let parts = ranges.iter_mut().zip(cuts).collect();
        call.threads.run(parts, |(range, part)| {
            *range = onnxq_kernels::range(cpu, &x[part]);
        });
        let joined = ranges
            .into_iter()
            .fold([0f32; 2], |[low, high], [l, h]| [low.min(l), high.max(h)]);
        let to = onnxq_kernels::dynamic_parameters(joined);
        let y = &mut call.result(0)[..self.len];
        call.threads.spread(y, 64, |at, y| {
            to.run(cpu, &x[at..][..y.len()], y);
        });
        call.result_floats(1)[0] = to.scale;
        call.result(2)[0] = to.zero as u8;
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        code.operand(0, "x", "f32");
        code.result(0, "y", "u8");
        code.result(1, "scale", "f32");
        code.result(2, "zero", "u8");
        let (cpu, len) = (code.cpu(), self.len);
        let arguments = vec![
            cpu,
            format!("&x[..{len}]").into(),
            format!("&mut y[..{len}]").into(),
        ];
        code.bind(
            "quantize",
            Expr::Call("dynamic_quantize".to_owned(), arguments),
        );
        code.line("scale[0] = quantize.scale;");
        code.line("zero[0] = quantize.zero as u8;");
        Ok(())
    }
}
