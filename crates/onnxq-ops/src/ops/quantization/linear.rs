//! QuantizeLinear and DequantizeLinear: per tensor, per axis, and in blocks.
//!
//! | opset | change |
//! |---|---|
//! | 10 | one scale |
//! | 13 | `axis` |
//! | 19 | 8-bit floats, float16 scales |
//! | 21 | 16- and 4-bit integers, blocks |
//! | 23 to 28 | 4-bit floats, `output_dtype` of the second, 2-bit integers, more scales |

use onnxq_tensor::{DType, Tensor, narrow::NarrowFloat};

use super::arith::{int_range, saturate};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{Real, around, int_tensor, real_tensor},
        rules,
    },
};

static SINCE: [i64; 8] = [10, 13, 19, 21, 23, 24, 25, 28];

pub(super) struct QuantizeLinear {
    pub(super) domain: &'static str,
}

pub(super) struct DequantizeLinear {
    pub(super) domain: &'static str,
}

fn since(domain: &str) -> &'static [i64] {
    if domain.is_empty() { &SINCE } else { &[1] }
}

impl Operator for QuantizeLinear {
    fn domain(&self) -> &'static str {
        self.domain
    }

    fn name(&self) -> &'static str {
        "QuantizeLinear"
    }

    fn since(&self) -> &'static [i64] {
        since(self.domain)
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = match output_dtype(cx.op()) {
            Some(dtype) => dtype,
            None if cx.has(2) => cx.dtype(2)?,
            None => DType::U8,
        };
        cx.set_dtype(0, dtype);
        let shape = cx.shape(0)?.clone();
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, zero) = (cx.tensor(0)?, cx.optional(2)?);
        let dtype = zero.map(Tensor::dtype).or_else(|| output_dtype(cx.op()));
        let dtype = dtype.unwrap_or(DType::U8);
        let scale = f32::read(cx.tensor(1)?)?;
        let blocks = Blocks::of(cx, x, cx.tensor(1)?, zero)?;
        let x = match x.dtype() {
            DType::I32 => x.as_slice::<i32>()?.iter().map(|&x| x as f32).collect(),
            _ => f32::read(x)?,
        };
        let scaled = x.iter().enumerate().map(|(i, x)| x / scale[blocks.at(i)]);
        let dims = cx.tensor(0)?.dims();
        if let Some(range) = int_range(dtype) {
            let zero = match zero {
                Some(zero) => zero.to_i64s()?,
                None => vec![0; scale.len()],
            };
            let y = scaled
                .enumerate()
                .map(|(i, x)| saturate(x, zero[blocks.at(i)], range))
                .collect();
            return Ok(vec![int_tensor(dtype, dims, y)?]);
        }
        let Some(float) = NarrowFloat::of(dtype) else {
            return Err(cx.unsupported_type(dtype));
        };
        // A zero point other than zero means nothing to a float.
        let keep = cx.op().int("saturate", 1) != 0;
        let codes: Vec<u8> = scaled.map(|x| float.encode(x, keep)).collect();
        let y = match dtype.is_packed() {
            true => Tensor::from_packed_bits(dtype, dims, codes)?,
            false => Tensor::new(dtype, dims, codes)?,
        };
        Ok(vec![y.into()])
    }
}

impl Operator for DequantizeLinear {
    fn domain(&self) -> &'static str {
        self.domain
    }

    fn name(&self) -> &'static str {
        "DequantizeLinear"
    }

    fn since(&self) -> &'static [i64] {
        since(self.domain)
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = match output_dtype(cx.op()) {
            Some(dtype) => dtype,
            None => cx.dtype(1)?,
        };
        cx.set_dtype(0, dtype);
        let shape = cx.shape(0)?.clone();
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, s, zero) = (cx.tensor(0)?, cx.tensor(1)?, cx.optional(2)?);
        let dtype = output_dtype(cx.op()).unwrap_or(s.dtype());
        let scale = f32::read(s)?;
        let blocks = Blocks::of(cx, x, s, zero)?;
        let y: Vec<f32> = if x.dtype().is_int() {
            let zero = match zero {
                Some(zero) => zero.to_i64s()?,
                None => vec![0; scale.len()],
            };
            let real = |(i, q): (usize, i64)| {
                let at = blocks.at(i);
                q.wrapping_sub(zero[at]) as f32 * scale[at]
            };
            x.to_i64s()?.into_iter().enumerate().map(real).collect()
        } else {
            let float = NarrowFloat::of(x.dtype());
            let float = float.ok_or_else(|| cx.unsupported_type(x.dtype()))?;
            let code = |i: usize| match x.dtype().is_packed() {
                true => x.packed_bits(i),
                false => x.bytes()[i],
            };
            let real = |i: usize| float.decode(code(i)) * scale[blocks.at(i)];
            (0..x.len()).map(real).collect()
        };
        Ok(vec![real_tensor(dtype, x.dims(), y)?])
    }
}

/// The attribute `output_dtype`, where it says something.
fn output_dtype(op: &onnxq_ir::Op) -> Option<DType> {
    DType::from_onnx(i32::try_from(op.int("output_dtype", 0)).ok()?)
}

/// Which scale belongs to which element.
struct Blocks {
    /// Elements after one step on the axis.
    after: usize,
    /// The size of the axis.
    axis: usize,
    /// How many neighbours on the axis share a scale.
    block: usize,
    /// Scales along the axis.
    count: usize,
    /// Whether scales differ before and after the axis, too.
    blocked: bool,
}

impl Blocks {
    fn of(
        cx: &EvalContext<'_>,
        x: &Tensor,
        scale: &Tensor,
        zero: Option<&Tensor>,
    ) -> Result<Blocks, EvalError> {
        let wrong = || {
            cx.invalid(format!(
                "scales of {:?} for an operand of {:?}",
                scale.dims(),
                x.dims()
            ))
        };
        if zero.is_some_and(|z| z.len() != scale.len()) {
            return Err(cx.invalid("as many zero points as scales are needed"));
        }
        let whole = Blocks {
            after: 1,
            axis: 1,
            block: 1,
            count: 1,
            blocked: false,
        };
        if scale.len() == 1 && scale.rank() <= 1 {
            return Ok(whole);
        }
        let axis = rules::axis(cx.op().int("axis", 1), x.rank())
            .ok()
            .ok_or_else(wrong)?;
        let (_, n, after) = around(x.dims(), axis);
        if scale.rank() == 1 {
            if scale.dims()[0] != n {
                return Err(wrong());
            }
            return Ok(Blocks {
                after,
                axis: n,
                count: n,
                ..whole
            });
        }
        let count = *scale.dims().get(axis).ok_or_else(wrong)?;
        let block = match usize::try_from(cx.op().int("block_size", 0)) {
            Ok(0) => n.div_ceil(count.max(1)),
            Ok(block) => block,
            Err(_) => return Err(wrong()),
        };
        let mut expected = x.dims().to_vec();
        expected[axis] = n.div_ceil(block.max(1));
        if scale.dims() != expected {
            return Err(wrong());
        }
        Ok(Blocks {
            after,
            axis: n,
            block: block.max(1),
            count,
            blocked: true,
        })
    }

    /// The number of the scale of element `i`.
    fn at(&self, i: usize) -> usize {
        let (row, column) = (i / self.after, i % self.after);
        let block = row % self.axis / self.block;
        match self.blocked {
            true => (row / self.axis * self.count + block) * self.after + column,
            false if self.count == 1 => 0,
            false => block,
        }
    }
}
