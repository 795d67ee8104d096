//! `onnxq-opt bench`: how long models take.
//!
//! Models take turns, so that a machine that is now faster and now slower does not bend the ratios.

pub(super) mod inputs;
mod profile;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use onnxq::{
    Memory, Model, Plan, Program, RunError, Runner, Workspace, data::Sample, tensor::Tensor,
};
use serde_json::{Value, json};

use self::{inputs::Shape, profile::Profile};
use super::run::note_plan;
use crate::{
    console::{self, Failure, Verbosity},
    files,
    table::{Align, Table},
    target::Target,
};

/// Turns that each model has.
const TURNS: usize = 5;

/// For how long a model is run where nobody says how often, and how often then.
const TIME: Duration = Duration::from_secs(2);
const RUNS: [usize; 2] = [10, 1000];

/// Runs before any is counted, after the first.
const WARM_UP: usize = 2;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The models
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// The dimensions of an input, as in `images=1x3x224x224`; repeatable
    ///
    /// A dimension that neither this nor the model says is 1, or 128 where it is named like the
    /// length of a sequence.
    #[arg(long, value_name = "NAME=DIMS", value_parser = inputs::parse_shape)]
    shape: Vec<Shape>,
    #[command(flatten)]
    target: Target,
    /// How often each model is run; about two seconds' worth if not given
    #[arg(long, value_name = "N", value_parser = parse_runs)]
    runs: Option<usize>,
    /// Show what each step of a model takes
    #[arg(long)]
    profile: bool,
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    verbosity: Verbosity,
}

fn parse_runs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(runs @ 1..=10_000_000) => Ok(runs),
        _ => Err("expected a number from 1 to 10000000".to_owned()),
    }
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    args.target.cpu()?;
    let load = |path: &PathBuf| {
        let start = Instant::now();
        Ok((files::load(path)?, start.elapsed()))
    };
    let models = args.models.iter().map(load);
    let models: Vec<(Model, Duration)> = models.collect::<Result<_, Failure>>()?;
    check_names(args, &models)?;
    let paths = args.models.iter().zip(&models);
    let subjects = paths.map(|(path, (model, load))| Subject::new(args, path, model, *load));
    let mut subjects: Vec<Subject<'_>> = subjects.collect::<Result<_, _>>()?;
    let bar = args.verbosity.bar(TURNS * subjects.len());
    for turn in 0..TURNS {
        for subject in &mut subjects {
            bar.set_message(subject.name.clone());
            subject.take_turn(turn)?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let mut profiles = Vec::new();
    for subject in &mut subjects {
        profiles.push(match args.profile {
            true => subject.profile()?,
            false => None,
        });
    }
    match args.json {
        true => {
            let models = subjects.iter().zip(&profiles);
            let models: Vec<Value> = models.map(|(s, p)| s.report(p.as_ref())).collect();
            console::out(&format!("{:#}\n", json!({ "models": models })));
        }
        false => {
            for (subject, profile) in subjects.iter().zip(&profiles) {
                if let Some(profile) = profile {
                    console::out(&format!("{}: {profile}\n", subject.name));
                }
            }
            console::out(&table(&subjects).to_string());
        }
    }
    Ok(0)
}

/// Whether there is an input for each shape.
fn check_names(args: &Args, models: &[(Model, Duration)]) -> Result<(), Failure> {
    let names = || models.iter().flat_map(|(model, _)| inputs::names(model));
    for (given, _) in &args.shape {
        if !names().any(|name| name == given) {
            let known: Vec<&str> = names().collect();
            return Err(
                Failure::usage(format!("there is no input '{given}' to give a shape to"))
                    .with_help(format!("the inputs are {}", known.join(", "))),
            );
        }
    }
    Ok(())
}

/// A model that is measured.
struct Subject<'m> {
    name: String,
    engine: Engine<'m>,
    sample: Sample,
    isa: &'static str,
    threads: usize,
    runs: usize,
    /// From the start of loading to the first result.
    first: Duration,
    /// Of each run that counts.
    times: Vec<Duration>,
}

/// What runs a model.
enum Engine<'m> {
    Program(Arc<Program>, Memory),
    Plan(Plan<'m>, Workspace),
}

impl Engine<'_> {
    fn run(&mut self, sample: &Sample) -> Result<Vec<Tensor>, RunError> {
        match self {
            Engine::Program(program, memory) => program.run(memory, sample),
            Engine::Plan(plan, workspace) => plan.run(workspace, sample, &mut |_, _, _| {}),
        }
    }
}

impl<'m> Subject<'m> {
    fn new(
        args: &Args,
        path: &Path,
        model: &'m Model,
        load: Duration,
    ) -> Result<Subject<'m>, Failure> {
        let name = files::name(path);
        let failed = |e: Failure| Failure {
            message: format!("{name}: {}", e.message),
            ..e
        };
        let (sample, made_up) = inputs::sample(model, &args.shape).map_err(failed)?;
        if !made_up.is_empty() {
            let values = made_up.join(", ");
            let note = format_args!("{name}: {values}, unless `--shape` says otherwise");
            args.verbosity.note(note);
        }
        let (cpu, threads) = (args.target.cpu()?, args.target.threads());
        let start = Instant::now();
        let (engine, sample, threads) = match Runner::new(model, cpu, threads).program(&sample) {
            Ok((program, sample)) => {
                let engine = Engine::Program(program, Memory::new());
                (engine, sample, threads)
            }
            Err(why) => {
                note_plan(args.verbosity, &name, &why);
                if args.profile {
                    let note = format_args!("{name}: there is no profile of what has no kernels");
                    args.verbosity.note(note);
                }
                let plan = Plan::new(model).map_err(|e| failed(Failure::new(e.to_string())))?;
                (Engine::Plan(plan, Workspace::new()), sample, 1)
            }
        };
        let mut subject = Subject {
            name,
            engine,
            sample,
            isa: cpu.isa().name(),
            threads,
            runs: 0,
            first: Duration::ZERO,
            times: Vec::new(),
        };
        subject.time().map_err(|e| match made_up.is_empty() {
            true => e,
            false => e.with_help("say which dimensions the model takes with `--shape`"),
        })?;
        subject.first = load + start.elapsed();
        let mut fastest = Duration::MAX;
        for _ in 0..WARM_UP {
            fastest = fastest.min(subject.time()?);
        }
        let fitting = TIME.as_nanos() / fastest.as_nanos().max(1);
        let fitting = usize::try_from(fitting).unwrap_or(usize::MAX);
        subject.runs = args.runs.unwrap_or(fitting.clamp(RUNS[0], RUNS[1]));
        Ok(subject)
    }

    /// Runs the model once.
    fn time(&mut self) -> Result<Duration, Failure> {
        let start = Instant::now();
        let result = self.engine.run(&self.sample);
        let time = start.elapsed();
        result.map_err(|e| {
            let message = format!("{}: {e}", self.name);
            match e {
                // What does not fit is what the arguments say.
                RunError::Input { .. } => Failure::usage(message),
                _ => Failure::new(message),
            }
        })?;
        Ok(time)
    }

    /// Runs the model as often as one of its turns has it, once more beforehand: what ran before
    /// has taken the caches.
    fn take_turn(&mut self, turn: usize) -> Result<(), Failure> {
        let runs = self.runs * (turn + 1) / TURNS - self.runs * turn / TURNS;
        if runs > 0 {
            self.time()?;
        }
        for _ in 0..runs {
            let time = self.time()?;
            self.times.push(time);
        }
        Ok(())
    }

    fn profile(&mut self) -> Result<Option<Profile>, Failure> {
        match &mut self.engine {
            Engine::Program(program, memory) => {
                let profile = Profile::measure(program, memory, &self.sample, self.runs);
                let profile = profile.map_err(|e| Failure::new(format!("{}: {e}", self.name)))?;
                Ok(Some(profile))
            }
            Engine::Plan(..) => Ok(None),
        }
    }

    /// The time that `part` of the runs do not exceed.
    fn quantile(&self, part: f64) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let rank = (part * times.len() as f64).ceil() as usize;
        times.get(rank.max(1) - 1).map_or(0.0, |&t| ms(t))
    }

    fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    fn report(&self, profile: Option<&Profile>) -> Value {
        let mut report = json!({
            "model": self.name,
            "threads": self.threads,
            "isa": self.isa,
            "runs": self.times.len(),
            "median_ms": self.median(),
            "p90_ms": self.quantile(0.9),
            "min_ms": self.quantile(0.0),
            "first_run_ms": ms(self.first),
        });
        if let Some(profile) = profile {
            report["profile"] = profile.report();
        }
        report
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The median stands last among the times: programs that look for one figure take that.
fn table(subjects: &[Subject<'_>]) -> Table<9> {
    let mut table = Table::new([
        ("model", Align::Left),
        ("threads", Align::Right),
        ("isa", Align::Left),
        ("runs", Align::Right),
        ("first run", Align::Right),
        ("min", Align::Right),
        ("p90", Align::Right),
        ("median", Align::Right),
        ("ratio", Align::Right),
    ]);
    let first = subjects.first().map_or(0.0, Subject::median);
    let ms = |time: f64| format!("{time:.3} ms");
    for subject in subjects {
        table.row([
            subject.name.clone(),
            subject.threads.to_string(),
            subject.isa.to_owned(),
            subject.times.len().to_string(),
            ms(subject.first.as_secs_f64() * 1e3),
            ms(subject.quantile(0.0)),
            ms(subject.quantile(0.9)),
            ms(subject.median()),
            format!("{:.3}", subject.median() / first),
        ]);
    }
    table
}
