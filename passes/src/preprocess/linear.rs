//! Linear operators with constant weights, and what is folded into them.
//!
//! | operator | weight | output channels | input channels |
//! |---|---|---|---|
//! | `Conv` | `[M, C/g, k...]` | axis 0 | axis 1, by group |
//! | `ConvTranspose` | `[C, M/g, k...]` | axis 1, by group | axis 0 |
//! | `Gemm` | `[K, N]`, or `[N, K]` with `transB` | N | K |
//! | `MatMul` | `[K, N]`, on the right | N | K |
//!
//! An operator is changed in place: it keeps its node and takes the name of the value that it
//! now computes. New weights are made once and in full before anything changes.

use onnxq_ir::{NodeId, Op, ValueId};
use onnxq_pass::Rewriter;
use onnxq_tensor::{DType, Tensor};

use super::channels::{Affine, Layout, scaled, vector, weighted_sums};

/// A weight that something else uses too is copied by folding; above this size it is not folded.
/// Shared weights are those of repeated heads, 0.6 MB in the largest EfficientDet.
const MAX_SHARED_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Conv,
    ConvTranspose,
    Gemm,
    MatMul,
}

impl Kind {
    /// What kind of linear operator is at `n`.
    pub(super) fn of(rw: &Rewriter<'_>, n: NodeId) -> Option<Kind> {
        let op = rw.op(n).filter(|op| op.domain.is_empty())?;
        match op.op_type.as_str() {
            "Conv" => Some(Kind::Conv),
            "ConvTranspose" => Some(Kind::ConvTranspose),
            "Gemm" => Some(Kind::Gemm),
            "MatMul" => Some(Kind::MatMul),
            _ => None,
        }
    }
}

/// A linear operator with constant weight and, if any, constant bias.
pub(super) struct Linear {
    pub(super) node: NodeId,
    pub(super) kind: Kind,
    weight: Tensor,
    pub(super) output: Layout,
    pub(super) input: Layout,
    /// What the operator multiplies the product with: `alpha` of `Gemm`.
    alpha: f64,
    /// What the operator adds to each output channel.
    bias: Option<Vec<f64>>,
}

impl Linear {
    /// The linear operator at `n`. Near misses are reported at `at`.
    pub(super) fn new(rw: &mut Rewriter<'_>, n: NodeId, at: NodeId) -> Option<Linear> {
        let kind = Kind::of(rw, n)?;
        let Some(weight) = rw.operand(n, 1).and_then(|w| rw.constant(w)) else {
            rw.miss(at, "the weight of the linear operator is not constant")?;
            return None;
        };
        let (output, input) = layouts(rw, n, kind, &weight)?;
        let bias = match rw.operand(n, 2) {
            None => None,
            Some(b) => {
                let channels = output.channels();
                let beta = f64::from(rw.attr_float(n, "beta", 1.0));
                let Some(bias) = rw.constant(b).and_then(|b| per_channel(&b, channels, beta))
                else {
                    rw.miss(at, "the bias is not a constant number per output channel")?;
                    return None;
                };
                Some(bias)
            }
        };
        Some(Linear {
            node: n,
            kind,
            weight,
            output,
            input,
            alpha: match kind {
                Kind::Gemm => f64::from(rw.attr_float(n, "alpha", 1.0)),
                _ => 1.0,
            },
            bias,
        })
    }

    /// The linear operator whose result `v` is, if nothing else uses the result.
    pub(super) fn producer(rw: &mut Rewriter<'_>, v: ValueId, at: NodeId) -> Option<Linear> {
        let linear = Linear::new(rw, v.node, at)?;
        if rw.sole_use(v).is_none() {
            rw.miss(at, "the result of the linear operator has another use")?;
        }
        rw.sole_use(v)?;
        Some(linear)
    }

    /// The rank of the result, as far as known.
    pub(super) fn rank(&self, rw: &Rewriter<'_>) -> Option<usize> {
        match self.kind {
            Kind::Conv | Kind::ConvTranspose => Some(self.weight.rank()),
            Kind::Gemm => Some(2),
            Kind::MatMul => {
                let y = rw.shape(rw.result(self.node, 0));
                let x = || rw.shape(rw.operand(self.node, 0)?).filter(|x| x.len() > 1);
                y.or_else(x).map(|shape| shape.len())
            }
        }
    }

    /// Makes `y` a result of this operator, where `y` was its result with `after` applied.
    pub(super) fn fold_after(
        &self,
        rw: &mut Rewriter<'_>,
        at: NodeId,
        after: &Affine,
        y: ValueId,
    ) -> Option<()> {
        let with_bias = self.bias.is_some() || !after.keeps_zero();
        let bias = with_bias.then(|| match &self.bias {
            // As if the bias were zero, without the sign of zero.
            None => after.shift.clone(),
            Some(bias) => (bias.iter().zip(&after.scale).zip(&after.shift))
                .map(|((b, k), c)| k * b + c)
                .collect(),
        });
        let scale = (!after.keeps_scale()).then_some((&after.scale, self.output));
        self.rewrite(rw, at, scale, bias)?;
        let result = rw.result(self.node, 0);
        let (name, ty) = (rw.name(y).to_owned(), rw.ty(y).cloned());
        rw.rename(result, name);
        if ty.is_some() {
            rw.set_type(result, ty);
        }
        rw.replace(y, result)
    }

    /// Makes `x` the input of this operator, where its input was `x` with `before` applied.
    pub(super) fn fold_before(
        &self,
        rw: &mut Rewriter<'_>,
        at: NodeId,
        before: &Affine,
        x: ValueId,
    ) -> Option<()> {
        let mut bias = self.bias.clone();
        if !before.keeps_zero() {
            let sums = weighted_sums(&self.weight, self.input, self.output, &before.shift)?;
            let bias = bias.get_or_insert_with(|| vec![0.0; sums.len()]);
            for (b, sum) in bias.iter_mut().zip(sums) {
                *b += self.alpha * sum;
            }
        }
        self.rewrite(rw, at, Some((&before.scale, self.input)), bias)?;
        rw.set_operand(self.node, 0, Some(x));
        Some(())
    }

    /// Scales the weight and sets the bias. A `MatMul` that gets a bias becomes a `Gemm`.
    fn rewrite(
        &self,
        rw: &mut Rewriter<'_>,
        at: NodeId,
        scale: Option<(&Vec<f64>, Layout)>,
        bias: Option<Vec<f64>>,
    ) -> Option<()> {
        let n = self.node;
        let old = rw.operand(n, 1)?;
        let dtype = self.weight.dtype();
        if self.kind == Kind::MatMul && bias.is_some() && self.rank(rw) != Some(2) {
            return rw.miss(at, "MatMul has no bias, and is no Gemm unless of rank 2");
        }
        if scale.is_some()
            && rw.sole_use(old).is_none()
            && self.weight.byte_len() > MAX_SHARED_BYTES
        {
            return rw.miss(at, "the weight is large and has another use");
        }
        let weight = match scale {
            None => None,
            Some((scale, layout)) => {
                let scale: Vec<f64> = scale.iter().map(|k| k * self.alpha).collect();
                let Some(weight) = scaled(&self.weight, layout, &scale) else {
                    return rw.miss(at, "a weight would not be finite");
                };
                Some(weight)
            }
        };
        let bias = match bias {
            None => None,
            Some(bias) => {
                let Some(bias) = vector(dtype, &bias) else {
                    return rw.miss(at, "a bias would not be finite");
                };
                Some(bias)
            }
        };
        if let Some(op) = rw.op_mut(n) {
            if weight.is_some() {
                op.attrs.shift_remove("alpha");
            }
            if bias.is_some() {
                op.attrs.shift_remove("beta");
                if self.kind == Kind::MatMul {
                    *op = Op::new("Gemm");
                }
            }
        }
        if let Some(weight) = weight {
            let name = folded(rw.name(old));
            let weight = rw.insert_constant(name, weight);
            rw.set_operand(n, 1, Some(weight));
        }
        if let Some(bias) = bias {
            let name = match rw.operand(n, 2) {
                Some(old) => folded(rw.name(old)),
                None => rw.derive(rw.result(n, 0), "bias"),
            };
            let bias = rw.insert_constant(name, bias);
            rw.set_operand(n, 2, Some(bias));
        }
        Some(())
    }
}

/// How output and input channels lie in the weight of the operator at `n`. `None` where the
/// model is wrong or empty, or the weight of no float type.
fn layouts(rw: &Rewriter<'_>, n: NodeId, kind: Kind, weight: &Tensor) -> Option<(Layout, Layout)> {
    let dims = weight.dims();
    let float = matches!(
        weight.dtype(),
        DType::F32 | DType::F16 | DType::BF16 | DType::F64
    );
    let rank_fits = match kind {
        Kind::Conv | Kind::ConvTranspose => dims.len() > 2,
        Kind::Gemm | Kind::MatMul => dims.len() == 2,
    };
    if weight.is_empty() || !float || !rank_fits {
        return None;
    }
    let groups = match kind {
        Kind::Conv | Kind::ConvTranspose => usize::try_from(rw.attr_int(n, "group", 1)).ok()?,
        Kind::Gemm | Kind::MatMul => 1,
    };
    if groups == 0 || !dims[0].is_multiple_of(groups) {
        return None;
    }
    let rest = dims[2..].iter().product::<usize>();
    // The axis that all of the channels have, and the one that those of a group have.
    let first = Layout {
        outer: 1,
        groups: 1,
        width: dims[0],
        inner: dims[1] * rest,
    };
    let second = Layout {
        outer: dims[0],
        groups,
        width: dims[1],
        inner: rest,
    };
    let outputs_first = match kind {
        Kind::Conv => true,
        Kind::ConvTranspose | Kind::MatMul => false,
        Kind::Gemm => rw.attr_int(n, "transB", 0) != 0,
    };
    Some(if outputs_first {
        (first, second)
    } else {
        (second, first)
    })
}

/// The numbers of a bias, times `beta`, one per channel: of `[C]`, `[1, C]`, or one for all.
fn per_channel(bias: &Tensor, channels: usize, beta: f64) -> Option<Vec<f64>> {
    let values = bias.to_f64s().ok()?;
    let values: Vec<f64> = values.iter().map(|b| b * beta).collect();
    let is_row = match bias.dims() {
        [] | [_] => true,
        [first, _] => *first == 1,
        _ => false,
    };
    match values.len() {
        1 if is_row => Some(vec![values[0]; channels]),
        len if is_row && len == channels => Some(values),
        _ => None,
    }
}

/// The name of what something was folded into.
fn folded(name: &str) -> String {
    const SUFFIX: &str = "_folded";
    if name.ends_with(SUFFIX) {
        name.to_owned()
    } else {
        format!("{name}{SUFFIX}")
    }
}
