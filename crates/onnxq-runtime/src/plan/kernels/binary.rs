//! Functions of two floats, on rows.

use super::multiversion;

/// A function of two floats.
pub(crate) trait Function: Copy + Send + Sync + 'static {
    /// Its value. Always to be inlined.
    fn at(self, a: f32, b: f32) -> f32;
}

/// One operand of a row.
#[derive(Clone, Copy)]
pub(crate) enum Row<'a> {
    Elements(&'a [f32]),
    Same(f32),
}

/// `y = f(a, b)`.
pub(crate) fn row<F: Function>(f: F, a: Row<'_>, b: Row<'_>, y: &mut [f32]) {
    match (a, b) {
        (Row::Elements(a), Row::Elements(b)) => both(f, a, b, y),
        (Row::Elements(a), Row::Same(b)) => right(f, a, b, y),
        (Row::Same(a), Row::Elements(b)) => left(f, a, b, y),
        (Row::Same(a), Row::Same(b)) => y.fill(f.at(a, b)),
    }
}

/// `y = f(y, b)`.
pub(crate) fn update_row<F: Function>(f: F, y: &mut [f32], b: Row<'_>) {
    match b {
        Row::Elements(b) => update(f, y, b),
        Row::Same(b) => update_same(f, y, b),
    }
}

multiversion! {
    fn both<F: super::binary::Function>(f: F, a: &[f32], b: &[f32], y: &mut [f32]) {
        let _ = FMA;
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = f.at(a, b);
        }
    }
}

multiversion! {
    fn right<F: super::binary::Function>(f: F, a: &[f32], b: f32, y: &mut [f32]) {
        let _ = FMA;
        for (y, &a) in y.iter_mut().zip(a) {
            *y = f.at(a, b);
        }
    }
}

multiversion! {
    fn left<F: super::binary::Function>(f: F, a: f32, b: &[f32], y: &mut [f32]) {
        let _ = FMA;
        for (y, &b) in y.iter_mut().zip(b) {
            *y = f.at(a, b);
        }
    }
}

multiversion! {
    fn update<F: super::binary::Function>(f: F, y: &mut [f32], b: &[f32]) {
        let _ = FMA;
        for (y, &b) in y.iter_mut().zip(b) {
            *y = f.at(*y, b);
        }
    }
}

multiversion! {
    fn update_same<F: super::binary::Function>(f: F, y: &mut [f32], b: f32) {
        let _ = FMA;
        for y in y {
            *y = f.at(*y, b);
        }
    }
}
