//! Suites over the model zoo, whose trials are found when they run.

use std::{process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::{
    stages::Stages,
    zoo::{Zoo, zoo},
};

/// A property of a model; what is wrong where it does not hold.
pub type Property = fn(&Stages) -> Result<(), String>;

/// Runs the trials over the zoo; without one they are skipped, as a trial that is ignored says.
pub fn run(trials: impl FnOnce(&'static Zoo) -> Vec<Trial>) -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = match zoo() {
        Some(zoo) => trials(zoo),
        None => vec![Trial::test("models", || Ok(())).with_ignored_flag(true)],
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A trial named `model/name`.
pub fn trial(
    model: &Arc<Stages>,
    name: &str,
    holds: impl FnOnce(&Stages) -> Result<(), String> + Send + 'static,
) -> Trial {
    let model = Arc::clone(model);
    Trial::test(format!("{}/{name}", model.name), move || {
        holds(&model).map_err(Failed::from)
    })
}

/// A trial for each model and property.
pub fn of_each(models: &[Arc<Stages>], properties: &[(&str, Property)]) -> Vec<Trial> {
    let each = |model| {
        properties
            .iter()
            .map(move |&(name, holds)| trial(model, name, holds))
    };
    models.iter().flat_map(each).collect()
}
