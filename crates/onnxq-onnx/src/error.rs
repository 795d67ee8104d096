//! What can go wrong between files and models.

use std::{io, path::PathBuf};

/// Why a model could not be read or written. Messages name the file, the place in the model, what
/// was found and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The operating system refused.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The model is wrong.
    #[error("{}{problem}", prefix(file, place))]
    Invalid {
        /// The file, as the caller named it.
        file: String,
        /// From the outside in, such as ``graph `main`: node `conv1` ``.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// The model may be right, but needs something that is not supported.
    #[error("{}{need} not supported", prefix(file, place))]
    Unsupported {
        /// The file, as the caller named it.
        file: String,
        /// From the outside in, such as ``graph `main`: node `conv1` ``.
        place: String,
        /// What it needs: a phrase with its verb, to be followed by "not supported".
        need: String,
    },
    /// More than fits into one protobuf message where no second file may be written, or although
    /// the initializers would go to one.
    #[error("the model takes {bytes} bytes, more than the {limit} that fit into one ONNX file")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The largest size.
        limit: u64,
    },
}

fn prefix(file: &str, place: &str) -> String {
    [file, place]
        .iter()
        .filter(|s| !s.is_empty())
        .map(|s| format!("{s}: "))
        .collect()
}

impl Error {
    pub(crate) fn invalid(problem: impl Into<String>) -> Error {
        Error::Invalid {
            file: String::new(),
            place: String::new(),
            problem: problem.into(),
        }
    }

    pub(crate) fn unsupported(need: impl Into<String>) -> Error {
        Error::Unsupported {
            file: String::new(),
            place: String::new(),
            need: need.into(),
        }
    }

    fn parts(&mut self) -> Option<(&mut String, &mut String)> {
        match self {
            Error::Invalid { file, place, .. } | Error::Unsupported { file, place, .. } => {
                Some((file, place))
            }
            _ => None,
        }
    }

    /// What may help, in one sentence.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Error::TooLarge { .. } => Some(
                "write to a file, with external data; tensors in attributes stay in the file: \
                 turn Constant nodes into initializers first",
            ),
            _ => None,
        }
    }
}

/// Adds the place to an error on its way out.
pub(crate) trait Within<T> {
    /// The error happened inside `place`.
    fn within(self, place: impl FnOnce() -> String) -> Result<T, Error>;

    /// The error happened in `file`.
    fn in_file(self, file: &str) -> Result<T, Error>;
}

impl<T, E: Into<Error>> Within<T> for Result<T, E> {
    fn within(self, place: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|e| {
            let mut error = e.into();
            if let Some((_, inner)) = error.parts() {
                let outer = place();
                *inner = if inner.is_empty() {
                    outer
                } else {
                    format!("{outer}: {inner}")
                };
            }
            error
        })
    }

    fn in_file(self, file: &str) -> Result<T, Error> {
        self.map_err(|e| {
            let mut error = e.into();
            if let Some((name, _)) = error.parts() {
                file.clone_into(name);
            }
            error
        })
    }
}

impl From<prost::DecodeError> for Error {
    fn from(error: prost::DecodeError) -> Error {
        Error::invalid(format!("not an ONNX model, or a damaged one: {error}"))
    }
}

impl From<onnxq_tensor::TensorError> for Error {
    fn from(error: onnxq_tensor::TensorError) -> Error {
        Error::invalid(error.to_string())
    }
}
