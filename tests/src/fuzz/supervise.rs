//! A run in a process of its own, with limits on memory and on the time for one input: a process that
//! is ended by them, or by a signal, leaves its last input as a finding, and another goes on.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use super::{Finding, Until, corpus::Corpus, run, targets::Target};

/// What a process may use.
const MEMORY_KIB: u64 = 6 << 20;
const SECONDS_FOR_ONE: u64 = 30;

/// Where a process leaves what it is at.
const CURRENT: &str = "current";
const REPORT: &str = "report";

/// The work of the process: rounds that leave each input in `folder` before it is tried.
///
/// # Errors
/// The folder cannot be written.
pub fn work(target: &Target, seed: u64, time: Duration, folder: &Path) -> io::Result<()> {
    let corpus = Corpus::new(200);
    let current = folder.join(CURRENT);
    let mut failed = None;
    let outcome = run(target, &corpus, seed, Until::Time(time), |input| {
        failed = fs::write(&current, input).err();
    });
    for finding in &outcome.findings {
        keep(folder, target, finding)?;
    }
    fs::remove_file(&current)?;
    fs::write(
        folder.join(REPORT),
        format!("{} {}", outcome.rounds, outcome.accepted),
    )?;
    failed.map_or(Ok(()), Err)
}

/// Leaves a finding in `folder`: the input, and beside it what happened.
fn keep(folder: &Path, target: &Target, finding: &Finding) -> io::Result<()> {
    // FNV-1a.
    let name = finding
        .input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    let path = folder.join(format!("{}-{name:016x}", target.name));
    fs::write(&path, &finding.input)?;
    fs::write(path.with_extension("why"), &finding.problem)
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How many inputs were tried; those of processes that ended early are not counted.
    pub rounds: u64,
    /// How many were taken.
    pub accepted: u64,
    /// The files of the findings.
    pub findings: Vec<PathBuf>,
}

/// Runs the target for `time` in processes that are this program with the argument `--work`.
///
/// # Errors
/// A process cannot be started, or `folder` not be written.
pub fn supervise(target: &Target, seed: u64, time: Duration, folder: &Path) -> io::Result<Summary> {
    fs::create_dir_all(folder)?;
    let begin = Instant::now();
    let mut summary = Summary::default();
    let mut seed = seed;
    while begin.elapsed() < time {
        let left = (time - begin.elapsed()).as_secs().max(1);
        let _ = fs::remove_file(folder.join(REPORT)); // there may be none
        let problem = wait(start(target, seed, left, folder)?, folder)?;
        if let Ok(report) = fs::read_to_string(folder.join(REPORT)) {
            let mut numbers = report.split(' ').filter_map(|n| n.parse::<u64>().ok());
            summary.rounds += numbers.next().unwrap_or(0);
            summary.accepted += numbers.next().unwrap_or(0);
        } else if let Ok(input) = fs::read(folder.join(CURRENT)) {
            keep(folder, target, &Finding { input, problem })?;
        } else {
            return Err(io::Error::other(format!("it does not begin: {problem}")));
        }
        seed = seed.wrapping_add(1);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "why") {
            summary.findings.push(path.with_extension(""));
        }
    }
    summary.findings.sort();
    Ok(summary)
}

fn start(target: &Target, seed: u64, seconds: u64, folder: &Path) -> io::Result<Child> {
    // The shell sets the limit, which nothing in safe Rust does.
    let limited = format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\"");
    Command::new("sh")
        .args(["-c", &limited])
        .arg(env::current_exe()?)
        .args([target.name, "--work", "--seed", &seed.to_string()])
        .args(["--seconds", &seconds.to_string()])
        .arg("--folder")
        .arg(folder)
        .spawn()
}

/// Waits for the end of the process, and ends it where one input takes too long; says why it ended.
fn wait(mut child: Child, folder: &Path) -> io::Result<String> {
    let current = folder.join(CURRENT);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(format!("the process ended: {status}"));
        }
        let since = fs::metadata(&current).and_then(|m| m.modified());
        let age = since
            .ok()
            .and_then(|at| at.elapsed().ok())
            .unwrap_or_default();
        if age.as_secs() > SECONDS_FOR_ONE {
            child.kill()?;
            child.wait()?;
            return Ok(format!("it takes more than {SECONDS_FOR_ONE} seconds"));
        }
        thread::sleep(Duration::from_millis(200));
    }
}
