//! InstanceNormalization, GroupNormalization and MeanVarianceNormalization: by the statistics of
//! channels of each instance, or of chosen axes.

use onnxq_ir::Op;
use onnxq_tensor::Tensor;

use super::{moments, scaling};
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, UpgradeContext,
    UpgradeError, Value,
    ops::{
        numeric::{Real, advance, product, real_tensor, same_type, strides_of, with_real},
        rules,
    },
};

pub(super) struct InstanceNormalization;
pub(super) struct GroupNormalization;
pub(super) struct MeanVarianceNormalization;

impl Operator for InstanceNormalization {
    fn name(&self) -> &'static str {
        "InstanceNormalization"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 6, 22]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_type(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let channels = cx.tensor(0)?.dims().get(1).copied().unwrap_or(1);
        by_groups(cx, channels)
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        cx.op_mut().attrs.shift_remove("consumed_inputs");
        Ok(())
    }

    fn quant(&self, op: &Op) -> QuantRole {
        scaling(op)
    }
}

impl Operator for GroupNormalization {
    fn name(&self) -> &'static str {
        "GroupNormalization"
    }

    fn since(&self) -> &'static [i64] {
        &[18, 21]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_type(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let groups = usize::try_from(cx.op().int("num_groups", 0));
        by_groups(
            cx,
            groups.map_err(|_| cx.invalid("attribute 'num_groups' is negative"))?,
        )
    }

    /// At 21 scale and bias went from one for each group to one for each channel.
    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        let x = cx
            .operand(0)
            .and_then(|v| cx.graph.ty(v))
            .and_then(|t| t.shape());
        let channels = x.and_then(|s| s.get(1)).and_then(|d| d.as_const());
        let groups = cx.op().int("num_groups", 0);
        let each = match channels {
            Some(channels) if groups > 0 && channels % groups == 0 => channels / groups,
            _ => return Err(UpgradeError::new("the number of channels is unknown")),
        };
        let constants = [
            ("column", vec![-1, 1]),
            ("repeat", vec![1, each]),
            ("row", vec![-1]),
        ];
        let [column, repeat, row] = constants.map(|(what, dims)| {
            let name = cx.derived(what);
            cx.graph.add_constant(name, Tensor::vector(dims))
        });
        for (i, what) in [(1, "scale"), (2, "bias")] {
            cx.wrap_operand(i, Op::new("Reshape"), &[column], &format!("{what}_column"));
            cx.wrap_operand(i, Op::new("Expand"), &[repeat], &format!("{what}_repeated"));
            cx.wrap_operand(i, Op::new("Reshape"), &[row], what);
        }
        Ok(())
    }
}

/// Normalizes by the statistics of `groups` groups of channels; scale and bias are operands 1 and
/// 2, for each channel or for each group.
fn by_groups(cx: &EvalContext<'_>, groups: usize) -> Result<Vec<Value>, EvalError> {
    let x = cx.tensor(0)?;
    let channels = x.dims().get(1).copied().unwrap_or(1);
    if x.is_empty() {
        return Ok(vec![x.clone().into()]);
    }
    if x.rank() < 2 || groups == 0 || channels % groups != 0 {
        return Err(cx.invalid(format!("{:?} in {groups} groups", x.dims())));
    }
    let size = product(&x.dims()[2..]);
    let (each, epsilon) = (channels / groups, f64::from(cx.op().float("epsilon", 1e-5)));
    with_real!(cx, x.dtype(), T => {
        let mut y = T::read(x)?.into_owned();
        let (scale, bias) = (T::read(cx.tensor(1)?)?, T::read(cx.tensor(2)?)?);
        let fits = |n: usize| n == channels || n == groups;
        if !fits(scale.len()) || !fits(bias.len()) {
            return Err(cx.invalid(format!("{} scales, {channels} channels", scale.len())));
        }
        for (g, group) in y.chunks_exact_mut(each * size).enumerate() {
            let (mean, var) = moments(group.iter().map(|x| x.wide()));
            let inverse = (var + epsilon).sqrt().recip();
            for (c, row) in group.chunks_exact_mut(size).enumerate() {
                let channel = g % groups * each + c;
                let at = |n: usize| if n == channels { channel } else { g % groups };
                let (s, b) = (scale[at(scale.len())].wide(), bias[at(bias.len())].wide());
                for y in row {
                    *y = T::of((y.wide() - mean) * inverse * s + b);
                }
            }
        }
        Ok(vec![real_tensor(x.dtype(), x.dims(), y)?])
    })
}

impl Operator for MeanVarianceNormalization {
    fn name(&self) -> &'static str {
        "MeanVarianceNormalization"
    }

    fn since(&self) -> &'static [i64] {
        &[9, 13]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        same_type(cx)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let axes = cx.op().ints("axes").unwrap_or(&[0, 2, 3]);
        let mut over = vec![false; x.rank()];
        for &axis in axes {
            let found = rules::axis(axis, x.rank()).ok();
            over[found.ok_or_else(|| cx.invalid(format!("axis {axis}")))?] = true;
        }
        let dims = x.dims();
        let strides = strides_of(dims);
        let pick = |v: &[usize], yes: bool| -> Vec<usize> {
            let both = v.iter().zip(&over);
            both.filter(|(_, o)| **o == yes).map(|(v, _)| *v).collect()
        };
        let (kept, kept_strides) = (pick(dims, false), pick(&strides, false));
        let (inner, inner_strides) = (pick(dims, true), pick(&strides, true));
        if x.is_empty() {
            return Ok(vec![x.clone().into()]);
        }
        let mut row = Vec::new();
        let (mut index, mut at) = (vec![0; inner.len()], [0]);
        loop {
            row.push(at[0]);
            if !advance(&mut index, &inner, [&inner_strides], &mut at) {
                break;
            }
        }
        with_real!(cx, x.dtype(), T => {
            let mut y = T::read(x)?.into_owned();
            let (mut index, mut at) = (vec![0; kept.len()], [0]);
            loop {
                let (mean, var) = moments(row.iter().map(|i| y[at[0] + i].wide()));
                for i in &row {
                    let value = &mut y[at[0] + i];
                    *value = T::of((value.wide() - mean) / (var.sqrt() + 1e-9));
                }
                if !advance(&mut index, &kept, [&kept_strides], &mut at) {
                    break;
                }
            }
            Ok(vec![real_tensor(x.dtype(), x.dims(), y)?])
        })
    }

    /// At 13 the checker began to infer through the body of the function, which it does only
    /// where the axes are written.
    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.op().attr("axes").is_none() {
            let axes = onnxq_ir::Attr::Ints(vec![0, 2, 3]);
            cx.op_mut().attrs.insert("axes".to_owned(), axes);
        }
        Ok(())
    }
}
