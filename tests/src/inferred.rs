//! What is inferred of the values of a model from nothing but its inputs: by us, by
//! `onnx.shape_inference`, and by ONNX Runtime's symbolic tool. `tests/oracle/shapes.py`, which
//! asks the two, writes their answers under the target directory the first time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use onnxq_ir::{Graph, Model, Type, ValueId};
use onnxq_ops::{Value, infer::GraphFacts, interpret::Interpreter};
use onnxq_tensor::{DType, Dim, Shape, Tensor, TensorError};
use serde_json::Value as Json;

use crate::node_tests::made_once;

/// A tool that infers types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `onnx.shape_inference.infer_shapes`, not strict, with data propagation.
    Onnx,
    /// `onnxruntime.tools.symbolic_shape_infer`.
    Symbolic,
}

/// The types of values by their names, or why there are none.
pub type Types = Result<BTreeMap<String, Type>, String>;

/// What `tool` infers of the model `name` among the files in the folder `models`; `answers` is the
/// folder for the answers about them.
///
/// # Errors
/// The answers cannot be had.
pub fn inferred_by(tool: Tool, answers: &str, models: &Path, name: &str) -> Result<Types, String> {
    let root = made_once(answers, "shapes.py", &[models])?;
    let ending = match tool {
        Tool::Onnx => "onnx",
        Tool::Symbolic => "symbolic",
    };
    let path = root.join(format!("{name}.{ending}.json"));
    let failed = |e: &dyn std::fmt::Display| format!("cannot read {}: {e}", path.display());
    let text = fs::read_to_string(&path).map_err(|e| failed(&e))?;
    let found: Json = serde_json::from_str(&text).map_err(|e| failed(&e))?;
    let Json::Object(found) = found else {
        return Err(failed(&"no object"));
    };
    if let Some(Json::String(error)) = found.get("error") {
        return Ok(Err(error.clone()));
    }
    let known = found
        .into_iter()
        .filter_map(|(name, ty)| Some((name, read(&ty)?)));
    Ok(Ok(known.collect()))
}

/// A type as the script writes it.
fn read(json: &Json) -> Option<Type> {
    let inner = |key: &str| Some(json.get(key)?).map(|t| read(t).map(Box::new));
    if let Some(of) = inner("sequence") {
        return Some(Type::Sequence(of));
    }
    if let Some(of) = inner("optional") {
        return Some(Type::Optional(of));
    }
    let code = i32::try_from(json.get("tensor")?.as_i64()?).ok()?;
    let dim = |d: &Json| match d {
        Json::Number(n) => n.as_i64().map_or(Dim::UNKNOWN, Dim::known),
        Json::String(s) => Dim::parse(s),
        _ => Dim::UNKNOWN,
    };
    let shape = json.get("dims").and_then(Json::as_array);
    Some(Type::Tensor(onnxq_ir::TensorType {
        dtype: DType::from_onnx(code),
        shape: shape.map(|dims| dims.iter().map(dim).collect()),
    }))
}

/// Removes what a model says of its values, but for the types of its inputs, and gives their
/// unnamed dimensions the names that the script gives them. Inputs with a default are constants, as
/// both tools take them and preprocessing makes them.
pub fn strip(model: &mut Model) {
    model.graph.unlist_constants();
    model.for_each_graph_mut(|graph| {
        for n in graph.node_ids().collect::<Vec<_>>() {
            if graph.op(n).is_some() {
                let results = graph.node(n).results.len();
                (0..results).for_each(|i| graph.set_type(graph.result(n, i), None));
            }
        }
        for output in &mut graph.outputs {
            output.ty.as_mut().map(without_shape);
        }
    });
    for n in model.graph.inputs().to_vec() {
        let v = model.graph.result(n, 0);
        let name = model.graph.value(v).name.clone();
        let mut ty = model.graph.ty(v).cloned();
        if let Some(Type::Tensor(t)) = &mut ty {
            for (axis, dim) in t.shape.iter_mut().flatten().enumerate() {
                if dim.is_unknown() {
                    *dim = Dim::symbol(&format!("{name}_d{axis}"));
                }
            }
        }
        model.graph.set_type(v, ty);
    }
}

fn without_shape(ty: &mut Type) {
    match ty {
        Type::Tensor(t) | Type::SparseTensor(t) => t.shape = None,
        Type::Sequence(Some(of)) | Type::Optional(Some(of)) => without_shape(of),
        _ => {}
    }
}

/// The symbols in the dimensions of the inputs.
pub fn input_symbols(graph: &Graph) -> BTreeSet<String> {
    let mut symbols = BTreeSet::new();
    for &n in graph.inputs() {
        let shape = graph.ty(graph.result(n, 0)).and_then(Type::shape);
        for dim in shape.into_iter().flatten() {
            symbols.extend(dim.symbols().into_iter().map(str::to_owned));
        }
    }
    symbols
}

/// How much is known of a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Known {
    /// Nothing, or that it equals some other of which nothing is known.
    Nothing,
    /// An expression over the dimensions of the inputs.
    Symbolic,
    /// A number.
    Constant,
}

/// How much is known of `dim` where the dimensions of inputs are `symbols`.
pub fn known(dim: &Dim, symbols: &BTreeSet<String>) -> Known {
    match dim.as_const() {
        Some(_) => Known::Constant,
        None if dim.is_unknown() => Known::Nothing,
        None if dim.symbols().into_iter().all(|s| symbols.contains(s)) => Known::Symbolic,
        None => Known::Nothing,
    }
}

/// Whether `ours` says at least what `theirs` does.
///
/// # Errors
/// What it does not say, or says otherwise.
pub fn at_least(ours: &Type, theirs: &Type, symbols: &BTreeSet<String>) -> Result<(), String> {
    match (ours, theirs) {
        (Type::Sequence(_), Type::Sequence(None)) | (Type::Optional(_), Type::Optional(None)) => {
            Ok(())
        }
        (Type::Sequence(Some(a)), Type::Sequence(Some(b)))
        | (Type::Optional(Some(a)), Type::Optional(Some(b))) => at_least(a, b, symbols),
        (Type::Tensor(a), Type::Tensor(b)) => {
            if b.dtype.is_some() && a.dtype != b.dtype {
                return Err(format!("{:?} instead of {:?}", a.dtype, b.dtype));
            }
            match (&a.shape, &b.shape) {
                (_, None) => Ok(()),
                (Some(a), Some(b)) if a.len() == b.len() => shape_at_least(a, b, symbols),
                (a, Some(b)) => Err(format!("{a:?} instead of {b:?}")),
            }
        }
        _ => Err(format!("{ours:?} instead of {theirs:?}")),
    }
}

fn shape_at_least(ours: &Shape, theirs: &Shape, symbols: &BTreeSet<String>) -> Result<(), String> {
    for (a, b) in ours.iter().zip(theirs) {
        let differ = matches!((a.as_const(), b.as_const()), (Some(a), Some(b)) if a != b);
        if differ || known(a, symbols) < known(b, symbols) {
            return Err(format!("{ours:?} instead of {theirs:?}"));
        }
    }
    Ok(())
}

/// Whether what is inferred of every value of the main graph is true of it in a run on `inputs`.
/// Symbols stand for the dimensions of the inputs, or for what is first found in their place.
///
/// # Errors
/// The first value of which it is not. A node that fails ends the run, and is no error.
pub fn contradiction(
    model: &Model,
    facts: &GraphFacts,
    inputs: Vec<Option<Value>>,
) -> Result<(), String> {
    let symbols = std::cell::RefCell::new(BTreeMap::<String, i64>::new());
    let differs = |d: &Dim, found: i64| {
        let mut symbols = symbols.borrow_mut();
        match d.is_symbol() {
            Some(name) => *symbols.entry(name.to_owned()).or_insert(found) != found,
            None => (d.eval(|name| symbols.get(name).copied())).is_some_and(|e| e != found),
        }
    };
    let failure = std::cell::RefCell::new(None);
    let check = |graph: &Graph, v: ValueId, value: &Value| {
        if let Err(why) = is_true(facts, v, value, &differs) {
            let name = &graph.value(v).name;
            failure
                .borrow_mut()
                .get_or_insert(format!("'{name}' {why}"));
        }
    };
    // Symbols are those of the inputs first, whatever is computed before an input is read.
    for (&n, value) in model.graph.inputs().iter().zip(&inputs) {
        if let Some(value) = value {
            check(&model.graph, model.graph.result(n, 0), value);
        }
    }
    // A node that fails has no value to contradict.
    let _ = Interpreter::new(model)
        .observed(&check)
        .run(&model.graph, inputs);
    failure.into_inner().map_or(Ok(()), Err)
}

fn is_true(
    facts: &GraphFacts,
    v: ValueId,
    value: &Value,
    differs: &dyn Fn(&Dim, i64) -> bool,
) -> Result<(), String> {
    let fact = facts.get(v);
    if let Some(ty) = &fact.ty {
        type_is_true(ty, value, differs)?;
    }
    let Value::Tensor(t) = value else {
        return Ok(());
    };
    if let (Some(value), Ok(found)) = (&fact.value, as_ints(t)) {
        let mut pairs = value.elems.iter().zip(&found);
        if value.elems.len() != found.len() || pairs.any(|(d, &n)| differs(d, n)) {
            return Err(format!("inferred {:?}, found {found:?}", value.elems));
        }
    }
    match &fact.constant {
        Some(constant) if !constant.same(t) && constant != t => {
            Err(format!("folded to {constant:?}, found {t:?}"))
        }
        _ => Ok(()),
    }
}

fn type_is_true(
    ty: &Type,
    value: &Value,
    differs: &dyn Fn(&Dim, i64) -> bool,
) -> Result<(), String> {
    match (ty, value) {
        (Type::Tensor(ty), Value::Tensor(t)) => {
            let right = ty.dtype.is_none_or(|d| d == t.dtype())
                && ty.shape.as_ref().is_none_or(|shape| {
                    let mut dims = shape.iter().zip(t.dims());
                    shape.len() == t.rank() && !dims.any(|(d, &n)| differs(d, n as i64))
                });
            match right {
                true => Ok(()),
                false => Err(format!(
                    "inferred {ty:?}, found {:?} of {}",
                    t.dims(),
                    t.dtype()
                )),
            }
        }
        (Type::Sequence(Some(of)), Value::Sequence(values)) => {
            values.iter().try_for_each(|v| type_is_true(of, v, differs))
        }
        (Type::Optional(Some(of)), Value::Optional(Some(v))) => type_is_true(of, v, differs),
        (Type::Sequence(_), Value::Sequence(_)) | (Type::Optional(_), Value::Optional(_)) => Ok(()),
        // An optional type that a value of its own stands for.
        (Type::Optional(Some(of)), v) => type_is_true(of, v, differs),
        _ => Err(format!("inferred {ty:?}, found {value:?}")),
    }
}

fn as_ints(t: &Tensor) -> Result<Vec<i64>, TensorError> {
    match t.dtype().is_float() {
        true => t.cast(DType::I64, true)?.to_i64s(),
        false => t.to_i64s(),
    }
}
