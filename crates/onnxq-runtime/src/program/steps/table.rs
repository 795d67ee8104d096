//! Functions of one code, by tables of 256 entries, which the reference fills when the model is
//! lowered: they give exactly what it gives.

use onnxq_ir::{NodeId, Op};
use onnxq_kernels::{Cpu, lookup};
use onnxq_ops::{EvalError, Value, interpret::Interpreter};
use onnxq_tensor::{DType, Tensor};
use smallvec::SmallVec;

use super::{
    Kernel,
    elementwise::{byte_bounds, dequantization_of, quantization_of},
};
use crate::program::{
    call::Call,
    lower::Lowering,
    source::{Code, Written},
};

/// Operators that make each element of their result of one element, if all other operands are
/// constants of one element.
#[rustfmt::skip]
static FUNCTIONS: &[&str] = &[
    "Abs", "Acos", "Acosh", "Add", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Clip", "Cos", "Cosh",
    "Div", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log",
    "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink",
    "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Swish", "Tan", "Tanh",
    "ThresholdedRelu", "com.microsoft.BiasGelu", "com.microsoft.FastGelu", "com.microsoft.Gelu",
    "com.microsoft.QuickGelu",
];

struct Lookup {
    table: Box<[u8; 256]>,
    len: usize,
    functions: String,
}

/// DequantizeLinear, functions of one element, QuantizeLinear.
pub(super) fn chain(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    dequantization_of(lowering, n, op)?;
    let mut nodes: SmallVec<[NodeId; 4]> = SmallVec::from_elem(n, 1);
    let mut functions = Vec::new();
    let mut last = n;
    loop {
        let (user, operand, op) = lowering.sole_user(lowering.graph.result(last, 0))?;
        nodes.push(user);
        if operand == 0 && quantization_of(lowering, user, op).is_some() {
            return finish(lowering, &nodes, &functions);
        }
        let qualified = op.qualified();
        FUNCTIONS.contains(&qualified.as_str()).then_some(())?;
        (lowering.graph.node(user).results.len() == 1).then_some(())?;
        let others = lowering.graph.operands(user).into_iter().enumerate();
        for (_, v) in others.filter(|&(i, _)| i != operand) {
            let single = v.is_none_or(|v| lowering.constant(v).is_some_and(|t| t.len() == 1));
            single.then_some(())?;
        }
        functions.push(op.op_type.as_str());
        last = user;
    }
}

/// QLinearSigmoid and QLinearLeakyRelu.
pub(super) fn function(lowering: &mut Lowering<'_>, n: NodeId, _: &Op) -> Option<()> {
    let name = lowering.graph.op(n)?.op_type.as_str();
    finish(lowering, &[n], &[name])
}

/// Adds the step for nodes one after the other, the first of which takes codes and the last of
/// which makes them.
fn finish(lowering: &mut Lowering<'_>, nodes: &[NodeId], functions: &[&str]) -> Option<()> {
    let (&first, &last) = (nodes.first()?, nodes.last()?);
    let home = lowering.operand(first, 0)?.clone();
    let (_, dims) = lowering.type_of(lowering.graph.result(last, 0))?;
    (dims == home.dims).then_some(())?;
    let table = table(lowering, nodes, home.dtype)?;
    for &n in &nodes[1..] {
        lowering.absorb(n);
    }
    let functions = match functions {
        [] => "requantize".to_owned(),
        all => all.join(", "),
    };
    let kernel = Lookup {
        table,
        len: home.len(),
        functions,
    };
    lowering.push_result(first, last, Box::new(kernel), &[home.place], home.layout)
}

/// What the nodes make of each byte.
fn table(lowering: &Lowering<'_>, nodes: &[NodeId], dtype: DType) -> Option<Box<[u8; 256]>> {
    byte_bounds(dtype)?;
    let all: Vec<u8> = (0..=255).collect();
    let graph = lowering.graph;
    let mut value = Tensor::new(dtype, &[256][..], onnxq_tensor::Buffer::from_vec(all)).ok()?;
    let mut before: Option<NodeId> = None;
    for &n in nodes {
        let operands = graph.operands(n).into_iter().enumerate().map(|(i, v)| {
            let v = match v {
                None => return Some(None),
                Some(v) => v,
            };
            let computed = match before {
                Some(before) => v.node == before,
                None => i == 0,
            };
            let tensor = if computed {
                value.clone()
            } else {
                lowering.constant(v)?.clone()
            };
            Some(Some(Value::Tensor(tensor)))
        });
        let operands: Vec<Option<Value>> = operands.collect::<Option<_>>()?;
        let results = Interpreter::new(lowering.model).run_node(graph.op(n)?, &operands, 1);
        value = results.ok()?.first()?.as_tensor()?.clone();
        before = Some(n);
    }
    byte_bounds(value.dtype())?;
    Box::<[u8; 256]>::try_from(value.bytes().to_vec().into_boxed_slice()).ok()
}

impl Kernel for Lookup {
    fn name(&self, _: Cpu) -> String {
        format!("table {}", self.functions)
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y, cpu) = (call.bytes(0), call.result(0), call.cpu);
        call.threads.spread(&mut y[..self.len], 64, |at, y| {
            lookup(cpu, &x[at..][..y.len()], &self.table, y);
        });
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        code.operand(0, "x", "u8");
        code.result(0, "y", "u8");
        let (cpu, len, table) = (code.cpu(), self.len, code.table(&self.table));
        let (x, y) = (format!("&x[..{len}]"), format!("&mut y[..{len}]"));
        code.call("lookup", vec![cpu, x.into(), table, y.into()]);
        Ok(())
    }
}
