//! A window that moves over the spatial axes.
//!
//! The *small* side is what the window is placed for (the result of a convolution, the operand of
//! a transposed one), the *big* side what it moves over. Position `p` of the small side meets
//! `p * stride + tap * dilation - begin` of the big side, on each axis.

use std::ops::Range;

use onnxq_ir::Op;
use onnxq_tensor::Dim;

use crate::ops::numeric::{ints_attr, product};

/// Attributes beyond this are refused, so that positions never overflow.
const LIMIT: i64 = 1 << 31;

/// More taps than this are refused, so that a small file cannot ask for hours of work.
const MAX_TAPS: i64 = 1 << 26;

/// How padding is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AutoPad {
    NotSet,
    SameUpper,
    SameLower,
    Valid,
}

/// The attributes of a window.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Window {
    pub(super) kernel: Vec<i64>,
    pub(super) strides: Vec<i64>,
    pub(super) dilations: Vec<i64>,
    /// All beginnings, then all ends.
    pub(super) pads: Vec<i64>,
    pub(super) auto_pad: AutoPad,
    pub(super) ceil: bool,
}

/// Where a window lies on the two sides, with padding decided.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Placement {
    pub(super) big: Vec<usize>,
    pub(super) small: Vec<usize>,
    pub(super) kernel: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    pub(super) begin: Vec<i64>,
    pub(super) end: Vec<i64>,
}

impl Window {
    /// The window of `op` over `rank` spatial axes. `weight` is the kernel as the weights have it;
    /// without, the attribute must be there.
    pub(super) fn of(op: &Op, rank: usize, weight: Option<&[i64]>) -> Result<Window, String> {
        let kernel = match (op.ints("kernel_shape"), weight) {
            (Some(attr), Some(weight)) if attr != weight => {
                return Err(format!(
                    "attribute 'kernel_shape' is {attr:?}, the weights have {weight:?}"
                ));
            }
            (_, Some(weight)) => weight.to_vec(),
            (Some(_), None) => ints_attr(op, "kernel_shape", rank, 1, 1..=LIMIT)?,
            (None, None) => return Err("attribute 'kernel_shape' is missing".to_owned()),
        };
        let taps = kernel.iter().try_fold(1i64, |n, &k| {
            n.checked_mul(k).filter(|n| (1..=MAX_TAPS).contains(n))
        });
        if kernel.len() != rank || taps.is_none() {
            return Err(format!("a kernel of {kernel:?} over {rank} spatial axes"));
        }
        let auto_pad = match op.str("auto_pad").unwrap_or("NOTSET") {
            "NOTSET" | "" => AutoPad::NotSet,
            "SAME_UPPER" => AutoPad::SameUpper,
            "SAME_LOWER" => AutoPad::SameLower,
            "VALID" => AutoPad::Valid,
            other => return Err(format!("attribute 'auto_pad' is '{other}'")),
        };
        let pads = match auto_pad {
            AutoPad::NotSet => ints_attr(op, "pads", 2 * rank, 0, -LIMIT..=LIMIT)?,
            _ => vec![0; 2 * rank],
        };
        Ok(Window {
            kernel,
            strides: ints_attr(op, "strides", rank, 1, 1..=LIMIT)?,
            dilations: ints_attr(op, "dilations", rank, 1, 1..=LIMIT)?,
            pads,
            auto_pad,
            ceil: op.int("ceil_mode", 0) != 0,
        })
    }

    /// The number of spatial axes.
    pub(super) fn rank(&self) -> usize {
        self.kernel.len()
    }

    /// Elements from the first tap to the last.
    pub(super) fn extent(&self, axis: usize) -> i64 {
        (self.kernel[axis] - 1) * self.dilations[axis] + 1
    }

    /// The size of the small side for a big side of this size.
    pub(super) fn small_dim(&self, axis: usize, big: &Dim) -> Dim {
        let stride = Dim::known(self.strides[axis]);
        let (begin, end) = (self.pads[axis], self.pads[self.rank() + axis]);
        match self.auto_pad {
            AutoPad::SameUpper | AutoPad::SameLower => big.ceil_div(&stride),
            AutoPad::NotSet | AutoPad::Valid => {
                let room = big + (begin + end - self.extent(axis));
                let placed = if self.ceil {
                    // A window that would begin in the padding at the end is left out.
                    (room.ceil_div(&stride) + 1).min(&(big + begin).ceil_div(&stride))
                } else {
                    room.floor_div(&stride) + 1
                };
                match placed.as_const() {
                    Some(n) => Dim::known(n.max(0)),
                    None => placed,
                }
            }
        }
    }

    /// Puts the window on a big side of these sizes.
    pub(super) fn place(&self, big: &[usize]) -> Result<Placement, String> {
        let rank = self.rank();
        let (mut small, mut begin, mut end) = (Vec::new(), Vec::new(), Vec::new());
        for (axis, &elements) in big.iter().enumerate() {
            let size = i64::try_from(elements).ok().filter(|&n| n <= LIMIT);
            let size = size.ok_or_else(|| format!("a spatial axis of {elements} elements"))?;
            let placed = self.small_dim(axis, &Dim::known(size));
            let placed = placed.as_const().unwrap_or(0).max(0);
            let (b, e) = match self.auto_pad {
                AutoPad::NotSet | AutoPad::Valid => (self.pads[axis], self.pads[rank + axis]),
                AutoPad::SameUpper | AutoPad::SameLower => {
                    let covered = (placed - 1).max(0) * self.strides[axis] + self.extent(axis);
                    let total = (covered - size).max(0);
                    let less = total / 2;
                    match self.auto_pad {
                        AutoPad::SameUpper => (less, total - less),
                        _ => (total - less, less),
                    }
                }
            };
            small.push(placed as usize);
            begin.push(b);
            end.push(e);
        }
        Ok(self.placement(big.to_vec(), small, begin, end))
    }

    /// The placement with both sides and the padding given.
    pub(super) fn placement(
        &self,
        mut big: Vec<usize>,
        mut small: Vec<usize>,
        mut begin: Vec<i64>,
        mut end: Vec<i64>,
    ) -> Placement {
        let unsigned = |v: &[i64]| v.iter().map(|&v| v as usize).collect::<Vec<_>>();
        let (mut kernel, mut strides, mut dilations) = (
            unsigned(&self.kernel),
            unsigned(&self.strides),
            unsigned(&self.dilations),
        );
        // Without spatial axes there is one position; an axis of one element says the same.
        if kernel.is_empty() {
            for ones in [&mut big, &mut small, &mut kernel, &mut strides] {
                ones.push(1);
            }
            dilations.push(1);
            begin.push(0);
            end.push(0);
        }
        Placement {
            big,
            small,
            kernel,
            strides,
            dilations,
            begin,
            end,
        }
    }
}

/// Positions of the small side, next to each other on the last axis, that meet the big side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    /// The first, counted from the start of the range asked for.
    pub(super) small: usize,
    /// What it meets; the following meet every `stride`-th after that.
    pub(super) big: usize,
    /// How many.
    pub(super) len: usize,
}

impl Placement {
    /// The number of taps.
    pub(super) fn taps(&self) -> usize {
        product(&self.kernel)
    }

    /// The distance on the big side between neighbours on the small side.
    pub(super) fn stride(&self) -> usize {
        self.strides[self.strides.len() - 1]
    }

    /// The index of tap number `tap` on each axis.
    pub(super) fn tap(&self, mut tap: usize) -> Vec<usize> {
        let mut index = vec![0; self.kernel.len()];
        for axis in (0..index.len()).rev() {
            index[axis] = tap % self.kernel[axis];
            tap /= self.kernel[axis];
        }
        index
    }

    /// Positions on `axis` of the small side whose tap `tap` is inside of the big side.
    fn inside(&self, axis: usize, tap: usize) -> Range<usize> {
        let (stride, size) = (self.strides[axis] as i64, self.big[axis] as i64);
        // p * stride + shift is in 0..size.
        let shift = (tap * self.dilations[axis]) as i64 - self.begin[axis];
        let last = self.small[axis] as i64;
        let lo = (-shift).max(0).div_ceil_by(stride).min(last);
        let hi = (size - shift).max(0).div_ceil_by(stride).clamp(lo, last);
        lo as usize..hi as usize
    }

    /// The runs of positions in `range` of the small side, flattened, at which `tap` is inside of
    /// the big side.
    pub(super) fn runs(&self, tap: &[usize], range: Range<usize>, mut f: impl FnMut(Run)) {
        let last = self.small.len() - 1;
        let width = self.small[last];
        if range.is_empty() || width == 0 {
            return;
        }
        let inside = self.inside(last, tap[last]);
        let shift = (tap[last] * self.dilations[last]) as i64 - self.begin[last];
        let mut at = range.start;
        while at < range.end {
            let (row, from) = (at / width, at % width);
            let to = (from + range.end - at).min(width);
            let (lo, hi) = (from.max(inside.start), to.min(inside.end));
            if lo < hi
                && let Some(start) = self.row_start(tap, row)
            {
                f(Run {
                    small: at + (lo - from) - range.start,
                    big: start + (lo as i64 * self.strides[last] as i64 + shift) as usize,
                    len: hi - lo,
                });
            }
            at += to - from;
        }
    }

    /// Where on the big side the row is that meets `row` of the small side, unless outside.
    fn row_start(&self, tap: &[usize], mut row: usize) -> Option<usize> {
        let (mut start, mut step) = (0, *self.big.last()?);
        for axis in (0..self.small.len() - 1).rev() {
            let p = (row % self.small[axis]) as i64;
            row /= self.small[axis];
            let q = p * self.strides[axis] as i64 + (tap[axis] * self.dilations[axis]) as i64
                - self.begin[axis];
            let q = usize::try_from(q).ok().filter(|&q| q < self.big[axis])?;
            start += q * step;
            step *= self.big[axis];
        }
        Some(start)
    }
}

trait DivCeilBy {
    fn div_ceil_by(self, divisor: i64) -> i64;
}

impl DivCeilBy for i64 {
    /// Rounded up, of a number that is not negative.
    fn div_ceil_by(self, divisor: i64) -> i64 {
        (self + divisor - 1) / divisor
    }
}
