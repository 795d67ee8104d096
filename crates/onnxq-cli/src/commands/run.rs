//! `onnxq-opt run`: a model on data.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use onnxq::{
    Plan, Workspace,
    data::{self, Batch, Data, Sample},
    tensor::Tensor,
};

use crate::{
    console::{Failure, Verbosity},
    files,
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
    /// Worker threads; all cores if not given
    #[arg(long)]
    threads: Option<usize>,
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
    let model = files::load(&args.model)?;
    let data = Data::open(&args.inputs, &model.graph, args.batch.unwrap_or_default())?;
    let plan = Plan::new(&model)
        .map_err(|e| Failure::new(format!("{}: {e}", files::name(&args.model))))?;
    // As many as there are threads at work.
    let workspaces: Mutex<Vec<Workspace>> = Mutex::default();
    let idle = || workspaces.lock().unwrap_or_else(PoisonError::into_inner);
    let bar = args.verbosity.bar(data.len());
    let run = |i: usize, sample: Sample| {
        let mut workspace = idle().pop().unwrap_or_default();
        let outputs = plan
            .run(&mut workspace, &sample, &mut |_, _, _| {})
            .map_err(|e| Failure::new(format!("{}: sample {i}: {e}", files::name(&args.model))))?;
        idle().push(workspace);
        bar.inc(1);
        Ok::<_, Failure>(outputs)
    };
    let samples: Vec<Vec<Tensor>> = data.map(0..data.len(), args.threads, run)?;
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
