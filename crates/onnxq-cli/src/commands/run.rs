//! `onnxq-opt run`: a model on data.

use std::path::PathBuf;

use onnxq::{
    Error, NoProgram, Runner,
    data::{self, Batch, Data, Sample},
    tensor::Tensor,
};

use crate::{
    console::{Failure, Verbosity},
    files,
    target::Target,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model, or `-`
    model: PathBuf,
    /// Arrays for the inputs: `.npz`, `.npy`, a folder of such, or ONNX test data
    #[arg(long)]
    inputs: PathBuf,
    /// Where the outputs go
    #[arg(long, value_name = "OUT.npz")]
    outputs: PathBuf,
    /// Rows of axis 0 that make one sample, or `all`
    #[arg(long, value_parser = parse_batch)]
    batch: Option<Batch>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    verbosity: Verbosity,
}

/// `--batch`: a number of rows, or `all`.
pub(crate) fn parse_batch(text: &str) -> Result<Batch, String> {
    match text {
        "all" => Ok(Batch::All),
        _ => match text.parse() {
            Ok(rows) if rows > 0 => Ok(Batch::Rows(rows)),
            _ => Err("expected a number of rows, or `all`".to_owned()),
        },
    }
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let cpu = args.target.cpu()?;
    let model = files::load(&args.model)?;
    let name = files::name(&args.model);
    let data = Data::open(&args.inputs, &model.graph, args.batch.unwrap_or_default())?;
    // Samples run side by side where there are many; one alone is spread over the threads.
    let (side_by_side, each) = match data.len() {
        0 | 1 => (1, args.target.threads()),
        _ => (args.target.threads(), 1),
    };
    let runner = Runner::new(&model, cpu, each);
    let bar = args.verbosity.bar(data.len());
    let run = |i: usize, sample: Sample| {
        if i == 0
            && let Err(why) = runner.program(&sample)
        {
            note_plan(args.verbosity, &name, &why);
        }
        let outputs = runner.run(&sample);
        bar.inc(1);
        outputs.map_err(|e| Failure::new(format!("{name}: sample {i}: {e}")))
    };
    let samples: Vec<Vec<Tensor>> = data.map(0..data.len(), Some(side_by_side), run)?;
    bar.finish_and_clear();
    let mut arrays = Vec::new();
    for (i, output) in model.graph.outputs.iter().enumerate() {
        let parts: Vec<Tensor> = samples.iter().filter_map(|s| s.get(i).cloned()).collect();
        let stacked = data::stack(&output.name, &parts)
            .map_err(|e| Failure::new(e).with_help("give all rows at once with `--batch all`"))?;
        arrays.push((output.name.clone(), stacked));
    }
    data::write_npz(&args.outputs, &arrays)?;
    Ok(0)
}

/// Says why a model that is meant for kernels runs without.
pub(crate) fn note_plan(verbosity: Verbosity, model: &str, why: &NoProgram) {
    match why {
        // Nothing is amiss, or it is said when the model runs.
        NoProgram::Float | NoProgram::Compile(Error::Shape(_)) => {}
        _ => verbosity.note(format_args!("{model}: runs without 8-bit kernels: {why}")),
    }
}
