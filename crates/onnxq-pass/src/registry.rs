//! [`Registry`]: the passes and pipelines there are, and what a pipeline comes to.

use indexmap::{IndexMap, IndexSet};

use crate::{
    Config, Error, OptionInfo, Options, Pass, Pipeline, Setting, Step, Value,
    options::unknown_option, suggest::nearest,
};

/// The declaration of a pass.
#[derive(Clone, Copy, Debug)]
pub struct PassInfo {
    /// Its name in pipeline text, in kebab-case: verb, then object.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The options it takes.
    pub options: &'static [OptionInfo],
    /// Makes the pass.
    pub build: fn(&mut Options) -> Result<Box<dyn Pass>, Error>,
}

/// A name for pipeline text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PipelineInfo {
    /// Its name in pipeline text.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The passes and pipelines it stands for.
    pub text: &'static str,
}

/// The passes and pipelines that pipeline text can name.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    passes: IndexMap<&'static str, PassInfo>,
    pipelines: IndexMap<&'static str, PipelineInfo>,
}

/// A pass of an expanded pipeline, with the options that reach it.
#[derive(Clone, Debug)]
pub(crate) struct PlannedPass {
    pub(crate) info: PassInfo,
    pub(crate) given: IndexMap<String, Option<Value>>,
    /// The pipelines of which it is the last pass.
    pub(crate) ends: Vec<&'static str>,
}

impl PassInfo {
    /// Checks that the pass takes the options it declares, with the defaults it declares. A test
    /// of each list of passes should call this through [`Registry::check`].
    pub fn check(&self) -> Result<(), Error> {
        let mut opts = Options::new(self.name, self.options, IndexMap::new())?;
        let pass = (self.build)(&mut opts)?;
        if pass.name() != self.name {
            return Err(Error::Declaration {
                name: self.name.into(),
                message: format!("the pass calls itself `{}`", pass.name()),
            });
        }
        opts.check()
    }

    /// Whether the pass declares an option of this name.
    pub fn knows(&self, key: &str) -> bool {
        self.options.iter().any(|o| o.name == key)
    }
}

impl Registry {
    /// A registry of these passes and pipelines.
    pub fn new(passes: &[PassInfo], pipelines: &[PipelineInfo]) -> Registry {
        Registry {
            passes: passes.iter().map(|p| (p.name, *p)).collect(),
            pipelines: pipelines.iter().map(|p| (p.name, *p)).collect(),
        }
    }

    /// The same with another pass, which takes the place of one with the same name.
    #[must_use]
    pub fn with(mut self, pass: PassInfo) -> Registry {
        self.passes.insert(pass.name, pass);
        self
    }

    /// The same with another pipeline, which takes the place of one with the same name.
    #[must_use]
    pub fn with_pipeline(mut self, pipeline: PipelineInfo) -> Registry {
        self.pipelines.insert(pipeline.name, pipeline);
        self
    }

    /// Every pass, in the order given.
    pub fn passes(&self) -> impl Iterator<Item = &PassInfo> {
        self.passes.values()
    }

    /// Every pipeline, in the order given.
    pub fn pipelines(&self) -> impl Iterator<Item = &PipelineInfo> {
        self.pipelines.values()
    }

    /// The names of passes and pipelines.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.pipelines.keys().chain(self.passes.keys()).copied()
    }

    /// The passes that a pass or pipeline of this name comes to.
    pub fn expand(&self, name: &str) -> Result<Vec<&PassInfo>, Error> {
        let plan = self.plan(&Pipeline::of([Step::new(name)]), &Config::default())?;
        Ok(plan.iter().map(|p| &self.passes[p.info.name]).collect())
    }

    /// The options of a pass, or of all passes of a pipeline: each name once, as the first pass
    /// declares it.
    pub fn options(&self, name: &str) -> Result<Vec<OptionInfo>, Error> {
        let mut options = IndexMap::new();
        for pass in self.expand(name)? {
            for option in pass.options {
                options.entry(option.name).or_insert(*option);
            }
        }
        Ok(options.into_values().collect())
    }

    /// Checks the declarations: names, options, and that pipelines can be expanded.
    pub fn check(&self) -> Result<(), Error> {
        for pass in self.passes.values() {
            if self.pipelines.contains_key(pass.name) {
                return Err(Error::Declaration {
                    name: pass.name.into(),
                    message: "a pass and a pipeline have this name".into(),
                });
            }
            pass.check()?;
        }
        for pipeline in self.pipelines.values() {
            let step = Pipeline::of([Step::new(pipeline.name)]);
            self.plan(&step, &Config::default())?;
        }
        Ok(())
    }

    /// The passes of a pipeline with their options: those of the pipeline text, else of the
    /// config file (a pass's table before a pipeline's), else of the text of named pipelines
    /// (the outer before the inner).
    pub(crate) fn plan(
        &self,
        pipeline: &Pipeline,
        config: &Config,
    ) -> Result<Vec<PlannedPass>, Error> {
        let mut expansion = Expansion {
            registry: self,
            config,
            open: IndexSet::new(),
        };
        let mut plan = Vec::new();
        for step in &pipeline.steps {
            plan.extend(expansion.expand(step, Source::User)?);
        }
        Ok(plan.into_iter().map(Layers::merge).collect())
    }

    pub(crate) fn unknown(&self, name: &str) -> Error {
        Error::UnknownPass {
            name: name.into(),
            nearest: nearest(name, self.names()).map(str::to_owned),
        }
    }
}

impl Pipeline {
    /// A pipeline of these steps.
    pub fn of(steps: impl IntoIterator<Item = Step>) -> Pipeline {
        Pipeline {
            steps: steps.into_iter().collect(),
        }
    }
}

impl PlannedPass {
    /// The pass and its options as pipeline text has them.
    pub(crate) fn step(&self) -> Step {
        let setting = |(key, value): (&String, &Option<Value>)| Setting {
            key: key.clone(),
            value: value.clone(),
        };
        Step {
            name: self.info.name.into(),
            settings: self.given.iter().map(setting).collect(),
        }
    }

    /// Builds the pass.
    pub(crate) fn build(&self) -> Result<Box<dyn Pass>, Error> {
        let mut opts = Options::new(self.info.name, self.info.options, self.given.clone())?;
        let pass = (self.info.build)(&mut opts)?;
        opts.finish()?;
        Ok(pass)
    }
}

type Settings = IndexMap<String, Option<Value>>;

/// Who wrote an option, the weakest first.
#[derive(Clone, Copy)]
enum Source {
    Library,
    Config,
    User,
}

/// A pass on its way out of nested pipelines.
struct Layers {
    info: PassInfo,
    /// Settings by [`Source`].
    layers: [Settings; 3],
    ends: Vec<&'static str>,
}

impl Layers {
    fn merge(self) -> PlannedPass {
        let mut given = Settings::new();
        for layer in self.layers {
            given.extend(layer);
        }
        PlannedPass {
            info: self.info,
            given,
            ends: self.ends,
        }
    }
}

struct Expansion<'a> {
    registry: &'a Registry,
    config: &'a Config,
    /// The pipelines being expanded, to find one that contains itself.
    open: IndexSet<&'static str>,
}

impl Expansion<'_> {
    fn expand(&mut self, step: &Step, source: Source) -> Result<Vec<Layers>, Error> {
        let settings = step.settings_by_key()?;
        let config = self.config.tables.get(&step.name);
        if let Some(info) = self.registry.passes.get(&*step.name) {
            let mut layers = [Settings::new(), Settings::new(), Settings::new()];
            layers[Source::Config as usize] = config.cloned().unwrap_or_default();
            layers[source as usize] = settings;
            return Ok(vec![Layers {
                info: *info,
                layers,
                ends: Vec::new(),
            }]);
        }
        let Some(info) = self.registry.pipelines.get(&*step.name) else {
            return Err(self.registry.unknown(&step.name));
        };
        if !self.open.insert(info.name) {
            return Err(Error::Cycle(info.name.into()));
        }
        let mut passes = Vec::new();
        for inner in &Pipeline::parse(info.text)?.steps {
            passes.extend(self.expand(inner, Source::Library)?);
        }
        self.open.pop();
        if let Some(last) = passes.last_mut() {
            last.ends.push(info.name);
        }
        for (key, value) in config.into_iter().flatten() {
            give(&mut passes, &step.name, key, |pass| {
                // A table nearer to the pass has been here before.
                let layer = &mut pass.layers[Source::Config as usize];
                layer.entry(key.clone()).or_insert_with(|| value.clone());
            })?;
        }
        for (key, value) in settings {
            give(&mut passes, &step.name, &key, |pass| {
                pass.layers[source as usize].insert(key.clone(), value.clone());
            })?;
        }
        Ok(passes)
    }
}

/// Hands an option of a pipeline to every pass in it that knows it.
fn give(
    passes: &mut [Layers],
    pipeline: &str,
    key: &str,
    mut set: impl FnMut(&mut Layers),
) -> Result<(), Error> {
    let mut known = false;
    for pass in passes.iter_mut().filter(|p| p.info.knows(key)) {
        set(pass);
        known = true;
    }
    if known {
        return Ok(());
    }
    let names: IndexSet<&str> = passes
        .iter()
        .flat_map(|p| p.info.options.iter().map(|o| o.name))
        .collect();
    Err(unknown_option(pipeline, key, names.iter().copied()))
}
