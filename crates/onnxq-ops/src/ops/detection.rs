//! NonMaxSuppression: of boxes that overlap, those with the best scores.
//!
//! Operands: boxes (`[batch, boxes, 4]`), scores (`[batch, classes, boxes]`), and numbers: how many
//! boxes of each class at most (0 by default), the overlap from which on a box is suppressed (0),
//! the score that must be exceeded. The result has a row for each box that is left: batch, class,
//! box. Boxes are compared in float.

use onnxq_tensor::{DType, Dim, Shape, Tensor};

use super::numeric::{Real, expect_dims};
use crate::{EvalContext, EvalError, InferContext, Operator, Unknown, Value};

pub(super) static OPERATORS: &[&dyn Operator] = &[&NonMaxSuppression];

struct NonMaxSuppression;

impl Operator for NonMaxSuppression {
    fn name(&self) -> &'static str {
        "NonMaxSuppression"
    }

    fn since(&self) -> &'static [i64] {
        &[10, 11]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let shape = Shape::from_iter([cx.fresh(0, 0), Dim::known(3)]);
        cx.set_tensor(0, DType::I64, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (boxes, scores) = (cx.tensor(0)?, cx.tensor(1)?);
        let (&[batch, count, 4], &[_, classes, _]) = (boxes.dims(), scores.dims()) else {
            let dims = (boxes.dims(), scores.dims());
            return Err(cx.invalid(format!("boxes of {:?}, scores of {:?}", dims.0, dims.1)));
        };
        let scores = f32::read(expect_dims(cx, 1, &[batch, classes, count])?)?;
        let most = match cx.optional(2)? {
            Some(t) => usize::try_from(t.scalar_i64()?).unwrap_or(0),
            None => 0,
        };
        let number = |i: usize| match cx.optional(i)? {
            Some(t) => Ok::<_, EvalError>(Some(t.scalar_f64()? as f32)),
            None => Ok(None),
        };
        let overlap = number(3)?.unwrap_or(0.0);
        let threshold = number(4)?.unwrap_or(f32::NEG_INFINITY);
        let centers = cx.op().int("center_point_box", 0) != 0;
        let corners = |b: &[f32]| Area::of([b[0], b[1], b[2], b[3]], centers);
        let areas: Vec<Area> = f32::read(boxes)?.chunks_exact(4).map(corners).collect();
        let mut rows = Vec::new();
        for class in 0..batch * classes {
            let image = class / classes;
            let areas = &areas[image * count..][..count];
            let scores = &scores[class * count..][..count];
            let mut candidates: Vec<usize> =
                (0..count).filter(|&i| scores[i] > threshold).collect();
            // Equal scores: the first box first.
            candidates.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            let mut kept: Vec<usize> = Vec::new();
            for i in candidates {
                if kept.len() >= most {
                    break;
                }
                if kept.iter().all(|&k| !areas[k].overlaps(&areas[i], overlap)) {
                    kept.push(i);
                }
            }
            let row = |i: usize| [image as i64, (class % classes) as i64, i as i64];
            rows.extend(kept.into_iter().flat_map(row));
        }
        Ok(vec![
            Tensor::from_vec([rows.len() / 3, 3].as_slice(), rows)?.into(),
        ])
    }
}

/// A box by its sides.
struct Area {
    low: [f32; 2],
    high: [f32; 2],
}

impl Area {
    /// From two opposite corners, or from center and size.
    fn of(b: [f32; 4], center: bool) -> Area {
        let sides = |a: f32, c: f32| match center {
            true => (a - c / 2.0, a + c / 2.0),
            false => (a.min(c), a.max(c)),
        };
        let (first, second) = (sides(b[0], b[2]), sides(b[1], b[3]));
        Area {
            low: [first.0, second.0],
            high: [first.1, second.1],
        }
    }

    fn size(&self) -> f32 {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    /// Whether the part of the union that both cover exceeds `threshold`.
    fn overlaps(&self, other: &Area, threshold: f32) -> bool {
        let side =
            |i: usize| (self.high[i].min(other.high[i]) - self.low[i].max(other.low[i])).max(0.0);
        let both = side(0) * side(1);
        let union = self.size() + other.size() - both;
        both > 0.0 && union > 0.0 && both / union > threshold
    }
}
