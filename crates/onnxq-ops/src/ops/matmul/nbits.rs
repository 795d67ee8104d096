//! MatMulNBits of `com.microsoft`: a product with a matrix of 2, 4 or 8 bits, in blocks along the
//! depth with a scale and a zero point each.
//!
//! Operands: A, the transposed matrix (`[N, blocks, bytes of a block]`), scales (`[N, blocks]`), zero
//! points (as many, in bytes of several, or of the type of the scales), nothing, bias.

use onnxq_tensor::{DType, Dim};

use super::product::Stacks;
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, Value,
    ops::{
        numeric::{Real, expect_dims, real_tensor},
        quantization::{MS, packed},
        rules,
    },
};

pub(super) struct MatMulNBits;

impl Operator for MatMulNBits {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "MatMulNBits"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let mut shape = cx.shape(0)?.clone();
        match shape.last_mut() {
            Some(last) => *last = Dim::known(cx.op().int("N", 0)),
            None => return Err(Unknown::new("an operand of rank 0")),
        }
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let attr = |key: &str, default| match usize::try_from(cx.op().int(key, default)) {
            Ok(n @ 1..) => Ok(n),
            _ => Err(cx.invalid(format!("attribute '{key}' is not positive"))),
        };
        let (n, k) = (attr("N", 0)?, attr("K", 0)?);
        let (block, bits) = (attr("block_size", 0)?, attr("bits", 4)?);
        if !matches!(bits, 2 | 4 | 8) || !(block * bits).is_multiple_of(8) {
            return Err(cx.unsupported(format!("{bits} bits in blocks of {block}")));
        }
        if cx.optional(4)?.is_some() {
            return Err(cx.unsupported("an order of groups"));
        }
        let a = cx.tensor(0)?;
        let blocks = k.div_ceil(block);
        rules::limited(&[n, blocks, block])?;
        let codes = expect_dims(cx, 1, &[n, blocks, block * bits / 8])?;
        let codes = packed::codes(cx, codes, bits)?;
        let scales = f64::read(cx.tensor(2)?)?;
        if scales.len() != n * blocks {
            return Err(cx.invalid(format!(
                "{} scales for {n} by {blocks} blocks",
                scales.len()
            )));
        }
        let zeros: Vec<f64> = match cx.optional(3)? {
            None => vec![f64::from(1u32 << (bits - 1)); n * blocks],
            Some(zeros) if zeros.dtype() == DType::U8 => {
                let codes = packed::codes(cx, zeros, bits)?;
                // Each row begins with a byte of its own.
                let row = (blocks * bits).div_ceil(8) * 8 / bits;
                let zero = |i: usize| codes.get(i / blocks * row + i % blocks).copied();
                let zeros: Option<Vec<f64>> =
                    (0..n * blocks).map(|i| zero(i).map(f64::from)).collect();
                zeros.ok_or_else(|| cx.invalid("zero points that do not fit"))?
            }
            Some(zeros) if zeros.len() == n * blocks => f64::read(zeros)?.into_owned(),
            Some(zeros) => return Err(cx.invalid(format!("zero points of {:?}", zeros.dims()))),
        };
        let mut weights = Vec::with_capacity(n * k);
        for row in 0..n {
            weights.extend((0..k).map(|i| {
                let at = row * blocks + i / block;
                (f64::from(codes[at * block + i % block]) - zeros[at]) * scales[at]
            }));
        }
        let plan = Stacks::of(a.dims(), &[n, k], false, true)?;
        let mut y = plan.multiply(&f64::read(a)?, &weights, 1.0);
        if cx.optional(5)?.is_some() {
            let bias = f64::read(expect_dims(cx, 5, &[n])?)?;
            y.iter_mut()
                .enumerate()
                .for_each(|(i, y)| *y += bias[i % n]);
        }
        Ok(vec![real_tensor(a.dtype(), &plan.dims, y)?])
    }

    fn quant(&self, _op: &onnxq_ir::Op) -> QuantRole {
        QuantRole::NotQuantizable
    }
}
