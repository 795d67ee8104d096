//! Folds BatchNormalization into the linear operator that it feeds.
//!
//! ```text
//! y = Conv(BatchNormalization(x, gamma, beta, mean, var), W, b)   =>   y = Conv(x, W', b')
//! k = gamma / sqrt(var + epsilon)    W' = W * k    b' = b + sum(W * (beta - k * mean))
//! ```
//!
//! Likewise for `ConvTranspose`, `Gemm`, and `MatMul` with the weight on the right, which becomes
//! a `Gemm`. `k` counts per input channel, whatever the groups; a bias may be absent.
//!
//! Does not fire
//! - in training mode, or where the statistics are results;
//! - where a parameter, the weight or the bias is no constant, or one that callers may override;
//! - where the normalized value has another use, a result of the graph included;
//! - where a `Conv` pads: it pads the normalized value with zeros, which stand for something else
//!   before the shift (and that is no one number for all channels). The same holds for the borders
//!   of any `ConvTranspose`. Both fold where no channel is shifted;
//! - where `MatMul` is not known to multiply matrices, or `Gemm` transposes its input;
//! - where a weight of more than 1 MiB has another use, for which it would have to stay;
//! - where the channels of `x` differ much in range: a factor of more than 4 between the largest
//!   and the smallest `k`, or a mean more than 4 standard deviations from zero. The result would
//!   be the same, but quantizing `x` with one scale, where before it was the normalized value, would
//!   leave little of the narrow channels. Features of a table are of this kind;
//! - where a new number would not be finite in the type of the weight.
//!
//! Numbers are computed in f64 and rounded once.

use onnxq_ir::NodeId;
use onnxq_pass::{PassInfo, Rewrite, Rewriter, rewrites};

use super::{
    batch_norm::BatchNorm,
    linear::{Kind, Linear},
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "fuse-bn-conv",
    summary: "fold BatchNormalization into the linear operator behind it",
    options: &[],
    build: |_| rewrites("fuse-bn-conv", REWRITES),
};

const REWRITES: &[Rewrite] = &[Rewrite {
    name: "fuse-bn-conv",
    apply: fuse_bn_conv,
}];

/// How far the ranges of channels may be apart, and means from zero: 2 of 8 bits.
const MAX_RATIO: f64 = 4.0;

/// `Conv(BatchNormalization(x, ...), W, b)` => `Conv(x, W', b')`
fn fuse_bn_conv(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "BatchNormalization")?;
    let user = rw
        .sole_use(rw.result(n, 0))
        .filter(|u| u.operand == 0)?
        .node;
    let kind = Kind::of(rw, user)?;
    let bn = BatchNorm::new(rw, n, |_, _| true)?;
    let linear = Linear::new(rw, user, n)?;
    if linear.input.channels() != bn.affine.scale.len() {
        return None;
    }
    let shifts = !bn.affine.keeps_zero();
    match kind {
        Kind::Conv if shifts && pads(rw, user) => {
            return rw.miss(n, "the Conv pads the normalized value with zeros");
        }
        Kind::ConvTranspose if shifts => {
            return rw.miss(
                n,
                "the shift would not reach the borders of ConvTranspose alike",
            );
        }
        Kind::Gemm if rw.attr_int(user, "transA", 0) != 0 => {
            return rw.miss(n, "Gemm transposes its input");
        }
        Kind::MatMul if linear.rank(rw) != Some(2) => {
            return rw.miss(n, "the result of MatMul is not known to be of rank 2");
        }
        _ => {}
    }
    if !alike(&bn) {
        return rw.miss(
            n,
            "the channels of its input differ too much in range to share a scale",
        );
    }
    linear.fold_before(rw, n, &bn.affine, bn.x)
}

/// Whether a `Conv` may pad.
fn pads(rw: &Rewriter<'_>, n: NodeId) -> bool {
    match rw.attr_str(n, "auto_pad", "NOTSET").as_str() {
        "VALID" => false,
        "NOTSET" => rw.attr_ints(n, "pads", &[]).iter().any(|&p| p != 0),
        _ => true,
    }
}

/// Whether the channels before normalization are of similar range, and around zero.
fn alike(bn: &BatchNorm) -> bool {
    let scales = || bn.affine.scale.iter().map(|k| k.abs());
    let largest = scales().fold(0.0, f64::max);
    let smallest = scales().fold(f64::INFINITY, f64::min);
    let centered = (bn.mean.iter().zip(&bn.deviation)).all(|(m, d)| m.abs() <= MAX_RATIO * d);
    largest <= MAX_RATIO * smallest && centered
}
