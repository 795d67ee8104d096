//! Running a cell over time.
//!
//! Sequences of a batch may end early: what lies after their end is not read, their state stays
//! what it was at the end, and the result is zero there.

use onnxq_ir::Op;
use onnxq_tensor::{Dim, Shape, Tensor};

use super::cells::{Cell, State, Weights};
use crate::{
    EvalContext, EvalError, InferContext, Unknown, Value,
    ops::{
        numeric::{Real, real_tensor},
        rules,
    },
};

/// The sizes of a recurrent operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sizes {
    pub(super) steps: usize,
    pub(super) batch: usize,
    pub(super) input: usize,
    pub(super) hidden: usize,
    pub(super) directions: usize,
    /// The attribute `layout`: the batch comes first in operands and results.
    pub(super) batch_first: bool,
}

/// How many directions there are, and whether the first one goes backwards.
pub(super) fn directions(op: &Op) -> Result<(usize, bool), String> {
    match op.str("direction").unwrap_or("forward") {
        "forward" => Ok((1, false)),
        "reverse" => Ok((1, true)),
        "bidirectional" => Ok((2, false)),
        other => Err(format!("attribute 'direction' is '{other}'")),
    }
}

/// Sets Y, and as many final states as there are results.
pub(super) fn infer_states(cx: &mut InferContext<'_>, hidden: Dim) -> Result<(), Unknown> {
    let dtype = cx.dtype(0)?;
    for i in 0..cx.results() {
        cx.set_dtype(i, dtype);
    }
    let (count, _) = directions(cx.op()).map_err(Unknown)?;
    let x = cx.shape(0)?;
    let [first, second, _] = &x[..] else {
        return Err(Unknown(format!("an operand of rank {}", x.len())));
    };
    let (first, second, count) = (first.clone(), second.clone(), Dim::known(count as i64));
    let (y, state) = match cx.op().int("layout", 0) {
        0 => (
            [first, count.clone(), second.clone(), hidden.clone()],
            [count, second, hidden],
        ),
        _ => (
            [first.clone(), second, count.clone(), hidden.clone()],
            [first, count, hidden],
        ),
    };
    cx.set_tensor(0, dtype, Shape::from_iter(y));
    for i in 1..cx.results() {
        cx.set_tensor(i, dtype, Shape::from_iter(state.clone()));
    }
    Ok(())
}

impl Sizes {
    /// From the operand X and the size of the state.
    pub(super) fn of(
        cx: &EvalContext<'_>,
        hidden: usize,
        directions: usize,
    ) -> Result<Sizes, EvalError> {
        let x = cx.tensor(0)?.dims();
        let &[first, second, input] = x else {
            return Err(cx.invalid(format!("an operand of {x:?}")));
        };
        let batch_first = cx.op().int("layout", 0) != 0;
        let (steps, batch) = if batch_first {
            (second, first)
        } else {
            (first, second)
        };
        if hidden == 0 {
            return Err(cx.invalid("a state without elements"));
        }
        let said = cx.op().int("hidden_size", 0);
        if said != 0 && usize::try_from(said) != Ok(hidden) {
            let why = format!("attribute 'hidden_size' is {said}, the weights are for {hidden}");
            return Err(cx.invalid(why));
        }
        let sizes = Sizes {
            steps,
            batch,
            input,
            hidden,
            directions,
            batch_first,
        };
        // All gates of all steps is the most that is kept.
        rules::limited(&[4, steps, batch, directions, hidden])?;
        Ok(sizes)
    }

    /// X with the steps first.
    pub(super) fn input<T: Real>(&self, x: &Tensor) -> Result<Vec<T>, EvalError> {
        let data = T::read(x)?;
        Ok(match self.batch_first {
            false => data.into_owned(),
            true => swap(&data, [self.batch, self.steps, self.input]),
        })
    }

    /// The initial state that is operand `i`, with the directions first; zero where left out.
    pub(super) fn initial<T: Real>(
        &self,
        cx: &EvalContext<'_>,
        i: usize,
    ) -> Result<Vec<T>, EvalError> {
        let (d, b, n) = (self.directions, self.batch, self.hidden);
        let Some(t) = cx.optional(i)? else {
            return Ok(vec![T::zero(); d * b * n]);
        };
        let expected = if self.batch_first {
            [b, d, n]
        } else {
            [d, b, n]
        };
        if t.dims() != expected {
            return Err(EvalError::Operand {
                index: i,
                message: format!("expected dimensions {expected:?}, found {:?}", t.dims()),
            });
        }
        let data = T::read(t)?;
        Ok(match self.batch_first {
            false => data.into_owned(),
            true => swap(&data, [b, d, n]),
        })
    }

    /// The length of each sequence, from operand `i`.
    pub(super) fn lengths(&self, cx: &EvalContext<'_>, i: usize) -> Result<Vec<usize>, EvalError> {
        if cx.optional(i)?.is_none() {
            return Ok(vec![self.steps; self.batch]);
        }
        let lengths = cx.ints(i)?;
        let length = |&n: &i64| usize::try_from(n).ok().filter(|&n| n <= self.steps);
        let lengths: Option<Vec<usize>> = lengths.iter().map(length).collect();
        lengths
            .filter(|l| l.len() == self.batch)
            .ok_or_else(|| cx.invalid("the lengths do not fit the sequences"))
    }
}

/// The same with the first two of three axes exchanged.
fn swap<T: Copy>(data: &[T], [a, b, n]: [usize; 3]) -> Vec<T> {
    let mut out = Vec::with_capacity(data.len());
    for j in 0..b {
        for i in 0..a {
            out.extend_from_slice(&data[(i * b + j) * n..][..n]);
        }
    }
    out
}

/// What running a cell over time gives: all states, and the final ones of `h` and `c`.
pub(super) struct Run<T> {
    /// `[steps, directions, batch, hidden]`.
    pub(super) all: Vec<T>,
    /// `[directions, batch, hidden]`, both.
    pub(super) last: State<T>,
}

impl<T: Real> Run<T> {
    pub(super) fn new(s: &Sizes) -> Run<T> {
        let last = s.directions * s.batch * s.hidden;
        Run {
            all: vec![T::zero(); s.steps * last],
            last: State {
                h: vec![T::zero(); last],
                c: vec![T::zero(); last],
            },
        }
    }

    /// Runs direction `d`. `x` is `[steps, batch, input]`, `state` the initial one.
    #[expect(
        clippy::too_many_arguments,
        reason = "these are the operands of the operator"
    )]
    pub(super) fn direction(
        &mut self,
        s: &Sizes,
        d: usize,
        backwards: bool,
        cell: &Cell<'_, T>,
        weights: &Weights<'_, T>,
        x: &[T],
        lengths: &[usize],
        mut state: State<T>,
    ) {
        let width = cell.kind.gates() * s.hidden;
        let longest = lengths.iter().copied().max().unwrap_or(0);
        // The products of the input, of all steps at once.
        let mut products = vec![T::zero(); longest * s.batch * width];
        weights.add_product(
            &x[..longest * s.batch * s.input],
            s.input,
            &mut products,
            width,
        );
        let mut gates = vec![T::zero(); s.batch * width];
        for step in 0..longest {
            let active: Vec<bool> = lengths.iter().map(|&n| step < n).collect();
            let time = |b: usize| {
                if backwards {
                    lengths[b] - 1 - step
                } else {
                    step
                }
            };
            for (b, gates) in gates.chunks_exact_mut(width).enumerate() {
                match active[b] {
                    true => {
                        let row = time(b) * s.batch + b;
                        gates.copy_from_slice(&products[row * width..][..width]);
                    }
                    false => gates.fill(T::zero()),
                }
            }
            cell.step(&mut gates, &mut state, &active);
            for b in 0..s.batch {
                let row = b * s.hidden..(b + 1) * s.hidden;
                if !active[b] {
                    // What has ended counts as zero when states are quantized together.
                    state.h[row].fill(T::zero());
                    continue;
                }
                let at = ((time(b) * s.directions + d) * s.batch + b) * s.hidden;
                self.all[at..][..s.hidden].copy_from_slice(&state.h[row.clone()]);
                if step + 1 == lengths[b] {
                    let at = (d * s.batch + b) * s.hidden;
                    self.last.h[at..][..s.hidden].copy_from_slice(&state.h[row.clone()]);
                    self.last.c[at..][..s.hidden].copy_from_slice(&state.c[row]);
                }
            }
        }
    }

    /// The results of the node: Y, Y_h, Y_c, as many as it has.
    pub(super) fn results(self, cx: &EvalContext<'_>, s: &Sizes) -> Result<Vec<Value>, EvalError> {
        let dtype = cx.tensor(0)?.dtype();
        let (d, b, n) = (s.directions, s.batch, s.hidden);
        let state = |data: Vec<T>| match s.batch_first {
            false => real_tensor(dtype, &[d, b, n], data),
            true => real_tensor(dtype, &[b, d, n], swap(&data, [d, b, n])),
        };
        let y = match s.batch_first {
            false => real_tensor(dtype, &[s.steps, d, b, n], self.all)?,
            true => {
                let y = swap(&self.all, [s.steps * d, b, n]);
                real_tensor(dtype, &[b, s.steps, d, n], y)?
            }
        };
        let mut results = vec![y, state(self.last.h)?, state(self.last.c)?];
        results.truncate(cx.results().max(1));
        Ok(results)
    }
}
