//! Looks up codes, and dequantizes what was found.
//!
//! ```text
//! Gather(DequantizeLinear(table, scale, zero_point), i)
//! =>
//! DequantizeLinear(Gather(table, i), scale, zero_point)
//! ```
//!
//! The same values, and the table is never dequantized as a whole. Does not fire where the table
//! has more than one scale or is not a constant in codes of 8 bits.

use onnxq_ir::{Model, NodeId, Value, ValueId};
use onnxq_pass::{Pass, PassContext, PassError, PassInfo, Rewriter, Rule, apply_rewrites};

use super::{pattern, product};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "lower-gather",
    summary: "look up codes in a quantized table, and dequantize what was found",
    options: &[product::COMPAT],
    build: |opts| {
        let compat = opts.take("compat", false)?;
        Ok(Box::new(LowerGather { compat }))
    },
};

struct LowerGather {
    compat: bool,
}

impl Pass for LowerGather {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let transpose = |rw: &mut Rewriter<'_>, n| self.compat.then(|| lower_transpose(rw, n))?;
        let rules = [
            Rule {
                name: INFO.name,
                apply: &lower,
            },
            Rule {
                name: "lower-transpose",
                apply: &transpose,
            },
        ];
        apply_rewrites(model, cx, &rules)
    }
}

fn lower(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Gather")?;
    let table = pattern::weight(rw, rw.operand(n, 0)?)?;
    if table.axis.is_some() {
        rw.miss(n, "the table has more than one scale")?;
    }
    move_up(rw, n, table.codes)
}

/// `Transpose(DequantizeLinear(Gather(...)))`: the tool of ONNX Runtime transposes the codes.
fn lower_transpose(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Transpose")?;
    let dequantize = rw.producer(rw.operand(n, 0)?, "DequantizeLinear")?;
    let codes = rw.operand(dequantize, 0)?;
    let found = rw
        .is(codes.node, "Gather")
        .or(rw.is(codes.node, "Transpose"));
    let scale = rw.constant(rw.operand(dequantize, 1)?)?;
    (found.is_some() && scale.rank() == 0).then(|| move_up(rw, n, codes))?
}

/// Puts `n`, whose first operand is dequantized, on the codes, and dequantizes what it gives.
fn move_up(rw: &mut Rewriter<'_>, n: NodeId, codes: ValueId) -> Option<()> {
    let dequantized = rw.operand(n, 0)?.node;
    let dequantize = rw.op(dequantized)?.clone();
    let op = rw.op(n)?.clone();
    let mut operands = rw.graph().operands(n);
    operands[0] = Some(codes);
    let moved = Value::new(product::name(rw, n, "quantized"), None);
    let name = rw.graph().node(n).name.clone();
    let moved = rw.insert_node(name, op, &operands, [moved]);
    let mut operands = rw.graph().operands(dequantized);
    operands[0] = Some(rw.result(moved, 0));
    let result = rw.graph().value(rw.result(n, 0)).clone();
    // Where the result is quantized again, that is the name of a node behind it.
    let uses = rw.graph().uses(rw.result(n, 0));
    let quantized = uses
        .iter()
        .any(|u| rw.is(u.node, "QuantizeLinear").is_some());
    let suffix = match quantized {
        true => "table_DequantizeLinear",
        false => "DequantizeLinear",
    };
    let name = product::name(rw, n, suffix);
    let dequantized = rw.insert_node(name, dequantize, &operands, [result]);
    rw.replace(rw.result(n, 0), rw.result(dequantized, 0))
}
