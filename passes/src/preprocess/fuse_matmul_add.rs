//! Makes a MatMul and the bias that is added to it one Gemm.
//!
//! ```text
//! y = Add(MatMul(x, W), b)   =>   y = Gemm(x, W, b)
//! ```
//!
//! A bias that belongs to its operator is quantized with it. `fuse-conv-mul-add` does the same
//! among other things; this pass changes no weight.
//!
//! Does not fire
//! - where `x` is not known to be of rank 2: `Gemm` multiplies matrices only;
//! - where `W` is no constant on the right, or `b` no constant of one number or `[N]` or `[1, N]`
//!   for N columns, or either is one that callers may override;
//! - where the product has another use, a result of the graph included;
//! - before opset 7, where broadcasting was another.

use onnxq_ir::NodeId;
use onnxq_pass::{PassInfo, Rewrite, Rewriter, rewrites};

use super::{
    fuse_conv_mul_add::{Arithmetic, fold},
    linear::Kind,
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "fuse-matmul-add",
    summary: "make MatMul and the addition of a bias a Gemm",
    options: &[],
    build: |_| rewrites("fuse-matmul-add", REWRITES),
};

const REWRITES: &[Rewrite] = &[Rewrite {
    name: "fuse-matmul-add",
    apply: fuse_matmul_add,
}];

/// `Add(MatMul(x, W), b)` => `Gemm(x, W, b)`
fn fuse_matmul_add(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Add")?;
    (0..2)
        .filter_map(|i| rw.operand(n, i))
        .find(|v| Kind::of(rw, v.node) == Some(Kind::MatMul))?;
    fold(rw, n, Arithmetic::Add)
}
