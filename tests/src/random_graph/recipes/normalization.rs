//! Normalizations, as operators.

use onnxq_tensor::DType;

use super::Recipe;
use crate::random_graph::{Generator, Group, draft::Draft};

pub(super) static RECIPES: &[Recipe] = &[
    Recipe {
        name: "batch-normalization",
        make: batch,
    },
    Recipe {
        name: "softmax",
        make: softmax,
    },
    Recipe {
        name: "layer-normalization",
        make: layer,
    },
    Recipe {
        name: "instance-normalization",
        make: instance,
    },
    Recipe {
        name: "group-normalization",
        make: group,
    },
    Recipe {
        name: "lrn",
        make: lrn,
    },
    Recipe {
        name: "lp-normalization",
        make: lp,
    },
    Recipe {
        name: "mean-variance",
        make: mean_variance,
    },
];

fn batch(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(2..=5)?;
    let channels = [x.dims[1]];
    let (scale, bias) = (
        d.constant(x.dtype, &channels, 0.5, 2.0),
        d.constant(x.dtype, &channels, -1.0, 1.0),
    );
    let (mean, var) = (
        d.constant(x.dtype, &channels, -1.0, 1.0),
        d.constant(x.dtype, &channels, 0.2, 2.0),
    );
    let op = d
        .random()
        .pick(&["BatchNormalization", "BatchNormalization <epsilon = 0.01>"]);
    let y = d.node(op, &[&x.name, &scale, &bias, &mean, &var]);
    d.done(&[y])
}

fn softmax(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(1..=4)?;
    let op = d.random().pick(&["Softmax", "LogSoftmax", "Hardmax"]);
    let axis = d.random().within(-(x.rank() as i64), x.rank() as i64 - 1);
    let op = match d.random().one_in(3) {
        true => op.to_owned(),
        false => format!("{op} <axis = {axis}>"),
    };
    let y = d.node(&op, &[&x.name]);
    d.done(&[y])
}

fn layer(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    if d.opset() < 17 {
        return None;
    }
    let x = d.float(2..=4)?;
    let from = 1 + d.random().below(x.rank() - 1);
    let (scale, bias) = (
        d.constant(x.dtype, &x.dims[from..], 0.5, 2.0),
        d.constant(x.dtype, &x.dims[from..], -1.0, 1.0),
    );
    let op = format!("LayerNormalization <axis = {from}, epsilon = 0.001>");
    let operands = [x.name.as_str(), &scale, &bias];
    let y = match d.random().one_in(3) {
        true => d.node(&op, &operands[..2]),
        false => d.node(&op, &operands),
    };
    d.done(&[y])
}

fn instance(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(3..=4)?;
    let channels = [x.dims[1]];
    let (scale, bias) = (
        d.constant(x.dtype, &channels, 0.5, 2.0),
        d.constant(x.dtype, &channels, -1.0, 1.0),
    );
    let y = d.node(
        "InstanceNormalization <epsilon = 0.01>",
        &[&x.name, &scale, &bias],
    );
    d.done(&[y])
}

fn group(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(3..=4)?;
    let groups = if x.dims[1] % 2 == 0 { 2 } else { 1 };
    let each = match d.opset() {
        21.. => x.dims[1],
        18.. => groups,
        _ => return None,
    };
    let (scale, bias) = (
        d.constant(DType::F32, &[each], 0.5, 2.0),
        d.constant(DType::F32, &[each], -1.0, 1.0),
    );
    let op = format!("GroupNormalization <num_groups = {groups}, epsilon = 0.01>");
    let y = d.node(&op, &[&x.name, &scale, &bias]);
    d.done(&[y])
}

fn lrn(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(3..=4)?;
    let y = d.node("LRN <size = 3, alpha = 0.1, bias = 2.0>", &[&x.name]);
    d.done(&[y])
}

fn lp(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(2..=4)?;
    let p = d.random().pick(&[1, 2]);
    let y = d.node(&format!("LpNormalization <axis = 1, p = {p}>"), &[&x.name]);
    d.done(&[y])
}

fn mean_variance(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(4..=4)?;
    let y = d.node("MeanVarianceNormalization <axes = [0, 2, 3]>", &[&x.name]);
    d.done(&[y])
}
