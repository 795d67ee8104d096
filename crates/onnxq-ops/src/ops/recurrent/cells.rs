//! The equations of the cells, for one step of a batch.

use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};

use super::activation::Activation;
use crate::ops::{
    numeric::Real,
    quantization::dynamic::{dynamic_parameters, quantize_u8},
};

/// A matrix that states are multiplied by.
pub(super) enum Weights<'a, T> {
    /// `[outputs, inputs]`.
    Real(&'a [T]),
    /// `[inputs, outputs]`: 8-bit integers less their zero point, with one scale or one for each
    /// output. What they are multiplied with is quantized on the fly, all rows together.
    Quantized { matrix: Vec<f64>, scale: &'a [f32] },
}

impl<T: Real> Weights<'_, T> {
    /// Adds the product of `x`, of rows of `inputs`, to `y`, of rows of `outputs`.
    pub(super) fn add_product(&self, x: &[T], inputs: usize, y: &mut [T], outputs: usize) {
        let rows = y.len().checked_div(outputs).unwrap_or(0);
        if rows == 0 || inputs == 0 {
            return;
        }
        match self {
            Weights::Real(w) => {
                let w = matrix(w, outputs, inputs);
                let x = matrix(x, rows, inputs);
                let y = &mut matrix_mut(y, rows, outputs);
                general_mat_mul(T::one(), &x, &w.t(), T::one(), y);
            }
            Weights::Quantized { matrix: w, scale } => {
                let x: Vec<f32> = x.iter().map(|x| x.wide() as f32).collect();
                let (sx, zero) = dynamic_parameters(&x);
                let centered = |q: u8| f64::from(q) - f64::from(zero);
                let x: Vec<f64> = quantize_u8(&x, sx, zero)
                    .into_iter()
                    .map(centered)
                    .collect();
                let mut sums = vec![0.0; rows * outputs];
                let (x, w) = (matrix(&x, rows, inputs), matrix(w, inputs, outputs));
                general_mat_mul(1.0, &x, &w, 0.0, &mut matrix_mut(&mut sums, rows, outputs));
                for (i, (y, sum)) in y.iter_mut().zip(sums).enumerate() {
                    let sw = scale[if scale.len() == 1 { 0 } else { i % outputs }];
                    *y += T::of(f64::from(sum as i32 as f32 * (sx * sw)));
                }
            }
        }
    }
}

fn matrix<T>(data: &[T], rows: usize, columns: usize) -> ArrayView2<'_, T> {
    ArrayView2::from_shape((rows, columns), &data[..rows * columns])
        .expect("the slice has rows * columns elements")
}

fn matrix_mut<T>(data: &mut [T], rows: usize, columns: usize) -> ArrayViewMut2<'_, T> {
    ArrayViewMut2::from_shape((rows, columns), &mut data[..rows * columns])
        .expect("the slice has rows * columns elements")
}

/// The state of one direction: a row of `hidden` for each sequence of the batch.
pub(super) struct State<T> {
    pub(super) h: Vec<T>,
    pub(super) c: Vec<T>,
}

/// Which equations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Rnn,
    Gru { linear_before_reset: bool },
    Lstm { input_forget: bool },
}

/// One direction of a recurrent operator.
pub(super) struct Cell<'a, T> {
    pub(super) kind: Kind,
    pub(super) hidden: usize,
    pub(super) recurrence: Weights<'a, T>,
    /// Biases of the input and of the recurrence, both for all gates; or none.
    pub(super) bias: Option<(&'a [T], &'a [T])>,
    /// For input, output and forget gate; or none.
    pub(super) peephole: Option<&'a [T]>,
    pub(super) activations: Vec<Activation>,
    pub(super) clip: Option<T>,
}

impl Kind {
    pub(super) fn gates(self) -> usize {
        match self {
            Kind::Rnn => 1,
            Kind::Gru { .. } => 3,
            Kind::Lstm { .. } => 4,
        }
    }
}

impl<T: Real> Cell<'_, T> {
    /// One step of all sequences for which `active` holds. `gates` has the products of the input,
    /// a row of all gates for each sequence.
    pub(super) fn step(&self, gates: &mut [T], state: &mut State<T>, active: &[bool]) {
        match self.kind {
            Kind::Rnn => self.rnn(gates, state, active),
            Kind::Gru {
                linear_before_reset,
            } => self.gru(gates, state, active, linear_before_reset),
            Kind::Lstm { input_forget } => self.lstm(gates, state, active, input_forget),
        }
    }

    fn activate(&self, function: usize, x: T) -> T {
        let x = match self.clip {
            Some(clip) => x.max(-clip).min(clip),
            None => x,
        };
        self.activations[function].apply(x)
    }

    fn bias(&self, i: usize) -> T {
        self.bias.map_or(T::zero(), |(w, r)| w[i] + r[i])
    }

    fn rnn(&self, gates: &mut [T], state: &mut State<T>, active: &[bool]) {
        let n = self.hidden;
        self.recurrence.add_product(&state.h, n, gates, n);
        for (i, h) in state.h.iter_mut().enumerate() {
            if active[i / n] {
                *h = self.activate(0, gates[i] + self.bias(i % n));
            }
        }
    }

    fn gru(&self, gates: &mut [T], state: &mut State<T>, active: &[bool], linear_first: bool) {
        let n = self.hidden;
        let (zero, one) = (T::zero(), T::one());
        let bias = |side: usize, i: usize| match (self.bias, side) {
            (None, _) => zero,
            (Some((w, _)), 0) => w[i],
            (Some((_, r)), _) => r[i],
        };
        // What the recurrence adds, by itself: the hidden gate treats it apart.
        let mut recurrent = vec![zero; gates.len()];
        self.recurrence
            .add_product(&state.h, n, &mut recurrent, 3 * n);
        let mut reset = vec![zero; state.h.len()];
        for (b, (gates, recurrent)) in gates
            .chunks_exact_mut(3 * n)
            .zip(recurrent.chunks_exact(3 * n))
            .enumerate()
        {
            for i in 0..n {
                gates[i] = self.activate(0, gates[i] + recurrent[i] + self.bias(i));
                let r = gates[n + i] + recurrent[n + i] + self.bias(n + i);
                let r = self.activate(0, r);
                if linear_first {
                    let linear = recurrent[2 * n + i] + bias(1, 2 * n + i);
                    gates[2 * n + i] += r * linear + bias(0, 2 * n + i);
                } else {
                    reset[b * n + i] = r * state.h[b * n + i];
                    gates[2 * n + i] += self.bias(2 * n + i);
                }
            }
        }
        let mut hidden = vec![zero; state.h.len()];
        if !linear_first && let Weights::Real(w) = self.recurrence {
            Weights::Real(&w[2 * n * n..]).add_product(&reset, n, &mut hidden, n);
        }
        for (i, h) in state.h.iter_mut().enumerate() {
            let (b, j) = (i / n, i % n);
            if active[b] {
                let gates = &gates[b * 3 * n..][..3 * n];
                let (z, new) = (gates[j], self.activate(1, gates[2 * n + j] + hidden[i]));
                *h = (one - z) * new + z * *h;
            }
        }
    }

    fn lstm(&self, gates: &mut [T], state: &mut State<T>, active: &[bool], input_forget: bool) {
        let n = self.hidden;
        self.recurrence.add_product(&state.h, n, gates, 4 * n);
        let peephole = |gate: usize, i: usize, c: T| match self.peephole {
            Some(p) => p[gate * n + i] * c,
            None => T::zero(),
        };
        for (b, gates) in gates.chunks_exact(4 * n).enumerate() {
            if !active[b] {
                continue;
            }
            for i in 0..n {
                let c = state.c[b * n + i];
                let gate = |g: usize| gates[g * n + i] + self.bias(g * n + i);
                let input = self.activate(0, gate(0) + peephole(0, i, c));
                let forget = match input_forget {
                    true => T::one() - input,
                    false => self.activate(0, gate(2) + peephole(2, i, c)),
                };
                let new = self.activate(1, gate(3));
                let c = forget * c + input * new;
                let output = self.activate(0, gate(1) + peephole(1, i, c));
                state.c[b * n + i] = c;
                state.h[b * n + i] = output * self.activations[2].apply(c);
            }
        }
    }
}
