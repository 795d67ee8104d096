//! Quantized tensors, and products of codes.

use onnxq_tensor::DType;

use super::Recipe;
use crate::random_graph::{Generator, Group, draft::Draft};

pub(super) static RECIPES: &[Recipe] = &[
    Recipe {
        name: "quantize-dequantize",
        make: pair,
    },
    Recipe {
        name: "dequantize-weight",
        make: weight,
    },
    Recipe {
        name: "dynamic-quantize",
        make: dynamic,
    },
    Recipe {
        name: "matmul-integer",
        make: product,
    },
];

fn pair(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.find(|k| k.dtype() == DType::F32 && !k.traces[0].is_empty())?;
    let code = d.random().pick(&[DType::U8, DType::I8]);
    let scale = d.fill(DType::F32, &[], 0.03125);
    let zero = d.fill(code, &[], if code == DType::U8 { 128.0 } else { 0.0 });
    let q = d.node("QuantizeLinear", &[&x.name, &scale, &zero]);
    let y = d.node("DequantizeLinear", &[&q, &scale, &zero]);
    match d.random().one_in(3) {
        true => d.done(&[y, q]),
        false => d.done(&[y]),
    }
}

fn weight(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.find(|k| k.dtype() == DType::F32 && k.dims().len() == 2)?;
    let (inner, columns) = (x.dims[1], 1 + d.random().below(4));
    let q = d.constant(DType::I8, &[inner, columns], -100.0, 100.0);
    let w = if d.opset() >= 13 && d.random().one_in(2) {
        let scale = d.constant(DType::F32, &[columns], 0.005, 0.01);
        let zero = d.fill(DType::I8, &[columns], 0.0);
        d.node("DequantizeLinear <axis = 1>", &[&q, &scale, &zero])
    } else {
        let scale = d.fill(DType::F32, &[], 0.0078125);
        d.node("DequantizeLinear", &[&q, &scale])
    };
    let y = d.node("MatMul", &[&x.name, &w]);
    d.done(&[y])
}

fn dynamic(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.find(|k| k.dtype() == DType::F32 && !k.traces[0].is_empty())?;
    let q = d.nodes("DynamicQuantizeLinear", &[&x.name], 3);
    let y = d.node("DequantizeLinear", &[&q[0], &q[1], &q[2]]);
    d.done(&[y])
}

fn product(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.find(|k| k.dtype() == DType::U8 && k.dims().len() == 2)?;
    let w = d.constant(DType::I8, &[x.dims[1], 3], -100.0, 100.0);
    let zero = d.fill(DType::U8, &[], 128.0);
    let y = match d.random().one_in(2) {
        true => d.node("MatMulInteger", &[&x.name, &w, &zero]),
        false => d.node("MatMulInteger", &[&x.name, &w]),
    };
    d.done(&[y])
}
