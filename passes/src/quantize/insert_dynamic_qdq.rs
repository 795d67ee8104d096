//! Quantizes what quantized weights are multiplied with, while the model runs.
//!
//! ```text
//! y = MatMul(x, DequantizeLinear(W_quantized, ...))
//! =>
//! x_scale, x_zero_point = ComputeQuantizationParameters(x)
//! x_quantized = QuantizeLinear(x, x_scale, x_zero_point)
//! y = MatMul(DequantizeLinear(x_quantized, x_scale, x_zero_point), DequantizeLinear(W_quantized, ...))
//! ```
//!
//! Once for each value, whoever uses it. `ComputeQuantizationParameters` is a function of the model
//! ([`function`](super::function)); with `dynamic-function=false`, DynamicQuantizeLinear stands for
//! it and QuantizeLinear. Values of float16 are converted to float and back.
//!
//! Does not fire for nodes that the options leave out, without a weight in codes, or whose
//! activation is constant or dequantized already.

use std::collections::{HashMap, hash_map::Entry};

use onnxq_ir::{Graph, Model, NodeId, Op, Type, Value, ValueId};
use onnxq_pass::{
    Error, OptionInfo, OptionKind, Options, Pass, PassContext, PassError, PassInfo, describe,
};
use onnxq_quant::QuantType;
use onnxq_tensor::DType;

use super::{
    function,
    options::{
        ACTIVATION_SYMMETRIC, ACTIVATION_TYPE, COMPAT, EXCLUDE_NODES, MATMUL_CONST_B_ONLY, MODE,
        NODES, OP_TYPES, SUBGRAPHS, Settings,
    },
    require,
    select::{self, Role},
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "insert-dynamic-qdq",
    summary: "quantize what quantized weights are multiplied with, while the model runs",
    options: &[
        MODE,
        ACTIVATION_TYPE,
        ACTIVATION_SYMMETRIC,
        OP_TYPES,
        NODES,
        EXCLUDE_NODES,
        SUBGRAPHS,
        MATMUL_CONST_B_ONLY,
        COMPAT,
        OptionInfo {
            name: "dynamic-function",
            kind: OptionKind::Bool,
            default: "true",
            help: "compute parameters by a function of the model, not by DynamicQuantizeLinear",
        },
    ],
    build,
};

fn build(opts: &mut Options) -> Result<Box<dyn Pass>, Error> {
    let settings = Settings::take(opts)?;
    let function = opts.take("dynamic-function", true)?;
    let plain = settings.activation_type == QuantType::UInt8 && !settings.activation_symmetric;
    if !function && !plain {
        let expected = "`true`: DynamicQuantizeLinear knows asymmetric uint8 only";
        return Err(opts.invalid("dynamic-function", expected));
    }
    Ok(Box::new(InsertDynamicQdq { settings, function }))
}

struct InsertDynamicQdq {
    settings: Settings,
    function: bool,
}

/// Functions came with version 8 of the file format.
const IR_VERSION_OF_FUNCTIONS: i64 = 8;

impl Pass for InsertDynamicQdq {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        if !self.settings.is_dynamic(cx)? {
            return Ok(());
        }
        let mut targets = 0;
        select::for_each_graph(&self.settings, &mut model.graph, |graph| {
            targets += self.targets(graph).len();
        });
        if targets == 0 {
            return Ok(());
        }
        require::opset(model, cx, 12)?;
        if self.function {
            function::define(model)?;
            require::ir_version(model, IR_VERSION_OF_FUNCTIONS);
        }
        select::for_each_graph(&self.settings, &mut model.graph, |graph| {
            let mut done = HashMap::new();
            for (n, i) in self.targets(graph) {
                let Some(x) = graph.operand(n, i) else {
                    continue;
                };
                let dequantized = match done.entry(x) {
                    Entry::Occupied(entry) => *entry.get(),
                    Entry::Vacant(entry) => {
                        if !cx.begin_rewrite(INFO.name, describe(graph, n)) {
                            return;
                        }
                        let dtype = weight_dtype(graph, n).unwrap_or(DType::F32);
                        *entry.insert(self.quantize(graph, x, dtype))
                    }
                };
                graph.set_operand(n, i, Some(dequantized));
            }
        });
        Ok(())
    }
}

impl InsertDynamicQdq {
    /// The operands to quantize.
    fn targets(&self, graph: &Graph) -> Vec<(NodeId, usize)> {
        let mut targets = Vec::new();
        let needed = graph.needed();
        for n in graph.op_order() {
            if !needed[n.index()] {
                continue;
            }
            let (activation, weight) = match select::selected(&self.settings, graph.node(n)) {
                Ok(Role::Product {
                    activation, weight, ..
                }) => (activation, weight),
                Ok(Role::Recurrent) => (0, 1),
                _ => continue,
            };
            let x = graph.operand(n, activation);
            let in_codes = dequantized_constant(graph, n, weight).is_some();
            if in_codes && x.is_some_and(|x| select::is_computed(graph, x)) {
                targets.push((n, activation));
            }
            let both = graph.is(n, "MatMul") && !self.settings.matmul_const_b_only;
            if both && [0, 1].iter().all(|&i| select::computes_floats(graph, n, i)) {
                targets.extend([(n, 0), (n, 1)]);
            }
        }
        targets
    }

    /// Adds what quantizes `x` and dequantizes it again.
    fn quantize(&self, graph: &mut Graph, x: ValueId, dtype: DType) -> ValueId {
        let base = graph.value(x).name.clone();
        let ty = graph.ty(x).cloned();
        let named = |suffix: &str| format!("{base}_{suffix}");
        let typed = |dtype| {
            let shape = ty.as_ref().and_then(Type::shape).cloned();
            Some(Type::tensor(dtype, shape))
        };
        let scalar = |dtype| Some(Type::dense(dtype, &[]));
        let qtype = self.settings.activation_type;
        let scale = Value::new(named("scale"), scalar(DType::F32));
        let zero_point = Value::new(named("zero_point"), scalar(qtype.dtype()));
        let mut x = x;
        if dtype != DType::F32 {
            let cast = Op::new("Cast").with("to", i64::from(DType::F32.onnx()));
            x = graph.insert(cast, &[x], named("float"));
            graph.set_type(x, typed(DType::F32));
        }
        let parameters = if self.function {
            let call = function::call(qtype, self.settings.activation_symmetric);
            let name = named(function::FUNCTION);
            let n = graph.add_node(name, call, &[Some(x)], [scale, zero_point]);
            let (scale, zero_point) = (graph.result(n, 0), graph.result(n, 1));
            let codes = Value::new(named("QuantizeLinear_Output"), typed(qtype.dtype()));
            let operands = [x, scale, zero_point].map(Some);
            let name = named("QuantizeLinear");
            let n = graph.add_node(name, Op::new("QuantizeLinear"), &operands, [codes]);
            [graph.result(n, 0), scale, zero_point]
        } else {
            let codes = Value::new(named("quantized"), typed(qtype.dtype()));
            let op = Op::new("DynamicQuantizeLinear");
            let name = named("QuantizeLinear");
            let n = graph.add_node(name, op, &[Some(x)], [codes, scale, zero_point]);
            [0, 1, 2].map(|i| graph.result(n, i))
        };
        let result = Value::new(named("DequantizeLinear_Output"), typed(DType::F32));
        let name = named("DequantizeLinear");
        let op = Op::new("DequantizeLinear");
        let n = graph.add_node(name, op, &parameters.map(Some), [result]);
        let mut v = graph.result(n, 0);
        if dtype != DType::F32 {
            let cast = Op::new("Cast").with("to", i64::from(dtype.onnx()));
            v = graph.insert(cast, &[v], format!("{base}_{dtype}"));
            graph.set_type(v, typed(dtype));
        }
        v
    }
}

fn is_dequantize(op: &Op) -> bool {
    op.is("DequantizeLinear")
}

/// The DequantizeLinear of constants that operand `i` of `n` is a result of, or a Reshape of one.
fn dequantized_constant(graph: &Graph, n: NodeId, i: usize) -> Option<NodeId> {
    let mut v = graph.operand(n, i)?;
    if graph.is(v.node, "Reshape") {
        v = graph.operand(v.node, 0)?;
    }
    graph.op(v.node).filter(|op| is_dequantize(op))?;
    let codes = graph.tensor(graph.operand(v.node, 0)?)?;
    matches!(codes.dtype(), DType::I8 | DType::U8).then_some(v.node)
}

/// The float type of the weight of `n`, or of one of its operands.
fn weight_dtype(graph: &Graph, n: NodeId) -> Option<DType> {
    let of = |i| {
        let scale = graph.operand(dequantized_constant(graph, n, i)?, 1)?;
        graph.tensor(scale).map(|t| t.dtype())
    };
    let any = || {
        graph
            .operands(n)
            .into_iter()
            .flatten()
            .find_map(|v| graph.ty(v)?.dtype())
    };
    of(1).or_else(any)
}
