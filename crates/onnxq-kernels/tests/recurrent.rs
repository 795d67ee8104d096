//! Cells against their equations in f64.

use onnxq_kernels::{Cpu, gru_cell_linear, gru_gates, gru_state, lstm_cell};
use proptest::prelude::*;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Rows of states, and eight more floats for each.
fn states() -> impl Strategy<Value = (usize, Vec<f32>, Vec<f32>, f32)> {
    let clip = prop_oneof![Just(f32::INFINITY), 0.5f32..3.0];
    (1..4usize, 1..40usize, clip).prop_flat_map(|(rows, hidden, clip)| {
        let floats = |n| prop::collection::vec(-6f32..6.0, n);
        (
            Just(hidden),
            floats(rows * hidden),
            floats(8 * rows * hidden),
            Just(clip),
        )
    })
}

fn near(y: &[f32], exact: impl Fn(usize) -> f64) {
    for (i, &y) in y.iter().enumerate() {
        let e = exact(i);
        assert!(
            (f64::from(y) - e).abs() <= 1e-6 * e.abs().max(1.0),
            "{i}: {y}, not {e}"
        );
    }
}

/// The same bits on every tier.
fn on_all(run: impl Fn(Cpu) -> Vec<f32>) -> Vec<f32> {
    let expected = run(Cpu::PORTABLE);
    for cpu in Cpu::available() {
        assert_eq!(run(cpu), expected, "{}", cpu.isa());
    }
    expected
}

proptest! {
    #[test]
    fn lstm((hidden, h, more, clip) in states()) {
        let n = h.len();
        let (gates, c) = (&more[..4 * n], &more[4 * n..5 * n]);
        let clamped = |x: f32| f64::from(x.clamp(-clip, clip));
        let gate = |g: usize, i: usize| clamped(gates[i / hidden * 4 * hidden + g * hidden + i % hidden]);
        let state = |i: usize| {
            sigmoid(gate(2, i)) * f64::from(c[i]) + sigmoid(gate(0, i)) * gate(3, i).tanh()
        };
        let y = on_all(|cpu| {
            let (mut c, mut h) = (c.to_vec(), h.clone());
            lstm_cell(cpu, gates, hidden, clip, &mut c, &mut h);
            c.extend(h);
            c
        });
        near(&y[..n], state);
        near(&y[n..], |i| sigmoid(gate(1, i)) * state(i).tanh());
    }

    #[test]
    fn gru((hidden, h, more, clip) in states()) {
        let n = h.len();
        let (gates, recurrent) = (&more[..3 * n], &more[3 * n..6 * n]);
        let at = |x: &[f32], g: usize, i: usize| x[i / hidden * 3 * hidden + g * hidden + i % hidden];
        let clamped = |x: f64| x.clamp(-f64::from(clip), f64::from(clip));
        let sum = |g: usize, i: usize| clamped(f64::from(at(gates, g, i)) + f64::from(at(recurrent, g, i)));
        let y = on_all(|cpu| {
            let mut h = h.clone();
            gru_cell_linear(cpu, gates, recurrent, hidden, clip, &mut h);
            h
        });
        near(&y, |i| {
            let (z, r) = (sigmoid(sum(0, i)), sigmoid(sum(1, i)));
            let linear = f64::from(at(gates, 2, i)) + r * f64::from(at(recurrent, 2, i));
            (1.0 - z) * clamped(linear).tanh() + z * f64::from(h[i])
        });

        let gate = |g: usize, i: usize| clamped(f64::from(at(gates, g, i)));
        let y = on_all(|cpu| {
            let (mut gates, mut h) = (gates.to_vec(), h.clone());
            let mut reset = vec![0.0; n];
            gru_gates(cpu, &mut gates, hidden, clip, &h, &mut reset);
            gru_state(cpu, &gates, hidden, clip, &mut h);
            h.extend(reset);
            h
        });
        near(&y[..n], |i| {
            let z = sigmoid(gate(0, i));
            (1.0 - z) * gate(2, i).tanh() + z * f64::from(h[i])
        });
        near(&y[n..], |i| sigmoid(gate(1, i)) * f64::from(h[i]));
    }
}
