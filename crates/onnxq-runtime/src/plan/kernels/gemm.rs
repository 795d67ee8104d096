//! The matrix product, by the `gemm` crate's kernel for `f32`, on one thread.

use gemm_common::Parallelism;

/// A matrix in a slice.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    /// Elements from one row to the next.
    pub(crate) row: usize,
    /// Elements from one column to the next.
    pub(crate) column: usize,
}

/// A matrix to be written, with contiguous rows.
pub(crate) struct MatrixMut<'a> {
    pub(crate) data: &'a mut [f32],
    /// Elements from one row to the next.
    pub(crate) row: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix of contiguous rows of `columns` elements.
    pub(crate) fn rows(data: &'a [f32], columns: usize) -> Matrix<'a> {
        Matrix {
            data,
            row: columns,
            column: 1,
        }
    }

    /// The same elements with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Matrix<'a> {
        Matrix {
            row: self.column,
            column: self.row,
            ..self
        }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        extent(rows, self.row, columns, self.column).is_some_and(|n| n <= self.data.len())
    }
}

/// How many elements a matrix spans.
fn extent(rows: usize, row: usize, columns: usize, column: usize) -> Option<usize> {
    if rows == 0 || columns == 0 {
        return Some(0);
    }
    let last = (rows - 1)
        .checked_mul(row)?
        .checked_add((columns - 1).checked_mul(column)?)?;
    last.checked_add(1)
}

/// `c = a b`, where `a` is `m` by `k` and `b` is `k` by `n`; with `add`, `c += a b`.
///
/// # Panics
/// A matrix is not in its slice.
pub(crate) fn gemm(
    [m, n, k]: [usize; 3],
    c: MatrixMut<'_>,
    add: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    let c_holds = extent(m, c.row, n, 1).is_some_and(|len| len <= c.data.len());
    assert!(
        c_holds && (m == 1 || n <= c.row) && a.holds(m, k) && b.holds(k, n),
        "matrices lie in their slices"
    );
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !add {
            for row in c.data.chunks_mut(c.row).take(m) {
                row[..n].fill(0.0);
            }
        }
        return;
    }
    let product = gemm_f32::gemm::f32::get_gemm_fn();
    // The kernel writes columns: it is given the transposed product.
    #[expect(unsafe_code, reason = "the kernel takes pointers")]
    // SAFETY: all three matrices lie in their slices, as asserted; `c` is borrowed mutably, so
    // that it overlaps no other, and its rows do not overlap each other.
    unsafe {
        product(
            n,
            m,
            k,
            c.data.as_mut_ptr(),
            c.row as isize,
            1,
            add,
            b.data.as_ptr(),
            b.row as isize,
            b.column as isize,
            a.data.as_ptr(),
            a.row as isize,
            a.column as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
