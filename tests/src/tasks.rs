//! How well a model does what it was trained for, on the zoo's test sets, measured as
//! `tests/oracle/reference.py` does.

use onnxq_tensor::Tensor;

use crate::{
    metrics::to_f64s,
    oracle::{Level, Tensors, oracle},
    stages::{Stage, Stages},
};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// The part of answers that are right.
    pub accuracy: f64,
    /// How near embeddings are to those of the float model.
    pub cosine_to_float: Option<f64>,
}

type Task = fn(&Stages, &Stage) -> Result<Figures, String>;

/// The task of the model of this name.
fn task(model: &str) -> Option<Task> {
    match model {
        "digits" | "digits_cnn" => Some(|m, s| top1(m, s, "digits_test.npz")),
        "tabular_mlp" => Some(|m, s| top1(m, s, "tabular_mlp_test.npz")),
        "minilm" => Some(retrieval),
        _ => None,
    }
}

/// Whether there is a task for the model of this name.
pub fn has_task(model: &str) -> bool {
    task(model).is_some()
}

/// How well `stage`, made from `model`, does its task in ONNX Runtime; `None` where there is none.
///
/// # Errors
/// The model does not run.
pub fn measure(model: &Stages, stage: &Stage) -> Result<Option<Figures>, String> {
    task(&model.name).map(|task| task(model, stage)).transpose()
}

fn run(stage: &Stage, inputs: &Tensors) -> Result<Tensors, String> {
    oracle()
        .run(&stage.path, inputs, Level::All)
        .map_err(|e| e.to_string())
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>, String> {
    to_f64s(tensor).ok_or_else(|| format!("{} are no numbers", tensor.dtype()))
}

/// How often the largest logit is that of the label.
fn top1(model: &Stages, stage: &Stage, file: &str) -> Result<Figures, String> {
    let data = model.data(file)?;
    let inputs = Tensors::from_iter([("input".to_owned(), data["input"].clone())]);
    let outputs = run(stage, &inputs)?;
    let labels = data["label"].to_i64s().map_err(|e| e.to_string())?;
    let logits = numbers(&outputs[0])?;
    let right = logits
        .chunks(logits.len() / labels.len())
        .zip(&labels)
        .filter(|(row, label)| {
            let best = (0..row.len())
                .rev()
                .max_by(|&a, &b| row[a].total_cmp(&row[b]));
            best == usize::try_from(**label).ok()
        });
    Ok(Figures {
        accuracy: right.count() as f64 / labels.len() as f64,
        cosine_to_float: None,
    })
}

/// Sentences of the two halves say the same, row by row: how often each finds its partner, and
/// how near the embeddings stay to the float model's.
fn retrieval(model: &Stages, stage: &Stage) -> Result<Figures, String> {
    let data = model.data("minilm_text.npz")?;
    let names = ["input_ids", "attention_mask", "token_type_ids"];
    let inputs = names.map(|name| (name.to_owned(), data[name].clone()));
    let hidden = numbers(&run(stage, &Tensors::from_iter(inputs))?[0])?;
    let mask = numbers(&data["attention_mask"])?;
    let float = numbers(&data["embedding"])?;
    let rows = data["attention_mask"].dims()[0];
    let (steps, width) = (mask.len() / rows, float.len() / rows);
    let pooled: Vec<Vec<f64>> = (0..rows)
        .map(|row| {
            let mut sum = vec![0.0; width];
            for step in (0..steps).filter(|step| mask[row * steps + step] > 0.0) {
                let at = (row * steps + step) * width;
                for (s, h) in sum.iter_mut().zip(&hidden[at..at + width]) {
                    *s += h;
                }
            }
            let length = dot(&sum, &sum).sqrt();
            sum.iter().map(|s| s / length).collect()
        })
        .collect();
    let partner = |row: usize| (row + rows / 2) % rows;
    let finds = |&row: &usize| {
        let paired = dot(&pooled[row], &pooled[partner(row)]);
        let others = (0..rows).filter(|&other| other != row && other != partner(row));
        others
            .map(|other| dot(&pooled[row], &pooled[other]))
            .all(|c| c < paired)
    };
    let found = (0..rows).filter(finds).count();
    let near: f64 = (0..rows)
        .map(|row| dot(&pooled[row], &float[row * width..(row + 1) * width]))
        .sum();
    Ok(Figures {
        accuracy: found as f64 / rows as f64,
        cosine_to_float: Some(near / rows as f64),
    })
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
