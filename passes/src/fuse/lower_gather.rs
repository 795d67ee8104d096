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

use onnxq_ir::{NodeId, Value};
use onnxq_pass::{PassInfo, Rewrite, Rewriter, rewrites};

use super::{pattern, product};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "lower-gather",
    summary: "look up codes in a quantized table, and dequantize what was found",
    options: &[],
    build: |_| rewrites("lower-gather", REWRITES),
};

const REWRITES: &[Rewrite] = &[Rewrite {
    name: "lower-gather",
    apply: lower,
}];

fn lower(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Gather")?;
    let (dequantized, indices) = (rw.operand(n, 0)?, rw.operand(n, 1)?);
    let table = pattern::weight(rw, dequantized)?;
    if table.axis.is_some() {
        rw.miss(n, "the table has more than one scale")?;
    }
    let zero_point = rw.operand(dequantized.node, 2);
    let dequantize = rw.op(dequantized.node)?.clone();
    let gather = rw.op(n)?.clone();
    let found = Value::new(product::name(rw, n, "quantized"), None);
    let name = rw.graph().node(n).name.clone();
    let gather = rw.insert_node(name, gather, &[Some(table.codes), Some(indices)], [found]);
    let mut operands = vec![Some(rw.result(gather, 0)), Some(table.scale)];
    operands.extend(zero_point.map(Some));
    let result = rw.graph().value(rw.result(n, 0)).clone();
    let name = product::name(rw, n, "DequantizeLinear");
    let dequantized = rw.insert_node(name, dequantize, &operands, [result]);
    rw.replace(rw.result(n, 0), rw.result(dequantized, 0))
}
