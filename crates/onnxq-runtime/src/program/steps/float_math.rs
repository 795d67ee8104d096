//! Functions of one and of two floats.

use onnxq_ir::{NodeId, Op};
use onnxq_kernels::{Activation, Cpu, Unary};
use onnxq_ops::EvalError;
use onnxq_tensor::DType;

use super::{Kernel, broadcast::Broadcast};
use crate::{
    plan::binary::{self, Row},
    program::{
        call::Call,
        lower::{Layout, Lowering},
        source::{Code, Written},
    },
};

struct One {
    name: String,
    f: Unary,
    len: usize,
}

/// What kernel an operator of one tensor of floats is.
pub(super) fn function(lowering: &Lowering<'_>, n: NodeId, op: &Op) -> Option<Unary> {
    let opset = lowering.model.opsets.get("").copied().unwrap_or(1);
    let alpha = |default: f32| op.float("alpha", default);
    let f = match (&op.domain[..], &op.op_type[..]) {
        ("", "Relu") => Unary::Activation(Activation::Clamp(0.0, f32::INFINITY)),
        ("", "Clip") if opset >= 11 => {
            let bound = |i: usize, default: f32| match lowering.graph.operand(n, i) {
                None => Some(default),
                Some(_) => lowering.scalar(n, i),
            };
            let (low, high) = (bound(1, f32::MIN)?, bound(2, f32::MAX)?);
            (low <= high).then_some(Unary::Activation(Activation::Clamp(low, high)))?
        }
        ("", "Gelu") => match op.str("approximate") {
            None | Some("none") => Unary::Activation(Activation::Gelu),
            Some("tanh") => Unary::Activation(Activation::GeluTanh),
            Some(_) => return None,
        },
        ("com.microsoft", "Gelu") => Unary::Activation(Activation::Gelu),
        ("", "Sigmoid") => Unary::Activation(Activation::Sigmoid),
        ("", "Tanh") => Unary::Activation(Activation::Tanh),
        ("", "Abs") => Unary::Abs,
        ("", "Neg") => Unary::Neg,
        ("", "Reciprocal") => Unary::Reciprocal,
        ("", "Sqrt") => Unary::Sqrt,
        ("", "Exp") => Unary::Exp,
        ("", "Log") => Unary::Log,
        ("", "Erf") => Unary::Erf,
        ("", "Floor") => Unary::Floor,
        ("", "Ceil") => Unary::Ceil,
        ("", "Round") => Unary::Round,
        ("", "HardSigmoid") => Unary::HardSigmoid {
            alpha: alpha(0.2),
            beta: op.float("beta", 0.5),
        },
        ("", "HardSwish") => Unary::HardSwish,
        ("", "LeakyRelu") => Unary::LeakyRelu(alpha(0.01)),
        ("", "ThresholdedRelu") => Unary::ThresholdedRelu(alpha(1.0)),
        ("", "Elu") => Unary::Elu(alpha(1.0)),
        ("", "Selu") => Unary::Selu {
            alpha: alpha(1.673_263_2),
            gamma: op.float("gamma", 1.050_701),
        },
        ("", "Celu") if alpha(1.0) > 0.0 => Unary::Celu(alpha(1.0)),
        ("", "Softplus") => Unary::Softplus,
        ("", "Softsign") => Unary::Softsign,
        ("", "Mish") => Unary::Mish,
        ("", "Swish") => Unary::Swish(alpha(1.0)),
        ("com.microsoft", "QuickGelu") => Unary::Swish(alpha(1.702)),
        ("", "Pow") => match lowering.scalar(n, 1)? {
            2.0 => Unary::Square,
            0.5 => Unary::Sqrt,
            _ => return None,
        },
        _ => return None,
    };
    Some(f)
}

/// A function of one tensor of floats.
pub(super) fn one(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let f = function(lowering, n, op)?;
    let home = lowering.operand(n, 0)?.clone();
    let (dtype, dims) = lowering.type_of(lowering.graph.result(n, 0))?;
    (home.dtype == DType::F32 && dtype == DType::F32 && home.dims == dims).then_some(())?;
    let kernel = One {
        name: op.op_type.clone(),
        f,
        len: home.len(),
    };
    lowering.push_node(n, Box::new(kernel), &[home.place], home.layout)
}

impl Kernel for One {
    fn name(&self, _: Cpu) -> String {
        format!("float {}", self.name)
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y, cpu) = (call.floats(0), call.result_floats(0), call.cpu);
        call.threads.spread(&mut y[..self.len], 64, |at, y| {
            onnxq_kernels::unary(cpu, self.f, &x[at..][..y.len()], y);
        });
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        code.operand(0, "x", "f32");
        code.result(0, "y", "f32");
        let (cpu, len) = (code.cpu(), self.len);
        let (x, y) = (format!("&x[..{len}]"), format!("&mut y[..{len}]"));
        code.call("unary", vec![cpu, self.f.into(), x.into(), y.into()]);
        Ok(())
    }
}

/// A function of two floats, by a closure.
#[derive(Clone, Copy)]
struct By<F>(F);

impl<F: Fn(f32, f32) -> f32 + Copy + Send + Sync + 'static> binary::Function for By<F> {
    #[inline(always)]
    fn at(self, a: f32, b: f32) -> f32 {
        (self.0)(a, b)
    }
}

#[derive(Clone, Copy, Debug)]
enum Function {
    Add,
    Sub,
    Mul,
    Div,
}

struct Two {
    f: Function,
    along: Broadcast<2>,
}

/// A sum, difference, product or quotient of floats.
pub(super) fn two(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let graph = lowering.graph;
    let f = match op.op_type.as_str() {
        "Add" => Function::Add,
        "Sub" => Function::Sub,
        "Mul" => Function::Mul,
        "Div" => Function::Div,
        _ => return None,
    };
    (lowering.model.opsets.get("").copied().unwrap_or(1) >= 7).then_some(())?;
    let (dtype, dims) = lowering.type_of(graph.result(n, 0))?;
    let (a, b) = (graph.operand(n, 0)?, graph.operand(n, 1)?);
    (dtype == DType::F32).then_some(())?;
    let (a_home, b_home) = (lowering.home(a)?.clone(), lowering.home(b)?.clone());
    (a_home.dtype == DType::F32 && b_home.dtype == DType::F32).then_some(())?;
    // Tensors of the same dimensions stay as they lie, the first one deciding.
    let layout = match a_home.dims == b_home.dims || b_home.len() == 1 {
        true => a_home.layout,
        false => Layout::Plain,
    };
    let a_home = lowering.laid(a, layout)?;
    let b_home = match b_home.len() {
        1 => b_home,
        _ => lowering.laid(b, layout)?,
    };
    let along = Broadcast::new(&dims, [&a_home.dims, &b_home.dims])?;
    let kernel = Two { f, along };
    lowering.push_node(n, Box::new(kernel), &[a_home.place, b_home.place], layout)
}

fn row(x: &[f32], at: usize, len: usize, moves: bool) -> Row<'_> {
    match moves {
        true => Row::Elements(&x[at..][..len]),
        false => Row::Same(x[at]),
    }
}

impl Kernel for Two {
    fn name(&self, _: Cpu) -> String {
        format!("float {:?}", self.f)
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (a, b, y) = (call.floats(0), call.floats(1), call.result_floats(0));
        let along = &self.along;
        call.threads
            .spread(&mut y[..along.len()], along.unit(), |first, y| {
                along.each(first, y.len(), |at, len, [a_at, b_at]| {
                    let (a, b) = (
                        row(a, a_at, len, along.moves[0]),
                        row(b, b_at, len, along.moves[1]),
                    );
                    let y = &mut y[at..][..len];
                    match self.f {
                        Function::Add => binary::row(By(|a, b| a + b), a, b, y),
                        Function::Sub => binary::row(By(|a, b| a - b), a, b, y),
                        Function::Mul => binary::row(By(|a, b| a * b), a, b, y),
                        Function::Div => binary::row(By(|a, b| a / b), a, b, y),
                    }
                });
            });
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        code.operand(0, "a", "f32");
        code.operand(1, "b", "f32");
        code.result(0, "y", "f32");
        let (along, width) = (&self.along, self.along.width);
        if along.len() == 0 {
            return Ok(());
        }
        along.write(code, |code, at, [a_at, b_at]| {
            let part = |name: &str, at: &str, moves: bool| match moves {
                true => format!("Broadcast::Elements(&{name}[{at}..][..{width}])"),
                false => format!("Broadcast::Scalar({name}[{at}])"),
            };
            let f = format!("Binary::{:?}", self.f);
            let arguments = vec![
                code.cpu(),
                f.into(),
                part("a", &a_at, along.moves[0]).into(),
                part("b", &b_at, along.moves[1]).into(),
                width.into(),
                "UNBOUNDED".into(),
                format!("&mut y[{at}..][..{width}]").into(),
            ];
            code.call("binary", arguments);
        });
        Ok(())
    }
}
