//! GridSample: elements at given places, and AffineGrid, which computes such places.

use onnxq_tensor::{Dim, Shape};

use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, UpgradeContext, UpgradeError, Value,
    ops::{
        numeric::{Real, product, real_tensor, strides_of, with_real},
        rules,
    },
};

pub(super) struct GridSample;
pub(super) struct AffineGrid;

impl Operator for GridSample {
    fn name(&self) -> &'static str {
        "GridSample"
    }

    fn since(&self) -> &'static [i64] {
        &[16, 20, 22]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let (x, grid) = (cx.shape(0)?, cx.shape(1)?);
        if x.len() < 3 || grid.len() != x.len() {
            return Err(Unknown::new(
                "operands of different rank, or of rank under 3",
            ));
        }
        let mut shape: Shape = x[..2].iter().cloned().collect();
        shape.extend(grid[1..grid.len() - 1].iter().cloned());
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, grid) = (cx.tensor(0)?, cx.tensor(1)?);
        let spatial = x.rank().saturating_sub(2);
        // Interpolation takes time exponential in the rank.
        let fits = (1..=8).contains(&spatial)
            && grid.rank() == x.rank()
            && grid.dims()[0] == x.dims()[0]
            && grid.dims()[grid.rank() - 1] == spatial;
        if !fits {
            return Err(cx.invalid(format!("{:?} at {:?}", x.dims(), grid.dims())));
        }
        let mut dims = x.dims()[..2].to_vec();
        dims.extend(&grid.dims()[1..=spatial]);
        let count = rules::limited(&dims)?;
        let sampler = Sampler::of(cx, &x.dims()[2..])?;
        if count > 0 && x.is_empty() {
            return Err(cx.invalid("an operand without elements"));
        }
        with_real!(cx, x.dtype(), T => {
            let (data, places) = (T::read(x)?, f64::read(grid)?);
            let mut y = Vec::with_capacity(count);
            let (positions, size) = (product(&dims[2..]), product(&x.dims()[2..]));
            let planes = if count == 0 { 0 } else { dims[0] * dims[1] };
            for plane in 0..planes {
                let data = &data[plane * size..][..size];
                let image = plane / dims[1];
                let places = &places[image * positions * spatial..][..positions * spatial];
                for place in places.chunks_exact(spatial) {
                    y.push(T::of(sampler.at(place, |i| data[i].wide())));
                }
            }
            Ok(vec![real_tensor(x.dtype(), &dims, y)?])
        })
    }

    fn upgrade(&self, cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
        if cx.crosses(20) {
            let new = match cx.op().str("mode") {
                None | Some("bilinear") => "linear",
                Some("bicubic") => "cubic",
                Some(_) => return Ok(()),
            };
            cx.op_mut().attrs.insert("mode".to_owned(), new.into());
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

struct Sampler<'a> {
    dims: &'a [usize],
    strides: Vec<usize>,
    mode: Mode,
    padding: Padding,
    align: bool,
}

impl Sampler<'_> {
    fn of<'a>(cx: &EvalContext<'_>, dims: &'a [usize]) -> Result<Sampler<'a>, EvalError> {
        let mode = match cx.op().str("mode").unwrap_or("linear") {
            "nearest" => Mode::Nearest,
            "linear" | "bilinear" => Mode::Linear,
            "cubic" | "bicubic" => Mode::Cubic,
            other => return Err(cx.invalid(format!("attribute 'mode' is '{other}'"))),
        };
        let padding = match cx.op().str("padding_mode").unwrap_or("zeros") {
            "zeros" => Padding::Zeros,
            "border" => Padding::Border,
            "reflection" => Padding::Reflection,
            other => return Err(cx.invalid(format!("attribute 'padding_mode' is '{other}'"))),
        };
        Ok(Sampler {
            dims,
            strides: strides_of(dims).to_vec(),
            mode,
            padding,
            align: cx.op().int("align_corners", 0) != 0,
        })
    }

    /// The ends of an axis in coordinates of elements.
    fn ends(&self, axis: usize) -> (f64, f64) {
        let n = self.dims[axis] as f64;
        if self.align {
            (0.0, n - 1.0)
        } else {
            (-0.5, n - 0.5)
        }
    }

    /// A coordinate in the terms of the padding: moved to the border, or reflected.
    fn pad(&self, axis: usize, x: f64) -> f64 {
        let (lo, hi) = self.ends(axis);
        match self.padding {
            Padding::Zeros => x,
            Padding::Border => x.clamp(0.0, self.dims[axis] as f64 - 1.0),
            Padding::Reflection if (lo..=hi).contains(&x) => x,
            Padding::Reflection => {
                let span = hi - lo;
                if span <= 0.0 {
                    return lo;
                }
                let beyond = (x - lo).rem_euclid(2.0 * span);
                lo + if beyond > span {
                    2.0 * span - beyond
                } else {
                    beyond
                }
            }
        }
    }

    /// The value at a place, which has its coordinates in -1 to 1 and the last axis first.
    fn at(&self, place: &[f64], data: impl Fn(usize) -> f64) -> f64 {
        let rank = self.dims.len();
        // For each axis: elements and weights.
        let mut taps: Vec<Vec<(Option<usize>, f64)>> = Vec::with_capacity(rank);
        for axis in 0..rank {
            let (n, v) = (self.dims[axis] as f64, place[rank - 1 - axis]);
            let x = match self.align {
                true => (v + 1.0) / 2.0 * (n - 1.0),
                false => ((v + 1.0) * n - 1.0) / 2.0,
            };
            if x.is_nan() {
                return f64::NAN;
            }
            let x = if self.mode == Mode::Nearest {
                x.round_ties_even()
            } else {
                x
            };
            // Inside of the ends a coordinate stays, even next to the border.
            let (lo, hi) = self.ends(axis);
            let x = if (lo..=hi).contains(&x) {
                x
            } else {
                self.pad(axis, x)
            };
            let element = |k: f64| -> Option<usize> {
                let k = self.pad(axis, k).round();
                ((0.0..n).contains(&k)).then_some(k as usize)
            };
            let (base, part) = (x.floor(), x - x.floor());
            taps.push(match self.mode {
                Mode::Nearest => vec![(element(x), 1.0)],
                Mode::Linear => vec![(element(base), 1.0 - part), (element(base + 1.0), part)],
                Mode::Cubic => (-1..=2)
                    .map(|k| {
                        let k = f64::from(k);
                        (element(base + k), cubic((k - part).abs()))
                    })
                    .collect(),
            });
        }
        self.sum(&taps, 0, 0, &data)
    }

    fn sum(
        &self,
        taps: &[Vec<(Option<usize>, f64)>],
        axis: usize,
        offset: usize,
        data: &impl Fn(usize) -> f64,
    ) -> f64 {
        let Some(here) = taps.get(axis) else {
            return data(offset);
        };
        here.iter()
            .filter_map(|&(k, weight)| {
                let offset = offset + k? * self.strides[axis];
                Some(weight * self.sum(taps, axis + 1, offset, data))
            })
            .sum()
    }
}

/// The cubic convolution kernel with `a = -0.75`.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    match x {
        x if x <= 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A,
        _ => 0.0,
    }
}

impl Operator for AffineGrid {
    fn name(&self) -> &'static str {
        "AffineGrid"
    }

    fn since(&self) -> &'static [i64] {
        &[20]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        // Two or three spatial axes: theta has as many rows.
        let rows = cx.shape(0).ok().and_then(|s| s.get(1)?.as_const());
        let rank = rows.filter(|n| (2..=3).contains(n)).map(|n| n as usize + 2);
        let size = match (cx.value(1), rank) {
            (Ok(size), _) if size.elems.len() >= 4 => size.elems.clone(),
            (_, Some(rank)) => vec![Dim::UNKNOWN; rank],
            _ => return Err(Unknown::new("the sizes are unknown")),
        };
        let mut shape = Shape::from_iter([size[0].clone()]);
        shape.extend(size[2..].iter().cloned());
        shape.push(Dim::known(size.len() as i64 - 2));
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let theta = cx.tensor(0)?;
        let size: Result<Vec<usize>, _> = cx.ints(1)?.into_iter().map(usize::try_from).collect();
        let size = size.map_err(|_| cx.invalid("a negative size"))?;
        let spatial = size.len().saturating_sub(2);
        if !(2..=3).contains(&spatial) || theta.dims() != [size[0], spatial, spatial + 1] {
            return Err(cx.invalid(format!("{:?} for sizes {size:?}", theta.dims())));
        }
        let mut dims = vec![size[0]];
        dims.extend(&size[2..]);
        dims.push(spatial);
        let count = rules::limited(&dims)?;
        let align = cx.op().int("align_corners", 0) != 0;
        let place = |i: usize, n: usize| match align {
            true if n == 1 => 0.0,
            true => -1.0 + 2.0 * i as f64 / (n - 1) as f64,
            false => (2.0 * i as f64 + 1.0) / n as f64 - 1.0,
        };
        with_real!(cx, theta.dtype(), T => {
            let data = T::read(theta)?;
            let mut y = Vec::with_capacity(count);
            let images = if count == 0 { 0 } else { size[0] };
            for image in 0..images {
                let matrix = &data[image * spatial * (spatial + 1)..][..spatial * (spatial + 1)];
                let mut index = vec![0; spatial];
                loop {
                    // Coordinates with the last axis first, and a one.
                    let mut point: Vec<f64> =
                        (0..spatial).rev().map(|a| place(index[a], size[2 + a])).collect();
                    point.push(1.0);
                    for row in matrix.chunks_exact(spatial + 1) {
                        let terms = row.iter().zip(&point).map(|(m, p)| m.wide() * p);
                        y.push(T::of(terms.sum()));
                    }
                    if !crate::ops::numeric::advance::<0>(&mut index, &size[2..], [], &mut []) {
                        break;
                    }
                }
            }
            Ok(vec![real_tensor(theta.dtype(), &dims, y)?])
        })
    }
}
