//! The outside oracle: the ONNX reference checker and shape inference, ONNX Runtime, and its
//! quantization tool, asked through one Python process that lives as long as the test process.
//!
//! [`oracle`] makes the Python environment the first time (see `tests/oracle/requirements.txt`
//! for its versions). The messages are described at the head of `tests/oracle/worker.py`.

mod message;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use indexmap::IndexMap;
use onnxq_tensor::Tensor;
use serde_json::{Map, Value};

use self::message::{Answer, Request, Worker};
use crate::python;

/// Tensors by name, in the order of the graph or file they come from.
pub type Tensors = IndexMap<String, Tensor>;

/// A model: a file (with its external data beside it), or its bytes.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// The path of a file.
    File(&'a Path),
    /// A serialized `ModelProto`.
    Bytes(&'a [u8]),
}

impl<'a> From<&'a Path> for Source<'a> {
    fn from(path: &'a Path) -> Source<'a> {
        Source::File(path)
    }
}

impl<'a> From<&'a PathBuf> for Source<'a> {
    fn from(path: &'a PathBuf) -> Source<'a> {
        Source::File(path)
    }
}

impl<'a> From<&'a [u8]> for Source<'a> {
    fn from(bytes: &'a [u8]) -> Source<'a> {
        Source::Bytes(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Source<'a> {
    fn from(bytes: &'a Vec<u8>) -> Source<'a> {
        Source::Bytes(bytes)
    }
}

/// How much ONNX Runtime may rewrite a model before it runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Level {
    /// Nothing: every node runs as it is written.
    Disabled,
    /// Rewrites that keep to the standard operators.
    #[default]
    Basic,
    /// And those of the CPU provider, which turn Q/DQ groups into integer operators.
    Extended,
    /// And layout changes: what users get.
    All,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Disabled => "disabled",
            Level::Basic => "basic",
            Level::Extended => "extended",
            Level::All => "all",
        }
    }
}

/// An input or output of a model, as ONNX Runtime sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its type, such as `tensor(float)`.
    pub ty: String,
    /// Its dimensions: numbers, names, or null.
    pub shape: Vec<Value>,
}

/// The inputs and outputs of a model that loads.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// Inputs that must be given, in the order of the graph.
    pub inputs: Vec<Port>,
    /// Outputs, in the order of the graph.
    pub outputs: Vec<Port>,
}

/// Why the oracle has no answer.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// The Python package raised an exception: its answer is no.
    #[error("{request}: {message}")]
    Refused {
        /// What was asked.
        request: &'static str,
        /// The exception's type and text.
        message: String,
    },
    /// The process ended or broke the protocol; the next request starts another.
    #[error("{request}: the oracle's Python process broke off: {source}")]
    Broken {
        /// What was asked.
        request: &'static str,
        /// How it showed.
        source: io::Error,
    },
    /// The request or the answer holds what cannot be carried.
    #[error("{request}: {message}")]
    Unsupported {
        /// What was asked.
        request: &'static str,
        /// What it was.
        message: String,
    },
}

type Result<T, E = OracleError> = std::result::Result<T, E>;

/// The oracle of this process.
///
/// # Panics
///
/// Where there is no Python or no package registry to set it up from; the message says what is
/// needed.
pub fn oracle() -> &'static Oracle {
    static ORACLE: Oracle = Oracle {
        worker: Mutex::new(None),
    };
    python::interpreter();
    &ORACLE
}

/// See the [module](self). Requests from several threads wait for each other.
#[derive(Debug)]
pub struct Oracle {
    worker: Mutex<Option<Worker>>,
}

impl Oracle {
    /// Runs the ONNX checker with full checks (types and shapes are inferred strictly).
    pub fn check<'a>(&self, model: impl Into<Source<'a>>) -> Result<()> {
        self.ask(Request::new("check").model("model", model.into())?)
            .map(drop)
    }

    /// Loads a model in ONNX Runtime.
    pub fn load<'a>(&self, model: impl Into<Source<'a>>, level: Level) -> Result<Signature> {
        let request = Request::new("load")
            .model("model", model.into())?
            .set("level", level.name());
        let answer = self.ask(request)?;
        Ok(Signature {
            inputs: ports(&answer.ok["inputs"]),
            outputs: ports(&answer.ok["outputs"]),
        })
    }

    /// Runs a model in ONNX Runtime on one thread; gives all its outputs.
    pub fn run<'a>(
        &self,
        model: impl Into<Source<'a>>,
        inputs: &Tensors,
        level: Level,
    ) -> Result<Tensors> {
        let request = Request::new("run")
            .model("model", model.into())?
            .set("level", level.name());
        self.ask(request.tensors("inputs", inputs)?)?.tensors()
    }

    /// The model with the types that ONNX shape inference finds (with data propagation).
    /// `strict` makes an error of what it cannot infer.
    pub fn infer_shapes<'a>(&self, model: impl Into<Source<'a>>, strict: bool) -> Result<Vec<u8>> {
        let request = Request::new("infer_shapes").model("model", model.into())?;
        self.ask(request.set("strict", strict))?.model()
    }

    /// The model as the ONNX version converter brings it to another opset.
    pub fn convert_version<'a>(
        &self,
        model: impl Into<Source<'a>>,
        target: i64,
    ) -> Result<Vec<u8>> {
        let request = Request::new("convert_version").model("model", model.into())?;
        self.ask(request.set("target", target))?.model()
    }

    /// Where two models first differ in structure, or `None`. The order of nodes, of
    /// initializers and of attributes does not count. `ignore` may hold `producer`, `metadata`,
    /// `doc_string`, `value_info`, `graph_name`, `node_names`.
    pub fn difference<'a, 'b>(
        &self,
        a: impl Into<Source<'a>>,
        b: impl Into<Source<'b>>,
        ignore: &[&str],
    ) -> Result<Option<String>> {
        let request = Request::new("difference")
            .model("a", a.into())?
            .model("b", b.into())?;
        let answer = self.ask(request.set("ignore", ignore))?;
        Ok(answer.ok["difference"].as_str().map(str::to_owned))
    }

    /// The model that a text in the ONNX textual syntax means to the reference parser.
    pub fn parse_text(&self, text: &str) -> Result<Vec<u8>> {
        self.ask(Request::new("parse_text").set("text", text))?
            .model()
    }

    /// A model in the ONNX textual syntax, as the reference printer writes it.
    pub fn print_text<'a>(&self, model: impl Into<Source<'a>>) -> Result<String> {
        let answer = self.ask(Request::new("print_text").model("model", model.into())?)?;
        Ok(answer.ok["text"].as_str().unwrap_or_default().to_owned())
    }

    /// The arrays of a `.npz` file.
    pub fn read_npz(&self, path: &Path) -> Result<Tensors> {
        self.ask(Request::new("read_npz").path("path", path)?)?
            .tensors()
    }

    /// Writes a `.npz` file.
    pub fn write_npz(&self, path: &Path, tensors: &Tensors) -> Result<()> {
        let request = Request::new("write_npz").path("path", path)?;
        self.ask(request.tensors("tensors", tensors)?).map(drop)
    }

    /// Runs the reference tool's `quant_pre_process`; `options` are its keyword arguments.
    pub fn preprocess(&self, input: &Path, output: &Path, options: Value) -> Result<()> {
        self.ask(Request::new("preprocess").files(input, output, options)?)
            .map(drop)
    }

    /// Runs the reference tool's `quantize_dynamic`; `options` are its keyword arguments, with
    /// quantization types by name (`"weight_type": "QUInt8"`).
    pub fn quantize_dynamic(&self, input: &Path, output: &Path, options: Value) -> Result<()> {
        self.ask(Request::new("quantize_dynamic").files(input, output, options)?)
            .map(drop)
    }

    /// Runs the reference tool's `quantize_static` with `samples` as calibration data; options
    /// as above (`"quant_format": "QDQ"`, `"calibrate_method": "MinMax"`).
    pub fn quantize_static(
        &self,
        input: &Path,
        output: &Path,
        samples: &[Tensors],
        options: Value,
    ) -> Result<()> {
        self.on_samples("quantize_static", input, output, samples, options)
    }

    /// Runs one of the reference tool's calibrators on `samples` and writes a calibration cache;
    /// `options` has the method, as above, and what the calibrator is to be made with
    /// (`"num_bins": 512`).
    pub fn calibrate(
        &self,
        input: &Path,
        output: &Path,
        samples: &[Tensors],
        options: Value,
    ) -> Result<()> {
        self.on_samples("calibrate", input, output, samples, options)
    }

    fn on_samples(
        &self,
        what: &'static str,
        input: &Path,
        output: &Path,
        samples: &[Tensors],
        options: Value,
    ) -> Result<()> {
        let request = Request::new(what).files(input, output, options)?;
        self.ask(request.samples(samples)?).map(drop)
    }

    /// The versions behind the answers.
    pub fn versions(&self) -> Result<Map<String, Value>> {
        Ok(self.ask(Request::new("versions"))?.ok)
    }

    fn ask(&self, request: Request<'_>) -> Result<Answer> {
        let what = request.what;
        let broken = |source| OracleError::Broken {
            request: what,
            source,
        };
        let mut slot = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        // Out of its slot while it works, so that a broken one is not found there again.
        let mut worker = match slot.take() {
            Some(worker) => worker,
            None => Worker::start().map_err(broken)?,
        };
        let (mut head, blobs) = worker.exchange(&request).map_err(broken)?;
        *slot = Some(worker);
        match head.remove("ok") {
            Some(Value::Object(ok)) => Ok(Answer { what, ok, blobs }),
            _ => {
                let message = head["error"].as_str().unwrap_or_default().to_owned();
                Err(OracleError::Refused {
                    request: what,
                    message,
                })
            }
        }
    }
}

fn ports(list: &Value) -> Vec<Port> {
    let port = |v: &Value| Port {
        name: v["name"].as_str().unwrap_or_default().to_owned(),
        ty: v["type"].as_str().unwrap_or_default().to_owned(),
        shape: v["shape"].as_array().cloned().unwrap_or_default(),
    };
    list.as_array().into_iter().flatten().map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_dies_is_replaced() {
        let own = Oracle {
            worker: Mutex::new(Some(Worker::start().unwrap())),
        };
        own.versions().unwrap();
        own.worker
            .lock()
            .unwrap()
            .as_mut()
            .unwrap()
            .child
            .kill()
            .unwrap();
        assert!(matches!(own.versions(), Err(OracleError::Broken { .. })));
        assert!(own.versions().unwrap().contains_key("onnxruntime"));
    }
}
