//! What models are calibrated on: the zoo's calibration sets, else the stored inputs. And the
//! ranges that the reference tool finds on them.
//!
//! `tests/oracle/reference_static.py` has the same sets, for the figures it records.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use onnxq::{
    Calibrator,
    data::Data,
    quant::{Ranges, tables::RangeTable},
};
use onnxq_ir::Graph;
use onnxq_passes::RangeSource;
use onnxq_tensor::Tensor;
use serde_json::{Value, json};

use crate::{
    case::Case,
    inputs::generate,
    oracle::{Tensors, oracle},
    stages::Stages,
};

/// A calibration set: arrays by input, and how many rows of axis 0 make a sample; `None` for the
/// whole as one sample.
#[derive(Clone, Debug)]
pub struct Set {
    /// By the names of the graph's inputs.
    pub inputs: Tensors,
    /// Rows in a sample.
    pub batch: Option<usize>,
}

/// Where a model has its calibration set, and how many of its rows make a sample.
const SETS: &[(&str, &str, usize)] = &[
    ("digits", "digits_calib.npz", 16),
    ("digits_cnn", "digits_calib.npz", 16),
    ("tabular_mlp", "tabular_mlp_calib.npz", 16),
    ("minilm", "minilm_text.npz", 8),
    ("ultraface", FACES, 1),
    ("ultraface_slim_320", FACES, 1),
];

const FACES: &str = "faces_320x240.npz";

impl Stages {
    /// What to calibrate the model on.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn calibration(&self) -> Result<Set, String> {
        let Some((_, file, batch)) = SETS.iter().find(|(model, ..)| *model == self.name) else {
            let inputs = match self.io()? {
                Some(io) => io.inputs,
                None => generate(&self.float()?.model.graph, &Case::default())?,
            };
            return Ok(Set {
                inputs,
                batch: None,
            });
        };
        let mut data = self.data(file)?;
        if *file == FACES {
            data = Tensors::from_iter([("input".to_owned(), planes(&data["rgb"])?)]);
        }
        let graph = &self.float()?.model.graph;
        let is_input = |name: &str| {
            let mut inputs = graph.inputs().iter();
            inputs.any(|&n| graph.value(graph.result(n, 0)).name == name)
        };
        data.retain(|name, _| is_input(name));
        Ok(Set {
            inputs: data,
            batch: Some(*batch),
        })
    }

    /// What static quantization of the preprocessed model has its ranges from.
    ///
    /// # Errors
    /// The calibration set cannot be read.
    pub fn range_source(&self) -> Result<RangeSource, String> {
        let data = self
            .calibration()?
            .data(&self.preprocessed()?.model.graph)?;
        Ok(RangeSource::Data(Box::new(Calibrator::data(data))))
    }

    /// The calibration cache that the reference tool writes for the preprocessed model. `name` is
    /// that of `options`, see [`Oracle::calibrate`](crate::oracle::Oracle::calibrate).
    ///
    /// # Errors
    /// The tool fails.
    pub fn reference_cache(&self, name: &str, options: Value) -> Result<PathBuf, String> {
        let path = self.file(&format!("{name}.cache.json"));
        // One at a time: others wait for it and find it.
        static BUSY: Mutex<()> = Mutex::new(());
        let _guard = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
        if !path.is_file() {
            let (pre, samples) = (self.preprocessed()?, self.calibration()?.samples()?);
            oracle()
                .calibrate(&pre.path, &path, &samples, options)
                .map_err(|e| e.to_string())?;
        }
        Ok(path)
    }

    /// The same of the smallest and largest values.
    ///
    /// # Errors
    /// The tool fails.
    pub fn reference_minmax(&self) -> Result<PathBuf, String> {
        self.reference_cache("minmax", json!({ "calibrate_method": "MinMax" }))
    }
}

impl Set {
    /// The samples one by one.
    ///
    /// # Errors
    /// An array has no axis to cut along.
    pub fn samples(&self) -> Result<Vec<Tensors>, String> {
        let Some(batch) = self.batch else {
            return Ok(vec![self.inputs.clone()]);
        };
        let rows = self.inputs.values().map(|t| t.dims()[0]).min().unwrap_or(0);
        let sample = |start: usize| {
            let rows = start..(start + batch).min(rows);
            let cut = |(name, t): (&String, &Tensor)| {
                let rows = t.rows(rows.clone()).map_err(|e| e.to_string())?;
                Ok((name.clone(), rows))
            };
            self.inputs.iter().map(cut).collect()
        };
        (0..rows).step_by(batch).map(sample).collect()
    }

    /// The samples as data of ours for a model with these inputs.
    ///
    /// # Errors
    /// An array has no axis to cut along.
    pub fn data(&self, graph: &Graph) -> Result<Data, String> {
        let names = graph.inputs().iter();
        let names = names.map(|&n| &graph.value(graph.result(n, 0)).name);
        let names: Vec<&String> = names.collect();
        let samples = self.samples()?;
        let sample = |s: &Tensors| names.iter().map(|&name| s.get(name).cloned()).collect();
        Ok(Data::from_samples(
            samples.iter().map(sample).collect::<Vec<_>>(),
        ))
    }
}

/// Photographs as the face detectors take them: `[n, 3, h, w]`, in -1 to 1.
fn planes(rgb: &Tensor) -> Result<Tensor, String> {
    let &[n, h, w, 3] = rgb.dims() else {
        return Err(format!("photographs of dimensions {:?}", rgb.dims()));
    };
    let bytes = rgb.bytes();
    let mut planes = Vec::with_capacity(bytes.len());
    for image in bytes.chunks_exact(h * w * 3) {
        for channel in 0..3 {
            let pixels = image.chunks_exact(3);
            planes.extend(pixels.map(|pixel| (f32::from(pixel[channel]) - 127.0) / 128.0));
        }
    }
    Tensor::vector(planes)
        .reshape([n, 3, h, w].as_slice())
        .map_err(|e| e.to_string())
}

/// The ranges in a calibration cache that the reference tool has written.
///
/// # Errors
/// It is not one.
pub fn read_cache(path: &Path) -> Result<Ranges, String> {
    let text = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let table = RangeTable::from_json(&text);
    table
        .map(|table| table.ranges)
        .map_err(|e| format!("{}: {e}", path.display()))
}
