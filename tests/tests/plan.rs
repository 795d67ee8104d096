//! Every model of the zoo by [`Plan`], held against what is stored and against the reference.
//!
//! - `outputs`: they are those stored with the float model.
//! - `values`: every value of every graph is the reference's, when all are observed; and whether
//!   they are observed makes no difference to the outputs.
//! - `quantized`: of the quantized model too, the outputs are the reference's.

use std::process::ExitCode;

use indexmap::IndexMap;
use onnxq_ir::{Graph, Model, ValueId};
use onnxq_runtime::{Executor, Plan, View, Workspace};
use onnxq_tensor::Tensor;
use onnxq_tests::{
    case::Allowed,
    metrics::compare,
    oracle::Tensors,
    stages::Stages,
    subject::check_outputs,
    suite::{self, Property},
};

const PROPERTIES: &[(&str, Property)] = &[
    ("outputs", outputs),
    ("values", values),
    ("quantized", quantized),
];

/// Sums are taken in another order, which may cost a ten-thousandth of the signal in models whose
/// activations cancel.
const LEAST_DB: f64 = 80.0;

fn main() -> ExitCode {
    suite::run(|zoo| suite::of_each(&Stages::all(zoo), PROPERTIES))
}

fn in_order(graph: &Graph, inputs: &Tensors) -> Vec<Option<Tensor>> {
    let name = |n: &onnxq_ir::NodeId| &graph.node(*n).results[0].name;
    let inputs = graph.inputs().iter().map(|n| inputs.get(name(n)).cloned());
    inputs.collect()
}

fn named(graph: &Graph, outputs: Vec<Tensor>) -> Tensors {
    let names = graph.outputs.iter().map(|o| o.name.clone());
    names.zip(outputs).collect()
}

/// The outputs by a plan, the same in a workspace that has been used.
fn run(model: &Model, plan: &Plan<'_>, inputs: &[Option<Tensor>]) -> Result<Tensors, String> {
    let mut workspace = Workspace::new();
    let mut once = || {
        let outputs = plan.run(&mut workspace, inputs, &mut |_, _, _| {});
        outputs.map_err(|e| e.to_string())
    };
    let (first, second) = (once()?, once()?);
    for (a, b) in first.iter().zip(&second) {
        if a.bytes() != b.bytes() {
            return Err("the second run differs from the first".to_owned());
        }
    }
    Ok(named(&model.graph, first))
}

fn outputs(model: &Stages) -> Result<(), String> {
    let Some(io) = model.io()? else {
        return Ok(());
    };
    let model = &model.float()?.model;
    let plan = Plan::new(model).map_err(|e| e.to_string())?;
    let outputs = run(model, &plan, &in_order(&model.graph, &io.inputs))?;
    check_outputs(&io.outputs, &outputs, Allowed::Noise(LEAST_DB))
}

fn values(model: &Stages) -> Result<(), String> {
    let Some(io) = model.io()? else {
        return Ok(());
    };
    let model = &model.float()?.model;
    let inputs = in_order(&model.graph, &io.inputs);
    let mut expected: IndexMap<ValueId, Tensor> = IndexMap::new();
    let reference = std::cell::RefCell::new(&mut expected);
    Executor::new(model)
        .run_observed(&inputs, &|graph, v, value| {
            if let Some(tensor) = value.as_tensor()
                && !graph.node(v.node).is_constant()
            {
                reference.borrow_mut().insert(v, tensor.clone());
            }
        })
        .map_err(|e| e.to_string())?;
    let plan = Plan::observing(model, |_, _| true).map_err(|e| e.to_string())?;
    let mut wrong = None;
    let mut seen = 0;
    let mut observe = |graph: &Graph, v: ValueId, view: &View<'_>| {
        if !std::ptr::eq(graph, &model.graph) {
            return;
        }
        seen += 1;
        let name = &graph.value(v).name;
        let got = view.to_tensor().map_err(|e| e.to_string());
        let checked = got.and_then(|got| match expected.get(&v) {
            None => Err("the reference has no such value".to_owned()),
            Some(e) if e.dims() != got.dims() => Err(format!("{got:?}, expected {e:?}")),
            Some(e) => match compare(e, &got).map_err(|e| e.to_string())?.sqnr_db {
                noise if noise < LEAST_DB => Err(format!("{noise:.1} dB from the reference")),
                _ => Ok(()),
            },
        });
        if let Err(message) = checked {
            wrong.get_or_insert(format!("'{name}': {message}"));
        }
    };
    let observed = plan
        .run(&mut Workspace::new(), &inputs, &mut observe)
        .map_err(|e| e.to_string())?;
    if let Some(message) = wrong {
        return Err(message);
    }
    if seen != expected.len() {
        return Err(format!("{seen} of {} values were seen", expected.len()));
    }
    let observed = named(&model.graph, observed);
    check_outputs(&io.outputs, &observed, Allowed::Noise(LEAST_DB))
}

fn quantized(model: &Stages) -> Result<(), String> {
    let Some(io) = model.io()? else {
        return Ok(());
    };
    let model = &model.quantized()?.model;
    let inputs = in_order(&model.graph, &io.inputs);
    let expected = Executor::new(model).run(&inputs);
    let expected = named(&model.graph, expected.map_err(|e| e.to_string())?);
    let plan = Plan::new(model).map_err(|e| e.to_string())?;
    let outputs = run(model, &plan, &inputs)?;
    // Near a tie, the last bit of a float decides for one code or the next.
    check_outputs(&expected, &outputs, Allowed::Noise(40.0))
}
