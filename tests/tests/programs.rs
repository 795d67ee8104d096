//! Every model of the zoo compiled to a [`Program`], in each of its forms, held against the
//! reference on the same lowered graph.
//!
//! - `float`, `dynamic`, `qdq`, `fused`: the outputs are the reference's, and the same on every tier
//!   of instructions that this processor has, with any number of threads, run after run.

use std::process::ExitCode;

use onnxq::{CompileOptions, Cpu, Error, Executor, Memory, Program, ProgramError, compile};
use onnxq_ir::{Graph, Model};
use onnxq_tensor::Tensor;
use onnxq_tests::{
    case::Allowed,
    oracle::Tensors,
    stages::Stages,
    subject::check_outputs,
    suite::{self, Property},
};

const PROPERTIES: &[(&str, Property)] = &[
    ("float", |m| check(m, &m.float()?.model, FLOAT_DB)),
    ("dynamic", |m| check(m, &m.quantized()?.model, CODES_DB)),
    ("qdq", |m| check(m, &m.static_qdq()?.model, CODES_DB)),
    ("fused", |m| check(m, &m.static_fused()?.model, CODES_DB)),
];

/// Sums of floats are taken in another order.
const FLOAT_DB: f64 = 80.0;

/// Near a tie, the last bit of a float decides for one code or the next; models without floats
/// between their codes are equal bit for bit.
const CODES_DB: f64 = 40.0;

/// Models with a shape that only a run shows: there is no program for them.
const SHAPELESS: &[&str] = &["silero_vad"];

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

fn program(model: &Model, inputs: &Tensors, cpu: Cpu, threads: usize) -> Result<Program, Error> {
    let shapes = inputs
        .iter()
        .map(|(name, t)| (name.clone(), t.dims().to_vec()));
    let options = CompileOptions {
        shapes: shapes.collect(),
        cpu,
        threads,
    };
    compile(model, &options)
}

fn check(stages: &Stages, model: &Model, least: f64) -> Result<(), String> {
    let inputs = match stages.io()? {
        Some(io) => io.inputs,
        None => stages.calibration()?.inputs,
    };
    let best = match program(model, &inputs, Cpu::detect(), 1) {
        Err(Error::Program(ProgramError::Shape { .. })) if SHAPELESS.contains(&&*stages.name) => {
            return Ok(());
        }
        made => made.map_err(|e| e.to_string())?,
    };
    let lowered = best.model();
    let given = in_order(&lowered.graph, &inputs);
    let expected = Executor::new(lowered)
        .run(&given)
        .map_err(|e| e.to_string())?;
    let mut memory = Memory::new();
    let mut run = |program: &Program| program.run(&mut memory, &given).map_err(|e| e.to_string());
    let (first, second) = (run(&best)?, run(&best)?);
    same(&first, &second, "the second run")?;
    for (cpu, threads) in Cpu::available()
        .map(|cpu| (cpu, 1))
        .chain([(Cpu::detect(), 2)])
    {
        let other = program(model, &inputs, cpu, threads).map_err(|e| e.to_string())?;
        let what = format!("{} with {threads} threads", cpu.isa());
        same(&first, &run(&other)?, &what)?;
    }
    let expected = named(&lowered.graph, expected);
    check_outputs(
        &expected,
        &named(&lowered.graph, first),
        Allowed::Noise(least),
    )
}

fn same(a: &[Tensor], b: &[Tensor], what: &str) -> Result<(), String> {
    let equal = a
        .iter()
        .zip(b)
        .all(|(a, b)| a.bytes() == b.bytes() && a.dims() == b.dims());
    match equal && a.len() == b.len() {
        true => Ok(()),
        false => Err(format!("{what} differs from the first")),
    }
}
