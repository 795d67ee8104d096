//! What a model runs on: `--threads` and `--isa`, alike for every command that runs models fast.

use onnxq::{Cpu, Isa};

use crate::console::Failure;

/// More threads than any machine has cores.
const MAX_THREADS: usize = 1024;

#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Target {
    /// Worker threads; all cores if not given
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    threads: Option<usize>,
    /// The instructions to use: `auto` for the best that this machine has, `portable`, `avx2`,
    /// `avxvnni`, `avx512vnni`, `amx`, `neon`, `dotprod` or `i8mm`
    #[arg(long, value_name = "ISA", value_parser = parse_isa, default_value = "auto")]
    isa: Choice,
}

/// A tier, or the best one.
#[derive(Clone, Copy)]
struct Choice(Option<Isa>);

fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=MAX_THREADS) => Ok(threads),
        _ => Err(format!("expected a number from 1 to {MAX_THREADS}")),
    }
}

fn parse_isa(text: &str) -> Result<Choice, String> {
    match text {
        "auto" => Ok(Choice(None)),
        _ => text.parse().map(|isa| Choice(Some(isa))).map_err(|_| {
            let names: Vec<&str> = Isa::ALL.iter().map(|isa| isa.name()).collect();
            format!("expected `auto`, or one of {}", names.join(", "))
        }),
    }
}

impl Target {
    /// The number of worker threads.
    pub(crate) fn threads(self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(cores)
    }

    /// The tier.
    ///
    /// # Errors
    /// This machine does not have it.
    pub(crate) fn cpu(self) -> Result<Cpu, Failure> {
        let Some(isa) = self.isa.0 else {
            return Ok(Cpu::detect());
        };
        Cpu::with(isa).ok_or_else(|| {
            let names: Vec<&str> = Cpu::available().map(|cpu| cpu.isa().name()).collect();
            Failure::usage(format!("this machine does not have {isa}"))
                .with_help(format!("it has {}", names.join(", ")))
        })
    }
}
