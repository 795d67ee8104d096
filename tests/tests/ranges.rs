//! The ranges that we calibrate are those of the reference tool.
//!
//! - `<model>/minmax`: every tensor of every model of the zoo, within the rounding of float
//!   evaluation.
//! - `<model>/percentile`, `<model>/entropy`: the same with histograms, on small models, within a
//!   bin: a value on the edge of one falls into the next when its last bit changes.
//! - `<distribution>/<method>`: bit for bit, where both see the same values.

use std::{fs, process::ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use onnxq::{
    CalibrationOptions, calibrate,
    quant::{CalibrationSpec, Method, Ranges, TensorRange},
};
use onnxq_ir::{Model, text};
use onnxq_tensor::Tensor;
use onnxq_tests::{
    calibration::{Set, read_cache},
    oracle::{OracleError, Tensors, oracle},
    stages::Stages,
    subject::to_bytes,
    suite,
    zoo::zoo,
};
use serde_json::{Value, json};

/// What the float evaluations of two programs leave of a range, relative to its larger end: they
/// add in different orders.
const ROUNDING: f64 = 1e-6;

/// Where it is more, and what is known of it. ONNX Runtime itself, with its optimizations and without, differs by
/// 5e-6 on `resnet50` (in 42 tensors by more than 1e-6) and by 2e-6 on `resnet18`.
const DEEP: &[(&str, f64, &str)] = &[
    (
        "resnet50",
        2e-5,
        "50 layers of sums of up to 4,608 products",
    ),
    ("light_resnet50", 2e-5, "the same, of constants"),
    (
        "light_squeezenet",
        1e-5,
        "not traced: ONNX Runtime differs from itself by 6e-7 only",
    ),
    ("resnet18", 4e-6, "18 layers"),
    ("resnet18_dynamo", 4e-6, "18 layers"),
    ("mobilenet_v2", 4e-6, "52 layers"),
    ("minilm", 4e-6, "6 blocks of attention"),
    (
        "yunet_n_dynamic",
        1e-5,
        "not traced; it has exponentials of large numbers",
    ),
];

/// Models of more bytes are calibrated by histograms nowhere but in benchmarks: the reference tool
/// takes too long.
const LARGE: u64 = 600_000;

/// Their weights are all equal, and so are the activations: every value is on the edge of a bin.
const CONSTANT: &str = "light_";

/// Bins of the entropy method on models: the reference tool takes minutes for 2048.
const BINS: usize = 256;

fn percentile(magnitudes: bool, percentile: f64) -> Method {
    Method::Percentile {
        percentile,
        bins: 2048,
        magnitudes,
    }
}

fn entropy(bins: usize, quantized_bins: usize) -> Method {
    Method::Entropy {
        bins,
        quantized_bins,
    }
}

/// The reference tool's words for a method.
fn options(method: Method) -> Value {
    match method {
        Method::Percentile {
            percentile,
            bins,
            magnitudes,
        } => json!({
            "calibrate_method": "Percentile", "percentile": percentile, "num_bins": bins,
            "symmetric": magnitudes,
        }),
        Method::Entropy {
            bins,
            quantized_bins,
        } => json!({
            "calibrate_method": "Entropy", "num_bins": bins, "num_quantized_bins": quantized_bins,
        }),
        _ => json!({ "calibrate_method": "MinMax" }),
    }
}

fn spec(method: Method) -> CalibrationSpec {
    CalibrationSpec {
        method,
        symmetric: false,
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = distributions();
    match zoo() {
        None => trials.push(Trial::test("models", || Ok(())).with_ignored_flag(true)),
        Some(zoo) => {
            let methods = [
                ("minmax", Method::MINMAX),
                ("percentile", Method::PERCENTILE),
                ("entropy", entropy(BINS, 128)),
            ];
            for model in Stages::all(zoo) {
                let size = fs::metadata(&model.path).map_or(0, |m| m.len());
                for (name, method) in methods {
                    let too_much = size > LARGE || model.name.starts_with(CONSTANT);
                    if name != "minmax" && too_much {
                        continue;
                    }
                    let holds = move |m: &Stages| on_model(m, name, method);
                    trials.push(suite::trial(&model, name, holds));
                }
            }
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn on_model(model: &Stages, name: &str, method: Method) -> Result<(), String> {
    let theirs = match model.reference_cache(name, options(method)) {
        Ok(path) => read_cache(&path)?,
        // Samples of different lengths are too much for the tool's histograms.
        Err(_) if name != "minmax" => return Ok(()),
        Err(e) => return Err(e),
    };
    let ours = observe(
        &model.preprocessed()?.model,
        &model.calibration()?,
        spec(method),
    )?;
    let deep = DEEP.iter().find(|(m, ..)| *m == model.name);
    let rounding = deep.map_or(ROUNDING, |&(_, rounding, _)| rounding);
    let bin = match method {
        Method::Percentile { bins, .. } | Method::Entropy { bins, .. } => 2.0 / bins as f64,
        _ => 0.0,
    };
    let mut wrong = Vec::new();
    for (tensor, range) in theirs.iter() {
        let range = range.whole();
        let Some(own) = ours.get(tensor) else {
            wrong.push(format!("{tensor}: no range, expected {range:?}"));
            continue;
        };
        let own = own.whole();
        let size = f64::from(range.lo.abs().max(range.hi.abs()));
        let apart = |a: f32, b: f32| f64::from((a - b).abs()) > (rounding + bin) * size;
        if apart(own.lo, range.lo) || apart(own.hi, range.hi) {
            wrong.push(format!("{tensor}: {own:?}, expected {range:?}"));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "{} of {} ranges are not the reference tool's:\n  {}",
            wrong.len(),
            theirs.len(),
            wrong.join("\n  ")
        )),
    }
}

fn observe(model: &Model, set: &Set, spec: CalibrationSpec) -> Result<Ranges, String> {
    let options = CalibrationOptions {
        spec,
        ..CalibrationOptions::default()
    };
    let data = set.data(&model.graph)?;
    let calibration = calibrate(model, &data, &options, &mut |_, _| {});
    calibration
        .map(|table| table.ranges)
        .map_err(|e| e.to_string())
}

/// Values of a kind, by number of the sample.
type Distribution = fn(&mut dyn Iterator<Item = f32>) -> f32;

const DISTRIBUTIONS: &[(&str, Distribution)] = &[
    ("uniform", |u| 3.0 * next(u) - 1.0),
    ("normal", normal),
    ("heavy_tails", |u| normal(u) / (next(u) + 0.02)),
    ("positive", |u| normal(u).max(0.0)),
    ("negative", |u| -normal(u).abs() - 0.5),
    ("few_values", |u| (5.0 * next(u)).floor() / 8.0),
];

fn next(uniform: &mut dyn Iterator<Item = f32>) -> f32 {
    uniform.next().unwrap_or_default()
}

fn normal(uniform: &mut dyn Iterator<Item = f32>) -> f32 {
    uniform.take(12).sum::<f32>() - 6.0
}

fn distributions() -> Vec<Trial> {
    let methods = [
        ("minmax", Method::MINMAX),
        ("percentile", Method::PERCENTILE),
        ("percentile-90", percentile(true, 90.0)),
        ("percentile-100", percentile(true, 100.0)),
        ("percentile-signed", percentile(false, 99.9)),
        ("entropy-128", entropy(128, 128)),
        ("entropy-512", entropy(512, 128)),
        ("entropy-1000-64", entropy(1000, 64)),
    ];
    let mut trials = Vec::new();
    for &(kind, distribution) in DISTRIBUTIONS {
        for (name, method) in methods {
            trials.push(Trial::test(format!("{kind}/{name}"), move || {
                on_values(distribution, method).map_err(Failed::from)
            }));
        }
    }
    trials
}

/// Three samples of one input, whose range both programs find from the same values.
fn on_values(distribution: Distribution, method: Method) -> Result<(), String> {
    let mut state = 1u32;
    let mut uniform = std::iter::from_fn(|| {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        Some((state >> 8) as f32 / (1 << 24) as f32)
    });
    let values: Vec<f32> = (0..3000).map(|_| distribution(&mut uniform)).collect();
    let input = Tensor::vector(values).reshape([30, 100].as_slice());
    let set = Set {
        inputs: Tensors::from_iter([("x".to_owned(), input.map_err(|e| e.to_string())?)]),
        batch: Some(10),
    };
    let text = "<ir_version: 8, opset_import: [\"\": 17]>
        main (float[N, 100] x) => (float[N, 100] y) { y = Sigmoid (x) }";
    let def = text::parse(text, &()).map_err(|e| e.to_string())?;
    let model = Model::from_def(def).map_err(|e| e.to_string())?;

    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let [file, cache] = ["model.onnx", "cache.json"].map(|name| folder.path().join(name));
    fs::write(&file, to_bytes(&model)?).map_err(|e| e.to_string())?;
    match oracle().calibrate(&file, &cache, &set.samples()?, options(method)) {
        Ok(()) => {}
        Err(OracleError::Refused { message, .. }) => return Err(message),
        Err(e) => return Err(e.to_string()),
    }
    let theirs = read_cache(&cache)?;
    let ours = observe(&model, &set, spec(method))?;
    match [&ours, &theirs].map(|ranges| ranges.get("x").map(TensorRange::whole)) {
        [Some(own), Some(range)] if own == range => Ok(()),
        [own, range] => Err(format!("{own:?}, expected {range:?}")),
    }
}
