//! The default command: runs passes over a model.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    rc::Rc,
};

use onnxq::{
    Calibrator, Model, RangeSource, SaveOptions,
    data::{Batch, Data},
    pass::{Config, Instrumentation, PassContext, PassManager, Pipeline, PrintAfter, Reproducer},
};
use serde_json::json;

use super::run::parse_batch;
use crate::{
    console::{self, Failure, Verbosity, show_progress, size},
    files::{self, Emit},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model, or `-`
    model: Option<PathBuf>,
    /// The passes to run, e.g. `preprocess,quantize{per-channel},fuse`
    #[arg(long, value_name = "PIPELINE")]
    passes: Option<String>,
    /// The output model, or `-`
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Options for passes: a TOML table each
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Data to calibrate on, which makes `quantize` static: `.npz`, `.npy`, a folder of such, or
    /// ONNX test data; repeatable
    #[arg(long, value_name = "PATH")]
    calibration_data: Vec<PathBuf>,
    /// Rows of axis 0 of the calibration data that make one sample, or `all`
    #[arg(long, value_parser = parse_batch, requires = "calibration_data")]
    batch: Option<Batch>,
    /// Calibrated ranges, instead of data: from `onnxq-opt calibrate`, or the calibration cache
    /// of the ONNX Runtime tool
    #[arg(long, value_name = "FILE.json", conflicts_with = "calibration_data")]
    ranges: Option<PathBuf>,
    /// Verify the model after every pass
    #[arg(long)]
    verify_each: bool,
    /// Print the model after this pass, as text on standard error
    #[arg(long, value_name = "PASS")]
    print_ir_after: Vec<String>,
    /// Print the model after every pass
    #[arg(long, conflicts_with = "print_ir_after")]
    print_ir_after_all: bool,
    /// Print what every pass changed, as a diff
    #[arg(long, conflicts_with_all = ["print_ir_after", "print_ir_after_all"])]
    print_ir_after_change: bool,
    /// Print how long each pass took
    #[arg(long)]
    time_passes: bool,
    /// Stop rewriting after the N-th rewrite, and name each on standard error
    #[arg(long, value_name = "N")]
    opt_bisect_limit: Option<u64>,
    /// Where a failing pass leaves the model as it entered, and the command to repeat it
    #[arg(long, value_name = "DIR")]
    crash_reproducer: Option<PathBuf>,
    /// Where to write the text of the model after every pass
    #[arg(long, value_name = "DIR")]
    dump_dir: Option<PathBuf>,
    /// Write `.onnx` files to the dump directory as well
    #[arg(long, requires = "dump_dir")]
    dump_onnx: bool,
    /// What the output holds; its ending says so if this is not given
    #[arg(long, value_enum)]
    emit: Option<Emit>,
    /// Write weights to `<OUT>.data`
    #[arg(long)]
    external_data: bool,
    /// Worker threads; all cores if not given
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print what the passes did as JSON on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    verbosity: Verbosity,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let Some(path) = &args.model else {
        return Err(Failure::usage("no model is given").with_help("see `onnxq-opt --help`"));
    };
    if args.json && args.output.as_deref() == Some(Path::new("-")) {
        return Err(Failure::usage(
            "`--json` and `-o -` both write to standard output",
        ));
    }
    let registry = onnxq::registry();
    let config = match &args.config {
        Some(file) => read_config(file, &registry)?,
        None => Config::default(),
    };
    let pipeline = match (&args.passes, &config.passes) {
        (Some(text), _) => Pipeline::parse(text)?,
        (None, Some(pipeline)) => pipeline.clone(),
        (None, None) => {
            let help = "for example `--passes preprocess,quantize,fuse`";
            return Err(Failure::usage("no passes are given").with_help(help));
        }
    };
    let mut manager = PassManager::new(&registry, &pipeline, &config)?;
    let mut model = files::load(path)?;
    let before = files::size_on_disk(path, &model);
    let ranges = range_source(args, &model)?;
    let reports = run_passes(args, &mut manager, &mut model, ranges)?;
    let mut after = None;
    if let Some(output) = &args.output {
        let emit = args.emit.unwrap_or_else(|| Emit::of(output));
        let options = SaveOptions {
            external_data: args.external_data,
        };
        let bytes = files::save(&model, output, emit, &options)?;
        if emit == Emit::Onnx {
            after = Some(bytes);
            let share = 100.0 * bytes as f64 / before.max(1) as f64;
            args.verbosity.note(format_args!(
                "{} {} -> {} {} ({share:.0} %)",
                files::name(path),
                size(before),
                output.display(),
                size(bytes)
            ));
        }
    }
    if args.json {
        let report = json!({
            "model": files::name(path),
            "bytes_before": before,
            "bytes_after": after,
            "reports": reports,
        });
        console::out(&format!("{report:#}\n"));
    }
    Ok(0)
}

fn read_config(file: &Path, registry: &onnxq::pass::Registry) -> Result<Config, Failure> {
    let at = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
    let text = std::fs::read_to_string(file).map_err(|e| Failure::usage(at(&e)))?;
    Config::parse(&text, registry).map_err(|e| {
        let message = at(&e);
        Failure {
            message,
            ..Failure::from(e)
        }
    })
}

/// Where static quantization has its ranges from, if it is to be static.
fn range_source(args: &Args, model: &Model) -> Result<Option<RangeSource>, Failure> {
    if let Some(file) = &args.ranges {
        return Ok(Some(RangeSource::Table(files::read_ranges(file)?.ranges)));
    }
    if args.calibration_data.is_empty() {
        return Ok(None);
    }
    let batch = args.batch.unwrap_or_default();
    // What is wrong with the data is better known before the passes have run.
    Data::open_all(&args.calibration_data, &model.graph, batch)?;
    let calibrator = Calibrator::files(&args.calibration_data, batch).threads(threads(args));
    Ok(Some(RangeSource::Data(Box::new(calibrator))))
}

/// The number of worker threads.
fn threads(args: &Args) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    args.threads.unwrap_or_else(cores).max(1)
}

/// Runs the passes with all that is asked for around them; gives what they report.
fn run_passes(
    args: &Args,
    manager: &mut PassManager,
    model: &mut Model,
    ranges: Option<RangeSource>,
) -> Result<Vec<serde_json::Value>, Failure> {
    let verbosity = args.verbosity;
    let bar = Rc::new(RefCell::new(verbosity.bar(1)));
    let (shown, moved) = (bar.clone(), bar.clone());
    let mut cx = PassContext::new()
        .with_threads(threads(args))
        .with_verbose(verbosity.verbose)
        .with_rewrite_limit(args.opt_bisect_limit)
        .on_message(move |m| shown.borrow().suspend(|| verbosity.show(m)))
        .on_progress(move |p| show_progress(&moved.borrow(), p));
    if let Some(ranges) = ranges {
        cx.provide(ranges);
    }
    let save = |model: &Model, path: &Path| {
        onnxq::save(model, path, &SaveOptions::default())
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    let mut stderr = std::io::stderr();
    let mut instruments = Instrumentation {
        verify_each: args.verify_each,
        print_after: if args.print_ir_after_all {
            PrintAfter::All
        } else if args.print_ir_after_change {
            PrintAfter::Change
        } else if args.print_ir_after.is_empty() {
            PrintAfter::Nothing
        } else {
            PrintAfter::Passes(args.print_ir_after.clone())
        },
        out: Some(&mut stderr),
        dump_dir: args.dump_dir.clone(),
        dump_onnx: args.dump_onnx,
        crash_reproducer: args.crash_reproducer.clone().map(|dir| Reproducer {
            dir,
            args: Vec::new(),
        }),
        save: Some(&save),
    };
    let result = manager.run(model, &mut cx, &mut instruments);
    bar.borrow().finish_and_clear();
    let summary = result?;
    if args.time_passes {
        console::say(&summary);
    }
    let report = |r: &onnxq::pass::Report| json!({"pass": r.pass, "key": r.key, "value": r.value});
    Ok(cx.reports().iter().map(report).collect())
}
