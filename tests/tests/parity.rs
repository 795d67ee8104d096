//! What we quantize is, bit for bit, what the reference tool makes of the same model: integer
//! weights, scales, zero points, with every option that changes them. And accuracy is no worse.

use std::{collections::BTreeMap, process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Failed, Trial};
use onnxq_ir::Model;
use onnxq_tensor::{DType, Tensor};
use onnxq_tests::{
    metrics::to_f64s,
    oracle::{Level, OracleError, Tensors, oracle},
    stages::{Stages, reference},
    subject::load,
    zoo::zoo,
};
use serde_json::Value;

/// Options of ours, and the same of the reference tool.
const OPTIONS: &[(&str, &str, &str)] = &[
    ("default", "quantize{mode=dynamic},fuse", "{}"),
    (
        "per_channel",
        "quantize{mode=dynamic per-channel},fuse",
        r#"{"per_channel": true}"#,
    ),
    (
        "reduce_range",
        "quantize{mode=dynamic reduce-range},fuse",
        r#"{"reduce_range": true}"#,
    ),
    (
        "uint8",
        "quantize{mode=dynamic weight-type=uint8},fuse",
        r#"{"weight_type": "QUInt8"}"#,
    ),
];

/// Models on which all options are compared; on the others, which are large, the default.
const LARGE: u64 = 20_000_000;

/// Weights, by part of their name, that the tool quantizes and we do not, and why.
const LEFT: &[(&str, &str, &str)] = &[(
    "lgbm_classifier",
    "SklearnLGBMClassifier",
    "tables of a few elements, which grow when they are quantized",
)];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let Some(zoo) = zoo() else {
        let missing = Trial::test("models", || Ok(())).with_ignored_flag(true);
        return libtest_mimic::run(&arguments, vec![missing]).exit_code();
    };
    let mut trials = Vec::new();
    for model in Stages::all(zoo) {
        let size = std::fs::metadata(&model.path).map_or(0, |m| m.len());
        for &(name, ours, theirs) in OPTIONS {
            if name != "default" && size > LARGE {
                continue;
            }
            let model = Arc::clone(&model);
            trials.push(Trial::test(format!("{}/{name}", model.name), move || {
                parity(&model, name, ours, theirs).map_err(Failed::from)
            }));
        }
        let task: Option<Task> = match model.name.as_str() {
            "digits" | "digits_cnn" => Some(|m| top1(m, "digits_test.npz")),
            "tabular_mlp" => Some(|m| top1(m, "tabular_mlp_test.npz")),
            "minilm" => Some(retrieval),
            _ => None,
        };
        if let Some(task) = task {
            trials.push(Trial::test(format!("{}/accuracy", model.name), move || {
                task(&model).map_err(Failed::from)
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A quantized weight: type, dimensions and elements of the codes, of the zero point if it is not
/// zero, and the bits of the scale.
type Weight = (DType, Vec<usize>, Vec<u8>, Vec<i64>, Vec<u32>);

fn parity(model: &Stages, name: &str, ours: &str, theirs: &str) -> Result<(), String> {
    let pre = model.preprocessed()?;
    let options: Value = serde_json::from_str(theirs).map_err(|e| e.to_string())?;
    let path = model.file(&format!("{name}.reference.onnx"));
    match oracle().quantize_dynamic(&pre.path, &path, options) {
        Ok(()) => {}
        // The tool fails on some models: then there is nothing to be equal to.
        Err(OracleError::Refused { .. }) => return Ok(()),
        Err(e) => return Err(e.to_string()),
    }
    let theirs = weights(&load(&path)?)?;
    let ours = model.stage(pre, ours, &format!("{name}.onnx"))?;
    let ours = weights(&ours.model)?;
    let mut missing = Vec::new();
    for (weight, weight_name) in &theirs {
        let left = |l: &(&str, &str, &str)| l.0 == model.name && weight_name.contains(l.1);
        if ours.contains_key(weight) || LEFT.iter().any(left) {
            continue;
        }
        missing.push(match ours.iter().find(|(_, name)| *name == weight_name) {
            // The tool ignores the option for Conv.
            Some((other, _)) if name == "per_channel" && is_finer(other, weight) => continue,
            Some((other, _)) => format!("{weight_name}: {}", first_difference(weight, other)),
            None => format!("{weight_name}: not quantized, or under another name"),
        });
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "{} of {} weights are not the reference tool's:\n  {}",
            missing.len(),
            theirs.len(),
            missing.join("\n  ")
        )),
    }
}

/// Whether `ours` has a scale for each channel of the same Conv weight, where `theirs` has one.
fn is_finer(ours: &Weight, theirs: &Weight) -> bool {
    ours.1 == theirs.1 && ours.1.len() > 2 && theirs.4.len() == 1 && ours.4.len() == ours.1[0]
}

fn first_difference(expected: &Weight, got: &Weight) -> String {
    if (expected.0, &expected.1) != (got.0, &got.1) {
        return format!(
            "{} {:?}, expected {} {:?}",
            got.0, got.1, expected.0, expected.1
        );
    }
    let float = |bits: &[u32]| bits.iter().map(|&b| f32::from_bits(b)).collect::<Vec<_>>();
    if expected.4 != got.4 {
        return format!(
            "scale {:?}, expected {:?}",
            float(&got.4),
            float(&expected.4)
        );
    }
    if expected.3 != got.3 {
        return format!("zero point {:?}, expected {:?}", got.3, expected.3);
    }
    let differ = expected.2.iter().zip(&got.2).filter(|(a, b)| a != b);
    format!("{} of {} codes differ", differ.count(), expected.2.len())
}

/// The quantized weights of a model with their names: what has codes, a scale, and perhaps a zero
/// point under the names that both tools give them.
fn weights(model: &Model) -> Result<BTreeMap<Weight, String>, String> {
    let mut constants: BTreeMap<String, Tensor> = BTreeMap::new();
    model.for_each_graph(|graph| {
        for n in graph.node_ids() {
            if let Some(tensor) = graph.node(n).tensor() {
                constants.insert(graph.node(n).results[0].name.clone(), tensor.clone());
            }
        }
    });
    let mut weights = BTreeMap::new();
    for (name, codes) in &constants {
        let Some(base) = name.strip_suffix("_quantized") else {
            continue;
        };
        let Some(scale) = constants.get(&format!("{base}_scale")) else {
            continue;
        };
        let scale = scale.to_f32s().map_err(|e| e.to_string())?;
        let zero_point = match constants.get(&format!("{base}_zero_point")) {
            Some(zero_point) => zero_point.to_i64s().map_err(|e| e.to_string())?,
            None => vec![],
        };
        let zero_point = match zero_point.iter().all(|&z| z == 0) {
            true => vec![],
            false => zero_point,
        };
        let weight = (
            codes.dtype(),
            codes.dims().to_vec(),
            codes.bytes().to_vec(),
            zero_point,
            scale.iter().map(|s| s.to_bits()).collect(),
        );
        weights.insert(weight, base.to_owned());
    }
    Ok(weights)
}

/// An accuracy measured as `tests/oracle/reference.py` does, compared with its figures.
type Task = fn(&Stages) -> Result<(), String>;

fn recorded(model: &Stages, figure: &str) -> f64 {
    let task = &reference(&model.name)["task"];
    task[figure].as_f64().unwrap_or(1.0)
}

fn no_worse(model: &Stages, figure: &str, ours: f64) -> Result<(), String> {
    let theirs = recorded(model, figure);
    match ours + 5e-6 >= theirs {
        true => Ok(()),
        false => Err(format!(
            "{figure} is {ours:.5}, expected {theirs:.5} or more"
        )),
    }
}

fn run(model: &Stages, inputs: &Tensors) -> Result<Tensors, String> {
    oracle()
        .run(&model.quantized()?.path, inputs, Level::All)
        .map_err(|e| e.to_string())
}

/// How often the largest logit is that of the label.
fn top1(model: &Stages, file: &str) -> Result<(), String> {
    let data = model.data(file)?;
    let inputs = Tensors::from_iter([("input".to_owned(), data["input"].clone())]);
    let outputs = run(model, &inputs)?;
    let labels = data["label"].to_i64s().map_err(|e| e.to_string())?;
    let logits = numbers(&outputs[0])?;
    let right = logits
        .chunks(logits.len() / labels.len())
        .zip(&labels)
        .filter(|(row, label)| {
            let best = (0..row.len())
                .rev()
                .max_by(|&a, &b| row[a].total_cmp(&row[b]));
            best == usize::try_from(**label).ok()
        });
    no_worse(
        model,
        "accuracy",
        right.count() as f64 / labels.len() as f64,
    )
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>, String> {
    to_f64s(tensor).ok_or_else(|| format!("{} are no numbers", tensor.dtype()))
}

/// Sentences of the two halves say the same, row by row: how often each finds its partner, and
/// how near the embeddings stay to the float model's.
fn retrieval(model: &Stages) -> Result<(), String> {
    let data = model.data("minilm_text.npz")?;
    let names = ["input_ids", "attention_mask", "token_type_ids"];
    let inputs = names.map(|name| (name.to_owned(), data[name].clone()));
    let hidden = numbers(&run(model, &Tensors::from_iter(inputs))?[0])?;
    let mask = numbers(&data["attention_mask"])?;
    let float = numbers(&data["embedding"])?;
    let rows = data["attention_mask"].dims()[0];
    let (steps, width) = (mask.len() / rows, float.len() / rows);
    let pooled: Vec<Vec<f64>> = (0..rows)
        .map(|row| {
            let mut sum = vec![0.0; width];
            for step in (0..steps).filter(|step| mask[row * steps + step] > 0.0) {
                let at = (row * steps + step) * width;
                for (s, h) in sum.iter_mut().zip(&hidden[at..at + width]) {
                    *s += h;
                }
            }
            let length = dot(&sum, &sum).sqrt();
            sum.iter().map(|s| s / length).collect()
        })
        .collect();
    let partner = |row: usize| (row + rows / 2) % rows;
    let finds = |&row: &usize| {
        let paired = dot(&pooled[row], &pooled[partner(row)]);
        let others = (0..rows).filter(|&other| other != row && other != partner(row));
        others
            .map(|other| dot(&pooled[row], &pooled[other]))
            .all(|c| c < paired)
    };
    let found = (0..rows).filter(finds).count();
    no_worse(model, "accuracy", found as f64 / rows as f64)?;
    let near: f64 = (0..rows)
        .map(|row| dot(&pooled[row], &float[row * width..(row + 1) * width]))
        .sum();
    no_worse(model, "cosine_to_float", near / rows as f64)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
