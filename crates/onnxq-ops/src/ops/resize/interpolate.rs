//! One axis of Resize: which elements of the operand make each of the result.
//!
//! Interpolation is separable, so axes are resized one after the other. Coordinates are computed
//! in `f32`, as ONNX Runtime does: in `nearest` that decides ties.

use crate::ops::numeric::{Real, around};

/// The attribute `coordinate_transformation_mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    TfHalfPixelForNn,
    AlignCorners,
    Asymmetric,
    TfCropAndResize,
}

impl Coordinates {
    pub(super) fn parse(text: &str) -> Option<Coordinates> {
        Some(match text {
            "half_pixel" => Coordinates::HalfPixel,
            "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
            "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
            "tf_half_pixel_for_nn" => Coordinates::TfHalfPixelForNn,
            "align_corners" => Coordinates::AlignCorners,
            "asymmetric" => Coordinates::Asymmetric,
            "tf_crop_and_resize" => Coordinates::TfCropAndResize,
            _ => return None,
        })
    }
}

/// The attribute `nearest_mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Nearest {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
    /// Before there was the attribute: down where an axis grows, up where it shrinks.
    Simple,
}

impl Nearest {
    pub(super) fn parse(text: &str) -> Option<Nearest> {
        Some(match text {
            "round_prefer_floor" => Nearest::RoundPreferFloor,
            "round_prefer_ceil" => Nearest::RoundPreferCeil,
            "floor" => Nearest::Floor,
            "ceil" => Nearest::Ceil,
            _ => return None,
        })
    }

    fn round(self, x: f32, scale: f32) -> f32 {
        match self {
            Nearest::RoundPreferFloor if x - x.floor() == 0.5 => x.floor(),
            Nearest::RoundPreferFloor | Nearest::RoundPreferCeil => x.round(),
            Nearest::Floor => x.floor(),
            Nearest::Ceil => x.ceil(),
            Nearest::Simple if scale < 1.0 => x.ceil(),
            Nearest::Simple => x.trunc(),
        }
    }
}

/// How neighbours are weighted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Filter {
    Nearest(Nearest),
    Linear,
    /// With the coefficient `a`.
    Cubic(f64),
}

impl Filter {
    /// The weight of a neighbour at this distance, and how far neighbours reach.
    fn weight(self, distance: f64) -> f64 {
        let x = distance.abs();
        match self {
            Filter::Nearest(_) => 1.0,
            Filter::Linear => (1.0 - x).max(0.0),
            Filter::Cubic(a) if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            Filter::Cubic(a) if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            Filter::Cubic(_) => 0.0,
        }
    }

    fn reach(self) -> f64 {
        match self {
            Filter::Cubic(_) => 2.0,
            _ => 1.0,
        }
    }
}

/// How one axis is resized.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// Elements before.
    pub(super) from: usize,
    /// Elements after.
    pub(super) to: usize,
    pub(super) scale: f32,
    /// Start and end of the region of interest.
    pub(super) roi: (f32, f32),
    pub(super) coordinates: Coordinates,
    pub(super) filter: Filter,
    pub(super) exclude_outside: bool,
    pub(super) antialias: bool,
}

/// What makes one element of the result: neighbours and weights, or nothing (extrapolation).
pub type Taps = Option<Vec<(usize, f64)>>;

impl Axis {
    /// Whether resizing changes nothing.
    pub(super) fn is_identity(&self) -> bool {
        self.from == self.to
            && self.scale == 1.0
            && (self.coordinates != Coordinates::TfCropAndResize || self.roi == (0.0, 1.0))
    }

    /// The taps of every element of the result. `from` is not zero.
    pub(super) fn taps(&self) -> Vec<Taps> {
        (0..self.to).map(|i| self.taps_at(i)).collect()
    }

    /// The coordinate in the operand of element `i` of the result.
    fn coordinate(&self, i: usize) -> f32 {
        let (i, from, to) = (i as f32, self.from as f32, self.to as f32);
        match self.coordinates {
            Coordinates::HalfPixel => (i + 0.5) / self.scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = to / (self.scale * from);
                let offset = from / 2.0 * (1.0 - adjustment);
                offset + (i + 0.5) / self.scale - 0.5
            }
            Coordinates::PytorchHalfPixel if self.to > 1 => (i + 0.5) / self.scale - 0.5,
            Coordinates::PytorchHalfPixel => 0.0,
            Coordinates::TfHalfPixelForNn => (i + 0.5) / self.scale,
            Coordinates::AlignCorners if self.to > 1 => i * (from - 1.0) / (to - 1.0),
            Coordinates::AlignCorners => 0.0,
            Coordinates::Asymmetric => i / self.scale,
            Coordinates::TfCropAndResize => {
                let (start, end) = self.roi;
                match self.to > 1 {
                    true => start * (from - 1.0) + i * (end - start) * (from - 1.0) / (to - 1.0),
                    false => 0.5 * (start + end) * (from - 1.0),
                }
            }
        }
    }

    fn taps_at(&self, i: usize) -> Taps {
        let (x, last) = (self.coordinate(i), self.from - 1);
        let crop = self.coordinates == Coordinates::TfCropAndResize;
        if crop && !(0.0..=last as f32).contains(&x) {
            return None;
        }
        if let Filter::Nearest(mode) = self.filter {
            let at = mode.round(x, self.scale).clamp(0.0, last as f32);
            return Some(vec![(at as usize, 1.0)]);
        }
        if self.filter == Filter::Linear && !self.antialias {
            let x = x.clamp(0.0, last as f32);
            let (low, part) = (x as usize, x - x.floor());
            let high = (low + 1).min(last);
            return Some(vec![(low, f64::from(1.0 - part)), (high, f64::from(part))]);
        }
        let x = f64::from(x);
        // Shrinking with antialias widens the filter.
        let squeeze = if self.antialias {
            f64::from(self.scale).min(1.0)
        } else {
            1.0
        };
        let reach = (self.filter.reach() / squeeze).min(2.0 * self.from as f64 + 4.0);
        let first = (x.floor() - reach).floor() as i64 + 1;
        let mut taps: Vec<(i64, f64)> = (first..first + 2 * reach.ceil() as i64)
            .map(|k| (k, self.filter.weight((k as f64 - x) * squeeze)))
            .collect();
        if self.antialias {
            normalize(&mut taps);
        }
        if self.exclude_outside {
            taps.retain(|&(k, _)| (0..=last as i64).contains(&k));
            normalize(&mut taps);
        }
        let inside = |k: i64| k.clamp(0, last as i64) as usize;
        Some(
            taps.into_iter()
                .filter(|t| t.1 != 0.0)
                .map(|(k, w)| (inside(k), w))
                .collect(),
        )
    }

    /// Resizes `axis` of a tensor of these dimensions; what lies outside is `outside`.
    pub(super) fn apply<T: Real>(
        &self,
        x: &[T],
        dims: &[usize],
        axis: usize,
        outside: T,
    ) -> Vec<T> {
        let (before, n, after) = around(dims, axis);
        let taps = self.taps();
        let mut y = vec![T::zero(); before * self.to * after];
        if y.is_empty() {
            return y;
        }
        for (plane, y) in y.chunks_exact_mut(self.to * after).enumerate() {
            let x = &x[plane * n * after..][..n * after];
            for (taps, y) in taps.iter().zip(y.chunks_exact_mut(after)) {
                let Some(taps) = taps else {
                    y.fill(outside);
                    continue;
                };
                for &(k, weight) in taps {
                    let weight = T::of(weight);
                    for (y, &x) in y.iter_mut().zip(&x[k * after..][..after]) {
                        *y += weight * x;
                    }
                }
            }
        }
        y
    }
}

fn normalize(taps: &mut [(i64, f64)]) {
    let sum: f64 = taps.iter().map(|t| t.1).sum();
    if sum != 0.0 {
        taps.iter_mut().for_each(|t| t.1 /= sum);
    }
}
