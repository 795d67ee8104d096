//! Drops operations that return their operand.
//!
//! ```text
//! y = Identity(x)   =>   x
//! ```
//!
//! Does not fire where the result is a result of the graph and the operand an input or constant:
//! the graph would need the `Identity` again when it is written.

use onnxq_ir::NodeId;
use onnxq_pass::{PassInfo, Rewrite, Rewriter, rewrites};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "eliminate-identities",
    summary: "drop operations that return their operand",
    options: &[],
    build: |_| rewrites("eliminate-identities", REWRITES),
};

const REWRITES: &[Rewrite] = &[Rewrite {
    name: "drop-identity",
    apply: drop_identity,
}];

/// `Identity(x)` => `x`
fn drop_identity(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Identity")?;
    let x = rw.operand(n, 0)?;
    let y = rw.result(n, 0);
    if rw.graph().is_output(y) && rw.op(x.node).is_none() {
        return None;
    }
    rw.replace(y, x)
}
