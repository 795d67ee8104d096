//! What we make of the reference tool's ranges is, bit for bit and by name, what the tool makes of
//! them: scales, zero points, quantized weights and biases, in every configuration.
//!
//! A test is a model in a configuration, `mnist/channel-u8s8-reduced-symmetric`: one scale per
//! tensor or channel, the types of activations and weights, and whether ranges are reduced and
//! symmetric (`affine` where weights are asymmetric as well). Large models are compared in two
//! configurations, in all of them where `ONNXQ_ALL_CONFIGURATIONS` is set.

use std::{collections::BTreeMap, env, fmt, fs, process::ExitCode};

use onnxq::quant::Ranges;
use onnxq_ir::Model;
use onnxq_pass::PassContext;
use onnxq_passes::RangeSource;
use onnxq_tensor::Tensor;
use onnxq_tests::{
    calibration::read_cache,
    oracle::{OracleError, oracle},
    stages::Stages,
    subject::{load, run_passes},
    suite,
};
use serde_json::{Value, json};

/// Models of more bytes are compared in fewer configurations.
const LARGE: u64 = 5_000_000;

/// And models of more bytes than this are not with asymmetric weights, which few ask for.
const SMALL: u64 = 300_000;

/// Asks for every configuration of every model.
const ALL: &str = "ONNXQ_ALL_CONFIGURATIONS";

/// Where ours differs: model, beginning of the configuration, part of the parameter's name, the
/// defect of the tool or the choice of ours that is the reason.
const EXCEPTIONS: &[(&str, &str, &str, &str)] = &[
    (
        "odd_matmuls",
        "",
        "c3_quantized",
        "D1: the bias of a Gemm with beta = 4",
    ),
    (
        "odd_matmuls",
        "channel",
        "c5_",
        "D11: a weight of rank 3 has its channels on the last axis",
    ),
    (
        "odd_matmuls",
        "channel",
        "c1_",
        "D11: on the left, axis 1 is the one that is summed over",
    ),
    ("minilm", "", "/attention/self/Add_output_0", MASKED),
    ("minilm", "", "/bert/Where_1_output_0", "the mask"),
    ("bert_tiny_dynamo", "", "val_113", "the mask"),
    ("bert_tiny_dynamo", "", "val_115", MASKED),
    ("bert_tiny_dynamo", "", "val_116", MASKED),
    ("bert_tiny_dynamo", "", "val_192", MASKED),
    ("bert_tiny_dynamo", "", "val_193", MASKED),
    (
        "qat_fakequant",
        "",
        "/Relu",
        "the node behind quantizes it: the tool does so twice",
    ),
];

const MASKED: &str = "a mask is added: codes of the range tell nothing else apart";

/// Which scales are symmetric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Symmetry {
    /// Those of weights of a signed type.
    Default,
    /// All.
    All,
    /// None.
    None,
}

/// A configuration of the tool, and ours that means the same.
#[derive(Clone, Copy, Debug)]
struct Configuration {
    per_channel: bool,
    activation: &'static str,
    weight: &'static str,
    reduce_range: bool,
    symmetry: Symmetry,
}

impl Configuration {
    fn all() -> Vec<Configuration> {
        let mut all = Vec::new();
        for per_channel in [false, true] {
            for (activation, weight) in [("int8", "int8"), ("uint8", "int8"), ("uint8", "uint8")] {
                for reduce_range in [false, true] {
                    for symmetry in [Symmetry::Default, Symmetry::All, Symmetry::None] {
                        all.push(Configuration {
                            per_channel,
                            activation,
                            weight,
                            reduce_range,
                            symmetry,
                        });
                    }
                }
            }
        }
        all
    }

    /// One of those that large models are compared in: what users begin with.
    fn is_common(&self) -> bool {
        let types = (self.activation, self.weight);
        let plain = !self.reduce_range && self.symmetry == Symmetry::Default;
        plain && types == ("int8", "int8")
            || self.per_channel && plain && types == ("uint8", "int8")
    }

    fn pipeline(&self) -> String {
        let mut options = format!(
            "mode=static activation-type={} weight-type={}",
            self.activation, self.weight
        );
        for (option, is_on) in [
            (" per-channel", self.per_channel),
            (" reduce-range", self.reduce_range),
            (
                " activation-symmetric weight-symmetric",
                self.symmetry == Symmetry::All,
            ),
            (" weight-symmetric=false", self.symmetry == Symmetry::None),
        ] {
            options.push_str(if is_on { option } else { "" });
        }
        format!("quantize{{{options}}}")
    }

    fn options(&self) -> Value {
        let name = |ty: &str| match ty {
            "int8" => "QInt8",
            _ => "QUInt8",
        };
        let extra = match self.symmetry {
            Symmetry::Default => json!({}),
            Symmetry::All => json!({ "ActivationSymmetric": true, "WeightSymmetric": true }),
            Symmetry::None => json!({ "WeightSymmetric": false }),
        };
        json!({
            "per_channel": self.per_channel,
            "reduce_range": self.reduce_range,
            "activation_type": name(self.activation),
            "weight_type": name(self.weight),
            "extra_options": extra,
        })
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |ty: &str| match ty {
            "int8" => "s8",
            _ => "u8",
        };
        let part = |text, is_on| if is_on { text } else { "" };
        write!(
            f,
            "{}-{}{}{}{}{}",
            if self.per_channel {
                "channel"
            } else {
                "tensor"
            },
            short(self.activation),
            short(self.weight),
            part("-reduced", self.reduce_range),
            part("-symmetric", self.symmetry == Symmetry::All),
            part("-affine", self.symmetry == Symmetry::None),
        )
    }
}

fn main() -> ExitCode {
    suite::run(|zoo| {
        let all = env::var_os(ALL).is_some();
        let mut trials = Vec::new();
        for model in Stages::all(zoo) {
            let size = fs::metadata(&model.path).map_or(0, |m| m.len());
            for configuration in Configuration::all() {
                // Asked for, they run; else they are listed as ignored.
                let large = size > LARGE && !configuration.is_common();
                let rare = size > SMALL && configuration.symmetry == Symmetry::None;
                let skipped = (large || rare) && !all;
                let name = configuration.to_string();
                let trial = suite::trial(&model, &name, move |m| parity(m, &configuration));
                trials.push(trial.with_ignored_flag(skipped));
            }
        }
        trials
    })
}

fn parity(model: &Stages, configuration: &Configuration) -> Result<(), String> {
    let pre = model.preprocessed()?;
    let cache = model.reference_minmax()?;
    let mut options = configuration.options();
    options["calibration_cache_path"] = json!(cache);
    let file = model.file(&format!("{configuration}.reference.onnx"));
    match oracle().quantize_static(&pre.path, &file, &[], options) {
        Ok(()) => {}
        // The tool fails on some models: then there is nothing to be equal to.
        Err(OracleError::Refused { .. }) => return Ok(()),
        Err(e) => return Err(e.to_string()),
    }
    let before = constants(&pre.model);
    let theirs = constants(&load(&file)?);
    let ours = constants(&quantize(
        model,
        &configuration.pipeline(),
        read_cache(&cache)?,
    )?);
    let _ = fs::remove_file(file); // there are many
    let mut compared = 0;
    let mut wrong = Vec::new();
    for (name, expected) in &theirs {
        let is_known = EXCEPTIONS.iter().any(|(m, begin, part, _)| {
            *m == model.name && configuration.to_string().starts_with(begin) && name.contains(part)
        });
        if before.contains_key(name) || is_known {
            continue;
        }
        compared += 1;
        if let Some(difference) = difference(expected, ours.get(name)) {
            wrong.push(format!("{name}: {difference}"));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "{} of {compared} parameters are not the reference tool's:\n  {}",
            wrong.len(),
            wrong.join("\n  ")
        )),
    }
}

fn quantize(model: &Stages, pipeline: &str, ranges: Ranges) -> Result<Model, String> {
    let mut context = PassContext::new();
    context.provide(RangeSource::Table(ranges));
    // From the file, as the tool: values of one name are told apart there.
    let mut quantized = load(&model.preprocessed()?.path)?;
    run_passes(&mut quantized, pipeline, &mut context).map_err(|e| e.to_string())?;
    Model::from_def(quantized.to_def()).map_err(|e| e.to_string())
}

/// The constants of a model, of all its graphs, by name.
fn constants(model: &Model) -> BTreeMap<String, Tensor> {
    let mut constants = BTreeMap::new();
    model.for_each_graph(|graph| {
        for n in graph.node_ids() {
            if let Some(tensor) = graph.node(n).tensor() {
                constants.insert(graph.node(n).results[0].name.clone(), tensor.clone());
            }
        }
    });
    constants
}

/// What is different in `got`. A list of one element is equal to the element.
fn difference(expected: &Tensor, got: Option<&Tensor>) -> Option<String> {
    let Some(got) = got else {
        return Some("missing".to_owned());
    };
    let is_one = expected.len() == 1 && got.len() == 1;
    if expected.dtype() != got.dtype() || expected.dims() != got.dims() && !is_one {
        return Some(format!(
            "{} {:?}, expected {} {:?}",
            got.dtype(),
            got.dims(),
            expected.dtype(),
            expected.dims()
        ));
    }
    if expected.bytes() == got.bytes() {
        return None;
    }
    let width = expected.bytes().len() / expected.len().max(1);
    let pairs = expected
        .bytes()
        .chunks(width)
        .zip(got.bytes().chunks(width));
    let differ: Vec<usize> = pairs
        .enumerate()
        .filter_map(|(i, (e, g))| (e != g).then_some(i))
        .collect();
    let element = |t: &Tensor| {
        let values = onnxq_tests::metrics::to_f64s(t)?;
        values.get(*differ.first()?).copied()
    };
    Some(format!(
        "{} of {} elements differ, the first is {:?}, expected {:?}",
        differ.len(),
        expected.len(),
        element(got),
        element(expected)
    ))
}
