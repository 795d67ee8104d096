//! Codes of a few bits in bytes, and GatherBlockQuantized of `com.microsoft`, which looks rows up in
//! a table of them.

use onnxq_tensor::{DType, Dim, Dims, Shape, Tensor};

use super::MS;
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{Real, real_tensor},
        rules,
    },
};

/// The codes of `bits` each in a tensor of bytes, those in the low bits first.
pub(in crate::ops) fn codes(
    cx: &EvalContext<'_>,
    t: &Tensor,
    bits: usize,
) -> Result<Vec<u8>, EvalError> {
    if t.dtype() != DType::U8 || !matches!(bits, 2 | 4 | 8) {
        return Err(cx.unsupported(format!("codes of {bits} bits in {}", t.dtype())));
    }
    let mask = (u32::from(u8::MAX) >> (8 - bits)) as u8;
    let codes = |&byte: &u8| (0..8 / bits).map(move |i| byte >> (i * bits) & mask);
    Ok(t.as_slice::<u8>()?.iter().flat_map(codes).collect())
}

/// Gather of slices along an axis, each element times the scale of its block. Operands: table,
/// indices, scales, zero points. An index out of range gives zeros.
pub(super) struct GatherBlockQuantized;

/// How many elements of the table are in one of the tensor's.
fn packing(op: &onnxq_ir::Op, dtype: DType) -> i64 {
    match (dtype, op.int("bits", 4)) {
        (DType::U8, bits @ (2 | 4)) => 8 / bits,
        _ => 1,
    }
}

impl Operator for GatherBlockQuantized {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "GatherBlockQuantized"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(2)?;
        cx.set_dtype(0, dtype);
        let mut table = cx.shape(0)?.clone();
        let axis = rules::axis(cx.op().int("gather_axis", 0), table.len())?;
        let packing = Dim::known(packing(cx.op(), cx.dtype(0)?));
        if let Some(last) = table.last_mut() {
            *last = &*last * &packing;
        }
        let mut shape = Shape::from(&table[..axis]);
        shape.extend(cx.shape(1)?.iter().cloned());
        shape.extend(table[axis + 1..].iter().cloned());
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (table, scales, op) = (cx.tensor(0)?, cx.tensor(2)?, cx.op());
        let mut dims = Dims::from(table.dims());
        let axis = rules::axis(op.int("gather_axis", 0), dims.len())?;
        let blocked = rules::axis(op.int("quantize_axis", 1), dims.len())?;
        let packing = packing(op, table.dtype()) as usize;
        if let Some(last) = dims.last_mut() {
            *last *= packing;
        }
        let read = |t: &Tensor| match t.dtype() {
            DType::U8 if packing > 1 => Ok(codes(cx, t, 8 / packing)?
                .into_iter()
                .map(i64::from)
                .collect()),
            d if d.is_int() => Ok(t.to_i64s()?),
            other => Err(cx.unsupported_type(other)),
        };
        let values = read(table)?;
        let block = usize::try_from(op.int("block_size", 128))
            .unwrap_or(0)
            .max(1);
        let mut by_block = dims.clone();
        by_block[blocked] = dims[blocked].div_ceil(block);
        if scales.dims() != &by_block[..] {
            return Err(cx.invalid(format!("scales of {:?} for {dims:?}", scales.dims())));
        }
        let middle = if table.dtype() == DType::U8 {
            1i64 << (8 / packing - 1)
        } else {
            0
        };
        let zeros = cx.optional(3)?.map(read).transpose()?;
        // Rows of packed zero points may end in the middle of a byte.
        let row = by_block.last().copied().unwrap_or(1);
        let zero_row = row.div_ceil(packing) * packing;
        let strides = crate::ops::numeric::strides_of(&by_block);
        let factors = f64::read(scales)?;
        let real = |at: usize| {
            let (mut rest, mut group) = (at, 0);
            for axis in (0..dims.len()).rev() {
                let index = rest % dims[axis];
                rest /= dims[axis];
                group += if axis == blocked {
                    index / block
                } else {
                    index
                } * strides[axis];
            }
            let zero = zeros.as_ref().map_or(Some(middle), |z| {
                z.get(group / row * zero_row + group % row).copied()
            });
            Some((values[at].wrapping_sub(zero?)) as f64 * factors[group])
        };
        let (before, after) = (rules::count(&dims[..axis]), rules::count(&dims[axis + 1..]));
        let indices = cx.ints(1)?;
        let mut out = Dims::from(&dims[..axis]);
        out.extend(cx.tensor(1)?.dims().iter().copied());
        out.extend(dims[axis + 1..].iter().copied());
        let mut y = Vec::with_capacity(rules::limited(&out)?);
        for outer in 0..before {
            for &index in &indices {
                let start = rules::axis(index, dims[axis])
                    .ok()
                    .map(|i| (outer * dims[axis] + i) * after);
                for i in 0..after {
                    let value = start.map_or(Some(0.0), |start| real(start + i));
                    y.push(value.ok_or_else(|| cx.invalid("zero points that do not fit"))?);
                }
            }
        }
        Ok(vec![real_tensor(scales.dtype(), &out, y)?])
    }
}
