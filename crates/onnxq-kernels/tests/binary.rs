//! Functions of two floats, comparisons and choices against loops.

use onnxq_kernels::{
    Binary, Broadcast, Comparison, Cpu, UNBOUNDED, binary, binary_in_place, compare, select,
};
use proptest::prelude::*;

const ALL: [Binary; 7] = [
    Binary::Add,
    Binary::Sub,
    Binary::Mul,
    Binary::Div,
    Binary::Min,
    Binary::Max,
    Binary::Prelu,
];

const COMPARISONS: [Comparison; 5] = [
    Comparison::Equal,
    Comparison::Less,
    Comparison::LessOrEqual,
    Comparison::Greater,
    Comparison::GreaterOrEqual,
];

fn float() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => (-20i32..20).prop_map(|n| n as f32 / 4.0),
        1 => Just(f32::NAN),
        1 => Just(f32::INFINITY),
        1 => Just(-0.0),
    ]
}

fn floats(n: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(float(), n)
}

/// A width that parts do not divide now and then, and elements of two operands.
fn operands() -> impl Strategy<Value = (usize, Vec<f32>, Vec<f32>, [usize; 2])> {
    let sizes = prop_oneof![8 => (0..5usize, 1..40usize), 1 => (1..3usize, 500..1100usize)];
    (sizes, [0..4usize, 0..4usize]).prop_flat_map(|((rows, width), kinds)| {
        let n = rows * width;
        (
            Just(width),
            floats(n + width),
            floats(n + width),
            Just(kinds),
        )
    })
}

/// The operand of a kind, and what it is at each place.
fn broadcast(x: &[f32], width: usize, kind: usize) -> (Broadcast<'_>, Vec<f32>) {
    let n = x.len() - width;
    let at = |f: &dyn Fn(usize) -> usize| (0..n).map(|i| x[f(i)]).collect::<Vec<_>>();
    match kind {
        0 => (Broadcast::Elements(&x[..n]), at(&|i| i)),
        1 => (Broadcast::Row(&x[..width]), at(&|i| i % width)),
        2 => (Broadcast::Column(&x[..n / width]), at(&|i| i / width)),
        _ => (Broadcast::Scalar(x[0]), at(&|_| 0)),
    }
}

fn exact(f: Binary, a: f32, b: f32) -> f32 {
    let nan = a.is_nan() || b.is_nan();
    match f {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Min | Binary::Max if nan => f32::NAN,
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        Binary::Prelu if a < 0.0 => a * b,
        Binary::Prelu => a,
    }
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a == b || a.is_nan() && b.is_nan())
}

proptest! {
    #[test]
    fn functions_of_two((width, a, b, kinds) in operands(), which in 0..ALL.len(), bounded: bool) {
        let f = ALL[which];
        let bounds = if bounded { [-1.0, 2.5] } else { UNBOUNDED };
        let (a, a_all) = broadcast(&a, width, kinds[0]);
        let (b, b_all) = broadcast(&b, width, kinds[1]);
        let expected: Vec<f32> = a_all
            .iter()
            .zip(&b_all)
            .map(|(&a, &b)| exact(f, a, b).clamp(bounds[0], bounds[1]))
            .collect();
        for cpu in Cpu::available() {
            let mut y = vec![0.0; a_all.len()];
            binary(cpu, f, a, b, width, bounds, &mut y);
            prop_assert!(same(&y, &expected), "{:?}, {:?}", y, expected);
            let mut y = a_all.clone();
            binary_in_place(cpu, f, &mut y, b, width, bounds);
            prop_assert!(same(&y, &expected), "{:?}, {:?}", y, expected);
        }
    }

    #[test]
    fn comparisons_and_choices((width, a, b, kinds) in operands(), which in 0..COMPARISONS.len(), repeated: bool) {
        let f = COMPARISONS[which];
        let (a, a_all) = broadcast(&a, width, kinds[0]);
        let (b, b_all) = broadcast(&b, width, kinds[1]);
        let expected: Vec<u8> = a_all
            .iter()
            .zip(&b_all)
            .map(|(a, b)| {
                u8::from(match f {
                    Comparison::Equal => a == b,
                    Comparison::Less => a < b,
                    Comparison::LessOrEqual => a <= b,
                    Comparison::Greater => a > b,
                    Comparison::GreaterOrEqual => a >= b,
                })
            })
            .collect();
        for cpu in Cpu::available() {
            let mut y = vec![7; a_all.len()];
            compare(cpu, f, a, b, width, &mut y);
            prop_assert_eq!(&y, &expected);
            let condition = if repeated && !y.is_empty() { &y[..width] } else { &y };
            let chosen: Vec<f32> = (0..y.len())
                .map(|i| if condition[i % condition.len()] != 0 { a_all[i] } else { b_all[i] })
                .collect();
            let mut y = vec![0.0; y.len()];
            select(cpu, condition, a, b, width, &mut y);
            prop_assert!(same(&y, &chosen), "{:?}, {:?}", y, chosen);
        }
    }
}
