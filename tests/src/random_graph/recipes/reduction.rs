//! Reductions, and what is ordered or summed along an axis.

use onnxq_tensor::DType;

use super::Recipe;
use crate::random_graph::{
    Generator, Group,
    draft::{Draft, attributes},
};

pub(super) static RECIPES: &[Recipe] = &[
    Recipe {
        name: "reduce",
        make: reduce,
    },
    Recipe {
        name: "arg-max",
        make: arg,
    },
    Recipe {
        name: "top-k",
        make: top_k,
    },
    Recipe {
        name: "cum-sum",
        make: cum_sum,
    },
];

static REDUCTIONS: &[(&str, i64)] = &[
    ("ReduceSum", 13),
    ("ReduceMean", 18),
    ("ReduceMax", 18),
    ("ReduceMin", 18),
    ("ReduceProd", 18),
    ("ReduceL1", 18),
    ("ReduceL2", 18),
    ("ReduceSumSquare", 18),
    ("ReduceLogSumExp", 18),
];

fn reduce(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(0..=4)?;
    let (op, since) = d.random().pick(REDUCTIONS);
    let keep = d.random().pick(&["", "keepdims = 0", "keepdims = 1"]);
    if d.random().one_in(4) || x.rank() == 0 {
        let noop = match d.opset() >= since && d.random().one_in(2) {
            true => "noop_with_empty_axes = 1",
            false => "",
        };
        let y = d.node(&attributes(op, &[keep, noop]), &[&x.name]);
        return d.done(&[y]);
    }
    let mut axes: Vec<i64> = (0..x.rank() as i64)
        .filter(|_| d.random().one_in(2))
        .collect();
    if axes.is_empty() {
        axes.push(-1);
    }
    let y = d.listed(op, keep, &x.name, "axes", since, &axes);
    d.done(&[y])
}

fn arg(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(1..=4)?;
    let axis = d.random().within(-1, x.rank() as i64 - 1);
    let keep = d.random().below(2);
    let op = d.random().pick(&["ArgMax", "ArgMin"]);
    let y = d.node(
        &format!("{op} <axis = {axis}, keepdims = {keep}>"),
        &[&x.name],
    );
    d.done(&[y])
}

fn top_k(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(1..=4)?;
    let axis = d.random().below(x.rank());
    let k = 1 + d.random().below(x.dims[axis]);
    let k = d.ints(&[k as i64]);
    let largest = d.random().below(2);
    let y = d.nodes(
        &format!("TopK <axis = {axis}, largest = {largest}>"),
        &[&x.name, &k],
        2,
    );
    d.done(&y)
}

fn cum_sum(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(1..=4)?;
    let axis = d.random().below(x.rank());
    let axis = d.fill(DType::I64, &[], axis as f64);
    let (exclusive, reverse) = (d.random().below(2), d.random().below(2));
    let op = format!("CumSum <exclusive = {exclusive}, reverse = {reverse}>");
    let y = d.node(&op, &[&x.name, &axis]);
    d.done(&[y])
}
