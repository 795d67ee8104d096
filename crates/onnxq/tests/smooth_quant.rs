//! `smooth-quant`: what it gains where channels are uneven, and that it changes nothing else.

use std::sync::{Arc, Mutex};

use onnxq::{
    Calibrate, Calibrator, Executor, Model, RangeRequest, Session,
    data::Data,
    distance::Distance,
    quant::{Ranges, TensorRange},
    tensor::Tensor,
};

const WIDTH: usize = 32;

/// Numbers from -1 to 1.
fn noise(count: usize, seed: usize) -> Vec<f32> {
    let number = |i: usize| {
        let mut h = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ seed.wrapping_mul(0x85EB_CA6B);
        h = (h ^ (h >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((h >> 33) % 20_011) as f32 / 10_005.0 - 1.0
    };
    (0..count).map(number).collect()
}

fn list(values: &[f32]) -> String {
    let values: Vec<String> = values.iter().map(|v| format!("{v:e}")).collect();
    values.join(", ")
}

/// One number for each channel, a few of them large.
fn uneven() -> Vec<f32> {
    let outlier = |(i, v): (usize, f32)| if i % 11 == 3 { 60.0 } else { 1.0 + 0.2 * v };
    noise(WIDTH, 5)
        .into_iter()
        .enumerate()
        .map(outlier)
        .collect()
}

/// A model of these nodes, of input `x` and result `y`, with what they may need.
fn model(nodes: &str) -> Model {
    // Where activations are large, weights are small.
    let even = |(i, v): (usize, f32)| v / uneven()[i / WIDTH].max(1.0);
    let noise_of = |seed| noise(WIDTH * WIDTH, seed).into_iter().enumerate();
    let w = list(&noise_of(7).map(even).collect::<Vec<f32>>());
    let transposed = |(i, v): (usize, f32)| v / uneven()[i % WIDTH].max(1.0);
    let v = list(&noise_of(8).map(transposed).collect::<Vec<f32>>());
    let text = format!(
        r#"<ir_version: 10, opset_import: ["": 21]>
        main (float[N, {WIDTH}] x) => (float[N, {WIDTH}] y)
        <float[{WIDTH}] gamma = {{{}}}, float[{WIDTH}] beta = {{{}}},
         float[{WIDTH}, {WIDTH}] w = {{{w}}}, float[{WIDTH}, {WIDTH}] v = {{{v}}}>
        {{ {nodes} }}"#,
        list(&uneven()),
        list(&noise(WIDTH, 6)),
    );
    onnxq::parse(&text).unwrap()
}

const NORMALIZED: &str = "n = LayerNormalization (x, gamma, beta)
    a = MatMul (n, w) b = Gemm <transB = 1> (n, v) y = Add (a, b)";

/// The product reads what is computed outside of it, too.
const IN_BRANCH: &str = "t = Constant <value = bool {1}> ()
    y = If (t) <
        then_branch = then () => (a) {
            n = LayerNormalization (x, gamma, beta)
            a = MatMul (n, w)
        },
        else_branch = else () => (b) { b = Identity (x) }
    >";

fn rows(seed: usize) -> Tensor {
    Tensor::from_vec([16, WIDTH].as_slice(), noise(16 * WIDTH, seed)).unwrap()
}

/// Data with the same channels uneven as in [`uneven`], if asked for.
fn samples(wide: bool) -> Vec<Tensor> {
    let scale = |t: Tensor| {
        let values = t.as_slice::<f32>().unwrap().into_owned();
        let factors = uneven();
        let scaled = values
            .iter()
            .enumerate()
            .map(|(i, v)| v * factors[i % WIDTH]);
        Tensor::from_vec(t.dims(), scaled.collect()).unwrap()
    };
    let rows = (0..4).map(|i| rows(100 + i));
    rows.map(|t| if wide { scale(t) } else { t }).collect()
}

/// Quantizes and keeps the model that ranges are taken of last, and what they were.
struct Watch {
    inner: Calibrator,
    seen: Arc<Mutex<Vec<(Model, Ranges)>>>,
}

impl Calibrate for Watch {
    fn calibrate(
        &self,
        model: &Model,
        request: &RangeRequest,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Ranges, String> {
        let ranges = self.inner.calibrate(model, request, progress)?;
        let mut seen = self.seen.lock().unwrap();
        seen.push((model.clone(), ranges.clone()));
        Ok(ranges)
    }
}

struct Outcome {
    quantized: Model,
    seen: Vec<(Model, Ranges)>,
    sqnr: f64,
}

impl Outcome {
    /// The model of which ranges were taken last.
    fn seen_last(&self) -> &Model {
        &self.seen.last().unwrap().0
    }
}

fn quantize(float: &Model, samples: &[Tensor], options: &str) -> Outcome {
    let seen = Arc::default();
    let data = Data::from_samples(samples.iter().map(|t| vec![Some(t.clone())]));
    let watch = Watch {
        inner: Calibrator::data(data),
        seen: Arc::clone(&seen),
    };
    let mut quantized = float.clone();
    let pipeline = format!("quantize{{{options}}}").replace("{}", "");
    Session::new(&pipeline)
        .calibrator(watch)
        .run(&mut quantized)
        .unwrap();
    let sqnr = distance(float, &quantized, samples);
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    Outcome {
        quantized,
        seen,
        sqnr,
    }
}

fn distance(a: &Model, b: &Model, samples: &[Tensor]) -> f64 {
    let run = |model: &Model, x: &Tensor| {
        let results = Executor::new(model).run(&[Some(x.clone())]).unwrap();
        results.into_iter().next().unwrap()
    };
    let of_one = |x: &Tensor| Distance::between(&run(a, x), &run(b, x)).unwrap();
    let mut all = of_one(&samples[0]);
    samples[1..].iter().for_each(|x| all.merge(&of_one(x)));
    all.sqnr_db()
}

/// The largest magnitude in each row of a constant.
fn row_magnitudes(model: &Model, name: &str) -> Vec<f32> {
    let graph = &model.graph;
    let constant = graph.node_ids().find_map(|n| {
        let v = graph.node(n).is_constant().then(|| graph.result(n, 0))?;
        (graph.value(v).name == name).then(|| graph.tensor(v).unwrap())
    });
    let values = constant.unwrap().to_f32s().unwrap();
    let largest = |row: &[f32]| row.iter().fold(0f32, |m, v| m.max(v.abs()));
    values.chunks(WIDTH).map(largest).collect()
}

fn count(model: &Model, op_type: &str) -> usize {
    let graph = &model.graph;
    graph.node_ids().filter(|&n| graph.is(n, op_type)).count()
}

#[test]
fn uneven_channels_gain_and_floats_stay_the_same() {
    // What computes, how many Mul there are to be, and whether data is uneven.
    let cases = [
        (NORMALIZED, 0, false),
        // The other user of the result still reads it as it was.
        (
            "n = LayerNormalization (x, gamma, beta) a = MatMul (n, w) y = Add (a, x)",
            0,
            false,
        ),
        ("n = Mul (x, gamma) y = MatMul (n, w)", 1, false),
        ("y = MatMul (x, w)", 1, true),
        (
            "n = Tanh (x) m = Mul (gamma, n) y = Gemm (m, w, beta)",
            1,
            false,
        ),
        (IN_BRANCH, 0, false),
    ];
    for (nodes, muls, wide) in cases {
        let float = model(nodes);
        let samples = samples(wide);
        let plain = quantize(&float, &samples, "activation-type=uint8");
        let smooth = quantize(&float, &samples, "activation-type=uint8 smooth-quant");
        assert_eq!(count(&smooth.quantized, "Mul"), muls, "{nodes}");
        let same = distance(&float, smooth.seen_last(), &samples);
        assert!(same > 110.0, "{nodes}: {same} dB");
        let (without, with) = (plain.sqnr, smooth.sqnr);
        assert!(with > without + 6.0, "{nodes}: {without} -> {with} dB");
    }
}

#[test]
fn products_are_folded_into_if_nothing_else_reads_them() {
    let cases = [
        ("n = MatMul (x, w) y = MatMul (n, v)", 1),
        ("n = Gemm <transB = 1> (x, v, beta) y = MatMul (n, w)", 1),
        ("n = Gemm (x, v, beta) a = MatMul (n, w) y = Add (a, n)", 2),
        // One weight, transposed and as it is.
        (
            "a = MatMul (x, w) b = Gemm <transB = 1> (x, w) y = Add (a, b)",
            1,
        ),
        (
            "n = Gemm (x, v, beta) a = MatMul (n, w) b = MatMul (x, w) y = Add (a, b)",
            1,
        ),
    ];
    for (nodes, muls) in cases {
        let float = model(nodes);
        let samples = samples(true);
        let smooth = quantize(&float, &samples, "smooth-quant");
        assert_eq!(count(&smooth.quantized, "Mul"), muls, "{nodes}");
        let same = distance(&float, smooth.seen_last(), &samples);
        assert!(same > 110.0, "{nodes}: {same} dB");
    }
}

#[test]
fn alpha_says_which_side_is_even() {
    let float = model(NORMALIZED);
    let samples = samples(false);
    let options = |alpha| format!("smooth-quant smooth-quant-alpha={alpha}");
    let smoothed = |alpha| quantize(&float, &samples, &options(alpha));

    // Activations go from -1 to 1 in every channel.
    let activations = smoothed("1");
    let (_, ranges) = activations.seen.last().unwrap();
    let range = ranges.get("n_smoothed").unwrap().whole();
    let largest = range.hi.max(-range.lo);
    assert!((largest - 1.0).abs() < 1e-5, "{range:?}");

    // The rows of both weights do, together.
    let weights = smoothed("0");
    let rows = row_magnitudes(weights.seen_last(), "w_smoothed");
    assert!(rows.iter().all(|&m| m < 1.0 + 1e-5), "{rows:?}");
    assert!(rows.iter().all(|&m| m > 0.3), "{rows:?}");
}

#[test]
fn channels_of_a_table_do_as_well() {
    for nodes in [NORMALIZED, "y = MatMul (x, w)"] {
        let float = model(nodes);
        let samples = samples(nodes != NORMALIZED);
        let from_data = quantize(&float, &samples, "smooth-quant");
        let mut table = quantize(&float, &samples, "compat").seen.remove(0).1;
        let (_, channels) = &from_data.seen[0];
        for (name, range) in channels.iter() {
            assert!(matches!(range, TensorRange::Channels { .. }));
            table.insert(name, range.clone());
        }
        let mut quantized = float.clone();
        Session::new("quantize{smooth-quant}")
            .ranges(table)
            .run(&mut quantized)
            .unwrap();
        let near = distance(&from_data.quantized, &quantized, &samples);
        assert!(near > 50.0, "{nodes}: {near} dB");
    }
}

#[test]
fn nothing_changes_without_the_option() {
    let float = model(NORMALIZED);
    let samples = samples(false);
    let plain = quantize(&float, &samples, "");
    let off = quantize(
        &float,
        &samples,
        "smooth-quant=false smooth-quant-alpha=0.9",
    );
    assert_eq!((plain.seen.len(), off.seen.len()), (1, 1));
    assert_eq!(plain.quantized.to_def(), off.quantized.to_def());
    assert_eq!(plain.seen_last().to_def(), off.seen_last().to_def());
}
