//! Drops operations that return their operand, and shortens chains of operations that undo or
//! repeat each other.
//!
//! ```text
//! y = Identity(x)                    =>   x
//! y = Reshape(x, its own shape)      =>   x
//! y = Transpose(Transpose(x))        =>   Transpose(x), or x
//! ```
//!
//! `no_ops` has the operations that do nothing, `chains` those that are two of a kind, `states` operands
//! that are what they would be if left out. Each
//! rule says in its documentation when it does not fire. In general none fires
//! - where the result is a result of the graph and the operand an input, a constant, or another
//!   result of the graph: the file would need an `Identity` in the place of the operation;
//! - on a shape that is not known for certain: a dimension without a name equals none.

mod chains;
mod no_ops;
mod states;

use onnxq_ir::ValueId;
use onnxq_pass::{PassInfo, Rewrite, Rewriter, rewrites};
use onnxq_tensor::{Dim, Shape};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "eliminate-identities",
    summary: "drop operations that return their operand, and pairs that undo each other",
    options: &[],
    build: |_| rewrites("eliminate-identities", REWRITES),
};

const REWRITES: &[Rewrite] = &[
    rewrite("drop-identity", no_ops::identity),
    rewrite("drop-dropout", no_ops::dropout),
    rewrite("drop-cast", no_ops::cast),
    rewrite("cast-like-to-cast", chains::cast_like),
    rewrite("drop-view", no_ops::view),
    rewrite("drop-transpose", no_ops::transpose),
    rewrite("drop-slice", no_ops::slice),
    rewrite("drop-pad", no_ops::pad),
    rewrite("drop-neutral", no_ops::neutral),
    rewrite("drop-single", no_ops::single),
    rewrite("drop-zero-states", states::zero_states),
    rewrite("merge-transposes", chains::transposes),
    rewrite("merge-squeezes", chains::squeezes),
    rewrite("merge-views", chains::views),
    rewrite("merge-casts", chains::casts),
];

const fn rewrite(
    name: &'static str,
    apply: fn(&mut Rewriter<'_>, onnxq_ir::NodeId) -> Option<()>,
) -> Rewrite {
    Rewrite { name, apply }
}

/// Lets every user of `y` use `x` instead. A result of the graph keeps its name, which `x` gets.
fn forward(rw: &mut Rewriter<'_>, y: ValueId, x: ValueId) -> Option<()> {
    let graph = rw.graph();
    if !graph.is_output(y) {
        return rw.replace(y, x);
    }
    if rw.op(x.node).is_none() || graph.is_output(x) {
        return None;
    }
    let name = rw.name(y).to_owned();
    rw.replace(y, x)?;
    rw.rename(x, name);
    Some(())
}

/// Whether both are certainly the same.
fn is_same(a: &Dim, b: &Dim) -> bool {
    a == b && !a.is_unknown()
}

/// Whether `x` and `y` certainly have the same shape.
fn same_shape(rw: &Rewriter<'_>, x: ValueId, y: ValueId) -> Option<()> {
    let (a, b) = (rw.shape(x)?, rw.shape(y)?);
    let same = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b));
    same.then_some(())
}

/// Whether two shapes of equally many elements are certainly the same: one dimension may then
/// be unknown where all others are constant and not zero.
fn same_view(a: &Shape, b: &Shape) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let different = || a.iter().zip(b).filter(|(a, b)| !is_same(a, b)).count();
    let nonzero = || {
        let same = a.iter().zip(b).filter(|(a, b)| is_same(a, b));
        same.map(|(a, _)| a)
            .all(|d| d.as_const().is_some_and(|d| d > 0))
    };
    match different() {
        0 => true,
        1 => nonzero(),
        _ => false,
    }
}
