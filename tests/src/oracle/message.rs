//! Requests and answers, and the Python process they go through.
//!
//! The form of the messages is described at the head of `tests/oracle/worker.py`.

use std::{
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, absolute},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use onnxq_tensor::{Bytes, DType, Tensor};
use serde_json::{Map, Value, json};

use super::{OracleError, Result, Source, Tensors};
use crate::python;

/// A question: a JSON object, and byte strings that it refers to by index.
pub(super) struct Request<'a> {
    pub(super) what: &'static str,
    pub(super) head: Map<String, Value>,
    pub(super) blobs: Vec<&'a [u8]>,
}

impl<'a> Request<'a> {
    pub(super) fn new(what: &'static str) -> Request<'a> {
        let head = Map::from_iter([("do".to_owned(), what.into())]);
        Request {
            what,
            head,
            blobs: Vec::new(),
        }
    }

    pub(super) fn set(mut self, key: &str, value: impl Into<Value>) -> Request<'a> {
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
    pub(super) fn path(self, key: &str, path: &Path) -> Result<Request<'a>> {
        match absolute(path)
            .ok()
            .and_then(|p| p.to_str().map(str::to_owned))
        {
            Some(path) => Ok(self.set(key, path)),
            None => Err(self.unsupported(format!("the path {} is not text", path.display()))),
        }
    }

    pub(super) fn files(self, input: &Path, output: &Path, options: Value) -> Result<Request<'a>> {
        Ok(self
            .path("input", input)?
            .path("output", output)?
            .set("options", options))
    }

    pub(super) fn model(self, key: &str, model: Source<'a>) -> Result<Request<'a>> {
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

    pub(super) fn tensors(mut self, key: &str, tensors: &'a Tensors) -> Result<Request<'a>> {
        let list = self.list(tensors)?;
        Ok(self.set(key, list))
    }

    pub(super) fn samples(mut self, samples: &'a [Tensors]) -> Result<Request<'a>> {
        let lists = samples
            .iter()
            .map(|s| self.list(s))
            .collect::<Result<Vec<_>>>()?;
        Ok(self.set("samples", lists))
    }
}

/// What is answered to a request, taken apart.
pub(super) struct Answer {
    pub(super) what: &'static str,
    pub(super) ok: Map<String, Value>,
    pub(super) blobs: Vec<Vec<u8>>,
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

    pub(super) fn model(mut self) -> Result<Vec<u8>> {
        let index = self.ok["model"].take();
        self.blob(&index)
    }

    pub(super) fn tensors(mut self) -> Result<Tensors> {
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
pub(super) type Message = (Map<String, Value>, Vec<Vec<u8>>);

/// The Python process. It ends when its standard input is closed, at the latest with ours.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) child: Child,
    requests: Option<BufWriter<ChildStdin>>,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    pub(super) fn start() -> io::Result<Worker> {
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

    pub(super) fn exchange(&mut self, request: &Request<'_>) -> io::Result<Message> {
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
