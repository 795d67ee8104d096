//! Moving elements, whatever their type.
//!
//! A mover says which [`Run`]s of its sources make up the result, in order; [`gather`] copies
//! them. [`Strided`] gives the runs of a view: transposed, cut, reversed or broadcast.

use bytes::Bytes;
use onnxq_tensor::{Buffer, DType, Dims, Tensor};
use smallvec::SmallVec;

use super::rules::limited;
use crate::EvalError;

/// Elements of a source that lie one after another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    /// Which source.
    pub(super) source: usize,
    /// The first element.
    pub(super) start: usize,
    /// How many there are.
    pub(super) len: usize,
}

impl Run {
    /// Elements of the first source.
    pub(super) fn new(start: usize, len: usize) -> Run {
        Run {
            source: 0,
            start,
            len,
        }
    }

    /// One element of a source.
    pub(super) fn one(source: usize, start: usize) -> Run {
        Run {
            source,
            start,
            len: 1,
        }
    }
}

/// The tensor of dimensions `dims` that consists of `runs` of `sources`, which must be of one
/// element type.
pub(super) fn gather(
    sources: &[&Tensor],
    dims: impl Into<Dims>,
    runs: impl Iterator<Item = Run>,
) -> Result<Tensor, EvalError> {
    let dims = dims.into();
    let count = limited(&dims)?;
    let dtype = sources.first().map_or(DType::F32, |t| t.dtype());
    if let Some(other) = sources.iter().find(|t| t.dtype() != dtype) {
        let message = format!("element types {dtype} and {} do not mix", other.dtype());
        return Err(EvalError::Invalid(message));
    }
    if count == 0 {
        // One dimension may be huge beside another that is 0: not even a count of runs is safe.
        return Ok(Tensor::zeros(dtype, dims)?);
    }
    if dtype == DType::String {
        let sources: Vec<&[Bytes]> = sources
            .iter()
            .map(|t| t.strings().map_or(&[][..], |s| s))
            .collect();
        return Ok(Tensor::from_strings(dims, collect(&sources, count, runs)?)?);
    }
    if dtype.is_packed() {
        let codes: Vec<Vec<u8>> = sources
            .iter()
            .map(|t| (0..t.len()).map(|i| t.packed_bits(i)).collect())
            .collect();
        let sources: Vec<&[u8]> = codes.iter().map(Vec::as_slice).collect();
        let codes = collect(&sources, count, runs)?;
        return Ok(Tensor::from_packed_bits(dtype, dims, codes)?);
    }
    let buffer = match dtype.bits() {
        8 => words::<u8>(sources, count, runs)?,
        16 => words::<u16>(sources, count, runs)?,
        32 => words::<u32>(sources, count, runs)?,
        64 => words::<u64>(sources, count, runs)?,
        _ => words::<u128>(sources, count, runs)?,
    };
    Ok(Tensor::new(dtype, dims, buffer)?)
}

fn words<T: bytemuck::Pod + Send + Sync>(
    sources: &[&Tensor],
    count: usize,
    runs: impl Iterator<Item = Run>,
) -> Result<Buffer, EvalError> {
    let slices = sources
        .iter()
        .map(|t| bytemuck::try_cast_slice::<u8, T>(t.bytes()));
    if let Ok(slices) = slices.collect::<Result<Vec<&[T]>, _>>() {
        return Ok(Buffer::from_vec(collect(&slices, count, runs)?));
    }
    // Bytes of a file need not be aligned. Of a large table little may be asked for: that is
    // copied byte by byte.
    let width = size_of::<T>();
    let bytes: Vec<&[u8]> = sources.iter().map(|t| t.bytes()).collect();
    let runs = runs.map(|run| Run {
        source: run.source,
        start: run.start.saturating_mul(width),
        len: run.len.saturating_mul(width),
    });
    let bytes = collect(&bytes, count.saturating_mul(width), runs)?;
    Ok(Buffer::from_vec(bytemuck::pod_collect_to_vec::<u8, T>(
        &bytes,
    )))
}

fn collect<T: Clone>(
    sources: &[&[T]],
    count: usize,
    runs: impl Iterator<Item = Run>,
) -> Result<Vec<T>, EvalError> {
    let mut out = Vec::with_capacity(count);
    for Run { source, start, len } in runs {
        let end = start.checked_add(len);
        let part = sources
            .get(source)
            .and_then(|s| s.get(start..end?))
            .ok_or_else(|| EvalError::Invalid("an element out of range is asked for".to_owned()))?;
        match part {
            [one] => out.push(one.clone()),
            many => out.extend_from_slice(many),
        }
    }
    if out.len() != count {
        return Err(EvalError::Invalid(format!(
            "the result has {} elements instead of {count}",
            out.len()
        )));
    }
    Ok(out)
}

/// The strides of a dense row-major tensor, in elements.
pub(super) fn strides(dims: &[usize]) -> SmallVec<[isize; 4]> {
    let mut strides: SmallVec<[isize; 4]> = SmallVec::from_elem(0, dims.len());
    let mut step = 1isize;
    for (stride, &d) in strides.iter_mut().zip(dims).rev() {
        *stride = step;
        step = step.saturating_mul(d as isize);
    }
    strides
}

/// The strides with which a tensor of dimensions `dims` is read as one of rank `rank`,
/// broadcast: those of its missing dimensions and of those of size 1 are zero.
pub(super) fn broadcast_strides(dims: &[usize], rank: usize) -> SmallVec<[isize; 4]> {
    let mut out: SmallVec<[isize; 4]> = SmallVec::from_elem(0, rank);
    let lead = rank - dims.len();
    for ((out, stride), &d) in out[lead..].iter_mut().zip(strides(dims)).zip(dims) {
        *out = if d == 1 { 0 } else { stride };
    }
    out
}

/// A view of a tensor: dimensions, and the step in elements along each.
pub(super) struct Strided {
    pub(super) dims: Dims,
    pub(super) strides: SmallVec<[isize; 4]>,
    pub(super) offset: usize,
}

impl Strided {
    /// The runs of the view, in its order.
    pub(super) fn runs(mut self) -> impl Iterator<Item = Run> {
        let empty = self.dims.contains(&0);
        if !empty {
            coalesce(&mut self.dims, &mut [&mut self.strides]);
        }
        let len = match (self.dims.last(), self.strides.last()) {
            (Some(&d), Some(1)) => {
                self.dims.pop();
                self.strides.pop();
                d
            }
            _ => 1,
        };
        let positions =
            (!empty).then(|| Positions::new(self.dims, &[&self.strides], [self.offset]));
        positions
            .into_iter()
            .flatten()
            .map(move |[start]| Run::new(start, len))
    }
}

/// Drops dimensions of size 1 and joins those that every operand steps through as if they were
/// one.
pub(super) fn coalesce(dims: &mut Dims, strides: &mut [&mut SmallVec<[isize; 4]>]) {
    let mut kept = 0;
    for i in 0..dims.len() {
        if dims[i] == 1 {
            continue;
        }
        let joins = kept > 0
            && strides
                .iter()
                .all(|s| s[kept - 1] == s[i].saturating_mul(dims[i] as isize));
        if joins {
            // Beside an empty axis the others may be of any size.
            dims[kept - 1] = dims[kept - 1].saturating_mul(dims[i]);
            for s in strides.iter_mut() {
                s[kept - 1] = s[i];
            }
        } else {
            dims[kept] = dims[i];
            for s in strides.iter_mut() {
                s[kept] = s[i];
            }
            kept += 1;
        }
    }
    dims.truncate(kept);
    for s in strides.iter_mut() {
        s.truncate(kept);
    }
}

/// Walks the positions of `dims` in row-major order and says where each of `N` operands, with
/// strides of its own, then is.
pub(super) struct Positions<const N: usize> {
    dims: Dims,
    strides: SmallVec<[[isize; N]; 4]>,
    index: Dims,
    at: [usize; N],
    left: usize,
}

impl<const N: usize> Positions<N> {
    /// Every operand must stay inside its tensor at every position.
    pub(super) fn new(dims: Dims, strides: &[&[isize]; N], offsets: [usize; N]) -> Positions<N> {
        let of_axis = |i: usize| std::array::from_fn(|n| strides[n][i]);
        Positions {
            strides: (0..dims.len()).map(of_axis).collect(),
            index: Dims::from_elem(0, dims.len()),
            at: offsets,
            left: dims.iter().product(),
            dims,
        }
    }
}

impl<const N: usize> Iterator for Positions<N> {
    type Item = [usize; N];

    fn next(&mut self) -> Option<[usize; N]> {
        self.left = self.left.checked_sub(1)?;
        let here = self.at;
        for axis in (0..self.dims.len()).rev() {
            self.index[axis] += 1;
            let back = self.index[axis] == self.dims[axis];
            // From the last index along an axis to the first, or one step on.
            let steps = if back {
                self.index[axis] = 0;
                -(self.dims[axis] as isize - 1)
            } else {
                1
            };
            for (at, stride) in self.at.iter_mut().zip(self.strides[axis]) {
                *at = at.wrapping_add_signed(stride.wrapping_mul(steps));
            }
            if !back {
                break;
            }
        }
        Some(here)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// `f` of the elements of two tensors at every position of `dims`, to which both broadcast.
pub(super) fn zip<A, B, R>(
    (a, a_dims): (&[A], &[usize]),
    (b, b_dims): (&[B], &[usize]),
    dims: &[usize],
    f: impl Fn(&A, &B) -> R,
) -> Vec<R> {
    let count = dims.iter().product();
    let mut out = Vec::with_capacity(count);
    if count == 0 {
        return out;
    }
    let mut outer = Dims::from(dims);
    let mut sa = broadcast_strides(a_dims, dims.len());
    let mut sb = broadcast_strides(b_dims, dims.len());
    coalesce(&mut outer, &mut [&mut sa, &mut sb]);
    let n = outer.pop().unwrap_or(1);
    let (step_a, step_b) = (sa.pop().unwrap_or(0), sb.pop().unwrap_or(0));
    for [i, j] in Positions::new(outer, &[&sa, &sb], [0, 0]) {
        match (step_a, step_b) {
            (0, 0) => out.extend((0..n).map(|_| f(&a[i], &b[j]))),
            (_, 0) => out.extend(a[i..i + n].iter().map(|x| f(x, &b[j]))),
            (0, _) => out.extend(b[j..j + n].iter().map(|y| f(&a[i], y))),
            _ => out.extend(a[i..i + n].iter().zip(&b[j..j + n]).map(|(x, y)| f(x, y))),
        }
    }
    out
}
