//! What each step of a program takes, and how near that is to what the machine can do.

use std::{collections::BTreeMap, fmt};

use onnxq::{Memory, Program, RunError, StepInfo, data::Sample, peak_operations};
use serde_json::{Value, json};

use crate::table::{Align, Table};

/// Runs that are measured step by step, at most.
const MAX_RUNS: usize = 200;

pub(super) struct Profile {
    /// Operations in a second that the tier reaches on as many threads as the program has.
    peak: f64,
    isa: &'static str,
    threads: usize,
    steps: Vec<Step>,
}

struct Step {
    info: StepInfo,
    /// Median of the runs.
    ms: f64,
}

/// What is added up for one kind of kernel.
#[derive(Default)]
struct Total {
    steps: usize,
    operations: u64,
    ms: f64,
    by_reference: bool,
}

impl Profile {
    pub(super) fn measure(
        program: &Program,
        memory: &mut Memory,
        sample: &Sample,
        runs: usize,
    ) -> Result<Profile, RunError> {
        let options = program.options();
        let mut times: Vec<Vec<f64>> = Vec::new();
        let peak_before = peak_operations(options.cpu, options.threads);
        for _ in 0..runs.clamp(1, MAX_RUNS) {
            let mut each = Vec::new();
            program.profile(memory, sample, &mut each)?;
            times.resize(each.len(), Vec::new());
            for (all, time) in times.iter_mut().zip(each) {
                all.push(super::ms(time));
            }
        }
        let peak = peak_before.max(peak_operations(options.cpu, options.threads));
        let steps = program.steps().zip(times).map(|(info, mut times)| {
            times.sort_by(f64::total_cmp);
            let ms = times.get(times.len() / 2).copied().unwrap_or_default();
            Step { info, ms }
        });
        Ok(Profile {
            peak,
            isa: options.cpu.isa().name(),
            threads: options.threads,
            steps: steps.collect(),
        })
    }

    /// By kernel, the longest first.
    fn kernels(&self) -> Vec<(&str, Total)> {
        let mut kernels: BTreeMap<&str, Total> = BTreeMap::new();
        for step in &self.steps {
            let total = kernels.entry(&step.info.kernel).or_default();
            total.steps += 1;
            total.operations += step.info.operations;
            total.ms += step.ms;
            total.by_reference |= step.info.by_reference;
        }
        let mut kernels: Vec<_> = kernels.into_iter().collect();
        kernels.sort_by(|(_, a), (_, b)| b.ms.total_cmp(&a.ms));
        kernels
    }

    /// The form for programs.
    pub(super) fn report(&self) -> Value {
        let step = |step: &Step| {
            let info = &step.info;
            json!({
                "name": info.name,
                "kernel": info.kernel,
                "ms": step.ms,
                "gops": giga(info.operations, step.ms),
                "by_reference": info.by_reference,
            })
        };
        json!({
            "peak_gops": self.peak / 1e9,
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
        })
    }

    /// A row for each step. Those without kernel are marked.
    fn step_table(&self) -> Table<7> {
        let [mark, figures @ ..] = HEAD;
        let [ms, share, gops, of_peak] = figures;
        let (step, kernel) = (("step", Align::Left), ("kernel", Align::Left));
        let mut table = Table::new([mark, step, kernel, ms, share, gops, of_peak]);
        for Step { info, ms } in &self.steps {
            let [mark, figures @ ..] = self.cells(info.by_reference, info.operations, *ms);
            let [ms, share, gops, of_peak] = figures;
            let (step, kernel) = (info.name.clone(), info.kernel.clone());
            table.row([mark, step, kernel, ms, share, gops, of_peak]);
        }
        table
    }

    /// A row for each kind of kernel.
    fn kernel_table(&self) -> Table<7> {
        let [mark, figures @ ..] = HEAD;
        let [ms, share, gops, of_peak] = figures;
        let (kernel, steps) = (("kernel", Align::Left), ("steps", Align::Right));
        let mut table = Table::new([mark, kernel, steps, ms, share, gops, of_peak]);
        for (kernel, total) in self.kernels() {
            let [mark, figures @ ..] = self.cells(total.by_reference, total.operations, total.ms);
            let [ms, share, gops, of_peak] = figures;
            let (kernel, steps) = (kernel.to_owned(), total.steps.to_string());
            table.row([mark, kernel, steps, ms, share, gops, of_peak]);
        }
        table
    }

    /// What stands under [`HEAD`].
    fn cells(&self, by_reference: bool, operations: u64, ms: f64) -> [String; 5] {
        let share = |part: f64| format!("{:.1} %", 100.0 * part);
        let total: f64 = self.steps.iter().map(|step| step.ms).sum();
        let gops = giga(operations, ms);
        let none = || "-".to_owned();
        [
            String::from(if by_reference { "!" } else { "" }),
            format!("{ms:.4}"),
            share(if total > 0.0 { ms / total } else { 0.0 }),
            gops.map_or_else(none, |gops| format!("{gops:.0}")),
            gops.map_or_else(none, |gops| share(gops * 1e9 / self.peak)),
        ]
    }
}

const HEAD: [(&str, Align); 5] = [
    ("", Align::Left),
    ("ms", Align::Right),
    ("share", Align::Right),
    ("GOP/s", Align::Right),
    ("of peak", Align::Right),
];

/// 10^9 operations in a second; `None` for what is no product.
fn giga(operations: u64, ms: f64) -> Option<f64> {
    (operations > 0 && ms > 0.0).then(|| operations as f64 / ms / 1e6)
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = match self.threads {
            1 => "1 thread".to_owned(),
            n => format!("{n} threads"),
        };
        writeln!(f, "{} steps\n\n{}", self.steps.len(), self.step_table())?;
        writeln!(f, "{}", self.kernel_table())?;
        let count = self.steps.iter().filter(|s| s.info.by_reference).count();
        match count {
            0 => writeln!(f, "no step is evaluated by the reference")?,
            1 => writeln!(f, "1 step, marked with !, is evaluated by the reference")?,
            _ => writeln!(
                f,
                "{count} steps, marked with !, are evaluated by the reference"
            )?,
        }
        writeln!(
            f,
            "the peak of {} on {threads} is {:.0} GOP/s, measured just now (8-bit integers in the \
             caches of a core, 32 rows by 256 columns, 1024 deep)",
            self.isa,
            self.peak / 1e9,
        )
    }
}
