//! Which axes a reduction is over.

use onnxq_tensor::{Dim, Shape};

use crate::ops::rules;

/// For each axis of a tensor of this rank, whether it is reduced.
pub(super) fn flags(axes: Option<&[i64]>, noop: bool, rank: usize) -> Result<Vec<bool>, String> {
    let Some(axes) = axes.filter(|a| !a.is_empty()) else {
        return Ok(vec![!noop; rank]);
    };
    let mut flags = vec![false; rank];
    for &axis in axes {
        let found = rules::axis(axis, rank).ok();
        flags[found.ok_or_else(|| format!("axis {axis} of an operand of rank {rank}"))?] = true;
    }
    Ok(flags)
}

/// The shape that is left.
pub(super) fn reduced_shape(shape: &[Dim], flags: &[bool], keep: bool) -> Shape {
    let both = shape.iter().zip(flags);
    both.filter(|(_, reduced)| keep || !**reduced)
        .map(|(d, reduced)| if *reduced { Dim::known(1) } else { d.clone() })
        .collect()
}

/// The dimensions that are left.
pub(super) fn reduced_dims(dims: &[usize], flags: &[bool], keep: bool) -> Vec<usize> {
    let both = dims.iter().zip(flags);
    both.filter(|(_, reduced)| keep || !**reduced)
        .map(|(&d, reduced)| if *reduced { 1 } else { d })
        .collect()
}
