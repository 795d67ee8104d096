//! Folds multiplication by, and addition of, constants into the linear operator before them.
//!
//! ```text
//! y = Mul(Conv(x, W, b), k)   =>   y = Conv(x, k * W, k * b)
//! y = Add(Conv(x, W, b), c)   =>   y = Conv(x, W, b + c)
//! ```
//!
//! Likewise for `ConvTranspose`, `Gemm`, and `MatMul` with the weight on the right (with an
//! addition it becomes a `Gemm`); for `Sub` and for `Div` by a constant; and with the operands
//! the other way round. The constant is one number, or one per output channel: `[C, 1, 1]` or
//! `[1, C, 1, 1]` behind a `Conv` in two dimensions, `[N]` or `[1, N]` behind a `Gemm`.
//!
//! Does not fire
//! - where the constant has another shape: per position, or of a rank above that of the result;
//! - where the constant is divided by the result;
//! - where the weight or the bias is no constant, or one that callers may override;
//! - where the result of the linear operator has another use, a result of the graph included;
//! - for an addition, where the result of `MatMul` is not known to be of rank 2;
//! - where a weight of more than 1 MiB has another use, for which it would have to stay;
//! - where a new number would not be finite in the type of the weight;
//! - before opset 7, where broadcasting was another.
//!
//! Numbers are computed in f64 and rounded once.

use onnxq_ir::{NodeId, ValueId};
use onnxq_pass::{PassInfo, Rewrite, Rewriter, rewrites};
use onnxq_tensor::Tensor;

use super::{
    channels::Affine,
    linear::{Kind, Linear},
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "fuse-conv-mul-add",
    summary: "fold Mul, Div, Add and Sub of constants into the preceding linear operator",
    options: &[],
    build: |_| rewrites("fuse-conv-mul-add", REWRITES),
};

const REWRITES: &[Rewrite] = &[Rewrite {
    name: "fuse-conv-mul-add",
    apply: fuse_conv_mul_add,
}];

/// `Mul(Conv(x, W, b), k)` => `Conv(x, k * W, k * b)`, and what is like it
fn fuse_conv_mul_add(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    let arithmetic = Arithmetic::of(rw, n)?;
    fold(rw, n, arithmetic)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
}

impl Arithmetic {
    /// Which one is at `n`.
    fn of(rw: &Rewriter<'_>, n: NodeId) -> Option<Arithmetic> {
        let op = rw.op(n).filter(|op| op.domain.is_empty())?;
        match op.op_type.as_str() {
            "Add" => Some(Arithmetic::Add),
            "Sub" => Some(Arithmetic::Sub),
            "Mul" => Some(Arithmetic::Mul),
            "Div" => Some(Arithmetic::Div),
            _ => None,
        }
    }

    /// What it does to its operand `side`, the other one being `values`.
    fn affine(self, side: usize, values: Vec<f64>) -> Option<Affine> {
        let each = |v: f64| vec![v; values.len()];
        let (scale, shift) = match (self, side) {
            (Arithmetic::Add, _) => (each(1.0), values),
            (Arithmetic::Sub, 0) => (each(1.0), values.iter().map(|c| -c).collect()),
            (Arithmetic::Sub, _) => (each(-1.0), values),
            (Arithmetic::Mul, _) => (values.clone(), each(0.0)),
            (Arithmetic::Div, 0) => (values.iter().map(|k| 1.0 / k).collect(), each(0.0)),
            (Arithmetic::Div, _) => return None,
        };
        Some(Affine { scale, shift }).filter(Affine::is_finite)
    }
}

/// Folds the operation at `n`, which does this, into the linear operator before it.
pub(super) fn fold(rw: &mut Rewriter<'_>, n: NodeId, arithmetic: Arithmetic) -> Option<()> {
    let (side, product, constant) = operands(rw, n)?;
    if rw.opset() < 7 {
        return rw.miss(n, "broadcasting is another before opset 7");
    }
    let linear = Linear::producer(rw, product, n)?;
    let rank = linear.rank(rw);
    let channels = linear.output.channels();
    let axis = match linear.kind {
        Kind::Conv | Kind::ConvTranspose => rank? - 1,
        Kind::Gemm | Kind::MatMul => 1,
    };
    // The result of a MatMul has at least the columns.
    let Some(values) = per_channel(&constant, rank.unwrap_or(1), axis, channels) else {
        return rw.miss(
            n,
            "the constant is not one number, or one per output channel",
        );
    };
    let Some(affine) = arithmetic.affine(side, values) else {
        return rw.miss(n, "it divides the result, or by zero, or is not finite");
    };
    let y = rw.result(n, 0);
    linear.fold_after(rw, n, &affine, y)
}

/// Which operand of `n` is the result of a linear operator, that operand, and the other, which is
/// constant.
fn operands(rw: &Rewriter<'_>, n: NodeId) -> Option<(usize, ValueId, Tensor)> {
    (0..2).find_map(|side| {
        let product = rw.operand(n, side)?;
        Kind::of(rw, product.node)?;
        let constant = rw.constant(rw.operand(n, 1 - side)?)?;
        Some((side, product, constant))
    })
}

/// The numbers of a constant, one per channel of a value of this rank, which are at axis `axis`
/// from the end (1 is the last).
fn per_channel(constant: &Tensor, rank: usize, axis: usize, channels: usize) -> Option<Vec<f64>> {
    if constant.rank() > rank {
        return None;
    }
    if constant.len() == 1 {
        return Some(vec![constant.scalar_f64().ok()?; channels]);
    }
    let at = constant.rank().checked_sub(axis)?;
    let fits = constant.dims()[at] == channels && constant.len() == channels;
    fits.then(|| constant.to_f64s().ok().map(|v| v.into_owned()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_constants() {
        let constant = |dims: &[usize]| {
            let count = dims.iter().product::<usize>();
            Tensor::from_vec(dims, (0..count).map(|i| i as f32).collect()).unwrap()
        };
        let fits =
            |dims: &[usize], rank, axis| per_channel(&constant(dims), rank, axis, 3).is_some();
        for dims in [&[][..], &[1], &[1, 1, 1, 1], &[3, 1, 1], &[1, 3, 1, 1]] {
            assert!(fits(dims, 4, 3), "{dims:?}");
        }
        for dims in [
            &[3][..],
            &[1, 3],
            &[1, 1, 3],
            &[2, 3, 1, 1],
            &[3, 1, 4],
            &[1; 5],
            &[0],
        ] {
            assert!(!fits(dims, 4, 3), "{dims:?}");
        }
        for (dims, expected) in [(&[3][..], true), (&[1, 3], true), (&[3, 1], false)] {
            assert_eq!(fits(dims, 2, 1), expected, "{dims:?}");
        }
    }

    #[test]
    fn arithmetic() {
        let of =
            |a: Arithmetic, side, v: f64| a.affine(side, vec![v]).map(|a| (a.scale[0], a.shift[0]));
        assert_eq!(of(Arithmetic::Add, 1, 4.0), Some((1.0, 4.0)));
        assert_eq!(of(Arithmetic::Sub, 0, 4.0), Some((1.0, -4.0)));
        assert_eq!(of(Arithmetic::Sub, 1, 4.0), Some((-1.0, 4.0)));
        assert_eq!(of(Arithmetic::Mul, 0, 4.0), Some((4.0, 0.0)));
        assert_eq!(of(Arithmetic::Div, 0, 4.0), Some((0.25, 0.0)));
        assert_eq!(of(Arithmetic::Div, 0, 0.0), None);
        assert_eq!(of(Arithmetic::Div, 1, 4.0), None);
        assert_eq!(of(Arithmetic::Mul, 0, f64::NAN), None);
    }
}
