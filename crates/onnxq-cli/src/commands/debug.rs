//! `onnxq-opt debug`: where the accuracy of a quantized model goes.

mod page;
mod programs;
mod rows;

use std::path::PathBuf;

use super::run::parse_batch;
use crate::{
    console::{self, Failure, Verbosity},
    files,
    table::{Table, decibels},
};
use onnxq::{
    data::{Batch, Data},
    debug::{DebugReport, debug},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The float model
    float: PathBuf,
    /// The quantized model that was made from it
    quantized: PathBuf,
    /// Arrays for the inputs: `.npz`, `.npy`, a folder of such, or ONNX test data
    #[arg(long)]
    data: PathBuf,
    /// For programs
    #[arg(long)]
    json: bool,
    /// A page with all figures goes to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Rows of each table; 0 for all
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Rows of axis 0 that make one sample, or `all`
    #[arg(long, value_parser = parse_batch)]
    batch: Option<Batch>,
    /// Worker threads; all cores if not given
    #[arg(long)]
    threads: Option<usize>,
    #[command(flatten)]
    verbosity: Verbosity,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let (float, quantized) = (files::load(&args.float)?, files::load(&args.quantized)?);
    let data = Data::open(&args.data, &float.graph, args.batch.unwrap_or_default())?;
    let bar = args.verbosity.bar(data.len());
    let result = debug(&float, &quantized, &data, args.threads, &|| bar.inc(1));
    bar.finish_and_clear();
    let report = result.map_err(|e| {
        let [float, quantized] = [&args.float, &args.quantized].map(|p| files::name(p));
        Failure::new(format!("{quantized} against {float}: {e}"))
    })?;
    for name in &report.unmatched {
        console::say(format_args!(
            "warning: {}: tensor '{name}' has no twin in the float model",
            files::name(&args.quantized)
        ));
    }
    if let Some(file) = &args.html {
        files::write(file, page::page(args, &report).as_bytes())?;
    }
    if args.json {
        console::out(&format!("{:#}\n", programs::report(args, &report)));
    } else {
        console::out(&text(args, &report));
    }
    Ok(0)
}

/// The layer that does the harm, in one sentence.
fn verdict(report: &DebugReport) -> String {
    let Some(worst) = report.worst() else {
        return "no layer adds any noise".to_owned();
    };
    let figures = &worst.figures;
    let own = decibels(worst.own_db);
    let by = match figures.quantization {
        Some(q) if q.sqnr_db() <= figures.layer.sqnr_db() && !worst.op.is_empty() => {
            " from the codes of its result"
        }
        _ => "",
    };
    let there = decibels(figures.model.sqnr_db());
    let lost = match (worst.drop_db(), worst.inputs_db) {
        (Some(drop), Some(inputs)) if drop.is_finite() => {
            format!(", {drop:.1} dB below its inputs ({inputs:.1} dB)")
        }
        _ => String::new(),
    };
    let layer = match worst.op.as_str() {
        "" => format!("input '{}'", worst.name),
        op => format!("node '{}' ({op})", worst.layer()),
    };
    format!("worst layer: {layer}: {own} by itself{by}; the model has {there} there{lost}")
}

fn text(args: &Args, report: &DebugReport) -> String {
    let shown = |all: usize| match args.top {
        0 => all,
        top => top.min(all),
    };
    let more = |all: usize| match all - shown(all) {
        0 => String::new(),
        more => format!("{more} more: see them with `--top 0`\n"),
    };
    let (activations, weights) = (&report.activations, &report.weights);
    let mut activation_table = Table::new(rows::ACTIVATIONS);
    let mut weight_table = Table::new(rows::WEIGHTS);
    for row in &activations[..shown(activations.len())] {
        activation_table.row(rows::activation(row));
    }
    for row in &weights[..shown(weights.len())] {
        weight_table.row(rows::weight(row));
    }
    let samples = match report.samples {
        1 => "1 sample".to_owned(),
        n => format!("{n} samples"),
    };
    format!(
        "{}\n\nactivations\n{}{}\nweights\n{}{}\n{samples}; {} of {} quantized tensors have a twin \
         in the float model\n",
        verdict(report),
        activation_table,
        more(activations.len()),
        weight_table,
        more(weights.len()),
        report.quantized_tensors - report.unmatched.len(),
        report.quantized_tensors,
    )
}
