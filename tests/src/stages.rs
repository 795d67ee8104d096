//! A real model and what the pipelines make of it, each stage made once and shared by the tests
//! that look at it.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use onnxq_ir::Model;
use onnxq_onnx::SaveOptions;
use onnxq_pass::PassContext;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    oracle::{OracleError, Tensors, oracle},
    subject::{load, run_passes},
    workspace_dir,
    zoo::{Io, Zoo},
};

/// A model under test.
#[derive(Debug)]
pub struct Stages {
    /// What it is called.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    zoo: &'static Zoo,
    folder: TempDir,
    float: OnceLock<Result<Stage, String>>,
    preprocessed: OnceLock<Result<Stage, String>>,
    quantized: OnceLock<Result<Stage, String>>,
    static_qdq: OnceLock<Result<Stage, String>>,
    static_fused: OnceLock<Result<Stage, String>>,
}

/// A model, and the file it is in.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The model.
    pub model: Arc<Model>,
    /// The file.
    pub path: PathBuf,
}

impl Stages {
    /// Every model of the zoo, and the example of the documentation.
    ///
    /// # Panics
    ///
    /// Where there is no place for temporary files.
    pub fn all(zoo: &'static Zoo) -> Vec<Arc<Stages>> {
        let example = ("digits", workspace_dir().join(EXAMPLE).join("digits.onnx"));
        let models = zoo.models().map(|(name, path)| (name, path.to_owned()));
        models
            .chain([example])
            .map(|(name, path)| {
                Arc::new(Stages {
                    name: name.to_owned(),
                    path,
                    zoo,
                    folder: tempfile::tempdir().expect("temporary files can be written"),
                    float: OnceLock::new(),
                    preprocessed: OnceLock::new(),
                    quantized: OnceLock::new(),
                    static_qdq: OnceLock::new(),
                    static_fused: OnceLock::new(),
                })
            })
            .collect()
    }

    /// Inputs and what the float model makes of them; `None` for the models whose outputs do not
    /// depend on inputs.
    ///
    /// # Errors
    /// Those of reading them.
    pub fn io(&self) -> Result<Option<Io>, String> {
        let io = match self.name.as_str() {
            "digits" => self.example_io().map(Some),
            name => self.zoo.io(name),
        };
        io.map_err(|e| e.to_string())
    }

    fn example_io(&self) -> Result<Io, OracleError> {
        let data = oracle().read_npz(&workspace_dir().join(EXAMPLE).join("digits_calib.npz"))?;
        let rows = data["input"].rows(0..4).unwrap_or(data["input"].clone());
        let inputs = Tensors::from_iter([("input".to_owned(), rows)]);
        let outputs = oracle().run(&self.path, &inputs, Default::default())?;
        Ok(Io { inputs, outputs })
    }

    /// The model as it is.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub fn float(&self) -> Result<&Stage, String> {
        let made = self.float.get_or_init(|| {
            Ok(Stage {
                model: Arc::new(load(&self.path)?),
                path: self.path.clone(),
            })
        });
        made.as_ref().map_err(Clone::clone)
    }

    /// After `preprocess`.
    ///
    /// # Errors
    /// A pass fails, or the result cannot be saved.
    pub fn preprocessed(&self) -> Result<&Stage, String> {
        let make = || self.stage(self.float()?, "preprocess", "pre.onnx");
        self.preprocessed
            .get_or_init(make)
            .as_ref()
            .map_err(Clone::clone)
    }

    /// After `preprocess,quantize{mode=dynamic},fuse`.
    ///
    /// # Errors
    /// A pass fails, or the result cannot be saved.
    pub fn quantized(&self) -> Result<&Stage, String> {
        let make = || {
            self.stage(
                self.preprocessed()?,
                "quantize{mode=dynamic},fuse",
                "q.onnx",
            )
        };
        self.quantized
            .get_or_init(make)
            .as_ref()
            .map_err(Clone::clone)
    }

    /// After `preprocess,quantize{mode=static}`, calibrated on its [set](crate::calibration).
    ///
    /// # Errors
    /// A pass fails, or the result cannot be saved.
    pub fn static_qdq(&self) -> Result<&Stage, String> {
        let make = || {
            let mut context = PassContext::new();
            context.provide(self.range_source()?);
            let from = self.preprocessed()?;
            self.stage_in(from, "quantize{mode=static}", "static.onnx", &mut context)
        };
        self.static_qdq
            .get_or_init(make)
            .as_ref()
            .map_err(Clone::clone)
    }

    /// The same after `fuse`.
    ///
    /// # Errors
    /// A pass fails, or the result cannot be saved.
    pub fn static_fused(&self) -> Result<&Stage, String> {
        let make = || self.stage(self.static_qdq()?, "fuse", "static.fused.onnx");
        self.static_fused
            .get_or_init(make)
            .as_ref()
            .map_err(Clone::clone)
    }

    /// What a pipeline makes of a stage, saved in a file of this name.
    ///
    /// # Errors
    /// A pass fails, or the result cannot be saved.
    pub fn stage(&self, from: &Stage, pipeline: &str, file: &str) -> Result<Stage, String> {
        self.stage_in(from, pipeline, file, &mut PassContext::new())
    }

    /// The same in a context, such as one that provides ranges.
    ///
    /// # Errors
    /// A pass fails, or the result cannot be saved.
    pub fn stage_in(
        &self,
        from: &Stage,
        pipeline: &str,
        file: &str,
        context: &mut PassContext,
    ) -> Result<Stage, String> {
        let mut model = (*from.model).clone();
        run_passes(&mut model, pipeline, context).map_err(|e| e.to_string())?;
        let path = self.file(file);
        onnxq_onnx::save(&model.to_def(), &path, &SaveOptions::default())
            .map_err(|e| e.to_string())?;
        Ok(Stage {
            model: Arc::new(model),
            path,
        })
    }

    /// A file of this name, in a folder that goes with the model.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A data set of the zoo or of the example.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn data(&self, file: &str) -> Result<Tensors, String> {
        let path = match self.name.as_str() {
            "digits" => workspace_dir().join(EXAMPLE).join(file),
            _ => self.zoo.path("data").join(file),
        };
        oracle().read_npz(&path).map_err(|e| e.to_string())
    }
}

/// The folder of the example.
const EXAMPLE: &str = "docs/examples/digits";

/// The figures of the reference tool for a model, of its best flow; null where every flow fails.
///
/// # Panics
///
/// Where `tests/oracle/reference.json` is broken.
pub fn reference(name: &str) -> &'static Value {
    static FIGURES: OnceLock<Value> = OnceLock::new();
    best_flow(&FIGURES.get_or_init(|| recorded("reference.json"))["models"][name])
}

/// The same of static quantization in a format, `QDQ` or `QOperator`.
///
/// # Panics
///
/// Where `tests/oracle/reference_static.json` is broken.
pub fn reference_static(name: &str, format: &str) -> &'static Value {
    static FIGURES: OnceLock<Value> = OnceLock::new();
    let figures = FIGURES.get_or_init(|| recorded("reference_static.json"));
    best_flow(&figures["models"][name][format])
}

fn recorded(file: &str) -> Value {
    let path = workspace_dir().join("tests/oracle").join(file);
    let text = fs::read_to_string(path).expect("it is part of the repository");
    serde_json::from_str(&text).expect("it is JSON")
}

fn best_flow(model: &Value) -> &Value {
    &model["flows"][model["best"].as_str().unwrap_or_default()]
}
