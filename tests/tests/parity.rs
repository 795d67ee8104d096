//! What we quantize is, bit for bit, what the reference tool makes of the same model: integer
//! weights, scales, zero points, with every option that changes them. And accuracy is no worse.

use std::{collections::BTreeMap, process::ExitCode};

use onnxq_ir::Model;
use onnxq_tensor::{DType, Tensor};
use onnxq_tests::{
    oracle::{OracleError, oracle},
    stages::{Stages, reference},
    subject::load,
    suite,
    tasks::{has_task, measure},
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
    suite::run(|zoo| {
        let mut trials = Vec::new();
        for model in Stages::all(zoo) {
            let size = std::fs::metadata(&model.path).map_or(0, |m| m.len());
            for &(name, ours, theirs) in OPTIONS {
                if name == "default" || size <= LARGE {
                    let holds = move |m: &Stages| parity(m, name, ours, theirs);
                    trials.push(suite::trial(&model, name, holds));
                }
            }
            if has_task(&model.name) {
                trials.push(suite::trial(&model, "accuracy", accuracy));
            }
        }
        trials
    })
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

/// A model does its task as well as what the reference tool makes of it.
fn accuracy(model: &Stages) -> Result<(), String> {
    let Some(ours) = measure(model, model.quantized()?)? else {
        return Ok(());
    };
    let theirs = &reference(&model.name)["task"];
    no_worse(theirs, "accuracy", ours.accuracy)?;
    ours.cosine_to_float
        .map_or(Ok(()), |cosine| no_worse(theirs, "cosine_to_float", cosine))
}

fn no_worse(theirs: &Value, figure: &str, ours: f64) -> Result<(), String> {
    let theirs = theirs[figure].as_f64().unwrap_or(1.0);
    match ours + 5e-6 >= theirs {
        true => Ok(()),
        false => Err(format!(
            "{figure} is {ours:.5}, expected {theirs:.5} or more"
        )),
    }
}
