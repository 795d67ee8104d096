//! Which elements of a tensor share a scale: all, those of a channel, or those of a block.
//!
//! A [`Layout`] cuts the elements into [`Run`]s in the order of memory, so that every scan of a
//! weight is one sequential read whatever the axis.

use std::ops::Range;

use onnxq_tensor::{Dims, TensorError, element_count};

use crate::{Error, Result, floats::BLOCK};

/// Which elements share a scale and a zero point.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Granularity {
    /// All of them. Parameters have rank 0.
    PerTensor,
    /// Those with the same index along `axis`. Parameters have rank 1.
    PerChannel {
        /// The axis; negative ones count from the end.
        axis: i64,
    },
    /// `block` consecutive ones along `axis`; the last block may be shorter. Parameters have
    /// the shape of the tensor, with `ceil(dim / block)` along `axis`.
    Blocked {
        /// The axis; negative ones count from the end.
        axis: i64,
        /// Elements in a block.
        block: usize,
    },
}

/// Consecutive elements `span`, at most [`BLOCK`]: element `i` belongs to group
/// `group + i / width`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) span: Range<usize>,
    pub(crate) group: usize,
    pub(crate) width: usize,
}

impl Run {
    /// The groups that have an element here.
    pub(crate) fn groups(&self) -> Range<usize> {
        self.group..self.group + self.span.len().div_ceil(self.width)
    }
}

/// The groups of a tensor's elements.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The shape of scales and zero points.
    pub(crate) param_dims: Dims,
    pub(crate) groups: usize,
    pub(crate) len: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    One,
    /// `[outer, channels, inner]`, groups along the second.
    Channels {
        channels: usize,
        inner: usize,
    },
    /// Blocks along the last axis, of length `axis`.
    Rows {
        axis: usize,
        block: usize,
    },
    /// `[outer, axis, inner]`, blocks along the second, `inner` of them side by side.
    Columns {
        axis: usize,
        inner: usize,
        block: usize,
    },
}

/// More groups than this in a tensor without elements are a mistake, not a model.
const MAX_EMPTY_GROUPS: usize = 1 << 24;

impl Layout {
    pub(crate) fn new(dims: &[usize], granularity: Granularity) -> Result<Layout> {
        let len = element_count(dims)?;
        let one = Layout {
            param_dims: Dims::new(),
            groups: 1,
            len,
            kind: Kind::One,
        };
        let (axis, block) = match granularity {
            Granularity::PerTensor => return Ok(one),
            Granularity::PerChannel { axis } => (axis, None),
            Granularity::Blocked { block: 0, .. } => return Err(Error::EmptyBlock),
            Granularity::Blocked { axis, block } => (axis, Some(block)),
        };
        let axis = normalize(axis, dims.len())?;
        let (length, inner) = (dims[axis], element_count(&dims[axis + 1..])?);
        let (kind, param_dims) = match block {
            None => (
                Kind::Channels {
                    channels: length,
                    inner,
                },
                Dims::from_slice(&[length]),
            ),
            Some(block) => {
                let mut param_dims = Dims::from_slice(dims);
                param_dims[axis] = length.div_ceil(block);
                let kind = match inner {
                    1 => Kind::Rows {
                        axis: length,
                        block,
                    },
                    _ => Kind::Columns {
                        axis: length,
                        inner,
                        block,
                    },
                };
                (kind, param_dims)
            }
        };
        let groups = element_count(&param_dims)?;
        if len == 0 && groups > MAX_EMPTY_GROUPS {
            return Err(TensorError::TooLarge(dims.to_vec()).into());
        }
        Ok(Layout {
            param_dims,
            groups,
            len,
            kind,
        })
    }

    /// Every element once, in the order of memory.
    pub(crate) fn try_runs(&self, mut visit: impl FnMut(Run) -> Result<()>) -> Result<()> {
        if self.len == 0 {
            return Ok(());
        }
        match self.kind {
            Kind::One => rows(0..self.len, 0, self.len, &mut visit),
            Kind::Channels { channels, inner } => {
                for start in (0..self.len).step_by(channels * inner) {
                    rows(start..start + channels * inner, 0, inner, &mut visit)?;
                }
                Ok(())
            }
            Kind::Rows { axis, block } => {
                let groups = axis.div_ceil(block);
                for (outer, start) in (0..self.len).step_by(axis).enumerate() {
                    rows(start..start + axis, outer * groups, block, &mut visit)?;
                }
                Ok(())
            }
            Kind::Columns { axis, inner, block } => {
                let groups = axis.div_ceil(block);
                for (row, start) in (0..self.len).step_by(inner).enumerate() {
                    let (outer, index) = (row / axis, row % axis);
                    let group = (outer * groups + index / block) * inner;
                    rows(start..start + inner, group, 1, &mut visit)?;
                }
                Ok(())
            }
        }
    }
}

/// Cuts `span`, rows of `width` elements, one group each from `group` on, into runs: of whole
/// rows where they are short, else of pieces of one row.
fn rows(
    span: Range<usize>,
    group: usize,
    width: usize,
    visit: &mut impl FnMut(Run) -> Result<()>,
) -> Result<()> {
    if width <= BLOCK {
        let step = BLOCK / width * width;
        for start in span.clone().step_by(step) {
            let group = group + (start - span.start) / width;
            visit(Run {
                span: start..span.end.min(start + step),
                group,
                width,
            })?;
        }
        return Ok(());
    }
    for (row, start) in span.clone().step_by(width).enumerate() {
        let end = span.end.min(start + width);
        for piece in (start..end).step_by(BLOCK) {
            visit(Run {
                span: piece..end.min(piece + BLOCK),
                group: group + row,
                width,
            })?;
        }
    }
    Ok(())
}

fn normalize(axis: i64, rank: usize) -> Result<usize> {
    let positive = if axis < 0 {
        axis.checked_add(rank as i64)
    } else {
        Some(axis)
    };
    positive
        .and_then(|a| usize::try_from(a).ok())
        .filter(|&a| a < rank)
        .ok_or(Error::Axis { axis, rank })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The group of each element, by the definition.
    fn groups(dims: &[usize], granularity: Granularity) -> Vec<usize> {
        let len = dims.iter().product();
        let of = |axis: usize, index: usize| {
            let inner: usize = dims[axis + 1..].iter().product();
            (
                index / inner / dims[axis],
                index / inner % dims[axis],
                index % inner,
                inner,
            )
        };
        (0..len)
            .map(|i| match granularity {
                Granularity::PerTensor => 0,
                Granularity::PerChannel { axis } => of(axis as usize, i).1,
                Granularity::Blocked { axis, block } => {
                    let (outer, a, column, inner) = of(axis as usize, i);
                    (outer * dims[axis as usize].div_ceil(block) + a / block) * inner + column
                }
            })
            .collect()
    }

    #[test]
    fn runs_visit_every_element_in_order_with_its_group() {
        let shapes: &[&[usize]] = &[
            &[5],
            &[3, 4],
            &[2, 3, 5],
            &[4, 3000],
            &[3000, 3],
            &[2, 2, 5000],
        ];
        for dims in shapes {
            let axes = 0..dims.len() as i64;
            let channels = axes.clone().map(|axis| Granularity::PerChannel { axis });
            let blocks = axes.flat_map(|axis| {
                [1, 2, 3, 32, 9000].map(|block| Granularity::Blocked { axis, block })
            });
            for g in [Granularity::PerTensor]
                .into_iter()
                .chain(channels)
                .chain(blocks)
            {
                let layout = Layout::new(dims, g).unwrap();
                let mut found = Vec::new();
                let visit = |run: Run| {
                    assert_eq!(run.span.start, found.len());
                    assert!(!run.span.is_empty() && run.span.len() <= BLOCK);
                    assert!(run.groups().end <= layout.groups);
                    found.extend((0..run.span.len()).map(|i| run.group + i / run.width));
                    Ok(())
                };
                layout.try_runs(visit).unwrap();
                assert_eq!(found, groups(dims, g), "{dims:?} {g:?}");
                assert_eq!(layout.groups, layout.param_dims.iter().product::<usize>());
            }
        }
    }

    #[test]
    fn odd_shapes_are_errors_or_empty() {
        let per_channel = |axis| Granularity::PerChannel { axis };
        let out = |dims: &[usize], axis| Layout::new(dims, per_channel(axis)).unwrap_err();
        assert_eq!(out(&[2, 3], 2), Error::Axis { axis: 2, rank: 2 });
        assert_eq!(out(&[2, 3], -3), Error::Axis { axis: -3, rank: 2 });
        assert_eq!(
            out(&[], i64::MIN),
            Error::Axis {
                axis: i64::MIN,
                rank: 0
            }
        );
        assert!(matches!(out(&[0, 1 << 60], 1), Error::Tensor(_)));
        let block = Granularity::Blocked { axis: 0, block: 0 };
        assert_eq!(Layout::new(&[4], block).unwrap_err(), Error::EmptyBlock);
        for (dims, groups) in [(&[0usize, 3], 3), (&[3, 0], 0)] {
            let layout = Layout::new(dims, per_channel(-1)).unwrap();
            assert_eq!(layout.groups, groups);
            layout.try_runs(|run| panic!("{run:?}")).unwrap();
        }
    }
}
