//! Every quantized tensor of every model of the zoo is matched with its float twin, in every form
//! that quantization gives; and layers that are broken on purpose are named first.
//!
//! - `dynamic`, `static`: what is matched in QDQ form and after `fuse`.
//! - `names`: tensors of the same name are the same before and after `preprocess`.
//! - `broken`: of a few models, layers whose weights are broken, each by itself.

use std::{cell::RefCell, path::Path, process::ExitCode};

use onnxq::{
    Executor,
    data::{self, Batch, Data},
    debug::{debug, preprocessed},
    distance::Distance,
    ir::{Graph, Model, NodeKind, def::Literal},
    matching::{Graphs, MatchedWeight, Matching},
    tensor::{DType, Tensor},
};
use onnxq_ops::Value;
use onnxq_tests::{
    oracle::Tensors,
    stages::{Stage, Stages},
    subject::load,
    suite::{self, Property},
};

const PROPERTIES: &[(&str, Property)] = &[
    ("dynamic", dynamic),
    ("static", static_forms),
    ("names", names),
];

/// Models in which layers are broken, and how many of their layers.
const BROKEN: &[(&str, usize)] = &[
    ("digits_cnn", 5),
    ("mobilenet_v2", 2),
    ("ultraface", 2),
    ("minilm", 1),
    ("bert_tiny_dynamo", 4),
];

fn main() -> ExitCode {
    suite::run(|zoo| {
        let models = Stages::all(zoo);
        let mut trials = suite::of_each(&models, PROPERTIES);
        for model in &models {
            for &(_, layers) in BROKEN.iter().filter(|(name, _)| *name == model.name) {
                trials.push(suite::trial(model, "broken", move |m| broken(m, layers)));
            }
        }
        trials
    })
}

fn dynamic(model: &Stages) -> Result<(), String> {
    let from = model.preprocessed()?;
    let qdq = model.stage(from, "quantize{mode=dynamic}", "dynamic.onnx")?;
    check(model, &qdq, "QDQ")?;
    check(model, model.quantized()?, "fused")
}

fn static_forms(model: &Stages) -> Result<(), String> {
    check(model, model.static_qdq()?, "QDQ")?;
    check(model, model.static_fused()?, "fused")?;
    let contrib = model.stage(model.static_qdq()?, "fuse{contrib-ops}", "contrib.onnx")?;
    check(model, &contrib, "contrib-ops")
}

/// Checks what is matched, in the file as it was written.
fn check(model: &Stages, quantized: &Stage, form: &str) -> Result<(), String> {
    let float = &model.float()?.model;
    let preprocessed = preprocessed(float).ok_or("`preprocess` fails")?;
    let quantized = load(&quantized.path)?;
    let matching = Matching::new(&[&**float, &preprocessed], &quantized);
    let missing = matching.unmatched.iter();
    let missing: Vec<&str> = missing.map(|&p| matching.quantized.name(p)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (all, _) = matching.quantized_count();
    let count = missing.len();
    Err(format!(
        "{form}: {count} of {all} have no twin: {missing:?}"
    ))
}

/// The tensors of the main graph by name, for a sample.
fn tensors(model: &Model, inputs: &Tensors) -> Result<Tensors, String> {
    let graph = &model.graph;
    let input = |n: &onnxq::ir::NodeId| inputs.get(&graph.node(*n).results[0].name).cloned();
    let sample: Vec<Option<Tensor>> = graph.inputs().iter().map(input).collect();
    let kept = RefCell::new(Tensors::new());
    let keep = |g: &Graph, n, results: &mut [Option<Value>]| {
        if !std::ptr::eq(g, graph) || g.op(n).is_none() {
            return;
        }
        for (value, result) in g.node(n).results.iter().zip(results) {
            if let Some(Value::Tensor(t)) = result
                && t.dtype().is_float()
            {
                kept.borrow_mut().insert(value.name.clone(), t.clone());
            }
        }
    };
    let run = Executor::new(model).run_intercepted(&sample, &keep);
    run.map_err(|e| e.to_string())?;
    Ok(kept.into_inner())
}

fn names(model: &Stages) -> Result<(), String> {
    let Some(io) = model.io()? else {
        return Ok(());
    };
    let before = tensors(&model.float()?.model, &io.inputs)?;
    let after = tensors(&model.preprocessed()?.model, &io.inputs)?;
    let mut common = 0;
    for (name, expected) in &before {
        let Some(got) = after.get(name) else { continue };
        common += 1;
        let far = match expected.dims() == got.dims() {
            true => Distance::between(expected, got).map_or(true, |d| d.sqnr_db() < 60.0),
            false => true,
        };
        let quiet = |t: &Tensor| t.to_f32s().is_ok_and(|v| v.iter().all(|v| v.abs() < 1e-4));
        if far && !(quiet(expected) && quiet(got)) {
            return Err(format!("'{name}' is another tensor: {expected:?}, {got:?}"));
        }
    }
    match common {
        0 if !before.is_empty() => Err("no tensor has kept its name".to_owned()),
        _ => Ok(()),
    }
}

fn broken(model: &Stages, layers: usize) -> Result<(), String> {
    let io = model.io()?.ok_or("there are no inputs")?;
    let float = &model.float()?.model;
    let path = model.file("broken.npz");
    let arrays: Vec<(String, Tensor)> = io.inputs.into_iter().collect();
    data::write_npz(&path, &arrays).map_err(|e| e.to_string())?;
    let from = model.preprocessed()?;
    let forms = [
        model.stage(from, "quantize{mode=dynamic}", "dynamic.onnx")?,
        model.quantized()?.clone(),
        model.static_qdq()?.clone(),
        model.static_fused()?.clone(),
    ];
    for form in &forms {
        for (name, node) in some_weights(float, &form.model, layers)? {
            let broken = negate(&form.model, &name);
            let worst = worst(float, &broken, &path)?;
            if worst != node {
                let file = form.path.file_name().unwrap_or_default().display();
                return Err(format!(
                    "{file}: '{name}' of '{node}' is broken, blamed is '{worst}'"
                ));
            }
        }
    }
    Ok(())
}

/// The node that is blamed.
fn worst(float: &Model, quantized: &Model, data: &Path) -> Result<String, String> {
    let data = Data::open(data, &float.graph, Batch::All).map_err(|e| e.to_string())?;
    let report = debug(float, quantized, &data, None, &|| {}).map_err(|e| e.to_string())?;
    let worst = report.worst().ok_or("no layer adds any noise")?;
    Ok(worst.node.clone())
}

/// Weights in 8 bits, evenly through the model, each with the node that uses it.
fn some_weights(
    float: &Model,
    quantized: &Model,
    count: usize,
) -> Result<Vec<(String, String)>, String> {
    let preprocessed = preprocessed(float).ok_or("`preprocess` fails")?;
    let matching = Matching::new(&[float, &preprocessed], quantized);
    let used_once = |w: &&MatchedWeight, graphs: &Graphs<'_>| {
        let graph = graphs.graph(w.codes.graph);
        let tensor = graph.tensor(w.codes.value);
        tensor.is_some_and(|t| t.dtype() == DType::I8) && graph.uses(w.codes.value).len() == 1
    };
    let products = ["Conv", "MatMul", "Gemm"];
    let weights: Vec<&MatchedWeight> = matching
        .weights
        .iter()
        .filter(|w| products.contains(&w.op.as_str()) && used_once(w, &matching.quantized))
        .collect();
    if weights.len() < count {
        return Err(format!("only {} weights", weights.len()));
    }
    let chosen = (0..count).map(|i| weights[i * (weights.len() - 1) / (count - 1).max(1)]);
    let name = |w: &MatchedWeight| matching.quantized.name(w.codes).to_owned();
    Ok(chosen.map(|w| (name(w), w.node.clone())).collect())
}

/// A model whose codes of this name have the other sign.
fn negate(model: &Model, name: &str) -> Model {
    let mut model = model.clone();
    let graph = &mut model.graph;
    for n in graph.node_ids().collect::<Vec<_>>() {
        let named = graph
            .node(n)
            .results
            .first()
            .is_some_and(|v| v.name == name);
        let Some(tensor) = graph.node(n).tensor().cloned().filter(|_| named) else {
            continue;
        };
        let bytes: Vec<u8> = tensor.bytes().iter().map(|b| b.wrapping_neg()).collect();
        if let NodeKind::Constant(c) = &mut graph.node_mut(n).kind
            && let Ok(tensor) = Tensor::new(tensor.dtype(), tensor.dims(), bytes)
        {
            c.value = Literal::Dense(tensor);
        }
    }
    model
}
