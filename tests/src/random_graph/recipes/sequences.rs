//! Sequences and optional values; nothing of them is left for others to read but tensors.

use onnxq_tensor::DType;

use super::Recipe;
use crate::random_graph::{Generator, Group, draft::Draft};

pub(super) static RECIPES: &[Recipe] = &[
    Recipe {
        name: "sequence",
        make: sequence,
    },
    Recipe {
        name: "split-to-sequence",
        make: split,
    },
    Recipe {
        name: "optional",
        make: optional,
    },
];

fn sequence(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let a = d.float(1..=3)?;
    let b = d.find(|k| k.dtype() == a.dtype && k.dims() == a.dims)?;
    let mut s = d.node("SequenceConstruct", &[&a.name, &b.name]);
    if d.random().one_in(2) {
        s = d.node("SequenceInsert", &[&s, &b.name]);
    }
    if d.random().one_in(3) {
        let at = d.fill(DType::I64, &[], 0.0);
        s = d.node("SequenceErase", &[&s, &at]);
    }
    let y = match d.random().below(4) {
        0 => d.node("SequenceLength", &[&s]),
        1 => {
            let at = d.fill(DType::I64, &[], -1.0);
            d.node("SequenceAt", &[&s, &at])
        }
        2 => d.node("ConcatFromSequence <axis = 0>", &[&s]),
        _ => d.node("ConcatFromSequence <axis = 1, new_axis = 1>", &[&s]),
    };
    d.done(&[y])
}

fn split(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(1..=3)?;
    let s = match d.random().below(3) {
        0 => d.node("SplitToSequence <axis = 0, keepdims = 0>", &[&x.name]),
        1 => d.node("SplitToSequence <axis = 0>", &[&x.name]),
        _ => {
            let size = d.fill(DType::I64, &[], 2.0);
            d.node("SplitToSequence", &[&x.name, &size])
        }
    };
    let at = d.fill(DType::I64, &[], 0.0);
    let y = d.node("SequenceAt", &[&s, &at]);
    d.done(&[y])
}

fn optional(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    if d.opset() < 18 {
        return None;
    }
    let x = d.float(0..=3)?;
    let o = d.node("Optional", &[&x.name]);
    let y = match d.random().one_in(2) {
        true => d.node("OptionalHasElement", &[&o]),
        false => d.node("OptionalGetElement", &[&o]),
    };
    d.done(&[y])
}
