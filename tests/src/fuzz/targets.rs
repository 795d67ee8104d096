//! What is fuzzed: one function for each target, and a line in [`TARGETS`].

use std::cell::Cell;

use onnxq_ir::{
    Model,
    def::ModelDef,
    text::{self, TensorIndex},
};
use onnxq_ops::{Value, infer, interpret::Interpreter, upgrade};
use onnxq_tensor::{DType, Tensor};

use super::{corpus::Corpus, mutate};
use crate::{
    random::Random,
    subject::{check_laws, from_bytes},
};

/// Something that must survive any input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Makes an input.
    pub mutate: fn(&mut Random, &Corpus) -> Vec<u8>,
    /// Whether the input was good to the end, or what is wrong.
    pub run: fn(&[u8]) -> Result<bool, String>,
}

/// Every target.
pub static TARGETS: &[Target] = &[
    Target {
        name: "importer",
        mutate: |random, corpus| mutate::bytes(random, &corpus.files),
        run: importer,
    },
    Target {
        name: "parser",
        mutate: |random, corpus| mutate::text(random, &corpus.texts).into_bytes(),
        run: parser,
    },
    Target {
        name: "inference",
        mutate: |random, corpus| mutate::text(random, &corpus.texts).into_bytes(),
        run: inference,
    },
    Target {
        name: "evaluators",
        mutate: |random, corpus| mutate::text(random, &corpus.operators).into_bytes(),
        run: evaluators,
    },
];

/// A file that is read becomes a model that is written and read again as the same.
fn importer(input: &[u8]) -> Result<bool, String> {
    let Ok(def) = from_bytes(input.to_vec()) else {
        return Ok(false);
    };
    lawful(def)
}

fn lawful(def: ModelDef) -> Result<bool, String> {
    let Ok(model) = Model::from_def(def) else {
        return Ok(false);
    };
    if !model.verify().is_empty() {
        return Ok(false);
    }
    check_laws(&model).map(|()| true)
}

/// A text that is read is printed, and read again as the same.
fn parser(input: &[u8]) -> Result<bool, String> {
    let Ok(def) = text::parse(&String::from_utf8_lossy(input), &()) else {
        return Ok(false);
    };
    let printed = text::print(&def);
    let again = text::parse(&printed, &TensorIndex::new(&def));
    let again = again.map_err(|e| format!("what is printed does not parse: {e}"))?;
    // What is equal prints equally; and a NaN is not equal to itself.
    if text::print(&again) != printed {
        return Err("what is printed reads as something else".to_owned());
    }
    lawful(def)
}

fn model_of(input: &[u8]) -> Option<Model> {
    let def = text::parse(&String::from_utf8_lossy(input), &()).ok()?;
    let model = Model::from_def(def).ok()?;
    model.verify().is_empty().then_some(model)
}

/// Inference ends whatever the graph, and so does an upgrade of what it has annotated.
fn inference(input: &[u8]) -> Result<bool, String> {
    let Some(mut model) = model_of(input) else {
        return Ok(false);
    };
    infer::annotate(&mut model);
    check_laws(&model)?;
    if upgrade::upgrade(&mut model, 28).is_ok() {
        infer::annotate(&mut model);
        check_laws(&model).map_err(|e| format!("upgraded: {e}"))?;
    }
    Ok(true)
}

/// Ones where an input is a tensor of which the sizes are known.
fn ones(model: &Model) -> Vec<Option<Value>> {
    let graph = &model.graph;
    let input = |&n: &onnxq_ir::NodeId| {
        let ty = graph.ty(graph.result(n, 0))?;
        let dims = ty
            .shape()?
            .iter()
            .map(|d| usize::try_from(d.as_const().unwrap_or(2)).ok());
        let dims = dims.collect::<Option<Vec<usize>>>()?;
        let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        let dtype = ty.dtype().unwrap_or(DType::F32);
        let one = Tensor::scalar(1f32).cast(dtype, true).ok()?;
        let tensor = Tensor::fill(dtype, dims.as_slice(), &one).ok()?;
        (count < 1 << 20).then_some(Value::Tensor(tensor))
    };
    graph.inputs().iter().map(input).collect()
}

/// Takes all types away but those of the inputs: a file may lie about what is inside.
fn forget_types(model: &mut Model) {
    let types = |model: &Model| {
        let graph = &model.graph;
        let inputs = graph.inputs().iter().map(|&n| graph.result(n, 0));
        inputs
            .map(|v| (v, graph.ty(v).cloned()))
            .collect::<Vec<_>>()
    };
    let inputs = types(model);
    model.for_each_graph_mut(|graph| {
        graph.outputs.iter_mut().for_each(|o| o.ty = None);
        for n in graph.node_ids().collect::<Vec<_>>() {
            for i in 0..graph.node(n).results.len() {
                let v = graph.result(n, i);
                if graph.tensor(v).is_none() {
                    graph.set_type(v, None);
                }
            }
        }
    });
    for (v, ty) in inputs {
        model.graph.set_type(v, ty);
    }
}

/// Units of work for one model: a loop may run for as long as its author says, but not here.
const FUEL: u64 = 1 << 18;

/// A graph runs, or gives an error; where it runs, what was inferred of its results is true.
fn evaluators(input: &[u8]) -> Result<bool, String> {
    let Some(mut model) = model_of(input) else {
        return Ok(false);
    };
    // A loop without a step has results of the type that its body declares: it should not be a lie.
    forget_types(&mut model);
    infer::annotate(&mut model);
    let facts = infer::analyze(&model).results(&model.graph);
    let fuel = Cell::new(FUEL);
    let interpreter = Interpreter::new(&model).fuelled(&fuel);
    let Ok(results) = interpreter.run(&model.graph, ones(&model)) else {
        return Ok(false);
    };
    for (fact, value) in facts.iter().zip(&results) {
        let Value::Tensor(t) = value else { continue };
        let contradicts = fact.dtype().is_some_and(|d| d != t.dtype())
            || fact.shape().is_some_and(|shape| {
                let mut dims = shape.iter().zip(t.dims());
                let differs = |d: Option<i64>, n: usize| d.is_some_and(|d| d != n as i64);
                shape.len() != t.rank() || dims.any(|(d, &n)| differs(d.as_const(), n))
            });
        if contradicts {
            return Err(format!("inferred {:?}, found {t:?}", fact.ty));
        }
    }
    Ok(true)
}
