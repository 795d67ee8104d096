//! What must hold for observers whatever they see: results depend on the values alone.

use std::thread;

use onnxq_quant::{
    CalibrationSpec, Method, Moments, TensorObserver, TensorRange, ValueRange, tables::RangeTable,
};
use proptest::prelude::*;

type Found = (Option<TensorRange>, Option<Moments>);

fn methods() -> Vec<Method> {
    let moving = Method::MinMax {
        moving_average: true,
        round: std::num::NonZeroUsize::new(3),
        averaging_constant: 0.25,
    };
    let signed = Method::Percentile {
        percentile: 99.0,
        bins: 300,
        magnitudes: false,
    };
    vec![
        Method::MINMAX,
        moving,
        Method::PERCENTILE,
        signed,
        Method::Entropy {
            bins: 256,
            quantized_bins: 16,
        },
        Method::DISTRIBUTION,
        Method::MSE,
    ]
}

fn observer(method: Method, axis: Option<i64>, keep: usize) -> TensorObserver {
    let spec = CalibrationSpec {
        method,
        symmetric: false,
    };
    TensorObserver::new(spec, axis, keep).unwrap()
}

fn found(observer: &TensorObserver) -> Found {
    (observer.range(), observer.moments())
}

/// Samples of different lengths and sizes, in two channels.
fn samples() -> impl Strategy<Value = Vec<Vec<f32>>> {
    let value = (-1.0f32..1.0, 0..8u8).prop_map(|(u, zero)| if zero < 3 { 0.0 } else { u });
    let sample = (prop::collection::vec(value, 0..200), -6..6i32).prop_map(|(mut v, e)| {
        v.truncate(v.len() / 2 * 2);
        v.iter().map(|v| v * 2f32.powi(e)).collect::<Vec<f32>>()
    });
    prop::collection::vec(sample, 1..12)
}

proptest! {
    #[test]
    fn merged_shards_are_the_single_run(
        samples in samples(),
        keys in prop::collection::vec((0..4usize, any::<u32>()), 12),
        keep in prop::sample::select(vec![0, 100, 1000, 1 << 20]),
        axis in prop::sample::select(vec![None, Some(0)]),
    ) {
        for method in methods() {
            let see = |observer: &TensorObserver, i: usize| {
                let sample = &samples[i];
                observer.observe(i, sample, &[2, sample.len() / 2]).unwrap();
            };
            let single = observer(method, axis, keep);
            (0..samples.len()).for_each(|i| see(&single, i));
            let mut order: Vec<usize> = (0..samples.len()).collect();
            order.sort_by_key(|&i| keys[i].1);
            let mut shards: Vec<_> = (0..4).map(|_| observer(method, axis, keep)).collect();
            order.iter().for_each(|&i| see(&shards[keys[i].0], i));
            let expected = found(&single);
            // A tree of merges, and a chain.
            if keys[0].1 % 2 == 0 {
                let (c, d) = (shards.pop().unwrap(), shards.pop().unwrap());
                c.merge(d).unwrap();
                shards.push(c);
            }
            let all = shards.pop().unwrap();
            shards.into_iter().for_each(|shard| all.merge(shard).unwrap());
            prop_assert_eq!(found(&all), expected, "{:?}", method);
        }
    }

    #[test]
    fn tables_hold_every_float(a: f32, b: f32) {
        prop_assume!(a.is_finite() && b.is_finite());
        let range = ValueRange::new(a.min(b), a.max(b));
        let table = RangeTable {
            ranges: [("x", TensorRange::Tensor(range))].into_iter().collect(),
            ..RangeTable::default()
        };
        let read = RangeTable::from_json(table.to_json().as_bytes()).unwrap();
        prop_assert_eq!(read.ranges, table.ranges);
    }

    #[test]
    fn any_bytes_are_a_table_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Err(e) = RangeTable::from_json(&bytes) {
            prop_assert!(!e.to_string().contains('\n'));
        }
    }

    #[test]
    fn percentiles_of_counted_values_are_at_most_a_bin_away(
        samples in samples(),
        percentile in 0.0f64..100.0,
        bins in 2usize..4096,
        magnitudes: bool,
    ) {
        let method = Method::Percentile { percentile, bins, magnitudes };
        let ends = |keep| {
            let observer = observer(method, None, keep);
            for (i, s) in samples.iter().enumerate() {
                observer.observe(i, s, &[s.len()]).unwrap();
            }
            match observer.range() {
                Some(TensorRange::Tensor(r)) => Some([r.lo, r.hi]),
                _ => None,
            }
        };
        let all = samples.iter().flatten();
        let largest = all.clone().fold(0f32, |a, v| a.max(v.abs()));
        let least = if magnitudes { all.fold(largest, |a, v| a.min(v.abs())) } else { -largest };
        let bin = (largest - least) / bins as f32;
        // Where all magnitudes are nearly the same, cells are wider than bins.
        let cell = largest / 8192.0;
        if let (Some(kept), Some(counted)) = (ends(1 << 20), ends(0)) {
            for (a, b) in kept.into_iter().zip(counted) {
                let bound = bin.max(cell) * 1.001;
                prop_assert!((a - b).abs() <= bound, "{} {} {} {}", a, b, bin, cell);
            }
        }
    }
}

#[test]
fn threads_change_nothing() {
    let sample = |i: usize| -> Vec<f32> {
        let n = [3, 20_000, 70_000][i % 3];
        let value = |k: usize| {
            let u = (((k + i * 77) * 2_654_435_761) % 10_007) as f32 / 5003.0 - 1.0;
            u.max(-0.1) * 2f32.powi(i as i32 % 5)
        };
        (0..n).map(value).collect()
    };
    for method in methods() {
        for keep in [0, 50_000, 1 << 20] {
            let single = observer(method, None, keep);
            (0..12).for_each(|i| {
                let sample = sample(i);
                single.observe(i, &sample, &[sample.len()]).unwrap();
            });
            let shared = observer(method, None, keep);
            thread::scope(|scope| {
                for t in 0..4 {
                    let (shared, sample) = (&shared, &sample);
                    scope.spawn(move || {
                        for i in (0..12).rev().filter(|i| i % 4 == t) {
                            let sample = sample(i);
                            shared.observe(i, &sample, &[sample.len()]).unwrap();
                        }
                    });
                }
            });
            assert_eq!(found(&shared), found(&single), "{method:?} {keep}");
        }
    }
}

/// The mean squared error of 8-bit codes.
fn error(data: &[f32], lo: f32, hi: f32) -> f64 {
    let (lo, hi) = (f64::from(lo.min(0.0)), f64::from(hi.max(0.0)));
    let scale = (hi - lo) / 255.0;
    let least = (lo / scale).round_ties_even();
    let square = |&v: &f32| {
        let code = (f64::from(v) / scale).round_ties_even();
        (f64::from(v) - scale * code.clamp(least, least + 255.0)).powi(2)
    };
    data.iter().map(square).sum::<f64>() / data.len() as f64
}

#[test]
fn squared_error_is_near_the_least() {
    let noise = |k: usize| ((k * 2_654_435_761) % 100_003) as f32 / 50_001.0 - 1.0;
    type Shape = (&'static str, fn(f32) -> f32);
    let shapes: [Shape; 4] = [
        ("uniform", |u| u),
        ("heavy", |u| u / (1.0001 - u * u)),
        ("one-sided", |u| u.max(0.0) / (1.0001 - u)),
        ("offset", |u| u * 0.1 - 3.0),
    ];
    for (name, shape) in shapes {
        let data: Vec<f32> = (0..50_000).map(|k| shape(noise(k))).collect();
        let full = data
            .iter()
            .fold([0f32; 2], |[l, h], &v| [l.min(v), h.max(v)]);
        let mut best = error(&data, full[0], full[1]);
        for f in 1..50u8 {
            let f = f32::from(f) / 50.0;
            best = best.min(error(&data, full[0] * f, full[1] * f));
        }
        for keep in [0, 1 << 20] {
            let observer = observer(Method::MSE, None, keep);
            observer.observe(0, &data, &[data.len()]).unwrap();
            let Some(TensorRange::Tensor(range)) = observer.range() else {
                panic!("no range");
            };
            let found = error(&data, range.lo, range.hi);
            assert!(found <= best * 1.02, "{name} {range:?} {found} {best}");
        }
    }
}
