//! [`Rows`]: Softmax and normalizations with what is around them: sums before, codes on both sides.

use crate::{
    Cpu, Line, Norm, Quantize, Quantized, Skip, Softmax,
    memory::{floats, floats_of, floats_of_mut},
    skip_normalize, softmax,
};

/// Bytes of floats that are worked on at a time, between codes.
const BLOCK: usize = 16 << 10;

/// What is made of each row.
#[derive(Clone, Copy, Debug)]
pub enum RowFunction<'a> {
    /// A Softmax, after a factor.
    Softmax(Softmax, f32),
    /// A normalization.
    Norm(Norm<'a>),
}

/// A tensor that is added to rows: so many of its elements to as many rows of the other one, over and over, before
/// it goes on with others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Added {
    /// Elements, of one row or of several.
    pub len: usize,
    /// Rows of the first operand that they are added to.
    pub rows: usize,
}

/// A function of rows, see the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// What is made of them.
    pub function: RowFunction<'a>,
    /// Elements of a row.
    pub width: usize,
    /// What the codes stand for that rows are made of; floats if `None`.
    pub from: Option<Quantized>,
    /// What is added to them.
    pub added: Option<Added>,
    /// How rows become codes; floats if `None`.
    pub to: Option<Quantize>,
}

impl Rows<'_> {
    /// Bytes of an element of the operand, and of the result.
    pub fn sizes(&self) -> [usize; 2] {
        [self.from.is_some(), self.to.is_some()].map(|codes| if codes { 1 } else { 4 })
    }

    /// Rows that are worked on at a time, and their elements.
    fn block(&self) -> (usize, usize) {
        let rows = (BLOCK / 4 / self.width.max(1)).max(1);
        (rows, rows * self.width)
    }

    /// Lines of scratch memory that [`run`](Rows::run) needs for so many rows.
    pub fn scratch_lines(&self, rows: usize) -> usize {
        match (self.from, self.to) {
            (None, None) => 0,
            _ => Line::count(8 * self.block().1.min(rows * self.width)),
        }
    }

    /// Computes the rows `x` to `y`, bytes of codes or of floats. The first is row `first` of all, and `other` is all of
    /// what is added.
    ///
    /// # Panics
    /// Sizes that do not fit together, or memory that is not aligned.
    pub fn run(
        &self,
        cpu: Cpu,
        x: &[u8],
        other: &[f32],
        first: usize,
        y: &mut [u8],
        scratch: &mut [Line],
    ) {
        let [from, to] = self.sizes();
        let row = self.width;
        assert!(row > 0 && x.len().is_multiple_of(row * from), "whole rows");
        let rows = x.len() / (row * from);
        assert_eq!(y.len(), rows * row * to, "the result");
        assert!(scratch.len() >= self.scratch_lines(rows), "scratch memory");
        if let Some(added) = self.added {
            let whole = added.len >= row && added.len.is_multiple_of(row) && added.rows > 0;
            assert!(whole, "whole rows that are added");
        }
        if (self.from, self.to) == (None, None) {
            return self.floats(cpu, floats_of(x), floats_of_mut(y), other, first);
        }
        let (step, len) = self.block();
        let len = len.min(rows * row);
        let (before, after) = floats(scratch).split_at_mut(len);
        let blocks = x
            .chunks(len.max(1) * from)
            .zip(y.chunks_mut(len.max(1) * to));
        for (i, (x, y)) in blocks.enumerate() {
            let (count, first) = (x.len() / from, first + i * step);
            let x: &[f32] = match self.from {
                None => floats_of(x),
                Some(from) => {
                    from.dequantize(cpu, x, &mut before[..count]);
                    &before[..count]
                }
            };
            match self.to {
                None => self.floats(cpu, x, floats_of_mut(y), other, first),
                Some(to) => {
                    self.floats(cpu, x, &mut after[..count], other, first);
                    to.run(cpu, &after[..count], y);
                }
            }
        }
    }

    /// Some rows from floats to floats.
    fn floats(&self, cpu: Cpu, mut x: &[f32], mut y: &mut [f32], other: &[f32], mut row: usize) {
        while !x.is_empty() {
            let (added, most) = self.added_to(other, row);
            let count = (x.len() / self.width).min(most);
            let (head, tail) = x.split_at(count * self.width);
            let (part, rest) = y.split_at_mut(count * self.width);
            (x, y) = (tail, rest);
            row += count;
            match &self.function {
                RowFunction::Softmax(f, scale) => {
                    let added = match added.len() {
                        len if len > self.width => &added[..part.len()],
                        _ => added,
                    };
                    part.copy_from_slice(head);
                    softmax(cpu, *f, part, self.width, *scale, added);
                }
                RowFunction::Norm(norm) => {
                    let mut skip = Skip {
                        skip: added,
                        ..Skip::default()
                    };
                    skip_normalize(cpu, norm, head, &mut skip, part);
                }
            }
        }
    }

    /// What is added to some rows from `row` on, and to how many of them.
    fn added_to<'o>(&self, other: &'o [f32], row: usize) -> (&'o [f32], usize) {
        let Some(Added { len, rows }) = self.added else {
            return (&[], usize::MAX);
        };
        let (part, row) = (row / rows, row % rows);
        let other = &other[part * len..][..len];
        if len == self.width {
            return (other, rows - row);
        }
        let repeat = len / self.width;
        let first = row % repeat;
        (&other[first * self.width..], repeat - first)
    }
}
