//! Arithmetic on the channels of weights: what scales and shifts each channel of a value, and
//! weights scaled along the axis of their input or output channels.
//!
//! Everything is computed in f64 and rounded once, to the type of the weight. A result that is
//! not finite is no result.

use half::{bf16, f16};
use onnxq_tensor::{Buffer, BufferMut, DType, Element, Tensor};

/// `y[c] = scale[c] * x[c] + shift[c]`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Affine {
    pub(super) scale: Vec<f64>,
    pub(super) shift: Vec<f64>,
}

impl Affine {
    /// Whether it only shifts.
    pub(super) fn keeps_scale(&self) -> bool {
        self.scale.iter().all(|&k| k == 1.0)
    }

    /// Whether it only scales.
    pub(super) fn keeps_zero(&self) -> bool {
        self.shift.iter().all(|&c| c == 0.0)
    }

    /// Whether all its numbers are finite.
    pub(super) fn is_finite(&self) -> bool {
        all_finite(&self.scale) && all_finite(&self.shift)
    }
}

/// Where the input or output channels lie in a weight seen as `[outer, width, inner]`: element
/// `[a, b, _]` belongs to channel `a / (outer / groups) * width + b`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Layout {
    /// At least one, and a multiple of `groups`.
    pub(crate) outer: usize,
    pub(crate) groups: usize,
    pub(crate) width: usize,
    pub(crate) inner: usize,
}

impl Layout {
    /// The number of channels.
    pub(crate) fn channels(&self) -> usize {
        self.groups * self.width
    }

    /// Elements per outer index, and the channels of those with outer index `a`.
    fn row(&self, a: usize) -> std::ops::Range<usize> {
        let group = a / (self.outer / self.groups);
        group * self.width..(group + 1) * self.width
    }
}

/// The weight with each channel multiplied by its scale.
pub(crate) fn scaled(weight: &Tensor, layout: Layout, scale: &[f64]) -> Option<Tensor> {
    debug_assert_eq!(scale.len(), layout.channels());
    match weight.dtype() {
        DType::F32 => scaled_as::<f32>(weight, layout, scale),
        DType::F16 => scaled_as::<f16>(weight, layout, scale),
        DType::BF16 => scaled_as::<bf16>(weight, layout, scale),
        DType::F64 => scaled_as::<f64>(weight, layout, scale),
        _ => None,
    }
}

/// For each output channel, the sum over its elements of the element times the factor of its
/// input channel.
pub(super) fn weighted_sums(
    weight: &Tensor,
    input: Layout,
    output: Layout,
    factors: &[f64],
) -> Option<Vec<f64>> {
    match weight.dtype() {
        DType::F32 => Some(sums_as::<f32>(weight, input, output, factors)),
        DType::F16 => Some(sums_as::<f16>(weight, input, output, factors)),
        DType::BF16 => Some(sums_as::<bf16>(weight, input, output, factors)),
        DType::F64 => Some(sums_as::<f64>(weight, input, output, factors)),
        _ => None,
    }
}

/// The vector of these numbers, rounded to `dtype`.
pub(crate) fn vector(dtype: DType, values: &[f64]) -> Option<Tensor> {
    fn of<T: Real>(values: &[f64]) -> Option<Tensor> {
        let rounded: Vec<T> = values.iter().map(|&v| T::round(v)).collect();
        all_finite(&rounded).then(|| Tensor::vector(rounded))
    }
    match dtype {
        DType::F32 => of::<f32>(values),
        DType::F16 => of::<f16>(values),
        DType::BF16 => of::<bf16>(values),
        DType::F64 => of::<f64>(values),
        _ => None,
    }
}

fn scaled_as<T: Real>(weight: &Tensor, layout: Layout, scale: &[f64]) -> Option<Tensor> {
    let mut memory = BufferMut::zeroed(weight.len() * size_of::<T>());
    let mut out: &mut [T] = memory.elements_mut();
    let row = layout.width * layout.inner * size_of::<T>();
    for (a, row) in weight.bytes().chunks_exact(row).enumerate() {
        let (now, later) = out.split_at_mut(layout.width * layout.inner);
        let scale = &scale[layout.row(a)];
        let blocks = row.chunks_exact(layout.inner * size_of::<T>());
        if layout.inner == 1 {
            for ((to, w), &k) in now.iter_mut().zip(elements::<T>(row)).zip(scale) {
                *to = T::round(w * k);
            }
        } else {
            for ((to, block), &k) in now.chunks_exact_mut(layout.inner).zip(blocks).zip(scale) {
                for (to, w) in to.iter_mut().zip(elements::<T>(block)) {
                    *to = T::round(w * k);
                }
            }
        }
        if !all_finite(now) {
            return None;
        }
        out = later;
    }
    // Both are read again only if something else uses the weight.
    weight.release();
    Tensor::new(T::DTYPE, weight.dims(), Buffer::from(memory)).ok()
}

fn sums_as<T: Real>(weight: &Tensor, input: Layout, output: Layout, factors: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; output.channels()];
    let channel = |layout: Layout, i: usize| {
        let row = layout.width * layout.inner;
        layout.row(i / row).start + i % row / layout.inner
    };
    // Elements that are next to each other and share both channels.
    let run = input.inner.min(output.inner);
    let runs = weight.bytes().chunks_exact(run * size_of::<T>());
    for (i, elements_of_run) in runs.enumerate() {
        let sum: f64 = elements::<T>(elements_of_run).sum();
        sums[channel(output, i * run)] += sum * factors[channel(input, i * run)];
    }
    sums
}

/// A float type that weights have.
trait Real: Element {
    fn read(bytes: &[u8]) -> f64;
    fn round(value: f64) -> Self;
    fn finite(self) -> bool;
}

macro_rules! reals {
    ($($t:ty: $widen:expr, $round:expr;)*) => {$(
        impl Real for $t {
            fn read(bytes: &[u8]) -> f64 {
                let mut one = [0; size_of::<$t>()];
                one.copy_from_slice(bytes);
                $widen(<$t>::from_le_bytes(one))
            }

            fn round(value: f64) -> $t {
                $round(value)
            }

            fn finite(self) -> bool {
                self.is_finite()
            }
        }
    )*};
}

reals! {
    f32: f64::from, |v| v as f32;
    f64: |v| v, |v| v;
    f16: f16::to_f64, f16::from_f64;
    bf16: bf16::to_f64, bf16::from_f64;
}

/// The elements of `bytes`, which need not be aligned.
fn elements<T: Real>(bytes: &[u8]) -> impl Iterator<Item = f64> {
    bytes.chunks_exact(size_of::<T>()).map(T::read)
}

fn all_finite<T: Real>(values: &[T]) -> bool {
    // Without a branch per element, for the sake of large weights.
    values.iter().fold(true, |all, v| all & v.finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(dims: &[usize]) -> Tensor {
        let count = dims.iter().product::<usize>();
        Tensor::from_vec(dims, (0..count).map(|i| i as f32 + 1.0).collect()).unwrap()
    }

    /// The channel of each element, the slow way.
    fn channels(layout: Layout) -> Vec<usize> {
        let per_group = layout.outer / layout.groups;
        let mut all = Vec::new();
        for a in 0..layout.outer {
            for b in 0..layout.width {
                all.extend(vec![a / per_group * layout.width + b; layout.inner]);
            }
        }
        all
    }

    const LAYOUTS: &[(Layout, Layout)] = &[
        // Conv of 2 groups, [4, 3, 2]: outputs, inputs.
        (
            Layout {
                outer: 1,
                groups: 1,
                width: 4,
                inner: 6,
            },
            Layout {
                outer: 4,
                groups: 2,
                width: 3,
                inner: 2,
            },
        ),
        // ConvTranspose of 2 groups, [4, 3, 2].
        (
            Layout {
                outer: 4,
                groups: 2,
                width: 3,
                inner: 2,
            },
            Layout {
                outer: 1,
                groups: 1,
                width: 4,
                inner: 6,
            },
        ),
        // MatMul, [4, 6].
        (
            Layout {
                outer: 4,
                groups: 1,
                width: 6,
                inner: 1,
            },
            Layout {
                outer: 1,
                groups: 1,
                width: 4,
                inner: 6,
            },
        ),
    ];

    #[test]
    fn scales_every_layout() {
        let weight = weight(&[24]);
        for layout in LAYOUTS.iter().flat_map(|&(a, b)| [a, b]) {
            let scale: Vec<f64> = (0..layout.channels()).map(|c| 0.5 + c as f64).collect();
            let scaled = scaled(&weight, layout, &scale).unwrap();
            let expected: Vec<f32> = (channels(layout).iter().enumerate())
                .map(|(i, &c)| ((i + 1) as f64 * scale[c]) as f32)
                .collect();
            assert_eq!(*scaled.as_slice::<f32>().unwrap(), expected, "{layout:?}");
        }
    }

    #[test]
    fn sums_every_layout() {
        let weight = weight(&[24]);
        for &(output, input) in LAYOUTS {
            let factors: Vec<f64> = (0..input.channels()).map(|c| 1.0 + c as f64).collect();
            let mut expected = vec![0.0; output.channels()];
            for (i, (&o, &c)) in channels(output).iter().zip(&channels(input)).enumerate() {
                expected[o] += (i + 1) as f64 * factors[c];
            }
            let sums = weighted_sums(&weight, input, output, &factors).unwrap();
            assert_eq!(sums, expected, "{output:?}");
        }
    }

    #[test]
    fn what_overflows_is_no_result() {
        let half = weight(&[2]).cast(DType::F16, true).unwrap();
        let layout = Layout {
            outer: 1,
            groups: 1,
            width: 2,
            inner: 1,
        };
        assert!(scaled(&half, layout, &[1e4, 1e4]).is_some());
        assert!(scaled(&half, layout, &[1.0, 1e5]).is_none());
        assert!(vector(DType::F16, &[65504.0]).is_some());
        assert!(vector(DType::F16, &[65536.0]).is_none());
        assert!(vector(DType::F32, &[f64::NAN]).is_none());
        assert!(vector(DType::I32, &[1.0]).is_none());
    }

    #[test]
    fn rounds_once() {
        let weight = Tensor::vector(vec![0.1f32, 0.3]);
        let layout = Layout {
            outer: 1,
            groups: 1,
            width: 2,
            inner: 1,
        };
        let k = 1.0 / 3.0;
        let scaled = scaled(&weight, layout, &[k, k]).unwrap();
        let expected = [0.1f32, 0.3].map(|w| (f64::from(w) * k) as f32);
        assert_eq!(*scaled.as_slice::<f32>().unwrap(), expected);
    }
}
