//! What moves and selects elements, and computes shapes.

use onnxq_tensor::DType;

use super::Recipe;
use crate::random_graph::{
    Generator, Group,
    draft::{Draft, Operand},
};

pub(super) static RECIPES: &[Recipe] = &[
    Recipe {
        name: "transpose",
        make: transpose,
    },
    Recipe {
        name: "reshape",
        make: reshape,
    },
    Recipe {
        name: "reshape-by-shape",
        make: reshape_by_shape,
    },
    Recipe {
        name: "flatten",
        make: flatten,
    },
    Recipe {
        name: "squeeze",
        make: squeeze,
    },
    Recipe {
        name: "unsqueeze",
        make: unsqueeze,
    },
    Recipe {
        name: "slice",
        make: slice,
    },
    Recipe {
        name: "split",
        make: split,
    },
    Recipe {
        name: "concat",
        make: concat,
    },
    Recipe {
        name: "gather",
        make: gather,
    },
    Recipe {
        name: "gather-elements",
        make: gather_elements,
    },
    Recipe {
        name: "gather-nd",
        make: gather_nd,
    },
    Recipe {
        name: "scatter",
        make: scatter,
    },
    Recipe {
        name: "pad",
        make: pad,
    },
    Recipe {
        name: "expand",
        make: expand,
    },
    Recipe {
        name: "tile",
        make: tile,
    },
    Recipe {
        name: "shape",
        make: shape,
    },
    Recipe {
        name: "fill",
        make: fill,
    },
    Recipe {
        name: "depth-space",
        make: depth_space,
    },
    Recipe {
        name: "trilu",
        make: trilu,
    },
    Recipe {
        name: "one-hot",
        make: one_hot,
    },
    Recipe {
        name: "select",
        make: select,
    },
    Recipe {
        name: "reverse",
        make: reverse,
    },
];

/// Any tensor that has elements.
fn any(d: &mut Draft<'_>, ranks: std::ops::RangeInclusive<usize>) -> Option<Operand> {
    d.find(|k| ranks.contains(&k.dims().len()) && !k.traces[0].is_empty())
}

fn list(values: impl IntoIterator<Item = i64>) -> String {
    let list: Vec<String> = values.into_iter().map(|v| v.to_string()).collect();
    format!("[{}]", list.join(", "))
}

/// An axis, counted from either end.
fn axis(d: &mut Draft<'_>, rank: usize) -> (usize, i64) {
    let at = d.random().below(rank);
    match d.random().one_in(3) {
        true => (at, at as i64 - rank as i64),
        false => (at, at as i64),
    }
}

fn transpose(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = any(&mut d, 1..=5)?;
    if d.random().one_in(4) {
        let y = d.node("Transpose", &[&x.name]);
        return d.done(&[y]);
    }
    let mut perm: Vec<i64> = (0..x.rank() as i64).collect();
    for _ in 0..d.random().below(4) {
        let (a, b) = (d.random().below(perm.len()), d.random().below(perm.len()));
        perm.swap(a, b);
    }
    let y = d.node(&format!("Transpose <perm = {}>", list(perm)), &[&x.name]);
    d.done(&[y])
}

fn reshape(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = any(&mut d, 0..=5)?;
    let mut dims: Vec<i64> = x.dims.iter().map(|&d| d as i64).collect();
    match d.random().below(5) {
        0 if dims.len() > 1 => {
            let at = d.random().below(dims.len() - 1);
            dims[at] *= dims.remove(at + 1);
        }
        1 => dims.insert(d.random().below(dims.len() + 1), 1),
        2 if !dims.is_empty() => {
            let at = d.random().below(dims.len());
            if dims[at] % 2 == 0 {
                dims[at] /= 2;
                dims.insert(at, 2);
            }
        }
        3 => dims = vec![dims.iter().product()],
        _ => {}
    }
    if !dims.is_empty() && d.random().one_in(2) {
        let at = d.random().below(dims.len());
        dims[at] = -1;
    }
    if !dims.is_empty()
        && d.random().one_in(3)
        && x.dims.first() == dims.first().map(|&d| d as usize).as_ref()
    {
        dims[0] = 0;
    }
    let shape = d.ints(&dims);
    let y = d.node("Reshape", &[&x.name, &shape]);
    d.done(&[y])
}

/// The batch kept, all else in a row, as exporters write it.
fn reshape_by_shape(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = any(&mut d, 2..=5)?;
    let shape = d.node("Shape", &[&x.name]);
    let zero = d.ints(&[0]);
    let batch = d.node("Gather <axis = 0>", &[&shape, &zero]);
    let rest = d.ints(&[-1]);
    let target = d.node("Concat <axis = 0>", &[&batch, &rest]);
    let y = d.node("Reshape", &[&x.name, &target]);
    d.done(&[y])
}

fn flatten(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = any(&mut d, 1..=5)?;
    let (_, axis) = axis(&mut d, x.rank());
    let y = d.node(&format!("Flatten <axis = {axis}>"), &[&x.name]);
    d.done(&[y])
}

fn squeeze(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.find(|k| k.dims().contains(&1))?;
    let at = x.dims.iter().position(|&d| d == 1)? as i64;
    let y = match d.random().one_in(4) {
        true => d.node("Squeeze", &[&x.name]),
        false => d.listed("Squeeze", "", &x.name, "axes", 13, &[at]),
    };
    d.done(&[y])
}

fn unsqueeze(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = any(&mut d, 0..=3)?;
    let at = d.random().below(x.rank() + 1) as i64;
    let axes: &[i64] = match d.random().below(3) {
        0 => &[at, -1],
        1 => &[-1],
        _ => &[at],
    };
    let y = d.listed("Unsqueeze", "", &x.name, "axes", 13, axes);
    d.done(&[y])
}

fn slice(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = any(&mut d, 1..=5)?;
    let (at, axis) = axis(&mut d, x.rank());
    let size = x.dims[at] as i64;
    // Whole axes, nothing left out, and backwards are among them.
    let (start, end, step) = match d.random().below(6) {
        0 => (0, i64::MAX, 1),
        1 => (-1, i64::MIN, -1),
        2 => (0, size, 2),
        3 => (-size, -1, 1),
        _ => (d.random().below(size as usize) as i64, size, 1),
    };
    let (starts, ends) = (d.ints(&[start]), d.ints(&[end]));
    let (axes, steps) = (d.ints(&[axis]), d.ints(&[step]));
    let operands = [&x.name, &starts, &ends, &axes, &steps].map(String::as_str);
    let y = match step == 1 && d.random().one_in(2) {
        true => d.node("Slice", &operands[..4]),
        false => d.node("Slice", &operands),
    };
    d.done(&[y])
}

fn split(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = any(&mut d, 1..=4)?;
    let (at, axis) = axis(&mut d, x.rank());
    let size = x.dims[at];
    let attr = format!("axis = {axis}");
    if size > 1 && d.random().one_in(2) {
        let first = 1 + d.random().below(size - 1);
        let sizes = [first as i64, (size - first) as i64];
        let (op, list) = d.with_list("Split", &attr, "split", 13, &sizes);
        let y = d.nodes(&op, &[&x.name, &list], 2);
        return d.done(&y);
    }
    let count = if size % 2 == 0 { 2 } else { 1 };
    let op = match d.opset() {
        18.. => format!("Split <{attr}, num_outputs = {count}>"),
        _ => format!("Split <{attr}>"),
    };
    let y = d.nodes(&op, &[&x.name], count);
    d.done(&y)
}

fn concat(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = any(&mut d, 1..=4)?;
    let (at, axis) = axis(&mut d, x.rank());
    let mut operands = vec![x.name.clone()];
    for _ in 0..d.random().below(3) {
        let fits = |dims: &[usize]| {
            let mut pairs = dims.iter().zip(&x.dims).enumerate();
            dims.len() == x.rank() && pairs.all(|(i, (a, b))| i == at || a == b)
        };
        let other = d.find(|k| k.dtype() == x.dtype && fits(k.dims()))?;
        operands.push(other.name);
    }
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    let y = d.node(&format!("Concat <axis = {axis}>"), &operands);
    d.done(&[y])
}

fn gather(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = any(&mut d, 1..=4)?;
    let (at, axis) = axis(&mut d, x.rank());
    let size = x.dims[at] as i64;
    let indices = match d.random().below(3) {
        0 => d.fill(DType::I64, &[], (size - 1) as f64),
        1 => d.ints(&[0, -1, size - 1]),
        _ => d.constant(DType::I64, &[2, 2], -size as f64, (size - 1) as f64),
    };
    let y = d.node(&format!("Gather <axis = {axis}>"), &[&x.name, &indices]);
    d.done(&[y])
}

fn gather_elements(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = any(&mut d, 1..=4)?;
    let (at, axis) = axis(&mut d, x.rank());
    let indices = d.constant(DType::I64, &x.dims, 0.0, (x.dims[at] - 1) as f64);
    let y = d.node(
        &format!("GatherElements <axis = {axis}>"),
        &[&x.name, &indices],
    );
    d.done(&[y])
}

fn gather_nd(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = any(&mut d, 1..=4)?;
    let depth = 1 + d.random().below(x.rank());
    let least = x.dims[..depth].iter().min().copied()?;
    let indices = d.constant(DType::I64, &[3, depth], 0.0, (least - 1) as f64);
    let y = d.node("GatherND", &[&x.name, &indices]);
    d.done(&[y])
}

fn scatter(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(1..=3)?;
    let (at, axis) = axis(&mut d, x.rank());
    let reduction = match d.opset() {
        18.. => d
            .random()
            .pick(&["", ", reduction = \"add\"", ", reduction = \"max\""]),
        _ => "",
    };
    if d.random().one_in(2) {
        let updates = d.constant(x.dtype, &x.dims[1..], -1.0, 1.0);
        let at = d.ints(&[x.dims[0] as i64 - 1]);
        let op = match reduction.strip_prefix(", ") {
            Some(reduction) => format!("ScatterND <{reduction}>"),
            None => "ScatterND".to_owned(),
        };
        let y = d.node(&op, &[&x.name, &at, &updates]);
        return d.done(&[y]);
    }
    // One place along the axis, so that no two updates meet.
    let mut dims = x.dims.clone();
    dims[at] = 1;
    let indices = d.constant(DType::I64, &dims, 0.0, (x.dims[at] - 1) as f64);
    let updates = d.constant(x.dtype, &dims, -1.0, 1.0);
    let op = format!("ScatterElements <axis = {axis}{reduction}>");
    let y = d.node(&op, &[&x.name, &indices, &updates]);
    d.done(&[y])
}

fn pad(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(1..=4)?;
    let mode = d
        .random()
        .pick(&["constant", "constant", "reflect", "edge"]);
    let low = if mode == "constant" { -1 } else { 0 };
    let pads: Vec<i64> = (0..2 * x.rank())
        .map(|_| d.random().within(low, 1))
        .collect();
    let pads = d.ints(&pads);
    let op = format!("Pad <mode = \"{mode}\">");
    let value = d.fill(x.dtype, &[], 0.5);
    let y = match d.random().one_in(2) {
        true => d.node(&op, &[&x.name, &pads, &value]),
        false => d.node(&op, &[&x.name, &pads]),
    };
    d.done(&[y])
}

fn expand(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = any(&mut d, 0..=4)?;
    let mut dims: Vec<i64> = x.dims.iter().map(|&d| d as i64).collect();
    for dim in &mut dims {
        *dim = match (*dim, d.random().below(3)) {
            (1, 0) => 3,
            (_, 1) => 1,
            (dim, _) => dim,
        };
    }
    if d.random().one_in(3) {
        dims.insert(0, 2);
    }
    let shape = d.ints(&dims);
    let y = d.node("Expand", &[&x.name, &shape]);
    d.done(&[y])
}

fn tile(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = any(&mut d, 1..=3)?;
    let repeats: Vec<i64> = (0..x.rank()).map(|_| d.random().within(1, 2)).collect();
    let repeats = d.ints(&repeats);
    let y = d.node("Tile", &[&x.name, &repeats]);
    d.done(&[y])
}

fn shape(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = any(&mut d, 1..=5)?;
    let y = match d.random().below(3) {
        0 => d.node("Size", &[&x.name]),
        1 if d.opset() >= 15 => d.node("Shape <start = 1, end = -1>", &[&x.name]),
        _ => d.node("Shape", &[&x.name]),
    };
    d.done(&[y])
}

/// Tensors made from the shapes of others.
fn fill(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = any(&mut d, 1..=3)?;
    let shape = d.node("Shape", &[&x.name]);
    let y = match d.random().below(3) {
        0 => d.node("ConstantOfShape <value = float[1] {0.5}>", &[&shape]),
        1 => d.node("ConstantOfShape", &[&shape]),
        _ => {
            let size = d.node("Size", &[&x.name]);
            let (zero, one) = (d.fill(DType::I64, &[], 0.0), d.fill(DType::I64, &[], 1.0));
            d.node("Range", &[&zero, &size, &one])
        }
    };
    d.done(&[y])
}

fn depth_space(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(4..=4)?;
    let op = match d.random().below(3) {
        0 => "SpaceToDepth <blocksize = 2>",
        1 => "DepthToSpace <blocksize = 2>",
        _ => "DepthToSpace <blocksize = 2, mode = \"CRD\">",
    };
    let y = d.node(op, &[&x.name]);
    d.done(&[y])
}

fn trilu(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(2..=4)?;
    if d.opset() < 14 {
        return None;
    }
    let upper = d.random().below(2);
    let k = d.random().within(-1, 2);
    let k = d.fill(DType::I64, &[], k as f64);
    let y = d.node(&format!("Trilu <upper = {upper}>"), &[&x.name, &k]);
    d.done(&[y])
}

fn one_hot(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.find(|k| k.dtype() == DType::I64 && k.dims().len() <= 2)?;
    let depth = d.fill(DType::I64, &[], 3.0);
    let values = d.constant(DType::F32, &[2], -1.0, 1.0);
    let axis = d.random().pick(&[-1, 0]);
    let y = d.node(
        &format!("OneHot <axis = {axis}>"),
        &[&x.name, &depth, &values],
    );
    d.done(&[y])
}

/// Sizes that only a run shows.
fn select(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(1..=2)?;
    let y = match d.random().below(3) {
        0 => d.node("NonZero", &[&x.name]),
        1 => {
            let condition = d.constant(DType::Bool, &[x.dims[0]], 0.0, 1.0);
            d.node("Compress <axis = 0>", &[&x.name, &condition])
        }
        _ => d.node("Unique", &[&x.name]),
    };
    d.done(&[y])
}

fn reverse(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(2..=4)?;
    let lengths = vec![x.dims[0] as i64; x.dims[1]];
    let lengths = d.ints(&lengths);
    let y = d.node(
        "ReverseSequence <time_axis = 0, batch_axis = 1>",
        &[&x.name, &lengths],
    );
    d.done(&[y])
}
