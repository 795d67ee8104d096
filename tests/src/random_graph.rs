//! Random graphs: operators of every family, control flow, functions, odd attributes, values that
//! are shared, and optional ones; the same graph for the same seed.
//!
//! A graph grows by groups of nodes, which the [recipes] write as text from values that are there.
//! A group that does not evaluate is dropped, and another is tried; so recipes may be bold. Every
//! value is kept as it is, and as it is with a little noise on all that came before: what noise moves
//! far (a rounding, a maximum that is nearly shared) is dropped as well, and how far it moves an
//! output tells how far a rewrite may.

mod draft;
mod recipes;

use std::fmt::Write as _;

use indexmap::IndexMap;
use onnxq_ir::{Model, text};
use onnxq_ops::{Value, interpret::Interpreter};
use onnxq_tensor::{DType, Tensor};

pub use self::recipes::families;
use crate::{metrics::Tolerance, oracle::Tensors, random::Random};

/// A graph that was made, with inputs to execute it on.
#[derive(Clone, Debug)]
pub struct RandomGraph {
    /// The model in the text form.
    pub text: String,
    /// Its inputs.
    pub inputs: Tensors,
    /// Its outputs.
    pub outputs: Tensors,
    /// How far each output may move.
    pub tolerances: IndexMap<String, Tolerance>,
    /// The recipes it is made by, in order.
    pub recipes: Vec<&'static str>,
}

/// How many times a value is kept: as it is, and with two kinds of noise.
const TRACES: usize = 3;

/// A tensor that nodes can read.
#[derive(Clone, Debug)]
struct Known {
    name: String,
    traces: [Tensor; TRACES],
    is_used: bool,
}

impl Known {
    fn dtype(&self) -> DType {
        self.traces[0].dtype()
    }

    fn dims(&self) -> &[usize] {
        self.traces[0].dims()
    }
}

/// A graph while it grows: the main one, or a body.
#[derive(Clone, Debug, Default)]
struct Scope {
    known: Vec<Known>,
    constants: IndexMap<String, String>,
    lines: Vec<String>,
}

/// Nodes that are tried together.
#[derive(Clone, Debug, Default)]
struct Group {
    constants: IndexMap<String, String>,
    lines: Vec<String>,
    results: Vec<String>,
    functions: Vec<String>,
}

/// What makes a graph.
struct Generator {
    random: Random,
    opset: i64,
    scopes: Vec<Scope>,
    functions: Vec<String>,
    recipes: Vec<&'static str>,
    names: usize,
}

/// The graph of this seed.
///
/// # Panics
/// Where the text of a recipe is not well formed.
pub fn generate(seed: u64) -> RandomGraph {
    let mut random = Random::new(seed);
    let opset = random.pick(&[11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 21, 21, 22, 23]);
    let mut generator = Generator {
        random,
        opset,
        scopes: vec![Scope::default()],
        functions: Vec::new(),
        recipes: Vec::new(),
        names: 0,
    };
    let inputs = generator.add_inputs();
    let groups = 3 + generator.random.below(20);
    generator.grow(groups);
    generator.finish(&inputs)
}

impl Generator {
    fn name(&mut self, what: &str) -> String {
        self.names += 1;
        format!("{what}_{}", self.names)
    }

    fn add_inputs(&mut self) -> Vec<String> {
        let (batch, channels) = (self.random.within(1, 2), self.random.within(2, 4));
        let (height, width) = (self.random.within(3, 6), self.random.within(3, 6));
        let shapes: [(&str, &[i64]); 7] = [
            ("float", &[batch, channels, height, width]),
            ("float", &[batch, height, width]),
            ("float", &[width, height]),
            ("float", &[channels]),
            ("int64", &[batch, width]),
            ("float", &[]),
            ("double", &[height, width]),
        ];
        let count = 1 + self.random.below(3);
        let mut names = Vec::new();
        for i in 0..count {
            let (ty, dims) = match i {
                0 => shapes[self.random.below(3)],
                _ => shapes[self.random.below(shapes.len())],
            };
            let dims: Vec<usize> = dims.iter().map(|&d| d as usize).collect();
            let len = dims.iter().product();
            let elements: Vec<f64> = match ty {
                "int64" => (0..len).map(|_| self.random.below(3) as f64).collect(),
                _ => (0..len).map(|_| self.random.unit() * 1.5).collect(),
            };
            let dtype = match ty {
                "int64" => DType::I64,
                "double" => DType::F64,
                _ => DType::F32,
            };
            let tensor = Tensor::from_vec(dims, elements).and_then(|t: Tensor| t.cast(dtype, true));
            let tensor = tensor.expect("the elements fit the dimensions");
            let name = self.name("x");
            names.push(name.clone());
            let traces = [tensor.clone(), tensor.clone(), tensor];
            self.scopes[0].known.push(Known {
                name,
                traces,
                is_used: false,
            });
        }
        names
    }

    /// Adds groups of nodes to the innermost graph.
    fn grow(&mut self, groups: usize) {
        let mut added = 0;
        for _ in 0..groups * 4 {
            if added == groups {
                break;
            }
            let recipe = recipes::any(&mut self.random, self.scopes.len());
            let Some(group) = (recipe.make)(self) else {
                continue;
            };
            if self.add(group) {
                self.recipes.push(recipe.name);
                added += 1;
            }
        }
    }

    fn everything(&self) -> impl Iterator<Item = &Known> {
        self.scopes.iter().flat_map(|s| &s.known)
    }

    /// Tries a group, and keeps it where it is good.
    fn add(&mut self, group: Group) -> bool {
        let Some(traces) = self.evaluate(&group) else {
            return false;
        };
        let words: Vec<&str> = group.lines.iter().flat_map(|l| words(l)).collect();
        for scope in &mut self.scopes {
            for known in &mut scope.known {
                known.is_used |= words.contains(&known.name.as_str());
            }
        }
        let scope = self.scopes.last_mut().expect("the main graph is one");
        scope.constants.extend(group.constants);
        scope.lines.extend(group.lines);
        let made = group.results.into_iter().zip(traces);
        scope.known.extend(made.map(|(name, traces)| Known {
            name,
            traces,
            is_used: false,
        }));
        self.functions.extend(group.functions);
        true
    }

    /// The results of a group, with and without noise, where they are worth keeping.
    fn evaluate(&mut self, group: &Group) -> Option<Vec<[Tensor; TRACES]>> {
        let names: Vec<&str> = group.lines.iter().flat_map(|l| words(l)).collect();
        let read: Vec<&Known> = self
            .everything()
            .filter(|k| names.contains(&k.name.as_str()))
            .collect();
        let constants = self.scopes.iter().flat_map(|s| &s.constants);
        let constants = constants.filter(|(name, _)| names.contains(&name.as_str()));
        let constants: Vec<&str> = constants
            .chain(&group.constants)
            .map(|(_, c)| c.as_str())
            .collect();
        let inputs: Vec<String> = read
            .iter()
            .map(|k| declared(&k.name, &k.traces[0]))
            .collect();
        let source = format!(
            "{}g ({}) => ({}) <{}> {{ {} }}\n{}\n{}",
            self.header(),
            inputs.join(", "),
            group.results.join(", "),
            constants.join(", "),
            group.lines.join("\n"),
            self.functions.join("\n"),
            group.functions.join("\n"),
        );
        let def = text::parse(&source, &()).unwrap_or_else(|e| panic!("{e}\n{source}"));
        let model = Model::from_def(def).unwrap_or_else(|e| panic!("{e}\n{source}"));
        let mut runs = Vec::new();
        for trace in 0..TRACES {
            let inputs = read
                .iter()
                .map(|k| Some(Value::Tensor(k.traces[trace].clone())));
            let results = Interpreter::new(&model).run(&model.graph, inputs.collect());
            let tensors = results.ok()?.into_iter().map(|v| v.as_tensor().cloned());
            runs.push(tensors.collect::<Option<Vec<Tensor>>>()?);
        }
        let [exact, a, b] = <[Vec<Tensor>; TRACES]>::try_from(runs).ok()?;
        let all = exact.into_iter().zip(a).zip(b);
        all.map(|((exact, a), b)| {
            if !is_modest(&exact) || exact.dtype() == DType::String {
                return None;
            }
            let a = with_noise(&mut self.random, &a, &exact)?;
            let b = with_noise(&mut self.random, &b, &exact)?;
            (is_near(&a, &exact) && is_near(&b, &exact)).then_some([exact, a, b])
        })
        .collect()
    }

    fn header(&self) -> String {
        // The domain is there also while the first function is tried.
        format!(
            "<ir_version: 8, opset_import: [\"\": {}, \"local\": 1]>\n",
            self.opset
        )
    }

    /// Makes a graph of what was added: results that nothing reads are outputs, and a few others.
    fn finish(mut self, inputs: &[String]) -> RandomGraph {
        let scope = std::mem::take(&mut self.scopes[0]);
        let symbolic = self.random.one_in(2);
        let mut declared_inputs = Vec::new();
        let mut graph = RandomGraph {
            text: String::new(),
            inputs: Tensors::new(),
            outputs: Tensors::new(),
            tolerances: IndexMap::new(),
            recipes: self.recipes.clone(),
        };
        let mut outputs = Vec::new();
        for known in &scope.known {
            let exact = &known.traces[0];
            if inputs.contains(&known.name) {
                let text = match symbolic {
                    true => with_symbols(&known.name, exact),
                    false => declared(&known.name, exact),
                };
                declared_inputs.push(text);
                graph.inputs.insert(known.name.clone(), exact.clone());
            } else if !known.is_used || self.random.one_in(8) {
                outputs.push(format!("{}[] {}", exact.dtype().name(), known.name));
                graph.outputs.insert(known.name.clone(), exact.clone());
                graph
                    .tolerances
                    .insert(known.name.clone(), tolerance(known));
            }
        }
        let mut text = self.header();
        let constants: Vec<&str> = scope.constants.values().map(String::as_str).collect();
        let _ = write!(
            text,
            "g ({}) => ({})\n<\n  {}\n>\n{{\n  {}\n}}\n{}\n",
            declared_inputs.join(", "),
            outputs.join(", "),
            constants.join(",\n  "),
            scope.lines.join("\n  "),
            self.functions.join("\n"),
        );
        graph.text = text;
        graph
    }
}

/// The words of a line, some of which are names of values.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

fn type_text(dtype: DType, dims: &[usize]) -> String {
    match dims {
        [] => dtype.name().to_owned(),
        dims => {
            let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
            format!("{}[{}]", dtype.name(), dims.join(", "))
        }
    }
}

fn declared(name: &str, tensor: &Tensor) -> String {
    format!("{} {name}", type_text(tensor.dtype(), tensor.dims()))
}

/// The declaration with a symbol for each size: what is equal in one graph may be so by chance.
fn with_symbols(name: &str, tensor: &Tensor) -> String {
    let dims = tensor.dims().iter().enumerate();
    let dims: Vec<String> = dims
        .map(|(i, d)| match i {
            0 => format!("{name}_batch"),
            _ => d.to_string(),
        })
        .collect();
    match dims.as_slice() {
        [] => declared(name, tensor),
        dims => format!("{}[{}] {name}", tensor.dtype().name(), dims.join(", ")),
    }
}

fn elements(tensor: &Tensor) -> Option<Vec<f64>> {
    Some(tensor.to_f64s().ok()?.into_owned())
}

fn largest(tensor: &Tensor) -> f64 {
    let elements = elements(tensor).into_iter().flatten();
    elements.fold(0.0, |m: f64, v| m.max(v.abs()))
}

/// Whether a tensor is small, and its elements are neither infinite nor huge.
fn is_modest(tensor: &Tensor) -> bool {
    let limit = if tensor.dtype().is_float() { 1e3 } else { 1e6 };
    tensor.len() <= 4000
        && elements(tensor).is_some_and(|e| e.iter().all(|v| v.is_finite() && v.abs() <= limit))
}

/// How much of the largest element the noise of one node is.
fn noise_of(dtype: DType) -> Option<f64> {
    Some(match dtype {
        DType::F32 => 1e-6,
        // Some kernels compute these as float32.
        DType::F64 => 1e-8,
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        _ => return None,
    })
}

/// The tensor with the noise of one node more. What is not float gets none.
fn with_noise(random: &mut Random, tensor: &Tensor, exact: &Tensor) -> Option<Tensor> {
    if tensor.dims() != exact.dims() || tensor.dtype() != exact.dtype() {
        return None;
    }
    let Some(noise) = noise_of(tensor.dtype()) else {
        return Some(tensor.clone());
    };
    let noise = noise * largest(exact);
    let noisy = elements(tensor)?
        .into_iter()
        .map(|v| v + noise * random.unit());
    let noisy = Tensor::from_vec(tensor.dims(), noisy.collect::<Vec<f64>>());
    noisy.and_then(|t| t.cast(tensor.dtype(), true)).ok()
}

/// Whether noise has moved a value but little.
fn is_near(noisy: &Tensor, exact: &Tensor) -> bool {
    let Some(noise) = noise_of(exact.dtype()) else {
        return noisy == exact;
    };
    moved(noisy, exact) <= 1e3 * noise.max(1e-6) * largest(exact).max(1e-3)
}

/// How far apart two tensors are, at most.
fn moved(a: &Tensor, b: &Tensor) -> f64 {
    let (Some(a), Some(b)) = (elements(a), elements(b)) else {
        return 0.0;
    };
    let apart = a.iter().zip(&b).map(|(a, b)| (a - b).abs());
    apart.fold(0.0, f64::max)
}

fn tolerance(known: &Known) -> Tolerance {
    let [exact, a, b] = &known.traces;
    let noise = noise_of(exact.dtype()).unwrap_or(0.0);
    Tolerance {
        rtol: 0.0,
        // Runtimes may take numbers that are not normal for zero.
        atol: 1e-30 + 20.0 * (moved(a, exact).max(moved(b, exact)) + noise * largest(exact)),
    }
}
