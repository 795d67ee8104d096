//! Transposes: of matrices at strides, and of tensors of any rank by cutting them in such matrices.
//!
//! Bytes go by blocks of 8 × 64: eight rows of eight 64-bit integers, each with 8 × 8 bytes to
//! exchange, which three rounds of shifts and masks do for all eight at once. It is plain
//! arithmetic, so that every vector unit can do it.

use core::ops::Range;

use crate::{Cpu, tiers::tiers};

/// The most axes of a tensor that [`transpose`] takes.
pub const MAX_AXES: usize = 16;

/// What can be transposed: numbers of any size.
pub trait Element: Copy + sealed::Matrix {}

mod sealed {
    pub trait Matrix: Sized {
        /// `y[c · strides[1] + r] = x[r · strides[0] + c]`.
        fn transpose_matrix(
            cpu: crate::Cpu,
            x: &[Self],
            size: [usize; 2],
            strides: [usize; 2],
            y: &mut [Self],
        );
    }
}

impl Element for u8 {}

impl sealed::Matrix for u8 {
    fn transpose_matrix(cpu: Cpu, x: &[u8], size: [usize; 2], strides: [usize; 2], y: &mut [u8]) {
        bytes(cpu, x, size, strides, size[0], 0, y);
    }
}

macro_rules! elements {
    ($($name:ident: $ty:ty),*) => {$(
        impl Element for $ty {}

        impl sealed::Matrix for $ty {
            fn transpose_matrix(
                cpu: Cpu,
                x: &[$ty],
                size: [usize; 2],
                strides: [usize; 2],
                y: &mut [$ty],
            ) {
                $name(cpu, x, size, strides, y);
            }
        }

        tiers! {
            fn $name(x: &[$ty], size: [usize; 2], strides: [usize; 2], y: &mut [$ty]) {
                wide(x, size, strides, y);
            }
        }
    )*};
}
elements!(of_u16: u16, of_i32: i32, of_i64: i64, of_f32: f32, of_u32: u32, of_u64: u64, of_f64: f64);

/// Blocks of 8 × 8, so that whole lines of the cache are read and written.
#[inline(always)]
fn wide<T: Copy>(x: &[T], [rows, columns]: [usize; 2], strides: [usize; 2], y: &mut [T]) {
    const BLOCK: usize = 8;
    for first in (0..columns).step_by(BLOCK) {
        let width = BLOCK.min(columns - first);
        for row in (0..rows).step_by(BLOCK) {
            let height = BLOCK.min(rows - row);
            let x = &x[row * strides[0] + first..][..(height - 1) * strides[0] + width];
            let y = &mut y[first * strides[1] + row..][..(width - 1) * strides[1] + height];
            if height == BLOCK && width == BLOCK {
                let mut block = [[x[0]; BLOCK]; BLOCK];
                for (r, to) in block.iter_mut().enumerate() {
                    to.copy_from_slice(&x[r * strides[0]..][..BLOCK]);
                }
                for c in 0..BLOCK {
                    let column = core::array::from_fn::<T, BLOCK, _>(|r| block[r][c]);
                    y[c * strides[1]..][..BLOCK].copy_from_slice(&column);
                }
                continue;
            }
            for c in 0..width {
                for r in 0..height {
                    y[c * strides[1] + r] = x[r * strides[0] + c];
                }
            }
        }
    }
}

/// Exchanges the bytes of eight 8 × 8 matrices: byte `i` of number `j` and byte `j` of number `i`.
#[inline(always)]
fn exchange(rows: &mut [[u64; 8]; 8]) {
    const MASKS: [u64; 3] = [
        0x00ff_00ff_00ff_00ff,
        0x0000_ffff_0000_ffff,
        0x0000_0000_ffff_ffff,
    ];
    for (round, mask) in MASKS.into_iter().enumerate() {
        let apart = 1 << round;
        for i in 0..8 {
            if i & apart != 0 {
                continue;
            }
            let (mut a, mut b) = (rows[i], rows[i + apart]);
            for (a, b) in a.iter_mut().zip(&mut b) {
                let moved = ((*a >> (8 * apart)) ^ *b) & mask;
                *a ^= moved << (8 * apart);
                *b ^= moved;
            }
            (rows[i], rows[i + apart]) = (a, b);
        }
    }
}

tiers! {
    /// `y[c · strides[1] + r] = x[r · strides[0] + c]` for `rows` × `columns`, and `fill` for `r` from there to `padded`.
    pub(crate) fn bytes(
        x: &[u8], size: [usize; 2], strides: [usize; 2], padded: usize, fill: u8, y: &mut [u8],
    ) {
        let [rows, columns] = size;
        for first in (0..columns).step_by(64) {
            let width = 64.min(columns - first);
            for row in (0..padded).step_by(8) {
                let mut block = [[u64::from_ne_bytes([fill; 8]); 8]; 8];
                for (r, to) in block.iter_mut().enumerate().take(rows.saturating_sub(row)) {
                    let mut line = [0; 64];
                    let x = &x[(row + r) * strides[0] + first..][..width];
                    match x.first_chunk() {
                        Some(x) => line = *x,
                        None => line[..width].copy_from_slice(x),
                    }
                    for (to, from) in to.iter_mut().zip(line.as_chunks().0) {
                        *to = u64::from_le_bytes(*from);
                    }
                }
                exchange(&mut block);
                let height = 8.min(padded - row);
                let y = &mut y[first * strides[1] + row..][..(width - 1) * strides[1] + height];
                if height == 8 && width == 64 {
                    for c in 0..64 {
                        let column = block[c % 8][c / 8].to_le_bytes();
                        y[c * strides[1]..][..8].copy_from_slice(&column);
                    }
                    continue;
                }
                for c in 0..width {
                    let column = block[c % 8][c / 8].to_le_bytes();
                    y[c * strides[1]..][..height].copy_from_slice(&column[..height]);
                }
            }
        }
    }
}

/// Transposes the `rows` × `columns` matrix `x`: computes `part` of its columns, which are the rows of `y`.
///
/// # Panics
/// Sizes that do not fit together.
pub fn transpose_matrix<T: Element>(
    cpu: Cpu,
    x: &[T],
    [rows, columns]: [usize; 2],
    part: Range<usize>,
    y: &mut [T],
) {
    assert_eq!(x.len(), rows * columns, "a matrix");
    assert!(
        part.start <= part.end && part.end <= columns,
        "columns of a matrix"
    );
    assert_eq!(y.len(), rows * part.len(), "columns of a matrix");
    if y.is_empty() {
        return;
    }
    let size = [rows, part.len()];
    T::transpose_matrix(cpu, &x[part.start..], size, [columns, rows], y);
}

/// Axes of the result, outermost first: how many elements, and how far apart in the operand.
struct Axes {
    count: usize,
    sizes: [usize; MAX_AXES],
    from: [usize; MAX_AXES],
}

impl Axes {
    /// Without axes of one element, and with those merged that stay together.
    fn of(dims: &[usize], order: &[usize]) -> Axes {
        let mut axes = Axes {
            count: 0,
            sizes: [1; MAX_AXES],
            from: [1; MAX_AXES],
        };
        for &axis in order {
            let (size, from) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
            if size == 1 {
                continue;
            }
            match axes.count.checked_sub(1) {
                Some(last) if axes.from[last] == from * size => {
                    axes.sizes[last] *= size;
                    axes.from[last] = from;
                }
                _ => {
                    axes.sizes[axes.count] = size;
                    axes.from[axes.count] = from;
                    axes.count += 1;
                }
            }
        }
        axes
    }
}

/// Transposes a tensor of `dims`: axis `i` of the result is axis `order[i]` of the operand.
///
/// # Panics
/// `order` is no permutation of the axes, these are more than [`MAX_AXES`], or sizes do not fit together.
pub fn transpose<T: Element>(cpu: Cpu, x: &[T], dims: &[usize], order: &[usize], y: &mut [T]) {
    let axes = 0..dims.len();
    assert!(
        dims.len() <= MAX_AXES
            && order.len() == dims.len()
            && axes.clone().all(|a| order.contains(&a)),
        "an order of axes: {order:?} of {dims:?}"
    );
    assert_eq!(x.len(), dims.iter().product::<usize>(), "the operand");
    assert_eq!(y.len(), x.len(), "the result");
    if x.is_empty() {
        return;
    }
    let axes = Axes::of(dims, order);
    let count = axes.count;
    if count <= 1 {
        y.copy_from_slice(x);
        return;
    }
    // How far apart elements are in the result.
    let mut to = [1; MAX_AXES];
    for i in (0..count - 1).rev() {
        to[i] = to[i + 1] * axes.sizes[i + 1];
    }
    // The last axis is written in order, and the one that is contiguous in the operand read in order.
    let last = count - 1;
    let inner = (0..count)
        .rev()
        .find(|&i| axes.from[i] == 1)
        .unwrap_or(last);
    let mut index = [0; MAX_AXES];
    let (mut source, mut target) = (0, 0);
    loop {
        if inner == last {
            let size = axes.sizes[last];
            y[target..][..size].copy_from_slice(&x[source..][..size]);
        } else {
            let size = [axes.sizes[last], axes.sizes[inner]];
            let strides = [axes.from[last], to[inner]];
            T::transpose_matrix(cpu, &x[source..], size, strides, &mut y[target..]);
        }
        // The next index, over all other axes.
        let mut axis = last;
        loop {
            let Some(next) = axis.checked_sub(1) else {
                return;
            };
            axis = next;
            if axis == inner {
                continue;
            }
            index[axis] += 1;
            source += axes.from[axis];
            target += to[axis];
            if index[axis] < axes.sizes[axis] {
                break;
            }
            source -= axes.from[axis] * index[axis];
            target -= to[axis] * index[axis];
            index[axis] = 0;
        }
    }
}
