//! How long one pass of a float model takes: `float_engine MODEL INPUTS.npz`, then, for each line
//! on standard input, that many passes and a line with the processor milliseconds of the fastest.
//! `tests/bench/float_engine.py` lets it take turns with ONNX Runtime.

use std::{
    fs,
    io::{BufRead, Write, stdin, stdout},
};

use onnxq::{Plan, Workspace, data::Data};

/// Processor seconds of this process so far.
fn processor_seconds() -> f64 {
    // In nanoseconds, of this thread, which is the only one that works.
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    nanoseconds.unwrap_or(f64::NAN) * 1e-9
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "float_engine MODEL INPUTS.npz";
    let (model, inputs) = arguments.next().zip(arguments.next()).ok_or(usage)?;
    let model = onnxq::load(model)?;
    let data = Data::open(inputs.as_ref(), &model.graph, onnxq::data::Batch::All)?;
    let sample = data.sample(0)?;
    let plan = Plan::new(&model)?;
    let mut workspace = Workspace::new();
    for line in stdin().lock().lines() {
        let mut fastest = f64::INFINITY;
        for _ in 0..line?.trim().parse::<usize>()? {
            let start = processor_seconds();
            plan.run(&mut workspace, &sample, &mut |_, _, _| {})?;
            fastest = fastest.min(processor_seconds() - start);
        }
        writeln!(stdout(), "{:.4}", fastest * 1e3)?;
        stdout().flush()?;
    }
    Ok(())
}
