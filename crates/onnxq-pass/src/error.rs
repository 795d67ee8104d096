//! [`Error`]: what can go wrong between a pipeline's text and its last pass, and [`PassError`],
//! what a pass says when it gives up.

use std::path::PathBuf;

use crate::options::quote_list;

/// Why a pipeline cannot be built or did not finish.
///
/// The message is one line; [`Error::help`] is what to do about it, where that is known.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("pipeline text: {message} at character {position}{near}")]
    Syntax {
        message: String,
        /// Counted in characters, from 1.
        position: usize,
        /// `, after ...`: the text before the position, or nothing at the start.
        near: String,
    },
    #[error("no pass or pipeline is named `{name}`")]
    UnknownPass {
        name: String,
        nearest: Option<String>,
    },
    #[error("`{owner}` has no option `{key}`")]
    UnknownOption {
        owner: String,
        key: String,
        nearest: Option<String>,
        known: Vec<String>,
    },
    #[error("option `{key}` of `{owner}` is given twice")]
    DuplicateOption { owner: String, key: String },
    #[error("option `{key}` of `{pass}`: expected {expected}, found {found}")]
    Value {
        pass: String,
        key: String,
        /// The value in pipeline text, in backquotes, or `no value`.
        found: String,
        expected: String,
        nearest: Option<String>,
    },
    #[error("pipeline `{0}` contains itself")]
    Cycle(String),
    #[error("config file: {0}")]
    Config(String),
    #[error("config file: unknown key `{key}`")]
    ConfigKey {
        key: String,
        nearest: Option<String>,
    },
    #[error("pass `{pass}`: {source}")]
    Pass {
        pass: String,
        #[source]
        source: PassError,
        /// The directory of the reproducer, if one was written.
        reproducer: Option<PathBuf>,
    },
    #[error("internal error in pass `{pass}`: {message}")]
    Internal {
        pass: String,
        message: String,
        reproducer: Option<PathBuf>,
    },
    #[error("the model is invalid before the first pass: {0}")]
    Input(String),
    #[error("{path}: {message}", path = path.display())]
    Output { path: PathBuf, message: String },
    #[error("declaration of `{name}`: {message}")]
    Declaration { name: String, message: String },
}

impl Error {
    /// What to do about it, as one line.
    pub fn help(&self) -> Option<String> {
        let meant = |name: &str| Some(format!("did you mean `{name}`?"));
        match self {
            Error::UnknownPass {
                nearest: Some(name),
                ..
            }
            | Error::UnknownOption {
                nearest: Some(name),
                ..
            }
            | Error::Value {
                nearest: Some(name),
                ..
            }
            | Error::ConfigKey {
                nearest: Some(name),
                ..
            } => meant(name),
            Error::UnknownPass { .. } => {
                Some("`onnxq-opt passes` lists the passes and pipelines".into())
            }
            Error::UnknownOption { owner, known, .. } if known.is_empty() => {
                Some(format!("`{owner}` has no options"))
            }
            Error::UnknownOption { known, .. } => {
                Some(format!("its options are {}", quote_list(known)))
            }
            Error::ConfigKey { .. } => {
                Some("a config file has `passes` and a table for each pass or pipeline".into())
            }
            Error::Pass {
                source, reproducer, ..
            } => source.help.clone().or_else(|| repeat(reproducer)),
            Error::Internal { reproducer, .. } => {
                repeat(reproducer).or_else(|| Some("this is a bug: please report it".into()))
            }
            _ => None,
        }
    }

    /// Whether the arguments are at fault rather than the model: exit status 2, not 1.
    pub fn is_usage(&self) -> bool {
        !matches!(
            self,
            Error::Pass { .. }
                | Error::Internal { .. }
                | Error::Input(_)
                | Error::Output { .. }
                | Error::Declaration { .. }
        )
    }
}

fn repeat(reproducer: &Option<PathBuf>) -> Option<String> {
    let dir = reproducer.as_ref()?;
    Some(format!(
        "to repeat it, run the command in {}",
        dir.join(crate::reproducer::COMMAND_FILE).display()
    ))
}

/// Why a pass gave up: the model is wrong, or needs something the pass lacks.
///
/// The message names the node or value, what was found, and what was expected; the manager adds
/// the name of the pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PassError {
    message: String,
    help: Option<String>,
}

impl PassError {
    /// An error with this message, or made of another error.
    pub fn new(message: impl std::fmt::Display) -> PassError {
        PassError {
            message: message.to_string(),
            help: None,
        }
    }

    /// The same with a line on what to do.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> PassError {
        self.help = Some(help.into());
        self
    }
}

impl From<String> for PassError {
    fn from(message: String) -> PassError {
        PassError {
            message,
            help: None,
        }
    }
}

impl From<&str> for PassError {
    fn from(message: &str) -> PassError {
        PassError::new(message)
    }
}

impl From<onnxq_tensor::TensorError> for PassError {
    fn from(error: onnxq_tensor::TensorError) -> PassError {
        PassError::new(error)
    }
}
