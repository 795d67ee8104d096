//! Element by element.

use onnxq_tensor::DType;

use super::Recipe;
use crate::random_graph::{
    Generator, Group,
    draft::{Draft, Operand, attributes},
};

pub(super) static RECIPES: &[Recipe] = &[
    Recipe {
        name: "unary",
        make: unary,
    },
    Recipe {
        name: "binary",
        make: binary,
    },
    Recipe {
        name: "binary-constant",
        make: binary_constant,
    },
    Recipe {
        name: "variadic",
        make: variadic,
    },
    Recipe {
        name: "where",
        make: select,
    },
    Recipe {
        name: "logic",
        make: logic,
    },
    Recipe {
        name: "clip",
        make: clip,
    },
    Recipe {
        name: "cast",
        make: cast,
    },
    Recipe {
        name: "prelu",
        make: prelu,
    },
    Recipe {
        name: "integers",
        make: integers,
    },
    Recipe {
        name: "dropout",
        make: dropout,
    },
];

/// Operator, the opset it is from, and attributes of which each may be given.
static UNARY: &[(&str, i64, &[&str])] = &[
    ("Abs", 6, &[]),
    ("Atan", 7, &[]),
    ("Asinh", 9, &[]),
    ("Ceil", 6, &[]),
    ("Celu", 12, &["alpha = 0.7"]),
    ("Cos", 7, &[]),
    ("Elu", 6, &["alpha = 0.3"]),
    ("Erf", 9, &[]),
    ("Exp", 6, &[]),
    ("Floor", 6, &[]),
    ("Gelu", 20, &["approximate = \"tanh\""]),
    ("HardSigmoid", 6, &["alpha = 0.4", "beta = 0.3"]),
    ("HardSwish", 14, &[]),
    ("Identity", 1, &[]),
    ("LeakyRelu", 6, &["alpha = 0.2", "alpha = 1.5"]),
    ("Mish", 18, &[]),
    ("Neg", 6, &[]),
    ("Relu", 6, &[]),
    ("Round", 11, &[]),
    ("Selu", 6, &["gamma = 1.1"]),
    ("Shrink", 9, &["lambd = 0.3", "bias = 0.1"]),
    ("Sigmoid", 6, &[]),
    ("Sign", 9, &[]),
    ("Sin", 7, &[]),
    ("Softplus", 1, &[]),
    ("Softsign", 1, &[]),
    ("Tanh", 6, &[]),
    ("ThresholdedRelu", 10, &["alpha = 0.5"]),
];

fn unary(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(0..=6)?;
    let (op, since, attrs) = d.random().pick(UNARY);
    if since > d.opset() {
        return None;
    }
    let given: Vec<&str> = attrs
        .iter()
        .filter(|_| d.random().one_in(2))
        .copied()
        .collect();
    // The same attribute twice is no model.
    let given = match given.iter().filter(|a| a.starts_with("alpha")).count() {
        2.. => &given[..1],
        _ => &given[..],
    };
    let y = d.node(&attributes(op, given), &[&x.name]);
    d.done(&[y])
}

static BINARY: &[&str] = &["Add", "Sub", "Mul", "Add", "Mul", "Div", "Pow"];

fn binary(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let a = d.find(|k| k.dtype().is_float() || k.dtype() == DType::I64)?;
    let b = d.find(|k| k.dtype() == a.dtype)?;
    let op = d.random().pick(BINARY);
    let y = d.node(op, &[&a.name, &b.name]);
    d.done(&[y])
}

/// Dimensions that broadcast with those of `x`, into it or beyond it.
fn broadcast(d: &mut Draft<'_>, x: &Operand) -> Vec<usize> {
    let mut dims = x.dims.clone();
    for dim in &mut dims {
        if d.random().one_in(3) {
            *dim = 1;
        }
    }
    let drop = d.random().below(dims.len() + 1);
    match d.random().below(8) {
        0..4 => dims.drain(..drop).for_each(drop_it),
        4 => dims.clear(),
        5 => dims.insert(0, 1 + drop % 2),
        _ => {}
    }
    dims
}

fn drop_it(_: usize) {}

fn binary_constant(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(0..=5)?;
    let op = d.random().pick(BINARY);
    let dims = broadcast(&mut d, &x);
    // What changes nothing is among them.
    let c = match d.random().below(6) {
        0 => d.fill(x.dtype, &dims, 0.0),
        1 => d.fill(x.dtype, &dims, 1.0),
        _ if op == "Div" || op == "Pow" => d.constant(x.dtype, &dims, 0.5, 2.0),
        _ => d.constant(x.dtype, &dims, -1.0, 1.0),
    };
    let operands = match d.random().one_in(3) {
        true => [c, x.name],
        false => [x.name, c],
    };
    let y = d.node(op, &[&operands[0], &operands[1]]);
    d.done(&[y])
}

fn variadic(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(0..=5)?;
    let mut operands = vec![x.name.clone()];
    for _ in 0..d.random().below(4) {
        let other = match d.random().one_in(2) {
            true => d.find(|k| k.dtype() == x.dtype && k.dims() == x.dims)?.name,
            false => {
                let dims = broadcast(&mut d, &x);
                d.constant(x.dtype, &dims, -1.0, 1.0)
            }
        };
        operands.push(other);
    }
    let op = d.random().pick(&["Sum", "Mean", "Max", "Min"]);
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    let y = d.node(op, &operands);
    d.done(&[y])
}

fn logic(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.find(|k| k.dtype() != DType::Bool)?;
    let dims = broadcast(&mut d, &x);
    let c = match x.dtype.is_float() {
        true => d.constant(x.dtype, &dims, -0.5, 0.5),
        false => d.constant(x.dtype, &dims, 0.0, 3.0),
    };
    let op = d.random().pick(&["Greater", "Less", "Equal"]);
    let mut y = d.node(op, &[&x.name, &c]);
    if d.random().one_in(2) {
        y = d.node("Not", &[&y]);
    }
    if let Some(other) = d.find(|k| k.dtype() == DType::Bool) {
        let op = d.random().pick(&["And", "Or", "Xor"]);
        y = d.node(op, &[&y, &other.name]);
    }
    d.done(&[y])
}

fn select(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(0..=5)?;
    let condition = match d.find(|k| k.dtype() == DType::Bool) {
        Some(condition) => condition.name,
        None => {
            let dims = broadcast(&mut d, &x);
            d.constant(DType::Bool, &dims, 0.0, 1.0)
        }
    };
    let dims = broadcast(&mut d, &x);
    let other = d.constant(x.dtype, &dims, -1.0, 1.0);
    let y = d.node("Where", &[&condition, &x.name, &other]);
    d.done(&[y])
}

fn clip(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(0..=5)?;
    let mut bound = |value: f64| match d.random().below(3) {
        0 => "\"\"".to_owned(),
        _ => d.fill(x.dtype, &[], value),
    };
    let (min, max) = (bound(-0.5), bound(0.75));
    let mut operands = vec![x.name.as_str(), &min, &max];
    while operands.last() == Some(&"\"\"") {
        operands.pop();
    }
    let y = d.node("Clip", &operands);
    d.done(&[y])
}

fn cast(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.find(|_| true)?;
    // float, int32, int64, bool, float16, double: codes of the format.
    let to = d.random().pick(&[1, 1, 1, 6, 7, 9, 10, 11]);
    let mut y = d.node(&format!("Cast <to = {to}>"), &[&x.name]);
    if d.random().one_in(2) {
        y = d.node(&format!("Cast <to = {}>", x.dtype.onnx()), &[&y]);
    } else if d.opset() >= 15 && d.random().one_in(3) {
        y = d.node("CastLike", &[&y, &x.name]);
    }
    d.done(&[y])
}

fn prelu(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(1..=4)?;
    let mut dims = x.dims[1..].to_vec();
    dims.iter_mut().skip(1).for_each(|dim| *dim = 1);
    let slope = d.constant(x.dtype, &dims, 0.0, 1.0);
    let y = d.node("PRelu", &[&x.name, &slope]);
    d.done(&[y])
}

fn integers(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.find(|k| matches!(k.dtype(), DType::I64 | DType::I32))?;
    let dims = broadcast(&mut d, &x);
    let c = d.constant(x.dtype, &dims, 1.0, 4.0);
    let op = d
        .random()
        .pick(&["Mod", "Mod <fmod = 1>", "Div", "Add", "Mul", "Sub", "Max"]);
    if op == "Max" && d.opset() < 12 {
        return None;
    }
    let y = d.node(op, &[&x.name, &c]);
    d.done(&[y])
}

fn dropout(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(1..=4)?;
    if d.opset() < 12 {
        // What the mask is without training is not said before opset 12.
        let y = d.nodes("Dropout <ratio = 0.3>", &[&x.name], 2);
        return d.done(&y[..1]);
    }
    let ratio = d.fill(DType::F32, &[], 0.4);
    let operands = [x.name.as_str(), &ratio];
    let y = match d.random().below(3) {
        0 => d.nodes("Dropout", &operands[..1], 1),
        1 => d.nodes("Dropout", &operands, 1),
        _ => d.nodes("Dropout", &operands, 2),
    };
    d.done(&y)
}
