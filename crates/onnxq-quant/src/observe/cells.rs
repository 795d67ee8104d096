//! Counts of values in cells whose width is a power of two and follows from the largest
//! magnitude seen.
//!
//! There are `half` cells on each side of 0, which together reach to the power of two above the
//! largest magnitude. When a larger one comes, neighbours are added up until the cells reach it.
//! Cells so widened are those in which the values would have been counted at the end: the counts
//! depend on the values seen, and on nothing else.

use std::{borrow::Cow, cell::RefCell};

use crate::ValueRange;

/// Magnitudes are not told apart below the cells that this exponent gives: the scale of 8-bit
/// codes for such ranges would not be a normal `f32`.
const LEAST_EXPONENT: i32 = -100;

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Cells {
    /// All magnitudes are below `2^exponent`.
    exponent: i32,
    half: usize,
    /// Cell `half + i` is `[i, i + 1)` times the width, cell `half - 1 - i` is `(-i - 1, -i]`.
    counts: Counts,
    total: u64,
}

/// Counters of 32 bits while the total has no more, as the tables of all tensors are large.
#[derive(Clone, PartialEq, Debug)]
enum Counts {
    Narrow(Vec<u32>),
    Wide(Vec<u64>),
}

/// The least exponent whose power of two is above `magnitude`, which is finite.
pub(super) fn exponent(magnitude: f32) -> i32 {
    let biased = (magnitude.to_bits() >> 23) & 0xff;
    (biased as i32 - 126).max(LEAST_EXPONENT)
}

impl Cells {
    /// `half` is a power of two.
    pub(super) fn new(half: usize, exponent: i32) -> Cells {
        Cells {
            exponent,
            half,
            counts: Counts::Narrow(vec![0; 2 * half]),
            total: 0,
        }
    }

    /// From their parts, `half` being a power of two, if these fit together.
    pub(super) fn from_counts(half: usize, exponent: i32, counts: Vec<u64>) -> Option<Cells> {
        if counts.len() != 2 * half || !(LEAST_EXPONENT..=128).contains(&exponent) {
            return None;
        }
        let mut cells = Cells::new(half, exponent);
        cells.add(exponent, 0, &counts);
        Some(cells)
    }

    pub(super) fn exponent(&self) -> i32 {
        self.exponent
    }

    pub(super) fn half(&self) -> usize {
        self.half
    }

    /// How many values are in each cell.
    pub(super) fn counts(&self) -> Cow<'_, [u64]> {
        match &self.counts {
            Counts::Narrow(counts) => counts.iter().map(|&n| u64::from(n)).collect(),
            Counts::Wide(counts) => Cow::Borrowed(counts),
        }
    }

    /// The width of a cell.
    pub(super) fn width(&self) -> f64 {
        2f64.powi(self.exponent) / self.half as f64
    }

    /// Widens the cells to reach `2^exponent`.
    pub(super) fn reach(&mut self, exponent: i32) {
        if exponent > self.exponent {
            let narrow = std::mem::replace(self, Cells::new(self.half, exponent));
            self.merge(&narrow);
        }
    }

    /// Adds the counts of cells that reach `2^exponent`, `first` being the number of the first.
    pub(super) fn add<C: Copy + Into<u64>>(&mut self, exponent: i32, first: usize, counts: &[C]) {
        self.reach(exponent);
        let sum = |sum: u64, &count: &C| sum.saturating_add(count.into());
        self.make_room(counts.iter().fold(0, sum));
        let shift = (self.exponent - exponent).min(63);
        match &mut self.counts {
            Counts::Narrow(own) => add(own, shift, first, counts),
            Counts::Wide(own) => add(own, shift, first, counts),
        }
    }

    pub(super) fn merge(&mut self, other: &Cells) {
        match &other.counts {
            Counts::Narrow(counts) => self.add(other.exponent, 0, counts),
            Counts::Wide(counts) => self.add(other.exponent, 0, counts),
        }
    }

    /// Counts values below `2^exponent` in magnitude, where they are few.
    pub(super) fn count(&mut self, exponent: i32, values: &[f32]) {
        self.reach(exponent);
        self.make_room(values.len() as u64);
        match &mut self.counts {
            Counts::Narrow(counts) => count(self.exponent, values, counts),
            Counts::Wide(counts) => count(self.exponent, values, counts),
        }
    }

    /// Makes the counters wide enough for so many more values.
    fn make_room(&mut self, more: u64) {
        self.total = self.total.saturating_add(more);
        if let Counts::Narrow(counts) = &self.counts
            && self.total > u64::from(u32::MAX)
        {
            self.counts = Counts::Wide(counts.iter().map(|&n| n.into()).collect());
        }
    }
}

/// Adds counts of cells that are narrower by `shift` powers of two.
fn add<C: Counter, M: Copy + Into<u64>>(own: &mut [C], shift: i32, first: usize, more: &[M]) {
    if shift == 0 {
        for (own, &count) in own[first..].iter_mut().zip(more) {
            own.add(count.into());
        }
        return;
    }
    let half = own.len() as i64 / 2;
    for (number, &count) in (first as i64..).zip(more) {
        let place = ((number - half) >> shift) + half;
        own[place as usize].add(count.into());
    }
}

/// Counts many values without holding up others: in a table of the thread's own.
pub(super) struct Tally {
    exponent: i32,
    counts: Vec<u32>,
}

thread_local! {
    /// A table of zeros, kept for the next tally.
    static TABLE: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

impl Tally {
    /// Of cells as those of `Cells::new(half, exponent)`.
    pub(super) fn new(half: usize, exponent: i32) -> Tally {
        let mut counts = TABLE.take();
        counts.resize(2 * half, 0);
        Tally { exponent, counts }
    }

    /// Counts values, of which a tally has room for [`u32::MAX`].
    pub(super) fn count(&mut self, values: &[f32]) {
        count(self.exponent, values, &mut self.counts);
    }

    /// Adds the counts, of values in `range`, to `cells`.
    pub(super) fn finish(mut self, range: ValueRange, cells: &mut Cells) {
        let half = self.counts.len() / 2;
        let (scale, half) = (scale(half, self.exponent), half as u32);
        let (first, last) = (place(range.lo, scale, half), place(range.hi, scale, half));
        let used = &mut self.counts[first as usize..=last as usize];
        cells.add(self.exponent, first as usize, used);
        used.fill(0);
        TABLE.set(self.counts);
    }
}

/// Cells by unit of magnitude, a power of two within the normal `f32`s.
fn scale(half: usize, exponent: i32) -> f32 {
    2f32.powi(half.trailing_zeros() as i32 - exponent)
}

/// The number of the cell of `v`. The product is exact, or so small that it is in the cell next
/// to 0 in any case; it is below 2^23, where adding 2^23 rounds to an integer. (A cast to an
/// integer takes the vectorizer four times as long.)
#[inline(always)]
fn place(v: f32, scale: f32, half: u32) -> u32 {
    const ROUND: f32 = 8_388_608.0;
    let product = v.abs() * scale;
    let rounded = product + ROUND;
    let up = u32::from(rounded - ROUND > product);
    let floor = (rounded.to_bits() & 0x7f_ffff).wrapping_sub(up);
    let mirror = if v < 0.0 { u32::MAX } else { 0 };
    half.wrapping_add(floor ^ mirror)
}

/// Numbers of cells are computed for this many values at a time.
const BLOCK: usize = 512;

/// A counter, which has room for what is added.
trait Counter: Copy {
    fn add(&mut self, n: u64);
}

impl Counter for u32 {
    #[inline(always)]
    fn add(&mut self, n: u64) {
        *self = self.wrapping_add(n as u32);
    }
}

impl Counter for u64 {
    #[inline(always)]
    fn add(&mut self, n: u64) {
        *self = self.saturating_add(n);
    }
}

/// Counts values. Those next to 0, of which a Relu makes many, are not counted one by one:
/// each increment of the same counter would wait for the one before.
fn count<C: Counter>(exponent: i32, values: &[f32], counts: &mut [C]) {
    let half = counts.len() / 2;
    let (scale, middle) = (scale(half, exponent), half as u32);
    let (mut places, mut others) = ([0u32; BLOCK], [0u32; BLOCK]);
    for block in values.chunks(BLOCK) {
        let places = &mut places[..block.len()];
        let mut zeros = 0;
        for (p, &v) in places.iter_mut().zip(block) {
            *p = place(v, scale, middle);
            zeros += u32::from(*p == middle);
        }
        let mut rest = &places[..];
        if zeros > block.len() as u32 / 8 {
            let mut n = 0;
            for &p in places.iter() {
                others[n] = p;
                n += usize::from(p != middle);
            }
            counts[half].add(zeros.into());
            rest = &others[..n];
        }
        for &p in rest {
            counts[p as usize].add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ends_of_cells() {
        let cells = |values: &[f32], exponent| {
            let mut cells = Cells::new(8, exponent);
            cells.count(exponent, values);
            let used = (0..16)
                .zip(cells.counts().into_owned())
                .filter(|(_, n)| *n > 0);
            used.map(|(i, n)| (i - 8, n)).collect::<Vec<_>>()
        };
        // Of width 1.
        assert_eq!(cells(&[0.0, -0.0, 1e-45, 0.999], 3), [(0, 4)]);
        assert_eq!(cells(&[-1e-45, -0.5, -0.999], 3), [(-1, 3)]);
        assert_eq!(cells(&[1.0, 1.5, -1.0], 3), [(-2, 1), (1, 2)]);
        assert_eq!(cells(&[7.999, -7.999], 3), [(-8, 1), (7, 1)]);
        assert_eq!(cells(&[f32::MAX, f32::MIN], 128), [(-8, 1), (7, 1)]);
        assert_eq!(cells(&[7e-31, -1e-40], LEAST_EXPONENT), [(-1, 1), (7, 1)]);
        assert_eq!(
            [0.0, 0.5, 0.75, 1.0, f32::MAX].map(exponent),
            [-100, 0, 0, 1, 128]
        );
    }

    #[test]
    fn counters_grow() {
        let mut cells = Cells::new(2, 1);
        cells.add(1, 1, &[u32::MAX]);
        assert!(matches!(cells.counts, Counts::Narrow(_)));
        cells.count(1, &[-0.5]);
        cells.reach(2);
        cells.count(2, &[2.5]);
        assert_eq!(cells.counts()[..], [0, 1 << 32, 0, 1]);
        let read = Cells::from_counts(2, 2, cells.counts().into_owned());
        assert_eq!(read, Some(cells));
    }

    proptest! {
        #[test]
        fn widened_cells_are_those_counted_in(
            values in prop::collection::vec(-1.0f32..1.0, 0..3000),
            exponents in prop::collection::vec(-99..126i32, 3),
            flat: bool,
        ) {
            let values: Vec<f32> = match flat {
                true => values.iter().map(|v| v.max(0.0) + 0.0).collect(),
                false => values.iter().enumerate().map(|(i, v)| v * 2f32.powi(-(i as i32 % 140))).collect(),
            };
            let last = *exponents.iter().max().unwrap();
            let scaled = |e: i32| values.iter().map(|v| v * 2f32.powi(e)).collect::<Vec<_>>();
            let mut expected = Cells::new(64, last);
            let mut found = Cells::new(64, LEAST_EXPONENT);
            let mut other = Cells::new(64, LEAST_EXPONENT);
            for (i, &e) in exponents.iter().enumerate() {
                let values = scaled(e);
                expected.count(last, &values);
                if i == 1 {
                    let mut tally = Tally::new(64, e);
                    tally.count(&values);
                    let range = crate::data::min_max(&values).unwrap();
                    if !range.is_empty() {
                        tally.finish(range, &mut other);
                    }
                } else {
                    found.count(e, &values);
                }
            }
            found.reach(last);
            found.merge(&other);
            prop_assert_eq!(found, expected);
        }
    }
}
