//! Functions of two floats, comparisons, and choices, on rows of which some may be repeated.

use crate::{
    Cpu,
    math::{at_least, at_most},
    tiers::tiers,
};

/// Elements that are computed at a time.
const PART: usize = 512;

/// An operand, as it is repeated to the rows of the result.
#[derive(Clone, Copy, Debug)]
pub enum Broadcast<'a> {
    /// Every element.
    Elements(&'a [f32]),
    /// The same row each time.
    Row(&'a [f32]),
    /// One element for each row.
    Column(&'a [f32]),
    /// One for all.
    Scalar(f32),
}

/// A function of two floats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a · b`.
    Mul,
    /// `a / b`.
    Div,
    /// The smaller one; NaN if one is.
    Min,
    /// The larger one; NaN if one is.
    Max,
    /// `a`, or `a · b` where it is negative.
    Prelu,
}

/// A comparison of two floats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// `a == b`.
    Equal,
    /// `a < b`.
    Less,
    /// `a <= b`.
    LessOrEqual,
    /// `a > b`.
    Greater,
    /// `a >= b`.
    GreaterOrEqual,
}

/// No bounds.
pub const UNBOUNDED: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

/// `y = clamp(f(a, b))`, in rows of `width` elements.
///
/// # Panics
/// Lengths that do not fit together.
pub fn binary(
    cpu: Cpu,
    f: Binary,
    a: Broadcast<'_>,
    b: Broadcast<'_>,
    width: usize,
    bounds: [f32; 2],
    y: &mut [f32],
) {
    let width = rows_of([a, b], width, y.len());
    of_two(cpu, f, Some(a), b, width, bounds, y);
}

/// `a = clamp(f(a, b))`, in rows of `width` elements.
///
/// # Panics
/// Lengths that do not fit together.
pub fn binary_in_place(
    cpu: Cpu,
    f: Binary,
    a: &mut [f32],
    b: Broadcast<'_>,
    width: usize,
    bounds: [f32; 2],
) {
    let width = rows_of([b, b], width, a.len());
    of_two(cpu, f, None, b, width, bounds, a);
}

/// `y = f(a, b)`, 1 or 0, in rows of `width` elements.
///
/// # Panics
/// Lengths that do not fit together.
pub fn compare(
    cpu: Cpu,
    f: Comparison,
    a: Broadcast<'_>,
    b: Broadcast<'_>,
    width: usize,
    y: &mut [u8],
) {
    let width = rows_of([a, b], width, y.len());
    comparisons(cpu, f, a, b, width, y);
}

/// `y = condition ? a : b`, in rows of `width` elements. The condition, where it is not 0, has as
/// many rows, or fewer that are repeated.
///
/// # Panics
/// Lengths that do not fit together.
pub fn select(
    cpu: Cpu,
    condition: &[u8],
    a: Broadcast<'_>,
    b: Broadcast<'_>,
    width: usize,
    y: &mut [f32],
) {
    rows_of([a, b], width, y.len());
    assert!(
        y.is_empty() || !condition.is_empty() && condition.len().is_multiple_of(width),
        "whole rows of conditions"
    );
    choices(cpu, condition, a, b, width, y);
}

/// Checks the operands; returns how wide rows have to be taken.
fn rows_of(operands: [Broadcast<'_>; 2], width: usize, len: usize) -> usize {
    assert!(
        width > 0 && len.is_multiple_of(width) || len == 0,
        "whole rows"
    );
    for operand in operands {
        let fits = match operand {
            Broadcast::Elements(x) => x.len() == len,
            Broadcast::Row(x) => x.len() == width,
            Broadcast::Column(x) => x.len() * width == len,
            Broadcast::Scalar(_) => true,
        };
        assert!(fits, "an operand as large as the result");
    }
    let whole = |x: &Broadcast<'_>| matches!(x, Broadcast::Elements(_) | Broadcast::Scalar(_));
    let rows = if operands.iter().all(whole) {
        len
    } else {
        width
    };
    rows.max(1)
}

impl Broadcast<'_> {
    /// A part of a row, as long as `buffer`, which it is written to unless it is there as it is.
    #[inline(always)]
    fn part<'b>(&'b self, row: usize, width: usize, at: usize, buffer: &'b mut [f32]) -> &'b [f32] {
        let same = match self {
            Broadcast::Elements(x) => return &x[row * width + at..][..buffer.len()],
            Broadcast::Row(x) => return &x[at..][..buffer.len()],
            Broadcast::Column(x) => x[row],
            Broadcast::Scalar(x) => *x,
        };
        buffer.fill(same);
        buffer
    }
}

/// All parts of the result: the row, the place in it, and the part.
#[inline(always)]
fn parts<T>(y: &mut [T], width: usize) -> impl Iterator<Item = (usize, usize, &mut [T])> {
    y.chunks_mut(width).enumerate().flat_map(|(row, y)| {
        y.chunks_mut(PART)
            .enumerate()
            .map(move |(i, y)| (row, i * PART, y))
    })
}

tiers! {
    fn of_two(
        f: Binary, a: Option<Broadcast<'_>>, b: Broadcast<'_>, width: usize, bounds: [f32; 2],
        y: &mut [f32],
    ) {
        let [low, high] = bounds;
        let [mut a_part, mut b_part] = [[0.0; PART]; 2];
        for (row, at, y) in parts(y, width) {
            let a = match &a {
                Some(a) => a.part(row, width, at, &mut a_part[..y.len()]),
                None => {
                    a_part[..y.len()].copy_from_slice(y);
                    &a_part[..y.len()]
                }
            };
            let b = b.part(row, width, at, &mut b_part[..y.len()]);
            macro_rules! each {
                (|$a:ident, $b:ident| $value:expr) => {
                    for ((y, &$a), &$b) in y.iter_mut().zip(a).zip(b) {
                        *y = at_most(at_least($value, low), high);
                    }
                };
            }
            match f {
                Binary::Add => each!(|a, b| a + b),
                Binary::Sub => each!(|a, b| a - b),
                Binary::Mul => each!(|a, b| a * b),
                Binary::Div => each!(|a, b| a / b),
                Binary::Min => each!(|a, b| if a <= b || a.is_nan() { a } else { b }),
                Binary::Max => each!(|a, b| if a >= b || a.is_nan() { a } else { b }),
                Binary::Prelu => each!(|a, b| if a < 0.0 { a * b } else { a }),
            }
        }
    }

    fn comparisons(
        f: Comparison, a: Broadcast<'_>, b: Broadcast<'_>, width: usize, y: &mut [u8],
    ) {
        let [mut a_part, mut b_part] = [[0.0; PART]; 2];
        for (row, at, y) in parts(y, width) {
            let a = a.part(row, width, at, &mut a_part[..y.len()]);
            let b = b.part(row, width, at, &mut b_part[..y.len()]);
            macro_rules! each {
                (|$a:ident, $b:ident| $value:expr) => {
                    for ((y, &$a), &$b) in y.iter_mut().zip(a).zip(b) {
                        *y = u8::from($value);
                    }
                };
            }
            match f {
                Comparison::Equal => each!(|a, b| a == b),
                Comparison::Less => each!(|a, b| a < b),
                Comparison::LessOrEqual => each!(|a, b| a <= b),
                Comparison::Greater => each!(|a, b| a > b),
                Comparison::GreaterOrEqual => each!(|a, b| a >= b),
            }
        }
    }

    fn choices(
        condition: &[u8], a: Broadcast<'_>, b: Broadcast<'_>, width: usize, y: &mut [f32],
    ) {
        let [mut a_part, mut b_part] = [[0.0; PART]; 2];
        for (row, at, y) in parts(y, width) {
            let a = a.part(row, width, at, &mut a_part[..y.len()]);
            let b = b.part(row, width, at, &mut b_part[..y.len()]);
            let c = &condition[(row * width + at) % condition.len()..][..y.len()];
            for (((y, &a), &b), &c) in y.iter_mut().zip(a).zip(b).zip(c) {
                *y = if c != 0 { a } else { b };
            }
        }
    }
}
