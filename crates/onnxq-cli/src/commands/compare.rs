//! `onnxq-opt compare`: two models on the same data.

use std::path::PathBuf;

use onnxq::{
    compare::{Comparison, OutputComparison, compare},
    data::{Batch, Data},
    distance::finite_db,
};
use serde_json::{Value, json};

use super::run::parse_batch;
use crate::{
    console::{self, Failure, Verbosity},
    files,
    table::{Align, Table, decibels},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model whose outputs are expected
    a: PathBuf,
    /// The model to compare with it
    b: PathBuf,
    /// Arrays for the inputs: `.npz`, `.npy`, a folder of such, or ONNX test data
    #[arg(long)]
    data: PathBuf,
    /// The largest absolute difference allowed; over it, the exit status is 3
    #[arg(long, value_name = "X", value_parser = parse_tolerance)]
    abs_tol: Option<f64>,
    /// The largest mean absolute difference allowed; over it, the exit status is 3
    #[arg(long, value_name = "Y", value_parser = parse_tolerance)]
    mean_tol: Option<f64>,
    /// For programs
    #[arg(long)]
    json: bool,
    /// Rows of axis 0 that make one sample, or `all`
    #[arg(long, value_parser = parse_batch)]
    batch: Option<Batch>,
    /// Worker threads; all cores if not given
    #[arg(long)]
    threads: Option<usize>,
    #[command(flatten)]
    verbosity: Verbosity,
}

fn parse_tolerance(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(x) if x >= 0.0 => Ok(x),
        _ => Err("expected a number that is not negative".to_owned()),
    }
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let (a, b) = (files::load(&args.a)?, files::load(&args.b)?);
    let data = Data::open(&args.data, &a.graph, args.batch.unwrap_or_default())?;
    let bar = args.verbosity.bar(data.len());
    let result = compare(&a, &b, &data, args.threads, &|| bar.inc(1));
    bar.finish_and_clear();
    let in_files = |e| {
        let (a, b) = (files::name(&args.a), files::name(&args.b));
        Failure::new(format!("comparing {a} with {b}: {e}"))
    };
    let comparison = result.map_err(in_files)?;
    let excess = comparison.outputs.iter().find_map(|o| excess(args, o));
    if args.json {
        let report = report(args, &comparison, excess.is_none());
        console::out(&format!("{report:#}\n"));
    } else {
        console::out(&table(&comparison));
    }
    match excess {
        None => Ok(0),
        Some(message) => Err(Failure {
            status: 3,
            ..Failure::new(message)
        }),
    }
}

/// What of an output is out of tolerance.
fn excess(args: &Args, output: &OutputComparison) -> Option<String> {
    let figures = [
        ("largest", output.distance.max_abs, args.abs_tol),
        ("mean", output.distance.mean_abs(), args.mean_tol),
    ];
    figures.into_iter().find_map(|(what, found, allowed)| {
        let allowed = allowed.filter(|&allowed| found > allowed)?;
        let name = &output.name;
        Some(format!(
            "output '{name}': the {what} absolute difference is {found:.6e}, over the tolerance of \
             {allowed:e}"
        ))
    })
}

fn table(comparison: &Comparison) -> String {
    let mut table = Table::new([
        ("output", Align::Left),
        ("max abs", Align::Right),
        ("mean abs", Align::Right),
        ("SQNR", Align::Right),
        ("cosine", Align::Right),
        ("top-1", Align::Right),
    ]);
    for output in &comparison.outputs {
        let d = &output.distance;
        let top1 =
            |a: onnxq::compare::Agreement| format!("{:.2} % of {}", 100.0 * a.share(), a.rows);
        table.row([
            output.name.clone(),
            format!("{:.6e}", d.max_abs),
            format!("{:.6e}", d.mean_abs()),
            decibels(d.sqnr_db()),
            format!("{:.6}", d.cosine()),
            output.top1.map_or("-".to_owned(), top1),
        ]);
    }
    let samples = match comparison.samples {
        1 => "1 sample".to_owned(),
        n => format!("{n} samples"),
    };
    format!("{table}\n{samples}\n")
}

fn report(args: &Args, comparison: &Comparison, within: bool) -> Value {
    let output = |o: &OutputComparison| {
        json!({
            "name": o.name,
            "dtype": o.dtype.name(),
            "elements": o.distance.elements,
            "max_abs": o.distance.max_abs,
            "mean_abs": o.distance.mean_abs(),
            "sqnr_db": finite_db(o.distance.sqnr_db()),
            "cosine": o.distance.cosine(),
            "top1": o.top1.map(onnxq::compare::Agreement::share),
        })
    };
    json!({
        "a": files::name(&args.a),
        "b": files::name(&args.b),
        "samples": comparison.samples,
        "within_tolerance": within,
        "outputs": comparison.outputs.iter().map(output).collect::<Vec<_>>(),
    })
}
