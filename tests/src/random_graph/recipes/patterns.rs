//! What passes look for: groups that they fuse, fold or drop, and near misses of these.

use onnxq_tensor::DType;

use super::Recipe;
use crate::random_graph::{Generator, Group, draft::Draft};

pub(super) static RECIPES: &[Recipe] = &[
    Recipe {
        name: "conv-and-scale",
        make: conv_and_scale,
    },
    Recipe {
        name: "scale-and-conv",
        make: scale_and_conv,
    },
    Recipe {
        name: "pad-and-window",
        make: pad_and_window,
    },
    Recipe {
        name: "matmul-and-bias",
        make: matmul_and_bias,
    },
    Recipe {
        name: "gelu",
        make: gelu,
    },
    Recipe {
        name: "layer-norm",
        make: layer_norm,
    },
    Recipe {
        name: "nothing",
        make: nothing,
    },
    Recipe {
        name: "twice",
        make: twice,
    },
    Recipe {
        name: "folded",
        make: folded,
    },
    Recipe {
        name: "call",
        make: call,
    },
];

/// The dimensions of a parameter of one element for each channel, or for all.
fn per_channel(d: &mut Draft<'_>, channels: usize, spatial: usize) -> Vec<usize> {
    match d.random().below(4) {
        0 => vec![],
        1 => vec![1],
        2 => [vec![1, channels], vec![1; spatial]].concat(),
        _ => [vec![channels], vec![1; spatial]].concat(),
    }
}

fn conv_and_scale(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(3..=4)?;
    let (channels, spatial) = (x.dims[1], x.rank() - 2);
    let out = 1 + d.random().below(4);
    let transposed = d.random().one_in(4);
    let kernel = vec![1 + d.random().below(2); spatial];
    let dims = match transposed {
        true => [vec![channels, out], kernel].concat(),
        false => [vec![out, channels], kernel].concat(),
    };
    let w = d.constant(x.dtype, &dims, -0.6, 0.6);
    let bias = d.constant(x.dtype, &[out], -1.0, 1.0);
    let operands = [x.name.as_str(), &w, &bias];
    let operands = if d.random().one_in(2) {
        &operands[..]
    } else {
        &operands[..2]
    };
    let c = d.node(if transposed { "ConvTranspose" } else { "Conv" }, operands);
    let mut y = c.clone();
    if d.random().one_in(2) {
        let mut parameter = |lo, hi| d.constant(x.dtype, &[out], lo, hi);
        let parameters = [
            parameter(0.5, 2.0),
            parameter(-1.0, 1.0),
            parameter(-1.0, 1.0),
            parameter(0.2, 2.0),
        ];
        let [s, b, m, v] = parameters.each_ref().map(String::as_str);
        y = d.node("BatchNormalization", &[&y, s, b, m, v]);
    } else {
        for op in ["Mul", "Add"] {
            if d.random().one_in(4) {
                continue;
            }
            let dims = per_channel(&mut d, out, spatial);
            let p = d.constant(x.dtype, &dims, -1.0, 1.0);
            y = match d.random().one_in(3) {
                true => d.node(op, &[&p, &y]),
                false => d.node(op, &[&y, &p]),
            };
        }
    }
    // Sometimes somebody else reads what comes between.
    match d.random().one_in(4) {
        true => d.done(&[y, c]),
        false => d.done(&[y]),
    }
}

fn scale_and_conv(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(3..=4)?;
    let (channels, spatial) = (x.dims[1], x.rank() - 2);
    let mut parameter = |lo, hi| d.constant(x.dtype, &[channels], lo, hi);
    let parameters = [
        parameter(0.5, 2.0),
        parameter(-1.0, 1.0),
        parameter(-1.0, 1.0),
        parameter(0.2, 2.0),
    ];
    let [s, b, m, v] = parameters.each_ref().map(String::as_str);
    let n = d.node("BatchNormalization", &[&x.name, s, b, m, v]);
    let dims = [vec![2, channels], vec![2; spatial]].concat();
    let w = d.constant(x.dtype, &dims, -0.6, 0.6);
    let pads = match d.random().one_in(2) {
        true => format!(" <pads = [{}]>", vec!["1"; 2 * spatial].join(", ")),
        false => String::new(),
    };
    let y = d.node(&format!("Conv{pads}"), &[&n, &w]);
    d.done(&[y])
}

fn pad_and_window(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(4..=4)?;
    let value = d.random().pick(&[0.0, 0.0, 0.5]);
    let mut pads: Vec<i64> = (0..8).map(|_| d.random().within(0, 2)).collect();
    for at in [0, 1, 4, 5] {
        if d.random().below(8) > 0 {
            pads[at] = 0;
        }
    }
    let (pads, value) = (d.ints(&pads), d.fill(x.dtype, &[], value));
    let mode = d.random().pick(&["Pad", "Pad", "Pad <mode = \"edge\">"]);
    let p = d.node(mode, &[&x.name, &pads, &value]);
    let y = match d.random().below(3) {
        0 => d.node(
            "MaxPool <kernel_shape = [2, 2], pads = [0, 1, 0, 1]>",
            &[&p],
        ),
        1 => d.node(
            "AveragePool <kernel_shape = [2, 2], count_include_pad = 1>",
            &[&p],
        ),
        _ => {
            let w = d.constant(x.dtype, &[2, x.dims[1], 2, 2], -0.6, 0.6);
            d.node("Conv <pads = [1, 0, 0, 1]>", &[&p, &w])
        }
    };
    d.done(&[y])
}

fn matmul_and_bias(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(2..=3)?;
    let columns = 1 + d.random().below(4);
    let w = d.constant(x.dtype, &[*x.dims.last()?, columns], -0.7, 0.7);
    let m = d.node("MatMul", &[&x.name, &w]);
    let rows = x.dims[x.rank() - 2];
    let shapes: [&[usize]; 6] = [
        &[columns],
        &[1, columns],
        &[],
        &[rows, columns],
        &[rows, 1],
        &[1, 1, columns],
    ];
    let dims = d.random().pick(&shapes);
    let b = d.constant(x.dtype, dims, -1.0, 1.0);
    let y = match d.random().one_in(3) {
        true => d.node("Add", &[&b, &m]),
        false => d.node("Add", &[&m, &b]),
    };
    d.done(&[y])
}

fn gelu(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(1..=4)?;
    // The root, or nearly.
    let root = d
        .random()
        .pick(&[std::f64::consts::SQRT_2, std::f64::consts::SQRT_2, 1.4]);
    let root = d.fill(x.dtype, &[], root);
    let scaled = d.node("Div", &[&x.name, &root]);
    let erf = d.node("Erf", &[&scaled]);
    let one = d.fill(x.dtype, &[], 1.0);
    let sum = d.node("Add", &[&erf, &one]);
    let half = d.fill(x.dtype, &[], 0.5);
    let y = match d.random().one_in(2) {
        true => {
            let p = d.node("Mul", &[&x.name, &sum]);
            d.node("Mul", &[&p, &half])
        }
        false => {
            let h = d.node("Mul", &[&x.name, &half]);
            d.node("Mul", &[&h, &sum])
        }
    };
    d.done(&[y])
}

fn layer_norm(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(2..=4)?;
    let axis = d.random().pick(&[-1, -1, 1]);
    let mean = d.listed("ReduceMean", "", &x.name, "axes", 18, &[axis]);
    let centred = d.node("Sub", &[&x.name, &mean]);
    let two = d.fill(x.dtype, &[], 2.0);
    let squares = d.node("Pow", &[&centred, &two]);
    let var = d.listed("ReduceMean", "", &squares, "axes", 18, &[axis]);
    let epsilon = d.fill(x.dtype, &[], 0.001);
    let sum = d.node("Add", &[&var, &epsilon]);
    let deviation = d.node("Sqrt", &[&sum]);
    let mut y = d.node("Div", &[&centred, &deviation]);
    let size = [*x.dims.last()?];
    if d.random().below(3) > 0 {
        let scale = d.constant(x.dtype, &size, 0.5, 2.0);
        y = d.node("Mul", &[&y, &scale]);
        let bias = d.constant(x.dtype, &size, -1.0, 1.0);
        y = d.node("Add", &[&y, &bias]);
    }
    d.done(&[y])
}

/// What comes to nothing: pairs that undo each other, and operators that do nothing here.
fn nothing(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(2..=4)?;
    let y = match d.random().below(7) {
        0 => {
            let t = d.node("Transpose", &[&x.name]);
            d.node("Transpose", &[&t])
        }
        1 => {
            let s = d.ints(&[-1]);
            let flat = d.node("Reshape", &[&x.name, &s]);
            let s = d.node("Shape", &[&x.name]);
            d.node("Reshape", &[&flat, &s])
        }
        2 => {
            let i = d.node("Identity", &[&x.name]);
            d.node("Identity", &[&i])
        }
        3 => d.node("Concat <axis = 0>", &[&x.name]),
        4 => {
            let s = d.node("Shape", &[&x.name]);
            d.node("Expand", &[&x.name, &s])
        }
        5 => {
            let pads = vec![0; 2 * x.rank()];
            let pads = d.ints(&pads);
            d.node("Pad", &[&x.name, &pads])
        }
        _ => {
            let u = d.listed("Unsqueeze", "", &x.name, "axes", 13, &[0]);
            d.listed("Squeeze", "", &u, "axes", 13, &[0])
        }
    };
    d.done(&[y])
}

/// The same twice, as common subexpressions.
fn twice(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(0..=4)?;
    let op = d.random().pick(&["Tanh", "Elu <alpha = 0.5>", "Neg"]);
    let (a, b) = (d.node(op, &[&x.name]), d.node(op, &[&x.name]));
    let y = d.node("Sub", &[&a, &b]);
    let z = d.node("Add", &[&x.name, &y]);
    d.done(&[z, a])
}

/// What constants alone decide.
fn folded(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(1..=4)?;
    let size = [*x.dims.last()?];
    let (a, b) = (
        d.constant(x.dtype, &size, -1.0, 1.0),
        d.constant(x.dtype, &size, 0.5, 2.0),
    );
    let c = d.node("Div", &[&a, &b]);
    let c = d.node("Sigmoid", &[&c]);
    let y = d.node("Mul", &[&x.name, &c]);
    d.done(&[y])
}

/// A function of the model, called twice.
fn call(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(1..=4)?;
    let name = d.generator.name("F");
    let opset = d.opset();
    let body = d.random().pick(&[
        "t = Tanh (a) b = Mul (t, a)",
        "b = LeakyRelu <alpha: float = @alpha> (a)",
        "s = Sigmoid (a) t = Elu <alpha: float = @alpha> (s) b = Add (t, a)",
    ]);
    d.function(format!(
        "<domain: \"local\", opset_import: [\"\": {opset}]> {name} <alpha: float = 0.5> (a) => (b) {{ {body} }}"
    ));
    let y = d.node(&format!("local.{name} <alpha = 0.25>"), &[&x.name]);
    let z = d.node(&format!("local.{name}"), &[&y]);
    let k = d.fill(DType::F32, &[], 0.5);
    match x.dtype == DType::F32 {
        true => {
            let z = d.node("Mul", &[&z, &k]);
            d.done(&[z])
        }
        false => d.done(&[z]),
    }
}
