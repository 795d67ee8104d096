//! Fuses the computation of parameters with the quantization that uses them.
//!
//! ```text
//! scale, zero_point = ComputeQuantizationParameters <to = uint8, qmin = 0, qmax = 255, symmetric = 0> (x)
//! codes = QuantizeLinear(x, scale, zero_point)
//! =>
//! codes, scale, zero_point = DynamicQuantizeLinear(x)
//! ```
//!
//! Does not fire for other types or symmetric parameters, which DynamicQuantizeLinear does not
//! know, nor where what is quantized is not what the parameters are computed from.

use onnxq_ir::{Graph, Model, NodeId, Op, Value};
use onnxq_pass::{Pass, PassContext, PassError, PassInfo, Rewriter, Rule, apply_rewrites};
use onnxq_tensor::DType;

use crate::quantize::{FUNCTION, FUNCTION_DOMAIN};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "fuse-dynamic-quantize",
    summary: "fuse ComputeQuantizationParameters and QuantizeLinear to DynamicQuantizeLinear",
    options: &[],
    build: |_| Ok(Box::new(FuseDynamicQuantize)),
};

struct FuseDynamicQuantize;

impl Pass for FuseDynamicQuantize {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let rule = Rule {
            name: INFO.name,
            apply: &fuse,
        };
        apply_rewrites(model, cx, &[rule])?;
        forget_function(model);
        Ok(())
    }
}

fn fuse(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "QuantizeLinear")?;
    let (x, scale, zero_point) = (rw.operand(n, 0)?, rw.operand(n, 1)?, rw.operand(n, 2)?);
    let call = scale.node;
    rw.is_in(call, FUNCTION_DOMAIN, FUNCTION)?;
    let computed = zero_point.node == call && (scale.result, zero_point.result) == (0, 1);
    if !computed || rw.operand(call, 0) != Some(x) {
        return None;
    }
    let to = rw.attr_int(call, "to", 0);
    let ends = [("qmin", 0.0), ("qmax", 255.0)].map(|(k, v)| rw.attr_float(call, k, -1.0) == v);
    let symmetric = rw.attr_int(call, "symmetric", 0) != 0;
    if to != i64::from(DType::U8.onnx()) || ends != [true, true] || symmetric {
        rw.miss(n, "DynamicQuantizeLinear knows asymmetric uint8 only")?;
    }
    let of = |v| rw.graph().value(v).clone();
    let codes = Value {
        name: rw.derive(x, "quantized"),
        ..of(rw.result(n, 0))
    };
    let results = [codes, of(scale), of(zero_point)];
    let name = rw.graph().node(n).name.clone();
    let dynamic = rw.insert_node(name, Op::new("DynamicQuantizeLinear"), &[Some(x)], results);
    let old = [rw.result(n, 0), scale, zero_point];
    for (i, old) in old.into_iter().enumerate() {
        // A parameter without another use has nothing to move.
        let _ = rw.replace(old, rw.result(dynamic, i));
    }
    Some(())
}

/// Takes the import of the function's domain out of a model that no longer calls it.
fn forget_function(model: &mut Model) {
    let mut called = false;
    model.for_each_graph(|graph: &Graph| {
        let needed = graph.needed();
        let calls = |n: NodeId| {
            let op = graph.op(n).filter(|_| needed[n.index()]);
            op.is_some_and(|op| op.domain == FUNCTION_DOMAIN)
        };
        called |= graph.node_ids().any(calls);
    });
    if !called {
        model.functions.retain(|id, _| id.domain != FUNCTION_DOMAIN);
        model.opsets.shift_remove(FUNCTION_DOMAIN);
    }
}
