//! Products, convolutions, and what slides over images.

use super::Recipe;
use crate::random_graph::{
    Generator, Group,
    draft::{Draft, attributes},
};

pub(super) static RECIPES: &[Recipe] = &[
    Recipe {
        name: "matmul",
        make: matmul,
    },
    Recipe {
        name: "matmul-two",
        make: matmul_two,
    },
    Recipe {
        name: "gemm",
        make: gemm,
    },
    Recipe {
        name: "conv",
        make: conv,
    },
    Recipe {
        name: "conv",
        make: conv,
    },
    Recipe {
        name: "conv-transpose",
        make: conv_transpose,
    },
    Recipe {
        name: "pool",
        make: pool,
    },
    Recipe {
        name: "global-pool",
        make: global_pool,
    },
    Recipe {
        name: "einsum",
        make: einsum,
    },
    Recipe {
        name: "resize",
        make: resize,
    },
    Recipe {
        name: "recurrent",
        make: recurrent,
    },
];

fn matmul(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(1..=4)?;
    let inner = *x.dims.last()?;
    let columns = 1 + d.random().below(5);
    let dims = match d.random().below(4) {
        0 => vec![inner],
        1 => vec![1, inner, columns],
        _ => vec![inner, columns],
    };
    let w = d.constant(x.dtype, &dims, -0.7, 0.7);
    let y = d.node("MatMul", &[&x.name, &w]);
    d.done(&[y])
}

fn matmul_two(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(2..=4)?;
    let mut perm: Vec<usize> = (0..x.rank()).collect();
    perm.swap(x.rank() - 2, x.rank() - 1);
    let perm: Vec<String> = perm.iter().map(usize::to_string).collect();
    let t = d.node(
        &format!("Transpose <perm = [{}]>", perm.join(", ")),
        &[&x.name],
    );
    let y = d.node("MatMul", &[&x.name, &t]);
    d.done(&[y])
}

fn gemm(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(2..=2)?;
    let (a, b) = (d.random().one_in(3), d.random().one_in(2));
    let (rows, inner) = match a {
        true => (x.dims[1], x.dims[0]),
        false => (x.dims[0], x.dims[1]),
    };
    let columns = 1 + d.random().below(5);
    let w = match b {
        true => d.constant(x.dtype, &[columns, inner], -0.7, 0.7),
        false => d.constant(x.dtype, &[inner, columns], -0.7, 0.7),
    };
    let shapes: [&[usize]; 6] = [
        &[columns],
        &[rows, columns],
        &[rows, 1],
        &[1, columns],
        &[],
        &[1],
    ];
    let c = match d.random().below(7) {
        6 => None,
        i => Some(d.constant(x.dtype, shapes[i], -1.0, 1.0)),
    };
    let mut attrs = vec![];
    if a {
        attrs.push("transA = 1");
    }
    if b {
        attrs.push("transB = 1");
    }
    if d.random().one_in(3) {
        attrs.push("alpha = 0.5");
    }
    if d.random().one_in(3) {
        attrs.push("beta = -1.5");
    }
    let operands: Vec<&str> = [Some(x.name.as_str()), Some(&w), c.as_deref()]
        .into_iter()
        .flatten()
        .collect();
    let y = d.node(&attributes("Gemm", &attrs), &operands);
    d.done(&[y])
}

fn list(values: &[i64]) -> String {
    let list: Vec<String> = values.iter().map(i64::to_string).collect();
    format!("[{}]", list.join(", "))
}

fn some(d: &mut Draft<'_>, n: usize, lo: i64, hi: i64) -> Vec<i64> {
    (0..n).map(|_| d.random().within(lo, hi)).collect()
}

/// Strides, dilations and padding, each given or not.
fn window(d: &mut Draft<'_>, spatial: usize, dilates: bool) -> Vec<String> {
    let mut attrs = Vec::new();
    if d.random().one_in(2) {
        let strides = some(d, spatial, 1, 2);
        attrs.push(format!("strides = {}", list(&strides)));
    }
    if dilates && d.random().one_in(4) {
        let dilations = some(d, spatial, 1, 2);
        attrs.push(format!("dilations = {}", list(&dilations)));
    }
    match d.random().below(5) {
        0 => attrs.push("auto_pad = \"SAME_UPPER\"".to_owned()),
        1 => attrs.push("auto_pad = \"SAME_LOWER\"".to_owned()),
        2 => attrs.push("auto_pad = \"VALID\"".to_owned()),
        3 => {
            let pads = some(d, 2 * spatial, 0, 1);
            attrs.push(format!("pads = {}", list(&pads)));
        }
        _ => {}
    }
    attrs
}

fn joined(op: &str, attrs: &[String]) -> String {
    let attrs: Vec<&str> = attrs.iter().map(String::as_str).collect();
    attributes(op, &attrs)
}

fn conv(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(3..=5)?;
    let (channels, spatial) = (x.dims[1], x.rank() - 2);
    let group = match d.random().below(3) {
        0 => channels,
        1 if channels % 2 == 0 => 2,
        _ => 1,
    };
    let out = group * (1 + d.random().below(2));
    let mut dims = vec![out, channels / group];
    dims.extend((0..spatial).map(|_| 1 + d.random().below(3)));
    let w = d.constant(x.dtype, &dims, -0.6, 0.6);
    let mut attrs = window(&mut d, spatial, true);
    if group != 1 {
        attrs.push(format!("group = {group}"));
    }
    if d.random().one_in(2) {
        let kernel: Vec<i64> = dims[2..].iter().map(|&d| d as i64).collect();
        attrs.push(format!("kernel_shape = {}", list(&kernel)));
    }
    let bias = d.random().one_in(2).then_some(());
    let bias = bias.map(|()| d.constant(x.dtype, &[out], -1.0, 1.0));
    let operands: Vec<&str> = [Some(x.name.as_str()), Some(&w), bias.as_deref()]
        .into_iter()
        .flatten()
        .collect();
    let y = d.node(&joined("Conv", &attrs), &operands);
    d.done(&[y])
}

fn conv_transpose(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(3..=4)?;
    let (channels, spatial) = (x.dims[1], x.rank() - 2);
    let mut dims = vec![channels, 1 + d.random().below(2)];
    dims.extend((0..spatial).map(|_| 1 + d.random().below(3)));
    let w = d.constant(x.dtype, &dims, -0.6, 0.6);
    let mut attrs = window(&mut d, spatial, false);
    // Where the stride is larger than the kernel, runtimes differ on what SAME is.
    attrs.retain(|a| !a.contains("SAME"));
    let y = d.node(&joined("ConvTranspose", &attrs), &[&x.name, &w]);
    d.done(&[y])
}

fn pool(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(3..=4)?;
    let spatial = x.rank() - 2;
    let mut attrs = window(&mut d, spatial, false);
    let kernel = some(&mut d, spatial, 1, 3);
    attrs.push(format!("kernel_shape = {}", list(&kernel)));
    let padded = attrs.iter().any(|a| a.starts_with("pads"));
    if d.random().one_in(3) && !attrs.iter().any(|a| a.starts_with("auto_pad")) {
        attrs.push("ceil_mode = 1".to_owned());
    }
    match d.random().below(3) {
        0 => {
            let y = d.nodes(&joined("MaxPool", &attrs), &[&x.name], 2);
            d.done(&y)
        }
        1 => {
            let y = d.node(&joined("MaxPool", &attrs), &[&x.name]);
            d.done(&[y])
        }
        _ => {
            if padded && d.random().one_in(2) {
                attrs.push("count_include_pad = 1".to_owned());
            }
            let y = d.node(&joined("AveragePool", &attrs), &[&x.name]);
            d.done(&[y])
        }
    }
}

fn global_pool(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(3..=4)?;
    let op = d
        .random()
        .pick(&["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]);
    let y = d.node(op, &[&x.name]);
    d.done(&[y])
}

fn einsum(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(2..=2)?;
    if d.opset() < 12 {
        return None;
    }
    let c = d.constant(x.dtype, &[x.dims[1], 3], -0.7, 0.7);
    let equation = d.random().pick(&[
        "ij,jk->ik",
        "ij,jk->ki",
        "ij,jk->i",
        "ij,jk",
        "...j,jk->...k",
    ]);
    let y = d.node(
        &format!("Einsum <equation = \"{equation}\">"),
        &[&x.name, &c],
    );
    d.done(&[y])
}

fn resize(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(4..=4)?;
    let mode = d.random().pick(&["nearest", "linear", "cubic"]);
    let coordinates = d.random().pick(&[
        "asymmetric",
        "half_pixel",
        "align_corners",
        "pytorch_half_pixel",
    ]);
    let nearest = d.random().pick(&["floor", "round_prefer_floor", "ceil"]);
    let attrs = format!(
        "mode = \"{mode}\", coordinate_transformation_mode = \"{coordinates}\", nearest_mode = \"{nearest}\""
    );
    let roi = match d.opset() {
        13.. => "\"\"".to_owned(),
        _ => d.fill(x.dtype, &[0], 0.0),
    };
    let y = if d.random().one_in(2) {
        let mut sizes: Vec<i64> = x.dims.iter().map(|&d| d as i64).collect();
        sizes[2] = d.random().within(1, 7);
        sizes[3] = d.random().within(1, 7);
        let sizes = d.ints(&sizes);
        let scales = match d.opset() {
            13.. => "\"\"".to_owned(),
            _ => d.fill(onnxq_tensor::DType::F32, &[0], 0.0),
        };
        d.node(
            &attributes("Resize", &[&attrs]),
            &[&x.name, &roi, &scales, &sizes],
        )
    } else {
        let one = onnxq_tensor::DType::F32;
        let (ones, scale) = (
            d.fill(one, &[2], 1.0),
            d.random().pick(&[0.5, 1.0, 1.5, 2.0]),
        );
        let scale = d.fill(one, &[2], scale);
        let scales = d.node("Concat <axis = 0>", &[&ones, &scale]);
        d.node(&attributes("Resize", &[&attrs]), &[&x.name, &roi, &scales])
    };
    d.done(&[y])
}

fn recurrent(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(3..=3)?;
    let (op, gates, states) = d
        .random()
        .pick(&[("RNN", 1, 1), ("GRU", 3, 1), ("LSTM", 4, 2)]);
    let (batch, features) = (x.dims[1], x.dims[2]);
    let hidden = 1 + d.random().below(3);
    let direction = d.random().pick(&["forward", "reverse", "bidirectional"]);
    let count = if direction == "bidirectional" { 2 } else { 1 };
    let w = d.constant(x.dtype, &[count, gates * hidden, features], -0.5, 0.5);
    let r = d.constant(x.dtype, &[count, gates * hidden, hidden], -0.5, 0.5);
    let mut operands = vec![x.name.clone(), w, r];
    let optional = |d: &mut Draft<'_>, dims: &[usize]| match d.random().one_in(2) {
        true => "\"\"".to_owned(),
        false => d.constant(x.dtype, dims, -0.5, 0.5),
    };
    operands.push(optional(&mut d, &[count, 2 * gates * hidden]));
    operands.push("\"\"".to_owned());
    for _ in 0..states {
        operands.push(optional(&mut d, &[count, batch, hidden]));
    }
    while operands.last().is_some_and(|o| o == "\"\"") {
        operands.pop();
    }
    let mut attrs = format!("hidden_size = {hidden}, direction = \"{direction}\"");
    if op == "GRU" && d.random().one_in(2) {
        attrs.push_str(", linear_before_reset = 1");
    }
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    let results = 1 + d.random().below(states + 1);
    let y = d.nodes(&attributes(op, &[&attrs]), &operands, results);
    d.done(&y)
}
