//! The node tests of the ONNX package, one folder each under the folder that the variable
//! `ONNXQ_NODE_TESTS` names: `model.onnx`, `tol` (relative and absolute tolerance), and values as
//! `input_<i>.tensor.pb` or `output_<i>.tensor.pb`; elements of a sequence as
//! `input_<i>.seq.<k>.pb` beside an empty `input_<i>.seq`, an absent optional value as
//! `input_<i>.none`. Passes where the variable is not set.
//!
//! `ONNXQ_NODE_TESTS_ONLY` picks those whose operators are all in a list separated by commas.
//! `ONNXQ_NODE_TESTS_UPGRADE` is an opset that every model is brought to first.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use onnxq_ir::{Graph, Model, ValueId};
use onnxq_ops::{Fact, Value, infer, interpret::Interpreter, upgrade};
use onnxq_tensor::{Buffer, DType, Dim, Tensor, TensorError};

/// Cases in which ONNX Runtime gives something else than the package expects, and so do we: with
/// `align_corners` coordinates are spread over the size of the result, not over the size before it
/// was rounded down.
static LIKE_ONNX_RUNTIME: &[&str] = &[
    "test_resize_downsample_scales_cubic_align_corners",
    "test_resize_downsample_scales_linear_align_corners",
];

/// Cases in bfloat16 that expect every intermediate value rounded; here only the result is.
static ROUNDED_ONCE: &[&str] = &[
    "test_attention_3d_causal_bf16",
    "test_attention_4d_attn_mask_causal_bf16",
    "test_attention_4d_causal_bf16",
    "test_attention_4d_causal_padded_kv_bf16",
    "test_attention_4d_padded_kv_bf16",
];

#[test]
#[expect(
    clippy::print_stderr,
    reason = "why nothing is tested, and how much is"
)]
fn node_cases() {
    let Some(root) = std::env::var_os("ONNXQ_NODE_TESTS") else {
        eprintln!("skipped: ONNXQ_NODE_TESTS names no folder of node tests");
        return;
    };
    let mut folders: Vec<PathBuf> = fs::read_dir(&root)
        .expect("the folder can be read")
        .map(|e| e.expect("the folder can be read").path())
        .collect();
    folders.sort();
    let mut by_op: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut failures = String::new();
    for folder in &folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if LIKE_ONNX_RUNTIME.contains(&&*name) || ROUNDED_ONCE.contains(&&*name) {
            continue;
        }
        let Some((ops, result)) = run(folder) else {
            continue;
        };
        let count = by_op.entry(ops).or_default();
        count.1 += 1;
        match result {
            Ok(()) => count.0 += 1,
            Err(message) => {
                let _ = writeln!(failures, "{name}: {message}");
            }
        }
    }
    let sum = |(p, a): (usize, usize), (passed, all): &(usize, usize)| (p + passed, a + all);
    let (passed, all) = by_op.values().fold((0, 0), sum);
    for (op, (passed, all)) in by_op.iter().filter(|(_, (p, a))| p < a) {
        eprintln!("{op}: {passed} of {all}");
    }
    eprintln!("{passed} of {all} node tests pass");
    assert!(failures.is_empty(), "{failures}");
}

/// The operators of a case, and whether it passes; `None` where it is not picked.
fn run(folder: &Path) -> Option<(String, Result<(), String>)> {
    let def = match onnxq_onnx::load(&folder.join("model.onnx")) {
        Ok(def) => def,
        Err(e) => return Some(("?".to_owned(), Err(describe(&e)))),
    };
    let model = match Model::from_def(def) {
        Ok(model) => model,
        Err(e) => return Some(("?".to_owned(), Err(describe(&e)))),
    };
    let mut ops: Vec<String> = Vec::new();
    model.for_each_graph(|g| {
        let of_graph = g.node_ids().filter_map(|n| g.op(n));
        ops.extend(of_graph.map(|op| op.qualified()));
    });
    ops.sort();
    ops.dedup();
    if let Ok(only) = std::env::var("ONNXQ_NODE_TESTS_ONLY") {
        let only: Vec<&str> = only.split(',').collect();
        if !ops.iter().all(|op| only.contains(&op.as_str())) {
            return None;
        }
    }
    Some((ops.join("+"), check(folder, model)))
}

fn check(folder: &Path, mut model: Model) -> Result<(), String> {
    if let Ok(target) = std::env::var("ONNXQ_NODE_TESTS_UPGRADE") {
        let target = target.parse().map_err(|_| "the target is no opset")?;
        infer::annotate(&mut model);
        upgrade::upgrade(&mut model, target).map_err(|obstacles| format!("{obstacles:?}"))?;
    }
    let inputs = (0..model.graph.inputs().len()).map(|i| value(folder, "input", i));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    sound(&model, &inputs)?;
    let results = Interpreter::new(&model).run(&model.graph, inputs);
    let results = results.map_err(|e| describe(&e))?;
    // Inference has to find what the model declares of its outputs.
    let declared: Vec<_> = model.graph.outputs.iter().map(|o| o.ty.clone()).collect();
    for v in model.graph.results().into_iter().flatten() {
        if !model.graph.inputs().contains(&v.node) {
            model.graph.set_type(v, None);
        }
    }
    let facts = infer::analyze(&model).results(&model.graph);
    let text = fs::read_to_string(folder.join("tol")).map_err(|e| e.to_string())?;
    let mut numbers = text.split_whitespace().map(|t| t.parse().unwrap_or(1e-6));
    let mut tolerance = || numbers.next().unwrap_or(1e-6);
    let tolerance = (tolerance(), tolerance());
    for (i, found) in results.iter().enumerate() {
        let Some(expected) = value(folder, "output", i)? else {
            continue;
        };
        close(found, &expected, tolerance).map_err(|e| format!("output {i}: {e}"))?;
        if let Value::Tensor(t) = &expected {
            let rank = declared[i].as_ref().and_then(|t| Some(t.shape()?.len()));
            check_fact(&facts[i], t, rank, tolerance).map_err(|e| format!("output {i}: {e}"))?;
        }
    }
    Ok(())
}

/// Whether what is inferred of every value is true of it: dimensions and elements that are
/// expressions over the dimensions of the inputs.
fn sound(model: &Model, inputs: &[Option<Value>]) -> Result<(), String> {
    let facts = infer::analyze(model);
    let mut symbols: BTreeMap<String, i64> = BTreeMap::new();
    for (&n, value) in model.graph.inputs().iter().zip(inputs) {
        let fact = facts.get(model.graph.result(n, 0));
        if let (Some(shape), Some(Value::Tensor(t))) = (fact.shape(), value) {
            for (d, &n) in shape.iter().zip(t.dims()) {
                if let Some(name) = d.is_symbol() {
                    symbols.insert(name.to_owned(), n as i64);
                }
            }
        }
    }
    let failure = std::cell::RefCell::new(None);
    let differs = |d: &Dim, found: i64| {
        let expected = d.eval(|name| symbols.get(name).copied());
        expected.is_some_and(|e| e != found)
    };
    let check = |graph: &Graph, v: ValueId, value: &Value| {
        let (fact, name) = (facts.get(v), &graph.value(v).name);
        let Value::Tensor(t) = value else { return };
        let wrong_shape = fact.shape().is_some_and(|shape| {
            let mut dims = shape.iter().zip(t.dims());
            shape.len() != t.rank() || dims.any(|(d, &n)| differs(d, n as i64))
        });
        if wrong_shape {
            let message = format!("'{name}' inferred {:?}, found {t:?}", fact.shape());
            failure.borrow_mut().get_or_insert(message);
        }
        if let (Some(value), Ok(found)) = (&fact.value, as_ints(t)) {
            let mut pairs = value.elems.iter().zip(&found);
            if value.elems.len() != found.len() || pairs.any(|(d, &n)| differs(d, n)) {
                let message = format!("'{name}' inferred {:?}, found {found:?}", value.elems);
                failure.borrow_mut().get_or_insert(message);
            }
        }
    };
    let interpreter = Interpreter::new(model).observed(&check);
    let _ = interpreter.run(&model.graph, inputs.to_vec());
    failure.into_inner().map_or(Ok(()), Err)
}

fn as_ints(t: &Tensor) -> Result<Vec<i64>, TensorError> {
    if t.dtype().is_float() {
        t.cast(DType::I64, true)?.to_i64s()
    } else {
        t.to_i64s()
    }
}

/// Whether what was inferred is true of the tensor, and not less than what the model declares.
fn check_fact(
    fact: &Fact,
    t: &Tensor,
    declared_rank: Option<usize>,
    tolerance: (f64, f64),
) -> Result<(), String> {
    if fact.dtype() != Some(t.dtype()) {
        return Err(format!("inferred {:?}", fact.ty));
    }
    let shape = fact.shape();
    let fits = shape.is_none_or(|shape| {
        let mut dims = shape.iter().zip(t.dims());
        shape.len() == t.rank() && dims.all(|(d, &n)| d.as_const().is_none_or(|d| d == n as i64))
    });
    if !fits {
        return Err(format!("inferred {shape:?}, found {:?}", t.dims()));
    }
    if declared_rank.is_some() && shape.is_none() {
        return Err("the rank is not inferred".to_owned());
    }
    match &fact.constant {
        Some(folded) => close_tensors(folded, t, tolerance).map_err(|e| format!("folded: {e}")),
        None => Ok(()),
    }
}

fn describe(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(e) = source {
        let _ = write!(text, ": {e}");
        source = e.source();
    }
    text
}

/// The value of an input or output; `None` where it is left out.
fn value(folder: &Path, kind: &str, i: usize) -> Result<Option<Value>, String> {
    let read = |path: &Path| -> Result<Value, String> {
        let bytes = fs::read(path).map_err(|e| e.to_string())?;
        let tensor = onnxq_onnx::tensor_from_bytes(&Buffer::from(bytes), &path.to_string_lossy());
        Ok(Value::Tensor(tensor.map_err(|e| describe(&e))?.1))
    };
    let path = |rest: &str| folder.join(format!("{kind}_{i}.{rest}"));
    if path("none").exists() {
        return Ok(Some(Value::Optional(None)));
    }
    let value = if path("tensor.pb").exists() {
        read(&path("tensor.pb"))?
    } else if path("seq").exists() {
        let mut elements = Vec::new();
        while path(&format!("seq.{}.pb", elements.len())).exists() {
            elements.push(read(&path(&format!("seq.{}.pb", elements.len())))?);
        }
        Value::Sequence(Arc::new(elements))
    } else {
        return Ok(None);
    };
    Ok(Some(if path("optional").exists() {
        Value::Optional(Some(Arc::new(value)))
    } else {
        value
    }))
}

fn close(found: &Value, expected: &Value, tolerance: (f64, f64)) -> Result<(), String> {
    match (found, expected) {
        (Value::Tensor(a), Value::Tensor(b)) => close_tensors(a, b, tolerance),
        (Value::Sequence(a), Value::Sequence(b)) => {
            if a.len() != b.len() {
                return Err(format!("{} elements instead of {}", a.len(), b.len()));
            }
            let mut pairs = a.iter().zip(b.iter());
            pairs.try_for_each(|(a, b)| close(a, b, tolerance))
        }
        (Value::Optional(Some(a)), Value::Optional(Some(b))) => close(a, b, tolerance),
        (Value::Optional(None), Value::Optional(None)) => Ok(()),
        _ => Err(format!("{found:?} instead of {expected:?}")),
    }
}

fn close_tensors(a: &Tensor, b: &Tensor, tolerance: (f64, f64)) -> Result<(), String> {
    if a.dtype() != b.dtype() || a.dims() != b.dims() {
        return Err(format!("{a:?} instead of {b:?}"));
    }
    if !a.dtype().is_float() {
        return if a == b {
            Ok(())
        } else if a.dtype() == DType::String {
            Err(format!("{:?} instead of {:?}", a.strings(), b.strings()))
        } else {
            Err(format!("{:?} instead of {:?}", a.to_i64s(), b.to_i64s()))
        };
    }
    let (x, y) = (
        a.to_f64s().map_err(|e| e.to_string())?,
        b.to_f64s().map_err(|e| e.to_string())?,
    );
    let (relative, absolute) = tolerance;
    let differs = |(x, y): (&f64, &f64)| {
        let same = x == y || x.is_nan() && y.is_nan();
        let near = (x - y).abs() <= absolute + relative * y.abs();
        !same && !near
    };
    let mut pairs = x.iter().zip(y.iter());
    match pairs.position(differs) {
        Some(i) => Err(format!("element {i} is {} instead of {}", x[i], y[i])),
        None => Ok(()),
    }
}
