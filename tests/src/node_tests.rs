//! The node tests of the ONNX package: small models of each operator, with inputs and the outputs
//! that are expected.
//!
//! The package collects them but ships no files; `tests/oracle/node_tests.py`, which describes the
//! folders, writes them under the target directory the first time.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use onnxq_ops::Value;
use onnxq_tensor::Buffer;

use crate::{
    exclusively,
    metrics::Tolerance,
    notice,
    python::{python, run, scripts},
    target_dir,
};

/// A node test.
#[derive(Clone, Debug)]
pub struct NodeTest {
    /// Its name in the package, such as `test_abs`.
    pub name: String,
    /// Where it is written.
    pub folder: PathBuf,
}

/// Every node test, by name.
///
/// # Panics
/// Where they cannot be written; the message says why.
pub fn node_tests() -> &'static [NodeTest] {
    static TESTS: OnceLock<Result<Vec<NodeTest>, String>> = OnceLock::new();
    let listed = TESTS.get_or_init(|| {
        let root = made_once("node-tests", "node_tests.py", &[])?;
        list(&root).map_err(|e| format!("cannot read {}: {e}", root.display()))
    });
    match listed {
        Ok(tests) => tests,
        Err(message) => panic!("{message}"),
    }
}

fn list(root: &Path) -> io::Result<Vec<NodeTest>> {
    let mut tests = Vec::new();
    for entry in fs::read_dir(root)? {
        let folder = entry?.path();
        if let Some(name) = folder.file_name().filter(|_| folder.is_dir()) {
            let name = name.to_string_lossy().into_owned();
            tests.push(NodeTest { name, folder });
        }
    }
    tests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tests)
}

/// The folder `name` of the target directory, which the Python program `script` fills the first
/// time, given the folder and `arguments`. It is made anew when the script or the requirements
/// change.
pub(crate) fn made_once(name: &str, script: &str, arguments: &[&Path]) -> Result<PathBuf, String> {
    let root = target_dir().join(name);
    let stamp = root.join("stamp");
    let script = scripts().join(script);
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
    };
    let wanted = read(&script)? + &read(&scripts().join("requirements.txt"))?;
    exclusively(&root.with_extension("lock"), || {
        if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(root.clone());
        }
        notice(&format!("note: writing {}, once", root.display()));
        let _ = fs::remove_dir_all(&root); // it may not exist
        let failed = |e: io::Error| format!("cannot write {}: {e}", root.display());
        fs::create_dir_all(&root).map_err(failed)?;
        run(python().arg(&script).arg(&root).args(arguments))?;
        fs::write(&stamp, &wanted).map_err(failed)?;
        Ok(root.clone())
    })
}

/// The opsets at which the schema of each operator changed, by domain and name, as the ONNX package
/// has them.
///
/// # Errors
/// They cannot be written or read.
pub fn schemas() -> Result<BTreeMap<String, BTreeMap<String, Vec<i64>>>, String> {
    let path = made_once("schemas", "schemas.py", &[])?.join("schemas.json");
    let failed = |e: &dyn std::fmt::Display| format!("cannot read {}: {e}", path.display());
    let text = fs::read_to_string(&path).map_err(|e| failed(&e))?;
    let table: serde_json::Value = serde_json::from_str(&text).map_err(|e| failed(&e))?;
    let opsets = |v: &serde_json::Value| {
        let opsets = v.as_array().into_iter().flatten();
        opsets.filter_map(serde_json::Value::as_i64).collect()
    };
    let operators = |v: &serde_json::Value| {
        let operators = v.as_object().into_iter().flatten();
        operators
            .map(|(name, v)| (name.clone(), opsets(v)))
            .collect()
    };
    let domains = table.as_object().into_iter().flatten();
    Ok(domains
        .map(|(name, v)| (name.clone(), operators(v)))
        .collect())
}

impl NodeTest {
    /// The file of the model.
    pub fn model(&self) -> PathBuf {
        self.folder.join("model.onnx")
    }

    /// How far outputs may be from those expected.
    ///
    /// # Errors
    /// The file that says so cannot be read.
    pub fn tolerance(&self) -> Result<Tolerance, String> {
        let text = fs::read_to_string(self.folder.join("tol")).map_err(|e| e.to_string())?;
        let mut numbers = text.split_whitespace().map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(rtol)), Some(Ok(atol))) => Ok(Tolerance { rtol, atol }),
            _ => Err(format!("'{text}' is no tolerance")),
        }
    }

    /// The value of the input at position `i`; `None` where it is left out.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn input(&self, i: usize) -> Result<Option<Value>, String> {
        self.value("input", i)
    }

    /// The value expected of the output at position `i`; `None` where none is.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn output(&self, i: usize) -> Result<Option<Value>, String> {
        self.value("output", i)
    }

    fn value(&self, kind: &str, i: usize) -> Result<Option<Value>, String> {
        let path = |ending: &str| self.folder.join(format!("{kind}_{i}.{ending}"));
        if path("none").exists() {
            return Ok(Some(Value::Optional(None)));
        }
        let value = if path("tensor.pb").exists() {
            read(&path("tensor.pb"))?
        } else if path("seq").exists() {
            let element = |k| Some(path(&format!("seq.{k}.pb"))).filter(|p| p.exists());
            let elements = (0..).map_while(element).map(|p| read(&p));
            Value::Sequence(Arc::new(elements.collect::<Result<_, _>>()?))
        } else {
            return Ok(None);
        };
        Ok(Some(match path("optional").exists() {
            true => Value::Optional(Some(Arc::new(value))),
            false => value,
        }))
    }
}

fn read(path: &Path) -> Result<Value, String> {
    let failed = |e: &dyn std::fmt::Display| format!("cannot read {}: {e}", path.display());
    let bytes = fs::read(path).map_err(|e| failed(&e))?;
    let tensor = onnxq_onnx::tensor_from_bytes(&Buffer::from(bytes), &path.to_string_lossy());
    Ok(Value::Tensor(tensor.map_err(|e| failed(&e))?.1))
}

/// A node test written at an older opset of its operator.
#[derive(Clone, Debug)]
pub struct OldNodeTest {
    /// The test it is made from.
    pub test: &'static NodeTest,
    /// The opset it is written at.
    pub opset: i64,
    folder: PathBuf,
}

/// What the converter of the ONNX package does with a model.
#[derive(Clone, Debug)]
pub enum Converted {
    /// It writes a model that its checker accepts.
    Model(PathBuf),
    /// It gives up, ends the process, or writes what the checker refuses.
    Refused(String),
}

/// Every node test at every older opset of its operators where it can be said there, by name and
/// opset. `tests/oracle/old_opsets.py` writes them.
///
/// # Panics
/// Where they cannot be written; the message says why.
pub fn old_node_tests() -> &'static [OldNodeTest] {
    static TESTS: OnceLock<Result<Vec<OldNodeTest>, String>> = OnceLock::new();
    let listed = TESTS.get_or_init(|| {
        let newest = node_tests();
        let root = made_once("old-node-tests", "old_opsets.py", &[])?;
        let written = list(&root).map_err(|e| format!("cannot read {}: {e}", root.display()))?;
        let old = |NodeTest { name, folder }: NodeTest| {
            let (name, opset) = name.split_once('@')?;
            let at = newest
                .binary_search_by(|t| t.name.as_str().cmp(name))
                .ok()?;
            let opset = opset.parse().ok()?;
            let test = &newest[at];
            Some(OldNodeTest {
                test,
                opset,
                folder,
            })
        };
        let mut tests: Vec<_> = written.into_iter().filter_map(old).collect();
        tests.sort_by(|a, b| (&a.test.name, a.opset).cmp(&(&b.test.name, b.opset)));
        Ok(tests)
    });
    match listed {
        Ok(tests) => tests,
        Err(message) => panic!("{message}"),
    }
}

/// The schemas of the standard operators, as `tests/oracle/schema_table.py` prints them.
///
/// # Errors
/// It cannot be run.
pub fn schema_table() -> Result<String, String> {
    let output = python().arg(scripts().join("schema_table.py")).output();
    let output = output.map_err(|e| e.to_string())?;
    String::from_utf8(output.stdout).map_err(|e| e.to_string())
}

impl OldNodeTest {
    /// The file of the model.
    pub fn model(&self) -> PathBuf {
        self.folder.join("model.onnx")
    }

    /// The values of its inputs.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn inputs(&self) -> Result<Vec<Option<Value>>, String> {
        let text = fs::read_to_string(self.folder.join("inputs")).map_err(|e| e.to_string())?;
        let index = |word: &str| word.parse().map_err(|_| format!("'{word}' is no index"));
        let value = |word| self.test.input(index(word)?);
        text.split_whitespace().map(value).collect()
    }

    /// What the converter of the ONNX package makes of it at the newest opset.
    pub fn converted(&self) -> Converted {
        let model = self.folder.join("converted.onnx");
        match fs::read_to_string(self.folder.join("refused")) {
            _ if model.exists() => Converted::Model(model),
            Ok(why) => Converted::Refused(why),
            Err(e) => Converted::Refused(e.to_string()),
        }
    }
}
