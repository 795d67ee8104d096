//! [`PassManager`]: runs the passes of a pipeline, with everything around them.
//!
//! After each pass the manager sweeps what it left without use, verifies the model where that is
//! asked for (in debug builds always), and prints or writes it. A pass that panics is an error
//! like any other.

use std::{
    any::Any,
    fs,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::Instant,
};

use onnxq_ir::{Model, text};

use crate::{
    Config, Error, Pass, PassContext, PassSummary, Pipeline, Registry, Reproducer, Step, Summary,
    summary::count_ops, unified_diff,
};

/// Writes a model to a file, in the format of the caller's choice.
pub type SaveModel<'a> = dyn Fn(&Model, &Path) -> Result<(), String> + 'a;

/// A pipeline, ready to run.
pub struct PassManager {
    stages: Vec<Stage>,
    /// For a misspelt name in [`PrintAfter::Passes`].
    registry: Registry,
}

struct Stage {
    step: Step,
    /// The pipelines of which it is the last pass.
    ends: Vec<&'static str>,
    pass: Box<dyn Pass>,
}

/// What is done around the passes.
#[derive(Default)]
pub struct Instrumentation<'a> {
    /// Verify the model before the first and after every pass; debug builds always do.
    pub verify_each: bool,
    /// When to print the text of the model to `out`.
    pub print_after: PrintAfter,
    /// Where to print.
    pub out: Option<&'a mut dyn Write>,
    /// Where to write the text of the model after every pass, as `NN-pass.txt`.
    pub dump_dir: Option<PathBuf>,
    /// Whether to write `NN-pass.onnx` there as well, by `save`.
    pub dump_onnx: bool,
    /// What to leave behind when a pass fails, by `save`.
    pub crash_reproducer: Option<Reproducer>,
    /// Writes models.
    pub save: Option<&'a SaveModel<'a>>,
}

/// When to print the model.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum PrintAfter {
    /// Never.
    #[default]
    Nothing,
    /// After each of these passes, and after the last pass of each of these pipelines.
    Passes(Vec<String>),
    /// After every pass.
    All,
    /// After every pass, as the diff to what was before it.
    Change,
}

impl PassManager {
    /// The manager of a pipeline, whose passes get their options from the pipeline and from
    /// `config`.
    pub fn new(
        registry: &Registry,
        pipeline: &Pipeline,
        config: &Config,
    ) -> Result<PassManager, Error> {
        let stages = registry.plan(pipeline, config)?.into_iter().map(|planned| {
            Ok(Stage {
                step: planned.step(),
                pass: planned.build()?,
                ends: planned.ends,
            })
        });
        Ok(PassManager {
            stages: stages.collect::<Result<_, Error>>()?,
            registry: registry.clone(),
        })
    }

    /// What runs: every pass, with the options that reach it.
    pub fn pipeline(&self) -> Pipeline {
        Pipeline::of(self.stages.iter().map(|stage| stage.step.clone()))
    }

    /// Runs the passes. After an error the model is in no particular state.
    pub fn run(
        &mut self,
        model: &mut Model,
        cx: &mut PassContext,
        instruments: &mut Instrumentation<'_>,
    ) -> Result<Summary, Error> {
        self.check_print_after(&instruments.print_after, cx)?;
        instruments.begin(model)?;
        let mut summary = Summary::default();
        let count = self.stages.len();
        // Dead nodes would count as users of what they use.
        if count > 0 {
            model.sweep();
        }
        let mut before = match instruments.print_after {
            PrintAfter::Change => print(model),
            _ => String::new(),
        };
        let mut nodes = count_ops(model);
        for (index, stage) in self.stages.iter_mut().enumerate() {
            cx.enter_pass(&stage.step.name, index, count);
            let entered = instruments
                .crash_reproducer
                .is_some()
                .then(|| model.clone());
            let start = Instant::now();
            let result = stage.run(model, cx);
            let time = start.elapsed();
            let result = result.and_then(|()| instruments.verify(model, stage));
            let file_stem = stage.file_stem(index);
            if let Err(error) = result {
                let reproducer =
                    entered.and_then(|model| instruments.reproduce(&model, stage, &file_stem, cx));
                cx.leave_pass();
                return Err(with_reproducer(error, reproducer));
            }
            cx.analyses.retain(model);
            cx.leave_pass();
            let nodes_before = std::mem::replace(&mut nodes, count_ops(model));
            summary.passes.push(PassSummary {
                name: stage.step.name.clone(),
                time,
                nodes_before,
                nodes_after: nodes,
            });
            instruments.print(model, stage, &mut before)?;
            instruments.dump(model, &file_stem)?;
        }
        Ok(summary)
    }

    fn check_print_after(&self, wanted: &PrintAfter, cx: &mut PassContext) -> Result<(), Error> {
        let PrintAfter::Passes(names) = wanted else {
            return Ok(());
        };
        for name in names {
            if self.registry.names().all(|known| known != name) {
                return Err(self.registry.unknown(name));
            }
            if !self.stages.iter().any(|stage| stage.is_named(name)) {
                cx.warning(format_args!("`{name}` is not in the pipeline"));
            }
        }
        Ok(())
    }
}

impl Stage {
    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), Error> {
        let pass = &mut self.pass;
        // The model is not looked at again if the pass panics.
        let result = catch_unwind(AssertUnwindSafe(|| {
            pass.run(model, cx)?;
            model.sweep();
            Ok(())
        }));
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(Error::Pass {
                pass: self.step.name.clone(),
                source,
                reproducer: None,
            }),
            Err(panic) => Err(self.internal(panic_message(&*panic))),
        }
    }

    fn internal(&self, message: String) -> Error {
        Error::Internal {
            pass: self.step.name.clone(),
            message,
            reproducer: None,
        }
    }

    fn is_named(&self, name: &str) -> bool {
        self.step.name == name || self.ends.contains(&name)
    }

    fn file_stem(&self, index: usize) -> String {
        let safe = |c: char| match c {
            c if c.is_alphanumeric() || matches!(c, '-' | '_') => c,
            _ => '_',
        };
        let name: String = self.step.name.chars().map(safe).collect();
        format!("{:02}-{name}", index + 1)
    }
}

impl Instrumentation<'_> {
    fn verifies(&self) -> bool {
        self.verify_each || cfg!(debug_assertions)
    }

    fn begin(&self, model: &Model) -> Result<(), Error> {
        if let Some(dir) = &self.dump_dir {
            fs::create_dir_all(dir).map_err(|e| output(dir, e))?;
        }
        if self.verifies()
            && let Some(message) = violations(model)
        {
            return Err(Error::Input(message));
        }
        Ok(())
    }

    fn verify(&self, model: &Model, stage: &Stage) -> Result<(), Error> {
        if self.verifies()
            && let Some(message) = violations(model)
        {
            return Err(stage.internal(format!("it leaves the model invalid: {message}")));
        }
        Ok(())
    }

    fn print(&mut self, model: &Model, stage: &Stage, before: &mut String) -> Result<(), Error> {
        let name = &stage.step.name;
        let text = match &self.print_after {
            PrintAfter::Nothing => return Ok(()),
            PrintAfter::Passes(names) if !names.iter().any(|n| stage.is_named(n)) => return Ok(()),
            PrintAfter::Passes(_) | PrintAfter::All => {
                format!("# after {name}\n{}", print(model))
            }
            PrintAfter::Change => {
                let after = print(model);
                let diff = unified_diff(
                    before,
                    &after,
                    &format!("before {name}"),
                    &format!("after {name}"),
                );
                *before = after;
                if diff.is_empty() {
                    format!("# no change by {name}\n")
                } else {
                    diff
                }
            }
        };
        match &mut self.out {
            Some(out) => out
                .write_all(text.as_bytes())
                .map_err(|e| output(Path::new("text IR"), e)),
            None => Ok(()),
        }
    }

    fn dump(&self, model: &Model, file_stem: &str) -> Result<(), Error> {
        let Some(dir) = &self.dump_dir else {
            return Ok(());
        };
        let path = dir.join(format!("{file_stem}.txt"));
        fs::write(&path, print(model)).map_err(|e| output(&path, e))?;
        if self.dump_onnx
            && let Some(save) = self.save
        {
            let path = dir.join(format!("{file_stem}.onnx"));
            save(model, &path).map_err(|e| output(&path, e))?;
        }
        Ok(())
    }

    /// Leaves the model as it entered a pass; returns the directory, unless that fails.
    fn reproduce(
        &self,
        model: &Model,
        stage: &Stage,
        file_stem: &str,
        cx: &mut PassContext,
    ) -> Option<PathBuf> {
        let reproducer = self.crash_reproducer.as_ref()?;
        match reproducer.write(model, &stage.step, file_stem, self.save?) {
            Ok(()) => Some(reproducer.dir.clone()),
            Err(message) => {
                cx.warning(format_args!("no crash reproducer was written: {message}"));
                None
            }
        }
    }
}

fn with_reproducer(mut error: Error, dir: Option<PathBuf>) -> Error {
    if let Error::Pass { reproducer, .. } | Error::Internal { reproducer, .. } = &mut error {
        *reproducer = dir;
    }
    error
}

fn output(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Output {
        path: path.to_owned(),
        message: error.to_string(),
    }
}

fn print(model: &Model) -> String {
    text::print(&model.to_def())
}

/// What the verifier finds, in one line.
fn violations(model: &Model) -> Option<String> {
    let found = model.verify();
    let first = found.first()?;
    Some(match found.len() {
        1 => first.to_string(),
        n => format!("{first} (and {} more)", n - 1),
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it panicked");
    // A message is one line.
    text.lines().collect::<Vec<_>>().join(" ")
}

impl std::fmt::Debug for PassManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PassManager")
            .field("pipeline", &self.pipeline().to_string())
            .finish()
    }
}
