//! MaxRoiPool and RoiAlign: pooling of regions given as data.

use onnxq_tensor::{Dim, Shape};

use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, UpgradeContext, UpgradeError, Value,
    ops::{
        numeric::{Real, expect_dims, real_tensor, with_real},
        rules,
    },
};

pub(super) struct MaxRoiPool;
pub(super) struct RoiAlign;

impl Operator for MaxRoiPool {
    fn name(&self) -> &'static str {
        "MaxRoiPool"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 22]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let size = cx.op().ints("pooled_shape").unwrap_or_default().to_vec();
        infer_regions(cx, &size)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, rois) = (cx.tensor(0)?, cx.tensor(1)?);
        let (&[batch, channels, height, width], &[count, 5]) = (x.dims(), rois.dims()) else {
            let message = format!("regions of {:?} in {:?}", rois.dims(), x.dims());
            return Err(cx.invalid(message));
        };
        let &[rows, columns] = cx.op().ints("pooled_shape").unwrap_or_default() else {
            return Err(cx.invalid("attribute 'pooled_shape' is not two sizes"));
        };
        let size = |n: i64| {
            usize::try_from(n)
                .ok()
                .filter(|n| (1..=1 << 16).contains(n))
        };
        let sizes = size(rows).zip(size(columns));
        let (rows, columns) = sizes.ok_or_else(|| cx.invalid("a pooled shape out of range"))?;
        let scale = f64::from(cx.op().float("spatial_scale", 1.0));
        let dims = [count, channels, rows, columns];
        let mut y = Vec::with_capacity(rules::limited(&dims)?);
        let (data, rois) = (f64::read(x)?, f64::read(rois)?);
        for roi in rois.chunks_exact(5) {
            let image = (0..batch).find(|&b| b as f64 == roi[0]);
            let image = image.ok_or_else(|| cx.invalid(format!("image {}", roi[0])))?;
            let [left, top, right, bottom] = [1, 2, 3, 4].map(|i| (roi[i] * scale).round());
            // Regions are at least one pixel.
            let part_h = (bottom - top + 1.0).max(1.0) / rows as f64;
            let part_w = (right - left + 1.0).max(1.0) / columns as f64;
            let range = |start: f64, part: f64, i: usize, size: usize| {
                let at = |v: f64| (v + start).clamp(0.0, size as f64) as usize;
                at((i as f64 * part).floor())..at(((i + 1) as f64 * part).ceil())
            };
            for plane in data[image * channels * height * width..]
                .chunks_exact((height * width).max(1))
                .take(channels)
            {
                for cell in 0..rows * columns {
                    let of_row = range(top, part_h, cell / columns, height);
                    let of_column = range(left, part_w, cell % columns, width);
                    let row = |r: usize| plane[r * width..][..width][of_column.clone()].iter();
                    let largest = of_row.flat_map(row).copied().reduce(f64::max);
                    y.push(largest.unwrap_or(0.0));
                }
            }
        }
        Ok(vec![real_tensor(x.dtype(), &dims, y)?])
    }
}

impl Operator for RoiAlign {
    fn name(&self) -> &'static str {
        "RoiAlign"
    }

    fn since(&self) -> &'static [i64] {
        &[10, 16, 22]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let op = cx.op();
        let size = [op.int("output_height", 1), op.int("output_width", 1)];
        infer_regions(cx, &size)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, rois) = (cx.tensor(0)?, cx.tensor(1)?);
        let &[batch, channels, height, width] = x.dims() else {
            return Err(cx.invalid(format!("an operand of rank {}", x.rank())));
        };
        let count = rois.dims().first().copied().unwrap_or(0);
        expect_dims(cx, 1, &[count, 4])?;
        let image = expect_dims(cx, 2, &[count])?.to_i64s()?;
        let attr = |key, default| {
            let n = cx.op().int(key, default);
            let n = usize::try_from(n).ok().filter(|&n| n <= 1 << 16);
            n.ok_or_else(|| cx.invalid(format!("attribute '{key}' is out of range")))
        };
        let (rows, columns) = (attr("output_height", 1)?, attr("output_width", 1)?);
        let default = match cx.opset() {
            ..16 => "output_half_pixel",
            _ => "half_pixel",
        };
        let mode = cx.op().str("coordinate_transformation_mode");
        let align = Align {
            height,
            width,
            rows,
            columns,
            samples: attr("sampling_ratio", 0)?,
            scale: f64::from(cx.op().float("spatial_scale", 1.0)),
            half_pixel: mode.unwrap_or(default) == "half_pixel",
            max: cx.op().str("mode") == Some("max"),
        };
        let dims = [count, channels, rows, columns];
        let count = rules::limited(&dims)?;
        with_real!(cx, x.dtype(), T => {
            let mut y = Vec::with_capacity(count);
            let (data, rois) = (T::read(x)?, T::read(rois)?);
            for (&image, roi) in image.iter().zip(rois.chunks_exact(4)) {
                let image = usize::try_from(image).ok().filter(|&i| i < batch);
                let image = image.ok_or_else(|| cx.invalid("a batch index out of range"))?;
                let roi = [roi[0].wide(), roi[1].wide(), roi[2].wide(), roi[3].wide()];
                for c in 0..channels {
                    let plane = &data[(image * channels + c) * height * width..];
                    let at = |i: usize| plane[i].wide();
                    align.region(cx, roi, at, |value| y.push(T::of(value)))?;
                }
            }
            Ok(vec![real_tensor(x.dtype(), &dims, y)?])
        })
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        // Until opset 16 there was no shift by half a pixel.
        if cx.crosses(16) {
            let mode = "output_half_pixel".into();
            let key = "coordinate_transformation_mode".to_owned();
            cx.op_mut().attrs.insert(key, mode);
        }
        Ok(())
    }
}

fn infer_regions(cx: &mut InferContext<'_>, size: &[i64]) -> Result<(), Unknown> {
    let dtype = cx.dtype(0)?;
    cx.set_dtype(0, dtype);
    let at = |i: usize, axis: usize| {
        let shape = cx.shape(i).ok();
        shape.and_then(|s| s.get(axis)).cloned().unwrap_or_default()
    };
    let mut shape = Shape::from_iter([at(1, 0), at(0, 1)]);
    shape.extend(size.iter().map(|&d| Dim::known(d)));
    cx.set_tensor(0, dtype, shape);
    Ok(())
}

struct Align {
    height: usize,
    width: usize,
    rows: usize,
    columns: usize,
    samples: usize,
    scale: f64,
    half_pixel: bool,
    max: bool,
}

impl Align {
    fn region(
        &self,
        cx: &EvalContext<'_>,
        [x1, y1, x2, y2]: [f64; 4],
        at: impl Fn(usize) -> f64,
        mut put: impl FnMut(f64),
    ) -> Result<(), EvalError> {
        let shift = if self.half_pixel { 0.5 } else { 0.0 };
        let place = |v: f64| v * self.scale - shift;
        let (left, top) = (place(x1), place(y1));
        let (mut w, mut h) = (place(x2) - left, place(y2) - top);
        if !self.half_pixel {
            // Regions were at least one pixel.
            (w, h) = (w.max(1.0), h.max(1.0));
        }
        let (bin_h, bin_w) = (h / self.rows as f64, w / self.columns as f64);
        let samples = |bin: f64| match self.samples {
            0 => bin.ceil().max(0.0),
            n => n as f64,
        };
        let (sy, sx) = (samples(bin_h), samples(bin_w));
        let too_many = sy.max(1.0) * sx.max(1.0) * (self.rows * self.columns) as f64 > 1e7;
        if too_many {
            return Err(cx.invalid("a region that is too large"));
        }
        for row in 0..self.rows {
            for column in 0..self.columns {
                let (mut sum, mut largest) = (0.0, None);
                for iy in 0..sy as usize {
                    let y = top + row as f64 * bin_h + (iy as f64 + 0.5) * bin_h / sy;
                    for ix in 0..sx as usize {
                        let x = left + column as f64 * bin_w + (ix as f64 + 0.5) * bin_w / sx;
                        let parts = self.sample(y, x, &at);
                        sum += parts.iter().sum::<f64>();
                        let most = parts.into_iter().fold(f64::NEG_INFINITY, f64::max);
                        largest = Some(largest.map_or(most, |l: f64| l.max(most)));
                    }
                }
                put(match self.max {
                    true => largest.unwrap_or(0.0),
                    false => sum / (sy * sx).max(1.0),
                });
            }
        }
        Ok(())
    }

    /// The four neighbours of a point, each times its weight.
    fn sample(&self, y: f64, x: f64, at: impl Fn(usize) -> f64) -> [f64; 4] {
        let (height, width) = (self.height as f64, self.width as f64);
        let outside = |v: f64, n: f64| !(-1.0..=n).contains(&v);
        if outside(y, height) || outside(x, width) || self.height * self.width == 0 {
            return [0.0; 4];
        }
        let split = |v: f64, n: usize| {
            let v = v.max(0.0);
            let low = (v as usize).min(n - 1);
            let high = (low + 1).min(n - 1);
            let part = if low + 1 >= n { 0.0 } else { v - low as f64 };
            (low, high, part)
        };
        let (y0, y1, fy) = split(y, self.height);
        let (x0, x1, fx) = split(x, self.width);
        let at = |y: usize, x: usize| at(y * self.width + x);
        [
            at(y0, x0) * (1.0 - fy) * (1.0 - fx),
            at(y0, x1) * (1.0 - fy) * fx,
            at(y1, x0) * fy * (1.0 - fx),
            at(y1, x1) * fy * fx,
        ]
    }
}
