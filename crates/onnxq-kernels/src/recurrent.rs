//! What LSTM and GRU cells do element by element, between the products with their weights.
//!
//! Rows of *gates* are the sums of both products and both biases, all gates of a row beside each
//! other in the order of ONNX.

use crate::{
    Cpu,
    math::{at_least, at_most, sigmoid, tanh},
    tiers::tiers,
};

/// One step of an LSTM: gates `i o f c` of each row of `hidden` states.
///
/// ```text
/// c = sigmoid(f) · c + sigmoid(i) · tanh(c')
/// h = sigmoid(o) · tanh(c)
/// ```
///
/// What goes into the gates and into `tanh(c')` is clamped to `-clip..=clip` first; that may be
/// infinite.
///
/// # Panics
/// `gates` has not four elements for each state, or `h` and `c` are no whole number of rows.
pub fn lstm_cell(cpu: Cpu, gates: &[f32], hidden: usize, clip: f32, c: &mut [f32], h: &mut [f32]) {
    check(hidden, [gates.len(), 4 * h.len(), c.len(), h.len()]);
    lstm(cpu, gates, hidden, clip, c, h);
}

/// The first half of a step of a GRU: from gates `z r` of each row of `hidden` states (and a third
/// that is not looked at) to `sigmoid(z)` and `sigmoid(r)`, in place, and to `sigmoid(r) · h`, which
/// the weights of the new state are multiplied by.
///
/// # Panics
/// As [`lstm_cell`], with three gates.
pub fn gru_gates(
    cpu: Cpu,
    gates: &mut [f32],
    hidden: usize,
    clip: f32,
    h: &[f32],
    reset: &mut [f32],
) {
    check(hidden, [gates.len(), 3 * h.len(), reset.len(), h.len()]);
    gates_of_gru(cpu, gates, hidden, clip, h, reset);
}

/// The second half: `h = (1 - z) · tanh(n) + z · h`, from gates `z` as [`gru_gates`] left them and
/// the argument `n` of the new state in the place of the third gate.
///
/// # Panics
/// As [`gru_gates`].
pub fn gru_state(cpu: Cpu, gates: &[f32], hidden: usize, clip: f32, h: &mut [f32]) {
    check(hidden, [gates.len(), 3 * h.len(), h.len(), h.len()]);
    state_of_gru(cpu, gates, hidden, clip, h);
}

/// A whole step of a GRU with `linear_before_reset`: `gates` from the input and its bias,
/// `recurrent` from the state and its bias, both with gates `z r n` of each row.
///
/// ```text
/// n = tanh(gates.n + sigmoid(r) · recurrent.n)
/// h = (1 - sigmoid(z)) · n + sigmoid(z) · h
/// ```
///
/// # Panics
/// As [`gru_gates`].
pub fn gru_cell_linear(
    cpu: Cpu,
    gates: &[f32],
    recurrent: &[f32],
    hidden: usize,
    clip: f32,
    h: &mut [f32],
) {
    check(hidden, [gates.len(), 3 * h.len(), h.len(), h.len()]);
    assert_eq!(gates.len(), recurrent.len(), "gates of the state");
    linear_gru(cpu, gates, recurrent, hidden, clip, h);
}

/// Gates and what there should be; states and states.
fn check(hidden: usize, [gates, expected, other, states]: [usize; 4]) {
    assert_eq!(gates, expected, "gates of all states");
    assert_eq!(other, states, "as many states");
    assert!(hidden > 0 && states.is_multiple_of(hidden), "whole rows");
}

#[inline(always)]
fn clamped(x: f32, clip: f32) -> f32 {
    at_most(at_least(x, -clip), clip)
}

tiers! {
    fn lstm(gates: &[f32], hidden: usize, clip: f32, c: &mut [f32], h: &mut [f32]) {
        let states = c.chunks_exact_mut(hidden).zip(h.chunks_exact_mut(hidden));
        for (gates, (c, h)) in gates.chunks_exact(4 * hidden).zip(states) {
            let (input, rest) = gates.split_at(hidden);
            let (output, rest) = rest.split_at(hidden);
            let (forget, new) = rest.split_at(hidden);
            // Two loops: one alone has too many values for the registers.
            for (((c, &i), &f), &n) in c.iter_mut().zip(input).zip(forget).zip(new) {
                let new = sigmoid(clamped(i, clip)) * tanh(clamped(n, clip));
                *c = sigmoid(clamped(f, clip)) * *c + new;
            }
            for ((h, &c), &o) in h.iter_mut().zip(&*c).zip(output) {
                *h = sigmoid(clamped(o, clip)) * tanh(c);
            }
        }
    }

    fn gates_of_gru(gates: &mut [f32], hidden: usize, clip: f32, h: &[f32], reset: &mut [f32]) {
        let states = h.chunks_exact(hidden).zip(reset.chunks_exact_mut(hidden));
        for (gates, (h, reset)) in gates.chunks_exact_mut(3 * hidden).zip(states) {
            let (update, rest) = gates.split_at_mut(hidden);
            let r = &mut rest[..hidden];
            for z in update {
                *z = sigmoid(clamped(*z, clip));
            }
            for ((r, &h), reset) in r.iter_mut().zip(h).zip(reset) {
                *r = sigmoid(clamped(*r, clip));
                *reset = *r * h;
            }
        }
    }

    fn state_of_gru(gates: &[f32], hidden: usize, clip: f32, h: &mut [f32]) {
        for (gates, h) in gates.chunks_exact(3 * hidden).zip(h.chunks_exact_mut(hidden)) {
            let (update, rest) = gates.split_at(hidden);
            for ((h, &z), &n) in h.iter_mut().zip(update).zip(&rest[hidden..]) {
                *h = (1.0 - z) * tanh(clamped(n, clip)) + z * *h;
            }
        }
    }

    fn linear_gru(gates: &[f32], recurrent: &[f32], hidden: usize, clip: f32, h: &mut [f32]) {
        let rows = gates.chunks_exact(3 * hidden).zip(recurrent.chunks_exact(3 * hidden));
        for ((gates, recurrent), h) in rows.zip(h.chunks_exact_mut(hidden)) {
            let (z, rest) = gates.split_at(hidden);
            let (r, n) = rest.split_at(hidden);
            let (z_more, rest) = recurrent.split_at(hidden);
            let (r_more, n_more) = rest.split_at(hidden);
            let (n, n_more) = (&n[..hidden], &n_more[..hidden]);
            for j in 0..hidden {
                let reset = sigmoid(clamped(r[j] + r_more[j], clip));
                let z = sigmoid(clamped(z[j] + z_more[j], clip));
                let new = tanh(clamped(n[j] + reset * n_more[j], clip));
                h[j] = (1.0 - z) * new + z * h[j];
            }
        }
    }
}
