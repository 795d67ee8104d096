//! Fuzzing on stable Rust, in the style of `cargo-fuzz`: [targets] that take any bytes, an engine that
//! [mutates](mutate) a [corpus], and a supervisor that ends what takes too much memory or time.
//!
//! The program `fuzz` runs it; `docs/testing.md` says how. Inputs depend on the seed alone, so a
//! round can be repeated.

pub mod corpus;
pub mod mutate;
pub mod supervise;
pub mod targets;

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
    time::{Duration, Instant},
};

use self::{corpus::Corpus, targets::Target};
use crate::random::Random;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so many inputs.
    Rounds(u64),
    /// After this time.
    Time(Duration),
}

/// An input that a target does not survive.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The input.
    pub input: Vec<u8>,
    /// What happened.
    pub problem: String,
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How many inputs were tried.
    pub rounds: u64,
    /// How many of them the target took, so that they went all the way through.
    pub accepted: u64,
    /// Those that it did not survive.
    pub findings: Vec<Finding>,
}

/// More findings than this are seldom more bugs.
const ENOUGH: usize = 20;

thread_local! {
    /// What the last panic said, where panics are caught.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps what panics say that are caught; others are reported as ever.
fn keep_messages() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_caught = CAUGHT.with_borrow_mut(|caught| {
                if let Some(message) = caught {
                    *message = info.to_string();
                }
                caught.is_some()
            });
            if !is_caught {
                usual(info);
            }
        }));
    });
}

/// Runs the target on one input: whether it is taken, or what happened.
///
/// # Errors
/// What a panic said, or what the target found to be wrong.
pub fn run_one(target: &Target, input: &[u8]) -> Result<bool, String> {
    keep_messages();
    CAUGHT.set(Some(String::new()));
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let message = CAUGHT.take().unwrap_or_default();
    outcome.unwrap_or(Err(message))
}

/// Runs the target on mutated inputs. `before` is shown each of them first.
pub fn run(
    target: &Target,
    corpus: &Corpus,
    seed: u64,
    until: Until,
    mut before: impl FnMut(&[u8]),
) -> Outcome {
    let begin = Instant::now();
    let mut outcome = Outcome::default();
    let goes_on = |outcome: &Outcome| match until {
        Until::Rounds(rounds) => outcome.rounds < rounds,
        Until::Time(time) => begin.elapsed() < time,
    };
    while goes_on(&outcome) && outcome.findings.len() < ENOUGH {
        let mut random = Random::new(seed ^ outcome.rounds.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let input = (target.mutate)(&mut random, corpus);
        before(&input);
        match run_one(target, &input) {
            Ok(accepted) => outcome.accepted += u64::from(accepted),
            Err(problem) => {
                // One input for each place.
                let place = problem.lines().next();
                let is_new = |f: &Finding| f.problem.lines().next() != place;
                let is_new = outcome.findings.iter().all(is_new);
                if is_new {
                    outcome.findings.push(Finding { input, problem });
                }
            }
        }
        outcome.rounds += 1;
    }
    outcome
}
