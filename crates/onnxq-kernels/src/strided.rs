//! Parts of tensors: copies of stretches of elements at strides.

/// The most axes of a [`copy_strided`].
pub const MAX_COPY_AXES: usize = 8;

/// Copies stretches of `chunk` elements to `y`, one after the other. The first begins at element `offset` of `x`; `axes`
/// are how many there are along each axis, and how far apart, the last axis first to move on.
///
/// # Panics
/// A stretch that is not within `x`, more than [`MAX_COPY_AXES`] axes, or a result of another size.
pub fn copy_strided<T: Copy>(
    x: &[T],
    offset: usize,
    chunk: usize,
    axes: &[(usize, isize)],
    y: &mut [T],
) {
    assert!(axes.len() <= MAX_COPY_AXES, "axes of a copy");
    let count: usize = axes.iter().map(|(count, _)| count).product();
    assert_eq!(y.len(), count * chunk, "the result");
    if y.is_empty() {
        return;
    }
    let mut index = [0; MAX_COPY_AXES];
    let mut from = offset;
    for y in y.chunks_exact_mut(chunk) {
        y.copy_from_slice(&x[from..][..chunk]);
        for (index, &(count, step)) in index[..axes.len()].iter_mut().zip(axes).rev() {
            *index += 1;
            from = from.wrapping_add_signed(step);
            if *index < count {
                break;
            }
            from = from.wrapping_sub((step as usize).wrapping_mul(count));
            *index = 0;
        }
    }
}
