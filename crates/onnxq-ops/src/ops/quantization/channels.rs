//! The attribute `channels_last` of ONNX Runtime's operators: the channels are the last axis of
//! operand and result.

use crate::ops::numeric::product;

pub(crate) fn channels_last(op: &onnxq_ir::Op) -> bool {
    op.int("channels_last", 0) != 0
}

/// Dimensions with the channels after the batch.
pub(crate) fn to_first<T: Clone>(dims: &[T], channels_last: bool) -> Vec<T> {
    let mut dims = dims.to_vec();
    if channels_last && dims.len() > 2 {
        dims[1..].rotate_right(1);
    }
    dims
}

/// Dimensions with the channels at the end.
pub(crate) fn to_last<T: Clone>(dims: &[T], channels_last: bool) -> Vec<T> {
    let mut dims = dims.to_vec();
    if channels_last && dims.len() > 2 {
        dims[1..].rotate_left(1);
    }
    dims
}

/// Elements of a tensor of `dims`, which has the channels at the end, with them after the batch.
pub(crate) fn channels_first<T: Copy>(data: Vec<T>, dims: &[usize], channels_last: bool) -> Vec<T> {
    match (channels_last, dims) {
        (true, [_, inner @ .., channels]) => exchange(&data, product(inner), *channels),
        _ => data,
    }
}

/// The way back: `dims` has the channels after the batch.
pub(crate) fn channels_back<T: Copy>(data: Vec<T>, dims: &[usize], channels_last: bool) -> Vec<T> {
    match (channels_last, dims) {
        (true, [_, channels, inner @ ..]) => exchange(&data, *channels, product(inner)),
        _ => data,
    }
}

/// Transposes each matrix of `rows` and `columns`.
fn exchange<T: Copy>(data: &[T], rows: usize, columns: usize) -> Vec<T> {
    let size = (rows * columns).max(1);
    data.chunks_exact(size)
        .flat_map(|m| (0..columns).flat_map(move |c| (0..rows).map(move |r| m[r * columns + c])))
        .collect()
}
