//! Functions of codes, and to and from codes.

use onnxq_ir::{NodeId, Op};
use onnxq_kernels::Cpu;
use onnxq_ops::EvalError;
use onnxq_tensor::DType;

use super::Kernel;
use crate::program::{
    call::Call,
    lower::{Home, Layout, Lowering},
};

/// What codes stand for: `(code - zero) · scale`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Quantization {
    pub(super) scale: f32,
    pub(super) zero: i32,
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

struct Quantize {
    to: Quantization,
    bounds: [i32; 2],
    /// Images, channels and positions of an operand whose result has the channels last.
    image: Option<[usize; 3]>,
    len: usize,
}

/// QuantizeLinear of floats to bytes by one scale; of an image, with its channels last.
pub(super) fn quantize(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let to = Quantization {
        scale: lowering.scalar(n, 1)?,
        zero: lowering.zero_point(n, 2)?,
    };
    let (dtype, _) = lowering.type_of(lowering.graph.result(n, 0))?;
    let bounds = byte_bounds(dtype)?;
    if op.int("block_size", 0) != 0 || op.attr("precision").is_some() {
        return None;
    }
    let x = lowering.graph.operand(n, 0)?;
    let home = lowering.home(x)?.clone();
    (home.dtype == DType::F32).then_some(())?;
    // What takes an image of codes wants its channels last.
    let turn = home.layout == Layout::Plain && home.dims.len() == 4;
    let image = home.image().filter(|_| turn);
    let layout = match turn {
        true => Layout::ChannelsLast,
        false => home.layout,
    };
    let kernel = Quantize {
        to,
        bounds,
        image,
        len: home.len(),
    };
    lowering.push_node(n, Box::new(kernel), &[home.place], layout)
}

impl Kernel for Quantize {
    fn name(&self, _: Cpu) -> String {
        match self.image {
            Some(_) => "quantize to channels last".to_owned(),
            None => "quantize".to_owned(),
        }
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.floats(0), call.result(0));
        let Quantization { scale, zero } = self.to;
        let code = |x: f32| rounded(x / scale, zero, self.bounds) as u8;
        match self.image {
            None => {
                for (y, &x) in y.iter_mut().zip(&x[..self.len]) {
                    *y = code(x);
                }
            }
            Some([images, channels, space]) => {
                for i in 0..images * channels {
                    let (image, channel) = (i / channels, i % channels);
                    let x = &x[i * space..][..space];
                    let y = &mut y[image * channels * space + channel..];
                    for (at, &x) in x.iter().enumerate() {
                        y[at * channels] = code(x);
                    }
                }
            }
        }
        Ok(())
    }
}

struct Dequantize {
    from: Quantization,
    signed: bool,
    len: usize,
}

/// DequantizeLinear of bytes by one scale.
pub(super) fn dequantize(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let from = Quantization {
        scale: lowering.scalar(n, 1)?,
        zero: lowering.zero_point(n, 2)?,
    };
    let home = lowering.operand(n, 0)?.clone();
    byte_bounds(home.dtype)?;
    if op.int("block_size", 0) != 0 {
        return None;
    }
    let kernel = Dequantize {
        from,
        signed: home.dtype == DType::I8,
        len: home.len(),
    };
    lowering.push_node(n, Box::new(kernel), &[home.place], home.layout)
}

impl Kernel for Dequantize {
    fn name(&self, _: Cpu) -> String {
        "dequantize".to_owned()
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.bytes(0), call.result_floats(0));
        for (y, &x) in y.iter_mut().zip(&x[..self.len]) {
            *y = (code(x, self.signed) - self.from.zero) as f32 * self.from.scale;
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
        let x = &call.floats(0)[..self.len];
        let (low, high) = x.iter().fold((0.0f32, 0.0f32), |(low, high), &x| {
            (low.min(x), high.max(x))
        });
        let scale = (high - low) / 255.0;
        let scale = if scale == 0.0 { 1.0 } else { scale };
        let zero = (0.0 - low / scale).clamp(0.0, 255.0).round_ties_even();
        let y = call.result(0);
        for (y, &x) in y.iter_mut().zip(x) {
            *y = rounded(x / scale, zero as i32, [0, 255]) as u8;
        }
        call.result_floats(1)[0] = scale;
        call.result(2)[0] = zero as u8;
        Ok(())
    }
}

/// QLinearAdd of two tensors of the same dimensions.
struct Add {
    a: (Quantization, bool),
    b: (Quantization, bool),
    sum: Quantization,
    bounds: [i32; 2],
    len: usize,
}

/// QLinearAdd of two tensors of the same dimensions.
pub(super) fn add(lowering: &mut Lowering<'_>, n: NodeId, _: &Op) -> Option<()> {
    let graph = lowering.graph;
    let quantization = |lowering: &Lowering<'_>, at: usize| {
        Some(Quantization {
            scale: lowering.scalar(n, at)?,
            zero: lowering.zero_point(n, at + 1)?,
        })
    };
    let [a_of, b_of, sum] = [1, 4, 6].map(|at| quantization(lowering, at));
    let (a_of, b_of, sum) = (a_of?, b_of?, sum?);
    let a = lowering.operand(n, 0)?.clone();
    let b = graph.operand(n, 3)?;
    let (y_dtype, y_dims) = lowering.type_of(graph.result(n, 0))?;
    let bounds = byte_bounds(y_dtype)?;
    let b_home = lowering.home(b)?;
    byte_bounds(a.dtype)?;
    byte_bounds(b_home.dtype)?;
    (a.dims == y_dims && b_home.dims == y_dims).then_some(())?;
    let b = lowering.laid(b, a.layout)?;
    let kernel = Add {
        a: (a_of, a.dtype == DType::I8),
        b: (b_of, b.dtype == DType::I8),
        sum,
        bounds,
        len: a.len(),
    };
    lowering.push_node(n, Box::new(kernel), &[a.place, b.place], a.layout)
}

impl Kernel for Add {
    fn name(&self, _: Cpu) -> String {
        "add codes".to_owned()
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (a, b, y) = (call.bytes(0), call.bytes(1), call.result(0));
        let value =
            |x: u8, (q, signed): (Quantization, bool)| (code(x, signed) - q.zero) as f32 * q.scale;
        for ((y, &a), &b) in y[..self.len].iter_mut().zip(a).zip(b) {
            let sum = value(a, self.a) + value(b, self.b);
            *y = rounded(sum / self.sum.scale, self.sum.zero, self.bounds) as u8;
        }
        Ok(())
    }
}
