//! How operands run along with a result that they are broadcast to.

use onnxq_tensor::Dims;
use smallvec::SmallVec;

use crate::program::source::Code;

/// The result as rows along which each operand is contiguous or constant.
#[derive(Debug)]
pub(super) struct Broadcast<const N: usize> {
    outer: SmallVec<[usize; 4]>,
    /// Elements to the next entry of each outer axis.
    steps: [SmallVec<[usize; 4]>; N],
    /// Whether operands move along a row.
    pub(super) moves: [bool; N],
    pub(super) width: usize,
    pub(super) rows: usize,
}

impl<const N: usize> Broadcast<N> {
    /// `None` where the operands do not fit the result.
    pub(super) fn new(dims: &[usize], operands: [&[usize]; N]) -> Option<Broadcast<N>> {
        let mut axes: SmallVec<[(usize, [bool; N]); 4]> = SmallVec::new();
        for (i, &n) in dims.iter().enumerate() {
            let mut moves = [false; N];
            for (moves, operand) in moves.iter_mut().zip(operands) {
                let missing = dims.len().checked_sub(operand.len())?;
                let own = i.checked_sub(missing).map_or(1, |i| operand[i]);
                (own == n || own == 1).then_some(())?;
                *moves = own != 1;
            }
            // Neighbouring axes along which all operands go on alike are one.
            match axes.last_mut() {
                _ if n == 1 => {}
                Some(last) if last.1 == moves => last.0 *= n,
                _ => axes.push((n, moves)),
            }
        }
        let (width, moves) = axes.pop().unwrap_or((1, [false; N]));
        let steps = std::array::from_fn(|operand| {
            let mut stride = if moves[operand] { width } else { 1 };
            let mut steps: SmallVec<[usize; 4]> = SmallVec::from_elem(0, axes.len());
            for (step, axis) in steps.iter_mut().zip(&axes).rev() {
                if axis.1[operand] {
                    *step = stride;
                    stride *= axis.0;
                }
            }
            steps
        });
        let outer: SmallVec<[usize; 4]> = axes.iter().map(|axis| axis.0).collect();
        Some(Broadcast {
            rows: outer.iter().product(),
            outer,
            steps,
            moves,
            width,
        })
    }

    /// Elements of the result.
    pub(super) fn len(&self) -> usize {
        self.rows * self.width
    }

    /// How many elements threads must not cut.
    pub(super) fn unit(&self) -> usize {
        if self.rows == 1 { 64 } else { self.width }
    }

    /// Statements for each row of the result: `f` writes them, given where the row begins in the result and in
    /// each operand, as expressions.
    pub(super) fn write(
        &self,
        code: &mut Code<'_>,
        f: impl FnOnce(&mut Code<'_>, &str, [String; N]),
    ) {
        let place = |steps: &[usize]| {
            let terms = steps.iter().enumerate().filter(|(_, step)| **step > 0);
            let terms: Vec<String> = terms
                .map(|(axis, step)| match step {
                    1 => format!("i{axis}"),
                    _ => format!("i{axis} * {step}"),
                })
                .collect();
            match terms.is_empty() {
                true => "0".to_owned(),
                false => terms.join(" + "),
            }
        };
        let mut steps: SmallVec<[usize; 4]> = SmallVec::from_elem(self.width, self.outer.len());
        for axis in (0..self.outer.len().saturating_sub(1)).rev() {
            steps[axis] = steps[axis + 1] * self.outer[axis + 1];
        }
        for (axis, n) in self.outer.iter().enumerate() {
            code.open(&format!("for i{axis} in 0..{n}"));
        }
        let operands = std::array::from_fn(|i| place(&self.steps[i]));
        f(code, &place(&steps), operands);
        for _ in &self.outer {
            code.close();
        }
    }

    /// Calls `f` for each row, or part of the only one, of a part of the result that begins at element
    /// `first` and has `len` of them: with where it is in the part, how long it is, and where it
    /// begins in each operand.
    pub(super) fn each(
        &self,
        first: usize,
        len: usize,
        mut f: impl FnMut(usize, usize, [usize; N]),
    ) {
        if self.rows == 1 {
            return f(
                0,
                len,
                self.moves.map(|moves| if moves { first } else { 0 }),
            );
        }
        if self.width == 0 {
            return;
        }
        let mut index: Dims = Dims::from_elem(0, self.outer.len());
        let mut row = first / self.width;
        for (index, &n) in index.iter_mut().zip(&self.outer).rev() {
            *index = row % n;
            row /= n;
        }
        let mut at: [usize; N] =
            std::array::from_fn(|i| index.iter().zip(&self.steps[i]).map(|(i, s)| i * s).sum());
        for row in 0..len / self.width {
            f(row * self.width, self.width, at);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                for (at, steps) in at.iter_mut().zip(&self.steps) {
                    *at += steps[axis];
                }
                if index[axis] < self.outer[axis] {
                    break;
                }
                for (at, steps) in at.iter_mut().zip(&self.steps) {
                    *at -= steps[axis] * self.outer[axis];
                }
                index[axis] = 0;
            }
        }
    }
}
