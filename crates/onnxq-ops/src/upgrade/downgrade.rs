//! Bringing a node to an earlier opset.
//!
//! Most of it follows from the two schemas: an attribute that came later goes where it has its
//! default, an operand that was an attribute becomes one where it is constant, and element types must
//! have been allowed. What else changed is in [`rules`].

mod rules;

use onnxq_ir::{Attr, Op};
use onnxq_tensor::{DType, Tensor};

use super::{
    UpgradeContext, UpgradeError,
    schema::{Formal, Schema, schema, versions},
};

type Outcome = Result<(), UpgradeError>;

/// Rewrites the node of `cx` from opset `cx.from()` to the earlier `cx.to()`.
pub(super) fn downgrade(cx: &mut UpgradeContext<'_>) -> Outcome {
    let op_type = cx.op().op_type.clone();
    let Some(newer) = schema(&op_type, cx.from()) else {
        return Ok(());
    };
    let appeared = |cx: &UpgradeContext<'_>| {
        let first = versions(&op_type)
            .and_then(|all| all.first())
            .map_or(0, |s| s.since);
        UpgradeError::new(format!("it appeared at opset {first}, after {}", cx.to()))
    };
    let older = schema(&op_type, cx.to());
    let Some(older) = older.filter(|s| !s.is_deprecated) else {
        let refused = appeared(cx);
        if !rules::decompose(cx)? {
            return Err(refused);
        }
        return match schema(&cx.op().op_type, cx.to()) {
            Some(said_by) => types_that_came_later(cx, said_by),
            None => Err(refused),
        };
    };
    if newer.since == older.since {
        return Ok(());
    }
    rules::before(cx)?;
    defaults_that_changed(cx, newer, older);
    attributes_that_came_later(cx, newer, older)?;
    operands_to_attributes(cx, newer, older)?;
    types_that_came_later(cx, older)?;
    axes_from_the_end(cx)
}

/// The text of a default, as an attribute has it.
fn is_default(attr: &Attr, default: &str) -> bool {
    match attr {
        Attr::Int(v) => default.parse() == Ok(*v),
        Attr::Float(v) => default.parse() == Ok(*v),
        Attr::String(s) => s.as_ref() == default.as_bytes(),
        Attr::Ints(v) => {
            let numbers: Result<Vec<i64>, _> = default.split(',').map(str::parse).collect();
            numbers.as_ref() == Ok(v)
        }
        _ => false,
    }
}

/// An attribute that is not there has the default of its time, which is then written.
fn defaults_that_changed(cx: &mut UpgradeContext<'_>, newer: &Schema, older: &Schema) {
    for (name, default) in newer.defaults() {
        let other = older.attribute(name);
        let changed = other.is_some_and(|other| other != Some(default));
        if changed && cx.op().attr(name).is_none() {
            let value: Attr = match (default.parse::<i64>(), default.parse::<f32>()) {
                (Ok(v), _) => v.into(),
                (_, Ok(v)) => v.into(),
                _ => Attr::string(default),
            };
            cx.op_mut().attrs.insert(name.to_owned(), value);
        }
    }
}

/// What says nothing though it is no default: a dilation of 1, a start at 0.
fn is_neutral(name: &str, attr: &Attr) -> bool {
    match (name, attr) {
        ("dilations", Attr::Ints(v)) => v.iter().all(|&d| d == 1),
        // Rounding and seeds of what is not computed alike anyway.
        ("seed", _) => true,
        _ => false,
    }
}

fn attributes_that_came_later(
    cx: &mut UpgradeContext<'_>,
    newer: &Schema,
    older: &Schema,
) -> Outcome {
    let later: Vec<String> = cx
        .op()
        .attrs
        .keys()
        .filter(|k| older.attribute(k).is_none())
        .cloned()
        .collect();
    for name in later {
        let known = newer.attribute(&name);
        let attr = cx.op().attr(&name);
        let goes = attr.is_none_or(|attr| {
            is_neutral(&name, attr) || known.flatten().is_some_and(|d| is_default(attr, d))
        });
        if !goes {
            return Err(UpgradeError::new(format!(
                "attribute '{name}' is not known at opset {}",
                cx.to()
            )));
        }
        cx.op_mut().attrs.shift_remove(&name);
    }
    Ok(())
}

/// The constant that operand `i` is.
fn constant(cx: &UpgradeContext<'_>, i: usize) -> Option<Tensor> {
    let v = cx.operand(i)?;
    match cx.graph.op(v.node) {
        Some(op) if op.op_type == "Constant" => match op.attr("value") {
            Some(Attr::Tensor(t)) => Some(t.clone()),
            _ => {
                let ints = op.ints("value_ints")?;
                Some(Tensor::vector(ints.to_vec()))
            }
        },
        _ => cx.graph.tensor(v).cloned(),
    }
}

/// The attribute that holds what the operand `formal` does.
fn as_attribute(name: &str, formal: &Formal, t: &Tensor) -> Result<Attr, UpgradeError> {
    let failed = || {
        UpgradeError::new(format!(
            "operand '{}' does not fit an attribute",
            formal.name
        ))
    };
    let is_list = matches!(
        name,
        "axes" | "starts" | "ends" | "pads" | "split" | "repeats" | "shape"
    );
    if t.dtype().is_float() {
        let v = t.to_f32s().map_err(|_| failed())?;
        return match (v.as_ref(), name) {
            (list, "scales") => Ok(Attr::Floats(list.to_vec())),
            (&[one], _) => Ok(one.into()),
            _ => Err(failed()),
        };
    }
    let v = t.to_i64s().map_err(|_| failed())?;
    match v.as_slice() {
        _ if is_list => Ok(Attr::Ints(v)),
        &[one] => Ok(one.into()),
        _ => Err(failed()),
    }
}

fn operands_to_attributes(cx: &mut UpgradeContext<'_>, newer: &Schema, older: &Schema) -> Outcome {
    let count = cx.graph.operands(cx.node).len();
    let mut kept = Vec::new();
    for i in 0..count {
        let (Some(v), Some(formal)) = (cx.operand(i), newer.operand(i)) else {
            kept.push(cx.operand(i));
            continue;
        };
        // In its place, maybe of another name.
        let same = older.operand(i).is_some_and(|old| old.name == formal.name);
        if same || older.attribute_like(formal.name).is_none() && older.operand(i).is_some() {
            kept.push(Some(v));
            continue;
        }
        let Some(name) = older.attribute_like(formal.name) else {
            return Err(UpgradeError::new(format!(
                "operand '{}' is not known at opset {}",
                formal.name,
                cx.to()
            )));
        };
        let Some(tensor) = constant(cx, i) else {
            return Err(UpgradeError::new(format!(
                "operand '{}', an attribute at opset {}, is not constant",
                formal.name,
                cx.to()
            )));
        };
        let attr = as_attribute(name, formal, &tensor)?;
        cx.op_mut().attrs.insert(name.to_owned(), attr);
    }
    while kept.last() == Some(&None) {
        kept.pop();
    }
    if kept.len() < older.required() || kept.iter().take(older.required()).any(Option::is_none) {
        return Err(UpgradeError::new(format!(
            "an operand is missing at opset {}",
            cx.to()
        )));
    }
    cx.graph.set_operands(cx.node, &kept);
    Ok(())
}

fn types_that_came_later(cx: &UpgradeContext<'_>, older: &Schema) -> Outcome {
    let refuse = |dtype: DType, formal: &Formal| {
        Err(UpgradeError::new(format!(
            "'{}' cannot be {dtype} at opset {}",
            formal.name,
            cx.to()
        )))
    };
    let dtype = |v| cx.graph.ty(v).and_then(onnxq_ir::Type::dtype);
    let is_tensor = |v| cx.graph.ty(v).is_some_and(|t| t.as_tensor().is_some());
    for i in 0..cx.graph.operands(cx.node).len() {
        let Some(v) = cx.operand(i).filter(|&v| is_tensor(v)) else {
            continue;
        };
        if let (Some(dtype), Some(formal)) = (dtype(v), older.operand(i))
            && !formal.takes(dtype)
        {
            return refuse(dtype, formal);
        }
    }
    for i in 0..cx.graph.node(cx.node).results.len() {
        let v = cx.graph.result(cx.node, i);
        if let (Some(dtype), Some(formal)) = (dtype(v), older.result(i))
            && is_tensor(v)
            && !formal.takes(dtype)
        {
            return refuse(dtype, formal);
        }
    }
    Ok(())
}

/// Until opset 11 axes were counted from the front.
fn axes_from_the_end(cx: &mut UpgradeContext<'_>) -> Outcome {
    if !cx.uncrosses(11) {
        return Ok(());
    }
    let inserted = match cx.op().op_type.as_str() {
        "Unsqueeze" => cx.op().ints("axes").map_or(0, <[i64]>::len),
        "OneHot" => 1,
        _ => 0,
    };
    let rank = cx.rank(0).map(|rank| (rank + inserted) as i64);
    let counted = |axis: i64| match (axis, rank) {
        (0.., _) => Ok(axis),
        (_, Some(rank)) => Ok(axis + rank),
        _ => Err(UpgradeError::new(
            "an axis is counted from the end, and the rank is unknown",
        )),
    };
    match cx.op().attr("axis") {
        Some(&Attr::Int(axis)) if axis < 0 => {
            let axis = counted(axis)?;
            cx.op_mut().attrs.insert("axis".to_owned(), axis.into());
        }
        _ => {}
    }
    if let Some(axes) = cx
        .op()
        .ints("axes")
        .filter(|axes| axes.iter().any(|&a| a < 0))
    {
        let axes: Result<Vec<i64>, _> = axes.iter().map(|&a| counted(a)).collect();
        cx.op_mut()
            .attrs
            .insert("axes".to_owned(), Attr::Ints(axes?));
    }
    Ok(())
}

/// Puts `op` in the place of the operator, with its operands and attributes of its own.
fn become_op(cx: &mut UpgradeContext<'_>, op: Op) {
    *cx.op_mut() = op;
}
