//! `onnxq-opt calibrate`: the ranges of a model's tensors on data.

use std::path::{Path, PathBuf};

use onnxq::{
    CalibrationOptions, Shard,
    calibrate::{calibrate, parse_method},
    data::{Batch, Data},
    quant::{
        CalibrationSpec,
        tables::{RangeTable, tensorrt_flatbuffers, tensorrt_text},
    },
};

use super::run::parse_batch;
use crate::{
    console::{Failure, Verbosity},
    files,
};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    merge: Option<Merge>,
    /// The model, or `-`
    #[arg(required = true)]
    model: Option<PathBuf>,
    /// Arrays for the inputs: `.npz`, `.npy`, a folder of such, or ONNX test data; repeatable
    #[arg(long, required = true)]
    data: Vec<PathBuf>,
    /// Where the ranges go, or `-`
    #[arg(short, long, value_name = "RANGES.json", required = true)]
    output: Option<PathBuf>,
    /// `minmax`, `entropy`, `percentile`, `distribution` or `mse`, with the options that
    /// `quantize` has for it, as in `percentile{percentile=99.9 num-bins=4096}`
    #[arg(long, value_name = "METHOD", value_parser = parse_method)]
    method: Option<CalibrationSpec>,
    /// Observe a part of the samples only, to be merged: `1/4` is the first of four parts
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    shard: Option<Shard>,
    /// What the ranges are written as
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Rows of axis 0 that make one sample, or `all`
    #[arg(long, value_parser = parse_batch)]
    batch: Option<Batch>,
    /// Samples that run side by side; as many as there are cores if not given
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    verbosity: Verbosity,
}

#[derive(clap::Subcommand)]
enum Merge {
    /// Merge what shards found: the ranges are those of one run over all data
    Merge(MergeArgs),
}

#[derive(clap::Args)]
struct MergeArgs {
    /// What `calibrate --shard` wrote, of the same model by the same method
    #[arg(required = true, num_args = 1..)]
    shards: Vec<PathBuf>,
    /// Where the ranges go, or `-`
    #[arg(short, long, value_name = "RANGES.json")]
    output: PathBuf,
    /// What the ranges are written as
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    verbosity: Verbosity,
}

/// The forms of tables.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Default)]
enum Format {
    /// For `--ranges`; the ONNX Runtime tool reads it as its calibration cache
    #[default]
    Json,
    /// The FlatBuffers that ONNX Runtime's TensorRT provider reads
    TrtFlatbuffers,
    /// The same as text
    TrtText,
}

impl Format {
    fn encode(self, table: &RangeTable) -> Vec<u8> {
        match self {
            Format::Json => table.to_json().into_bytes(),
            Format::TrtFlatbuffers => tensorrt_flatbuffers(&table.ranges),
            Format::TrtText => tensorrt_text(&table.ranges).into_bytes(),
        }
    }
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
    let (table, output, format, verbosity) = match &args.merge {
        Some(Merge::Merge(args)) => {
            let table = merge(&args.shards)?;
            (table, &args.output, args.format, args.verbosity)
        }
        None => {
            let (Some(model), Some(output)) = (&args.model, &args.output) else {
                return Err(Failure::usage("no model is given"));
            };
            if args.shard.is_some() && args.format != Format::Json {
                let help = "give the format to `calibrate merge`";
                return Err(Failure::usage("only JSON can be merged").with_help(help));
            }
            let table = observe(args, model)?;
            (table, output, args.format, args.verbosity)
        }
    };
    files::write(output, &format.encode(&table))?;
    verbosity.note(format_args!(
        "{}: ranges of {} tensors, from {} samples",
        output.display(),
        table.ranges.len(),
        table.samples.unwrap_or_default(),
    ));
    Ok(0)
}

fn observe(args: &Args, model: &Path) -> Result<RangeTable, Failure> {
    let model = files::load(model)?;
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
    let table = calibrate(&model, &data, &options, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    Ok(table?)
}

fn merge(shards: &[PathBuf]) -> Result<RangeTable, Failure> {
    let mut merged: Option<RangeTable> = None;
    for file in shards {
        let table = files::read_ranges(file)?;
        let table = match merged {
            None if table.observers.is_none() => {
                let message = format!("{}: holds ranges alone", file.display());
                let help = "merge what `onnxq-opt calibrate --shard` wrote";
                return Err(Failure::new(message).with_help(help));
            }
            None => table,
            Some(merged) => merged
                .merge(table)
                .map_err(|e| Failure::new(format!("{}: {e}", file.display())))?,
        };
        merged = Some(table);
    }
    merged.ok_or_else(|| Failure::usage("no shards are given"))
}
