//! Fuzzes a target: `fuzz <target> [--seconds N] [--seed N] [--folder DIR]`, or runs it on one input:
//! `fuzz <target> --input FILE`. See `docs/testing.md`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use onnxq_tests::{
    fuzz::{
        run_one,
        supervise::{supervise, work},
        targets::{TARGETS, Target},
    },
    notice, target_dir,
};

struct Arguments {
    target: &'static Target,
    seconds: u64,
    seed: u64,
    folder: PathBuf,
    input: Option<PathBuf>,
    works: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut words = env::args().skip(1);
    let names = || {
        TARGETS
            .iter()
            .map(|t| t.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let name = words
        .next()
        .ok_or_else(|| format!("which target? {}", names()))?;
    let target = TARGETS.iter().find(|t| t.name == name);
    let target = target.ok_or_else(|| format!("no target '{name}': there are {}", names()))?;
    let mut arguments = Arguments {
        target,
        seconds: 60,
        seed: 1,
        folder: target_dir().join("fuzz").join(target.name),
        input: None,
        works: false,
    };
    while let Some(key) = words.next() {
        if key == "--work" {
            arguments.works = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{key} needs a value"))?;
        let number = || {
            value
                .parse()
                .map_err(|_| format!("{key}: '{value}' is no number"))
        };
        match key.as_str() {
            "--seconds" => arguments.seconds = number()?,
            "--seed" => arguments.seed = number()?,
            "--folder" => arguments.folder = value.into(),
            "--input" => arguments.input = Some(value.into()),
            _ => return Err(format!("there is no option {key}")),
        }
    }
    Ok(arguments)
}

fn try_input(target: &Target, path: &Path) -> Result<bool, String> {
    let input = fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let taken = run_one(target, &input)?;
    notice(if taken { "taken" } else { "turned down" });
    Ok(true)
}

fn run() -> Result<bool, String> {
    let a = arguments()?;
    let time = Duration::from_secs(a.seconds);
    if let Some(input) = &a.input {
        return try_input(a.target, input);
    }
    if a.works {
        let done = work(a.target, a.seed, time, &a.folder);
        return done.map(|()| true).map_err(|e| e.to_string());
    }
    let summary = supervise(a.target, a.seed, time, &a.folder).map_err(|e| e.to_string())?;
    notice(&format!(
        "{}: {} inputs, {} taken, {} findings",
        a.target.name,
        summary.rounds,
        summary.accepted,
        summary.findings.len()
    ));
    for path in &summary.findings {
        let why = fs::read_to_string(path.with_extension("why")).unwrap_or_default();
        notice(&format!(
            "  {}: {}",
            path.display(),
            why.lines().last().unwrap_or_default()
        ));
    }
    Ok(summary.findings.is_empty())
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(message) => {
            notice(&format!("error: {message}"));
            ExitCode::FAILURE
        }
    }
}
