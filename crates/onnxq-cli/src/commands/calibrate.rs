//! `onnxq-opt calibrate`: the ranges of a model's tensors on data.

use std::path::PathBuf;

use onnxq::{
    CalibrationOptions, Shard,
    calibrate::{calibrate, parse_method},
    data::{Batch, Data},
    quant::CalibrationSpec,
};

use super::run::parse_batch;
use crate::{
    console::{Failure, Verbosity},
    files,
};

/// The model is observed as it is, so its tensors need the names that `quantize` will look for:
/// quantize this model without `preprocess`, or calibrate the preprocessed one
/// (`onnxq-opt MODEL --passes preprocess -o PRE`).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model, or `-`
    model: PathBuf,
    /// Arrays for the inputs: `.npz`, `.npy`, a folder of such, or ONNX test data; repeatable
    #[arg(long, required = true)]
    data: Vec<PathBuf>,
    /// Where the ranges go
    #[arg(short, long, value_name = "RANGES.json")]
    output: PathBuf,
    /// `minmax`, `entropy`, `percentile`, `distribution` or `mse`, with the options that
    /// `quantize` has for it, as in `percentile{percentile=99.9 num-bins=4096}`
    #[arg(long, value_name = "METHOD", value_parser = parse_method)]
    method: Option<CalibrationSpec>,
    /// Observe a part of the samples only: `1/4` is the first of four parts
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    shard: Option<Shard>,
    /// Rows of axis 0 that make one sample, or `all`
    #[arg(long, value_parser = parse_batch)]
    batch: Option<Batch>,
    /// Samples that run side by side; as many as there are cores if not given
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    verbosity: Verbosity,
}

fn parse_shard(text: &str) -> Result<Shard, String> {
    let shard = text.split_once('/').and_then(|(index, count)| {
        let (index, count) = (index.parse().ok()?, count.parse().ok()?);
        let inside = (1..=count).contains(&index);
        inside.then_some(Shard { index, count })
    });
    shard.ok_or_else(|| "expected `I/N` with I from 1 to N".to_owned())
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let model = files::load(&args.model)?;
    let batch = args.batch.unwrap_or_default();
    let data = Data::open_all(&args.data, &model.graph, batch)?;
    let defaults = CalibrationOptions::default();
    let options = CalibrationOptions {
        spec: args.method.unwrap_or(defaults.spec),
        shard: args.shard.unwrap_or(defaults.shard),
        threads: args.threads,
    };
    let bar = args.verbosity.bar(data.len());
    bar.set_message("samples");
    let calibration = calibrate(&model, &data, &options, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let table = calibration.table();
    files::write(&args.output, table.to_json().as_bytes())?;
    args.verbosity.note(format_args!(
        "ranges of {} tensors on {} samples in {}",
        table.ranges.len(),
        calibration.samples(),
        args.output.display()
    ));
    Ok(0)
}
