//! The outside oracle: the ONNX reference checker and shape inference, ONNX Runtime, and its
//! quantization tool, asked through one Python process that lives as long as the test process.
//!
//! [`oracle`] makes the Python environment the first time (see `tests/oracle/requirements.txt`
//! for its versions). The messages are described at the head of `tests/oracle/worker.py`.

use std::{
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf, absolute},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::{Mutex, PoisonError},
};

use indexmap::IndexMap;
use onnxq_tensor::{Bytes, DType, Tensor};
use serde_json::{Map, Value, json};

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
        let request = Request::new("quantize_static").files(input, output, options)?;
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

struct Request<'a> {
    what: &'static str,
    head: Map<String, Value>,
    blobs: Vec<&'a [u8]>,
}

impl<'a> Request<'a> {
    fn new(what: &'static str) -> Request<'a> {
        let head = Map::from_iter([("do".to_owned(), what.into())]);
        Request {
            what,
            head,
            blobs: Vec::new(),
        }
    }

    fn set(mut self, key: &str, value: impl Into<Value>) -> Request<'a> {
        self.head.insert(key.to_owned(), value.into());
        self
    }

    fn unsupported(&self, message: String) -> OracleError {
        OracleError::Unsupported {
            request: self.what,
            message,
        }
    }

    /// Files are named from the root: the worker has a current directory of its own.
    fn path(self, key: &str, path: &Path) -> Result<Request<'a>> {
        match absolute(path)
            .ok()
            .and_then(|p| p.to_str().map(str::to_owned))
        {
            Some(path) => Ok(self.set(key, path)),
            None => Err(self.unsupported(format!("the path {} is not text", path.display()))),
        }
    }

    fn files(self, input: &Path, output: &Path, options: Value) -> Result<Request<'a>> {
        Ok(self
            .path("input", input)?
            .path("output", output)?
            .set("options", options))
    }

    fn model(self, key: &str, model: Source<'a>) -> Result<Request<'a>> {
        match model {
            Source::File(path) => {
                let mut request = self.path(key, path)?;
                let path = request.head[key].take();
                Ok(request.set(key, json!({ "path": path })))
            }
            Source::Bytes(bytes) => {
                let mut request = self;
                let blob = request.blob(bytes);
                Ok(request.set(key, json!({ "blob": blob })))
            }
        }
    }

    fn blob(&mut self, bytes: &'a [u8]) -> usize {
        self.blobs.push(bytes);
        self.blobs.len() - 1
    }

    fn list(&mut self, tensors: &'a Tensors) -> Result<Value> {
        let mut list = Vec::new();
        for (name, tensor) in tensors {
            let mut item = json!({
                "name": name, "dtype": tensor.dtype().onnx(), "dims": tensor.dims(),
            });
            if let Some(strings) = tensor.strings() {
                let text = |s: &Bytes| std::str::from_utf8(s).map(str::to_owned);
                let texts = strings.iter().map(text).collect::<Result<Vec<_>, _>>();
                item["strings"] = texts
                    .map_err(|_| self.unsupported(format!("strings of {name} are not UTF-8")))?
                    .into();
            } else if tensor.dtype().is_packed() {
                return Err(self.unsupported(format!("{name} is of {}", tensor.dtype())));
            } else {
                item["blob"] = self.blob(tensor.bytes()).into();
            }
            list.push(item);
        }
        Ok(list.into())
    }

    fn tensors(mut self, key: &str, tensors: &'a Tensors) -> Result<Request<'a>> {
        let list = self.list(tensors)?;
        Ok(self.set(key, list))
    }

    fn samples(mut self, samples: &'a [Tensors]) -> Result<Request<'a>> {
        let lists = samples
            .iter()
            .map(|s| self.list(s))
            .collect::<Result<Vec<_>>>()?;
        Ok(self.set("samples", lists))
    }
}

struct Answer {
    what: &'static str,
    ok: Map<String, Value>,
    blobs: Vec<Vec<u8>>,
}

impl Answer {
    fn unsupported(&self, message: &str) -> OracleError {
        OracleError::Unsupported {
            request: self.what,
            message: message.to_owned(),
        }
    }

    fn blob(&mut self, item: &Value) -> Result<Vec<u8>> {
        let blob = item.as_u64().and_then(|i| self.blobs.get_mut(i as usize));
        blob.map(std::mem::take)
            .ok_or_else(|| self.unsupported("the answer lacks its data"))
    }

    fn model(mut self) -> Result<Vec<u8>> {
        let index = self.ok["model"].take();
        self.blob(&index)
    }

    fn tensors(mut self) -> Result<Tensors> {
        let Value::Array(list) = self.ok["tensors"].take() else {
            return Ok(Tensors::new());
        };
        list.iter().map(|item| self.tensor(item)).collect()
    }

    fn tensor(&mut self, item: &Value) -> Result<(String, Tensor)> {
        let dims = item["dims"].as_array().into_iter().flatten();
        let dims = dims
            .filter_map(Value::as_u64)
            .map(|d| d as usize)
            .collect::<Vec<_>>();
        let tensor = if let Some(strings) = item["strings"].as_array() {
            let bytes = |s: &Value| Bytes::from(s.as_str().unwrap_or_default().to_owned());
            Tensor::from_strings(dims, strings.iter().map(bytes).collect::<Vec<_>>())
        } else {
            let code = item["dtype"]
                .as_i64()
                .and_then(|code| i32::try_from(code).ok());
            let dtype = code.and_then(DType::from_onnx);
            let dtype = dtype.ok_or_else(|| self.unsupported("an unknown element type"))?;
            Tensor::new(dtype, dims, self.blob(&item["blob"])?)
        };
        let tensor = tensor.map_err(|e| self.unsupported(&e.to_string()))?;
        Ok((item["name"].as_str().unwrap_or_default().to_owned(), tensor))
    }
}

/// What comes back: the JSON object and the byte strings.
type Message = (Map<String, Value>, Vec<Vec<u8>>);

/// The Python process. It ends when its standard input is closed, at the latest with ours.
#[derive(Debug)]
struct Worker {
    child: Child,
    requests: Option<BufWriter<ChildStdin>>,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start() -> io::Result<Worker> {
        let mut child = python::python()
            .arg(python::scripts().join("worker.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = child.stdin.take().map(BufWriter::new);
        let answers = child
            .stdout
            .take()
            .map(BufReader::new)
            .ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Worker {
            child,
            requests,
            answers,
        })
    }

    fn exchange(&mut self, request: &Request<'_>) -> io::Result<Message> {
        let mut head = request.head.clone();
        head.insert(
            "blobs".to_owned(),
            request.blobs.iter().map(|b| b.len()).collect(),
        );
        let head = serde_json::to_vec(&head)?;
        let size = u32::try_from(head.len()).map_err(io::Error::other)?;
        let pipe = self.requests.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        pipe.write_all(&size.to_le_bytes())?;
        pipe.write_all(&head)?;
        for blob in &request.blobs {
            pipe.write_all(blob)?;
        }
        pipe.flush()?;

        let mut size = [0; 4];
        self.answers.read_exact(&mut size)?;
        let mut head = vec![0; u32::from_le_bytes(size) as usize];
        self.answers.read_exact(&mut head)?;
        let head: Map<String, Value> = serde_json::from_slice(&head)?;
        let mut blobs = Vec::new();
        for len in head["blobs"].as_array().into_iter().flatten() {
            let mut blob = vec![0; len.as_u64().unwrap_or_default() as usize];
            self.answers.read_exact(&mut blob)?;
            blobs.push(blob);
        }
        Ok((head, blobs))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.requests.take());
        // A process that has broken the protocol may not notice; errors mean it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
