//! What shape rules have in common: axes, broadcasting, and the step from symbolic shapes to
//! concrete ones.
//!
//! A rule is written once, over [`Dim`]s. Inference uses its result as it is, and evaluation makes
//! it [`concrete`].

use onnxq_tensor::{Dim, Dims, Shape, element_count};

use crate::{EvalError, Unknown, UpgradeError};

/// No result of an evaluation has more elements: more than any tensor of a model, and no more than a machine has
/// room for, whatever a node asks for.
pub(super) const MAX_ELEMENTS: usize = 1 << 29;

/// Operands or attributes that do not fit a rule.
#[derive(Debug)]
pub(super) struct Misfit(pub(super) String);

impl Misfit {
    pub(super) fn new(message: impl Into<String>) -> Misfit {
        Misfit(message.into())
    }
}

impl From<Misfit> for Unknown {
    fn from(m: Misfit) -> Unknown {
        Unknown(m.0)
    }
}

impl From<Misfit> for EvalError {
    fn from(m: Misfit) -> EvalError {
        EvalError::Invalid(m.0)
    }
}

impl From<Misfit> for UpgradeError {
    fn from(m: Misfit) -> UpgradeError {
        UpgradeError(m.0)
    }
}

/// The index of `axis`, which counts from the end where it is negative.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, Misfit> {
    let index = if axis < 0 {
        axis.saturating_add(rank as i64)
    } else {
        axis
    };
    usize::try_from(index)
        .ok()
        .filter(|&i| i < rank)
        .ok_or_else(|| Misfit(format!("axis {axis} is out of range for rank {rank}")))
}

/// The indices of `axes`, in their order; a repeated one is an error.
pub(super) fn axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, Misfit> {
    let mut seen = vec![false; rank];
    axes.iter()
        .map(|&a| {
            let index = axis(a, rank)?;
            if std::mem::replace(&mut seen[index], true) {
                return Err(Misfit(format!("axis {a} is given twice")));
            }
            Ok(index)
        })
        .collect()
}

/// Constant dimensions as a shape.
pub(super) fn symbolic(dims: &[usize]) -> Shape {
    dims.iter().map(|&d| Dim::known(d as i64)).collect()
}

/// A shape of which every dimension is a constant, within the limit on elements.
pub(super) fn concrete(shape: &[Dim]) -> Result<Dims, EvalError> {
    let dims: Option<Dims> = shape
        .iter()
        .map(|d| usize::try_from(d.as_const()?).ok())
        .collect();
    let dims = dims.ok_or_else(|| EvalError::Invalid(format!("{shape:?} is no shape")))?;
    limited(&dims)?;
    Ok(dims)
}

/// The number of elements of `dims`, within the limit.
pub(super) fn limited(dims: &[usize]) -> Result<usize, EvalError> {
    element_count(dims)
        .ok()
        .filter(|&n| n <= MAX_ELEMENTS)
        .ok_or_else(|| EvalError::TooLarge(dims.to_vec()))
}

/// What two dimensions broadcast to.
pub(super) fn broadcast_dim(a: &Dim, b: &Dim) -> Result<Dim, Misfit> {
    match (a.as_const(), b.as_const()) {
        (Some(m), Some(n)) if m != n && m != 1 && n != 1 => {
            Err(Misfit(format!("{a} and {b} do not broadcast")))
        }
        (Some(1), _) => Ok(b.clone()),
        (_, Some(1)) => Ok(a.clone()),
        // The other is 1 or the same.
        (Some(_), _) => Ok(a.clone()),
        (_, Some(_)) => Ok(b.clone()),
        _ if a == b => Ok(a.clone()),
        _ if a.provably_ge(2) => Ok(a.clone()),
        _ if b.provably_ge(2) => Ok(b.clone()),
        // If both are not empty.
        _ => Ok(a.max(b)),
    }
}

/// The shape two shapes broadcast to.
pub(super) fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Shape, Misfit> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let lead = long.len() - short.len();
    let mut out = Shape::from(&long[..lead]);
    for (x, y) in long[lead..].iter().zip(short) {
        out.push(broadcast_dim(x, y)?);
    }
    Ok(out)
}

/// The product of dimensions.
pub(super) fn product(shape: &[Dim]) -> Dim {
    shape.iter().cloned().product()
}

/// The number of positions of `dims`, which belong to a tensor that exists.
pub(super) fn count(dims: &[usize]) -> usize {
    dims.iter().product()
}
