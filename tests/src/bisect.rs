//! Finds the rewrite that goes wrong, by the limit on rewrites that `--opt-bisect-limit` sets.

use onnxq_ir::Model;
use onnxq_pass::{
    Config, Error, Instrumentation, Level, PassContext, PassManager, Pipeline, Registry,
};

/// A rewrite that makes a good model a bad one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// Its number: with one rewrite less (`--opt-bisect-limit`) the model is still good.
    pub number: u64,
    /// The pass it belongs to.
    pub pass: String,
    /// Its name and place, as the pass manager says it.
    pub message: String,
    /// What is wrong with the model after it.
    pub problem: String,
}

impl std::fmt::Display for Culprit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}: {}", self.pass, self.message, self.problem)
    }
}

/// Runs `pipeline` over a copy of `model` with at most `limit` rewrites.
///
/// # Errors
/// Those of the pass manager.
pub fn run_limited(
    registry: &Registry,
    pipeline: &str,
    model: &Model,
    limit: Option<u64>,
) -> Result<(Model, PassContext), Error> {
    let mut model = model.clone();
    let mut manager = PassManager::new(registry, &Pipeline::parse(pipeline)?, &Config::default())?;
    let mut context = PassContext::new().with_rewrite_limit(limit);
    let mut instruments = Instrumentation {
        verify_each: true,
        ..Instrumentation::default()
    };
    manager.run(&mut model, &mut context, &mut instruments)?;
    Ok((model, context))
}

/// The first rewrite of `pipeline` after which `check` objects to the model; `None` where it does
/// not object in the end, or objects before the first.
pub fn find_culprit(
    registry: &Registry,
    pipeline: &str,
    model: &Model,
    check: impl Fn(&Model) -> Result<(), String>,
) -> Option<Culprit> {
    let problem = |limit: Option<u64>| match run_limited(registry, pipeline, model, limit) {
        Ok((after, context)) => (check(&after).err(), context.rewrites()),
        Err(e) => (Some(e.to_string()), limit.unwrap_or(u64::from(u32::MAX))),
    };
    let (found, rewrites) = problem(None);
    found?;
    // With `good` rewrites the model is good, with `bad` it is not.
    let (mut good, mut bad) = (0, rewrites);
    if problem(Some(0)).0.is_some() {
        return None;
    }
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        match problem(Some(middle)).0 {
            Some(_) => bad = middle,
            None => good = middle,
        }
    }
    let message = run_limited(registry, pipeline, model, Some(bad)).ok();
    let message = message.and_then(|(_, context)| {
        let mut rewrites = context
            .messages()
            .iter()
            .filter(|m| m.level == Level::Rewrite);
        rewrites.next_back().cloned()
    });
    Some(Culprit {
        number: bad,
        pass: message.as_ref().map(|m| m.pass.clone()).unwrap_or_default(),
        message: message.map(|m| m.text).unwrap_or_default(),
        problem: problem(Some(bad)).0.unwrap_or_default(),
    })
}
