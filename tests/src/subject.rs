//! What the suites do with models: read, write, run passes, execute, and the laws that hold for
//! every one of them.

use std::path::Path;

use onnxq_ir::{
    Model,
    def::ModelDef,
    text::{self, TensorIndex},
};
use onnxq_ops::{EvalError, Value, interpret::Interpreter};
use onnxq_pass::{
    Config, Error, Instrumentation, Level, PassContext, PassManager, Pipeline, Summary,
};
use onnxq_tensor::Buffer;

use crate::{
    case::Allowed,
    metrics::{check_close, compare},
    oracle::Tensors,
};

/// The model in a file.
///
/// # Errors
/// It cannot be read, or is not well formed.
pub fn load(path: &Path) -> Result<Model, String> {
    let def = onnxq_onnx::load(path).map_err(|e| e.to_string())?;
    Model::from_def(def).map_err(|e| e.to_string())
}

/// The model as the bytes of a file.
///
/// # Errors
/// It takes more than 2 GiB.
pub fn to_bytes(model: &Model) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    onnxq_onnx::write_to(&model.to_def(), &mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// The model of a file held in memory.
///
/// # Errors
/// The bytes are no model.
pub fn from_bytes(bytes: Vec<u8>) -> Result<ModelDef, String> {
    onnxq_onnx::from_buffer(Buffer::from(bytes), None, "memory").map_err(|e| e.to_string())
}

/// Runs a pipeline, verifying the model after every pass. The context keeps the messages.
///
/// # Errors
/// Those of the pass manager.
pub fn run_passes(
    model: &mut Model,
    pipeline: &str,
    context: &mut PassContext,
) -> Result<Summary, Error> {
    let pipeline = Pipeline::parse(pipeline)?;
    let mut manager = PassManager::new(&onnxq_passes::registry(), &pipeline, &Config::default())?;
    let mut instruments = Instrumentation {
        verify_each: true,
        ..Instrumentation::default()
    };
    manager.run(model, context, &mut instruments)
}

/// The notes and warnings that passes gave, as lines.
pub fn said(context: &PassContext) -> Vec<String> {
    let messages = context.messages().iter();
    messages
        .filter(|m| m.level >= Level::Note)
        .map(ToString::to_string)
        .collect()
}

/// The outputs of a model for `inputs`, by our interpreter.
///
/// # Errors
/// Those of evaluation.
pub fn interpret(model: &Model, inputs: &Tensors) -> Result<Tensors, EvalError> {
    let graph = &model.graph;
    let input = |n: &onnxq_ir::NodeId| {
        let name = &graph.value(graph.result(*n, 0)).name;
        inputs.get(name).cloned().map(Value::Tensor)
    };
    let inputs = graph.inputs().iter().map(input).collect();
    let results = Interpreter::new(model).run(graph, inputs)?;
    let names = graph.outputs.iter().map(|o| o.name.clone());
    let tensor = |(name, value): (String, Value)| Some((name, value.as_tensor()?.clone()));
    Ok(names.zip(results).filter_map(tensor).collect())
}

/// Checks that every output of `expected` is there and near enough.
///
/// # Errors
/// Names the first output that is not, and by how much.
pub fn check_outputs(expected: &Tensors, got: &Tensors, allowed: Allowed) -> Result<(), String> {
    for (name, e) in expected {
        let g = got
            .get(name)
            .ok_or_else(|| format!("output '{name}' is missing"))?;
        let far = match allowed {
            Allowed::Elements(tolerance) => check_close(e, g, tolerance).map_err(|e| e.to_string()),
            Allowed::Noise(least) => match compare(e, g) {
                Ok(m) if m.sqnr_db >= least => Ok(()),
                Ok(m) => Err(format!(
                    "signal to noise is {:.1} dB, expected {least} dB or more",
                    m.sqnr_db
                )),
                Err(e) => Err(e.to_string()),
            },
        };
        far.map_err(|e| format!("output '{name}': {e}"))?;
    }
    Ok(())
}

/// Checks what holds for every model: it is well formed, its text and its file read back as the
/// same model, and building it from its canonical form changes nothing.
///
/// # Errors
/// Says which law is broken.
pub fn check_laws(model: &Model) -> Result<(), String> {
    if let Some(violation) = model.verify().first() {
        return Err(format!("the verifier objects: {violation}"));
    }
    let def = model.to_def();
    let printed = text::print(&def);
    let parsed = text::parse(&printed, &TensorIndex::new(&def))
        .map_err(|e| format!("the printed text does not parse: {e}\n{printed}"))?;
    same(&def, &parsed, "parse(print(m))")?;
    let saved = from_bytes(to_bytes(model)?)?;
    same(&def, &saved, "load(save(m))")?;
    let rebuilt = Model::from_def(saved).map_err(|e| format!("it cannot be built again: {e}"))?;
    same(&def, &rebuilt.to_def(), "build(flatten(m))")
}

fn same(expected: &ModelDef, got: &ModelDef, what: &str) -> Result<(), String> {
    if expected == got {
        return Ok(());
    }
    let (before, after) = (text::print(expected), text::print(got));
    let diff = onnxq_pass::unified_diff(&before, &after, "m", what);
    Err(format!("{what} is not m:\n{diff}"))
}

/// The text of a model without the types of inner values: what `_stays` compares.
pub fn text_without_types(model: &Model) -> String {
    let mut model = model.clone();
    model.sweep();
    model.for_each_graph_mut(|graph| {
        for n in graph.node_ids().collect::<Vec<_>>() {
            if graph.op(n).is_some() {
                for i in 0..graph.node(n).results.len() {
                    graph.set_type(graph.result(n, i), None);
                }
            }
        }
    });
    text::print(&model.to_def())
}
