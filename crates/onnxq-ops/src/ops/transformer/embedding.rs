//! EmbedLayerNormalization: the sum of the embeddings of words, positions and segments,
//! normalized; and its quantized form, whose tables are 8-bit integers.
//!
//! The second result counts, for each sequence, the ones of the mask.

use onnxq_tensor::{DType, Shape, Tensor};

use super::skip::Norm;
use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, Value,
    ops::{
        numeric::{Real, real_tensor},
        quantization::{
            MS,
            arith::{scalar, zero_point},
        },
        rules,
    },
};

/// Operands: words, segments, tables of words, positions and segments, gamma, beta, mask,
/// positions. Segments and their table, mask and positions may be left out.
pub(super) struct EmbedLayerNormalization;

/// The same with mask as operand 7, then the scales of the three tables, gamma and beta, and their
/// zero points.
pub(super) struct QEmbedLayerNormalization;

impl Operator for EmbedLayerNormalization {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "EmbedLayerNormalization"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(2)?;
        infer_embedding(cx, dtype)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let table = |i: usize| -> Result<Option<Vec<f32>>, EvalError> {
            Ok(cx
                .optional(i)?
                .map(f32::read)
                .transpose()?
                .map(|t| t.into_owned()))
        };
        embed(cx, cx.tensor(2)?.dtype(), table, Some(8))
    }

    fn quant(&self, _op: &onnxq_ir::Op) -> QuantRole {
        QuantRole::NotQuantizable
    }
}

impl Operator for QEmbedLayerNormalization {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "QEmbedLayerNormalization"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        infer_embedding(cx, DType::F32)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let table = |i: usize| -> Result<Option<Vec<f32>>, EvalError> {
            let Some(t) = cx.optional(i)? else {
                return Ok(None);
            };
            // Operands 2 to 6 have their scales at 8 to 12 and zero points at 13 to 17.
            let (scale, zero) = (scalar(cx, i + 6)?, zero_point(cx, i + 11)?);
            let real = |q: i64| q.wrapping_sub(zero) as f32 * scale;
            Ok(Some(t.to_i64s()?.into_iter().map(real).collect()))
        };
        embed(cx, DType::F32, table, None)
    }
}

fn infer_embedding(cx: &mut InferContext<'_>, dtype: DType) -> Result<(), Unknown> {
    cx.set_dtype(0, dtype);
    cx.set_dtype(1, DType::I32);
    cx.set_dtype(2, dtype);
    let [batch, steps] = &cx.shape(0)?[..] else {
        return Err(Unknown::new("words of a rank other than 2"));
    };
    let (batch, steps) = (batch.clone(), steps.clone());
    cx.set_tensor(1, DType::I32, Shape::from_iter([batch.clone()]));
    let width = cx.shape(2)?.last().cloned().unwrap_or_default();
    let shape = Shape::from_iter([batch, steps, width]);
    cx.set_tensor(0, dtype, shape.clone());
    cx.set_tensor(2, dtype, shape);
    Ok(())
}

/// Evaluates both forms: `table` gives the numbers of an operand, `places` is the operand with the
/// positions.
fn embed(
    cx: &EvalContext<'_>,
    dtype: DType,
    table: impl Fn(usize) -> Result<Option<Vec<f32>>, EvalError>,
    places: Option<usize>,
) -> Result<Vec<Value>, EvalError> {
    let words = cx.tensor(0)?;
    let &[batch, steps] = words.dims() else {
        return Err(cx.invalid(format!("words of {:?}", words.dims())));
    };
    let width = match cx.tensor(2)?.dims() {
        &[_, width] if width > 0 => width,
        other => return Err(cx.invalid(format!("a table of {other:?}"))),
    };
    let dims = [batch, steps, width];
    let mut sum = vec![0f32; rules::limited(&dims)?];
    let mut add = |ids: &[i64], table: &[f32]| -> Result<(), EvalError> {
        let rows = table.chunks_exact(width);
        let rows: Vec<&[f32]> = rows.collect();
        for (sum, &id) in sum.chunks_exact_mut(width).zip(ids) {
            let row = usize::try_from(id).ok().and_then(|id| rows.get(id));
            let row = row.ok_or_else(|| EvalError::Invalid(format!("index {id} of a table")))?;
            sum.iter_mut().zip(*row).for_each(|(s, x)| *s += x);
        }
        Ok(())
    };
    let missing = |index: usize| EvalError::Missing { index };
    add(&words.to_i64s()?, &table(2)?.ok_or_else(|| missing(2))?)?;
    let positions = match places.map(|i| cx.optional(i)).transpose()?.flatten() {
        Some(t) => {
            let ids = t.to_i64s()?;
            if ids.is_empty() || (batch * steps) % ids.len() != 0 {
                return Err(cx.invalid(format!("positions of {:?}", t.dims())));
            }
            ids.iter().copied().cycle().take(batch * steps).collect()
        }
        None => (0..batch)
            .flat_map(|_| 0..steps as i64)
            .collect::<Vec<i64>>(),
    };
    add(&positions, &table(3)?.ok_or_else(|| missing(3))?)?;
    if let (Some(segments), Some(segment_table)) = (cx.optional(1)?, table(4)?) {
        add(&segments.to_i64s()?, &segment_table)?;
    }
    let vector = |i: usize| -> Result<Tensor, EvalError> {
        let values = table(i)?.ok_or_else(|| missing(i))?;
        match values.len() == width {
            true => Ok(Tensor::vector(values)),
            false => Err(cx.invalid(format!("operand {i} is not one row"))),
        }
    };
    let (gamma, beta) = (vector(5)?, vector(6)?);
    let epsilon = cx.op().float("epsilon", 1e-12);
    let norm = Norm::<f32>::of(&gamma, Some(&beta), epsilon, false)?;
    let mut y = sum.clone();
    for row in y.chunks_exact_mut(width) {
        norm.apply(row);
    }
    let counts: Vec<i32> = match cx.optional(7)? {
        Some(mask) if steps > 0 && mask.dims() == [batch, steps] => {
            let mask = mask.to_i64s()?;
            let ones = |row: &[i64]| row.iter().filter(|&&m| m == 1).count() as i32;
            mask.chunks_exact(steps).map(ones).collect()
        }
        _ => vec![0; batch],
    };
    let mut results = vec![
        real_tensor(dtype, &dims, y)?,
        Tensor::vector(counts).into(),
        real_tensor(dtype, &dims, sum)?,
    ];
    results.truncate(cx.results().max(1));
    Ok(results)
}
