//! Steps of programs against the reference, on shapes nobody would choose.

use std::sync::Arc;

use onnxq_ir::{Graph, Model, Op, Type, ValueId, def::ValueDef};
use onnxq_ops::infer::annotate;
use onnxq_runtime::{Cpu, Executor, Memory, Program, ProgramOptions};
use onnxq_tensor::{Buffer, DType, Tensor};
use proptest::prelude::*;

/// How near to the reference a result is to be.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Near {
    /// Bit for bit.
    Exact,
    /// Sums of floats in another order.
    Floats,
    /// Few codes, by one: floats in between are near a tie.
    Codes,
}

/// Numbers that are small, of both signs, and not alike.
fn number(i: usize, seed: usize) -> usize {
    (i * 7919 + seed * 104_729 + 13) % 2003
}

fn floats(dims: &[usize], seed: usize) -> Tensor {
    let count = dims.iter().product();
    let number = |i: usize| number(i, seed) as f32 / 500.0 - 2.0;
    Tensor::from_vec(dims, (0..count).map(number).collect()).expect("dimensions that fit")
}

fn codes(dtype: DType, dims: &[usize], seed: usize) -> Tensor {
    let count = dims.iter().product();
    let bytes: Vec<u8> = (0..count).map(|i| number(i, seed) as u8).collect();
    Tensor::new(dtype, dims, Buffer::from_vec(bytes)).expect("dimensions that fit")
}

fn byte(signed: bool) -> DType {
    if signed { DType::I8 } else { DType::U8 }
}

/// A model under construction, and the data for its inputs.
struct Builder {
    model: Model,
    data: Vec<Option<Tensor>>,
}

impl Builder {
    fn new() -> Builder {
        let mut model = Model::default();
        model.opsets.insert(String::new(), 21);
        model.opsets.insert("com.microsoft".to_owned(), 1);
        Builder {
            model,
            data: Vec::new(),
        }
    }

    fn input(&mut self, tensor: Tensor) -> ValueId {
        let ty = Type::dense(tensor.dtype(), tensor.dims());
        self.data.push(Some(tensor));
        let name = format!("x{}", self.data.len());
        self.model.graph.add_input(name, Some(ty))
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        let name = format!("c{}", self.model.graph.node_count());
        self.model.graph.add_constant(name, tensor)
    }

    fn scalar(&mut self, x: f32) -> ValueId {
        self.constant(Tensor::scalar(x))
    }

    /// A scale and a zero point.
    fn quantization(&mut self, scale: f32, zero: i32, signed: bool) -> [ValueId; 2] {
        let zero = match signed {
            true => Tensor::scalar(zero as i8),
            false => Tensor::scalar((zero + 128) as u8),
        };
        [self.scalar(scale), self.constant(zero)]
    }

    fn node(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let name = format!("y{}", self.model.graph.node_count());
        self.model.graph.insert(op, operands, name)
    }

    fn op(&mut self, name: &str, operands: &[ValueId]) -> ValueId {
        let op = match name.strip_prefix("com.microsoft.") {
            Some(name) => Op::in_domain("com.microsoft", name),
            None => Op::new(name),
        };
        self.node(op, operands)
    }

    fn transpose(&mut self, x: ValueId, perm: &[i64]) -> ValueId {
        self.node(Op::new("Transpose").with("perm", perm.to_vec()), &[x])
    }

    fn reshape(&mut self, x: ValueId, dims: &[usize]) -> ValueId {
        let dims = dims.iter().map(|&d| d as i64).collect();
        let dims = self.constant(Tensor::vector::<i64>(dims));
        self.op("Reshape", &[x, dims])
    }

    /// Holds programs for every tier, with one thread and with three, against the reference with `ys` as
    /// results. Returns the names of the kernels.
    fn check(mut self, ys: &[ValueId], near: Near) -> Result<String, TestCaseError> {
        for (i, &y) in ys.iter().enumerate() {
            let output = ValueDef {
                name: format!("out{i}"),
                ..ValueDef::default()
            };
            self.model.graph.add_output(output, y);
        }
        annotate(&mut self.model);
        let expected = Executor::new(&self.model).run(&self.data);
        let expected = expected.map_err(|e| TestCaseError::fail(format!("the reference: {e}")))?;
        let model = Arc::new(self.model);
        let mut kernels = String::new();
        let mut first: Option<Vec<Tensor>> = None;
        for cpu in Cpu::available() {
            for threads in [1, 3] {
                let program = Program::new(model.clone(), ProgramOptions { cpu, threads });
                let program = program.map_err(|e| TestCaseError::fail(format!("lowering: {e}")))?;
                let names = program.steps().map(|step| step.kernel);
                kernels = names.collect::<Vec<_>>().join("; ");
                let mut memory = Memory::new();
                for _ in 0..2 {
                    let got = program.run(&mut memory, &self.data);
                    let got = got.map_err(|e| TestCaseError::fail(format!("the program: {e}")))?;
                    for (expected, got) in expected.iter().zip(&got) {
                        alike(expected, got, near, &kernels)?;
                    }
                    let first = first.get_or_insert_with(|| got.clone());
                    let same = first.iter().zip(&got).all(|(a, b)| a.bytes() == b.bytes());
                    let float_product = kernels.contains("float MatMul");
                    prop_assert!(same || float_product, "tiers or threads differ: {kernels}");
                }
            }
        }
        Ok(kernels)
    }
}

fn alike(expected: &Tensor, got: &Tensor, near: Near, kernels: &str) -> Result<(), TestCaseError> {
    prop_assert_eq!(expected.dims(), got.dims());
    prop_assert_eq!(expected.dtype(), got.dtype());
    if near == Near::Exact || expected.bytes() == got.bytes() {
        prop_assert!(expected.bytes() == got.bytes(), "{}", kernels);
        return Ok(());
    }
    if near == Near::Codes {
        let (e, g) = (expected.to_i64s(), got.to_i64s());
        let (e, g) = (e.expect("codes"), g.expect("codes"));
        let apart = e.iter().zip(&g).filter(|(e, g)| e != g).count();
        let most = e.iter().zip(&g).map(|(e, g)| (e - g).abs()).max();
        prop_assert!(
            most <= Some(1) && apart <= 1 + e.len() / 100,
            "{apart}: {kernels}"
        );
        return Ok(());
    }
    let (e, g) = (expected.as_slice::<f32>(), got.as_slice::<f32>());
    let (e, g) = (e.expect("floats"), g.expect("floats"));
    let scale = e.iter().fold(1e-3f32, |a, b| a.max(b.abs()));
    for (i, (e, g)) in e.iter().zip(g.iter()).enumerate() {
        let alike = (e - g).abs() <= 1e-5 * scale || (e.is_nan() && g.is_nan()) || e == g;
        prop_assert!(alike, "at {}: {}, expected {}: {}", i, g, e, kernels);
    }
    Ok(())
}

fn has(kernels: &str, wanted: &[&str]) -> Result<(), TestCaseError> {
    prop_assert!(!kernels.contains("reference"), "{}", kernels);
    for wanted in wanted {
        prop_assert!(kernels.contains(wanted), "no {}: {}", wanted, kernels);
    }
    Ok(())
}

/// Dimensions, some of which `other` has as 1 or not at all.
fn broadcasts() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    let axes = prop::collection::vec((1..9usize, any::<bool>()), 1..5);
    (axes, 0..5usize).prop_map(|(axes, skip)| {
        let dims = axes.iter().map(|&(n, _)| n).collect();
        let other = axes.iter().map(|&(n, whole)| if whole { n } else { 1 });
        (dims, other.skip(skip).collect())
    })
}

/// What is done with a product of queries and keys before its Softmax.
#[derive(Clone, Copy, Debug)]
struct Heads {
    batch: usize,
    heads: usize,
    rows: usize,
    keys: usize,
    depth: usize,
    /// Whether the heads are separated by transposes.
    turned: bool,
    scaled: bool,
    mask: Option<[bool; 3]>,
}

fn heads() -> impl Strategy<Value = Heads> {
    let sizes = (1..3usize, 1..4usize, 1..40usize, 1..40usize, 1..35usize);
    let mask = prop::option::of(any::<[bool; 3]>());
    (sizes, any::<[bool; 2]>(), mask).prop_map(|(sizes, [turned, scaled], mask)| {
        let (batch, heads, rows, keys, depth) = sizes;
        Heads {
            batch,
            heads,
            rows,
            keys,
            depth,
            turned,
            scaled,
            mask,
        }
    })
}

impl Heads {
    /// A tensor of `rows` × depth for each head, made by `make`, as `[batch, heads, rows, depth]`, or with
    /// the last two axes exchanged.
    fn operand(
        &self,
        b: &mut Builder,
        rows: usize,
        exchanged: bool,
        make: impl Fn(&[usize]) -> Tensor,
    ) -> ValueId {
        let &Heads {
            batch,
            heads,
            depth,
            ..
        } = self;
        if !self.turned {
            let dims = match exchanged {
                true => [batch, heads, depth, rows],
                false => [batch, heads, rows, depth],
            };
            return b.input(make(&dims));
        }
        let x = b.input(make(&[batch, rows, heads * depth]));
        let x = b.reshape(x, &[batch, rows, heads, depth]);
        match exchanged {
            true => b.transpose(x, &[0, 2, 3, 1]),
            false => b.transpose(x, &[0, 2, 1, 3]),
        }
    }

    fn mask(&self, b: &mut Builder) -> Option<ValueId> {
        let mask = self.mask?;
        let sizes = [self.batch, self.heads, self.rows];
        let mut dims: Vec<usize> = sizes
            .iter()
            .zip(mask)
            .map(|(&n, whole)| if whole { n } else { 1 })
            .collect();
        dims.push(self.keys);
        Some(b.input(floats(&dims, 4)))
    }

    /// The heads side by side, where they were separated.
    fn merged(&self, b: &mut Builder, y: ValueId) -> ValueId {
        match self.turned {
            true => {
                let y = b.transpose(y, &[0, 2, 1, 3]);
                b.reshape(y, &[self.batch, self.rows, self.heads * self.depth])
            }
            false => y,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn attention(h in heads()) {
        let mut b = Builder::new();
        let q = h.operand(&mut b, h.rows, false, |d| floats(d, 1));
        let k = h.operand(&mut b, h.keys, true, |d| floats(d, 2));
        let v = h.operand(&mut b, h.keys, false, |d| floats(d, 3));
        let mut scores = b.op("MatMul", &[q, k]);
        if h.scaled {
            let scale = b.scalar(0.3);
            scores = b.op("Mul", &[scores, scale]);
        }
        if let Some(mask) = h.mask(&mut b) {
            scores = b.op("Add", &[scores, mask]);
        }
        let p = b.node(Op::new("Softmax").with("axis", -1i64), &[scores]);
        let y = b.op("MatMul", &[p, v]);
        let y = h.merged(&mut b, y);
        let kernels = b.check(&[y], Near::Floats)?;
        let wanted = if h.turned || h.keys == 1 || h.depth == 1 { "attention" } else { "float MatMul" };
        has(&kernels, &[wanted])?;
    }

    #[test]
    fn attention_of_codes(h in heads(), signed in any::<[bool; 4]>(), zeros in [-9..9i32, -9..9i32, -9..9i32]) {
        let mut b = Builder::new();
        let q = h.operand(&mut b, h.rows, false, |d| codes(byte(signed[0]), d, 1));
        let k = h.operand(&mut b, h.keys, true, |d| codes(byte(signed[1]), d, 2));
        let v = h.operand(&mut b, h.keys, false, |d| codes(byte(signed[2]), d, 3));
        let [q_scale, q_zero] = b.quantization(0.02, zeros[0], signed[0]);
        let [k_scale, k_zero] = b.quantization(0.03, zeros[1], signed[1]);
        let [v_scale, v_zero] = b.quantization(0.01, zeros[2], signed[2]);
        let [s_scale, s_zero] = b.quantization(0.07, 5, signed[0]);
        let [p_scale, p_zero] = b.quantization(1.0 / 255.0, -128, signed[0]);
        let [y_scale, y_zero] = b.quantization(0.004, 3, signed[3]);
        let mut scores = b.op("QLinearMatMul", &[q, q_scale, q_zero, k, k_scale, k_zero, s_scale, s_zero]);
        let products = scores;
        if h.scaled {
            let factor = b.constant(codes(byte(signed[0]), &[1], 1));
            let op = [scores, s_scale, s_zero, factor, s_scale, s_zero, s_scale, s_zero];
            scores = b.op("com.microsoft.QLinearMul", &op);
        }
        scores = b.op("DequantizeLinear", &[scores, s_scale, s_zero]);
        if let Some(mask) = h.mask(&mut b) {
            scores = b.op("Add", &[scores, mask]);
        }
        let p = b.node(Op::new("Softmax").with("axis", -1i64), &[scores]);
        let p = b.op("QuantizeLinear", &[p, p_scale, p_zero]);
        let y = b.op("QLinearMatMul", &[p, p_scale, p_zero, v, v_scale, v_zero, y_scale, y_zero]);
        let y = h.merged(&mut b, y);
        let kernels = b.check(&[products, p, y], Near::Codes)?;
        has(&kernels, &["batched matmul", "softmax, codes"])?;
        prop_assert!(!kernels.contains("; quantize"), "{}", kernels);
    }

    #[test]
    fn products_of_codes(h in heads(), signed in any::<[bool; 3]>(), zeros in [-99..99i32, -99..99i32]) {
        let mut b = Builder::new();
        let q = h.operand(&mut b, h.rows, false, |d| codes(byte(signed[0]), d, 1));
        let k = h.operand(&mut b, h.keys, true, |d| codes(byte(signed[1]), d, 2));
        let [q_scale, q_zero] = b.quantization(0.02, zeros[0], signed[0]);
        let [k_scale, k_zero] = b.quantization(0.03, zeros[1], signed[1]);
        let [y_scale, y_zero] = b.quantization(0.4, -7, signed[2]);
        let y = b.op("QLinearMatMul", &[q, q_scale, q_zero, k, k_scale, k_zero, y_scale, y_zero]);
        has(&b.check(&[y], Near::Exact)?, &["batched matmul"])?;
    }

    #[test]
    fn sums_and_products_of_codes(
        (dims, other) in broadcasts(), signed in any::<bool>(), first in any::<bool>(), multiply in any::<bool>(),
    ) {
        let mut b = Builder::new();
        let x = b.input(codes(byte(signed), &dims, 1));
        let y = b.input(codes(byte(signed), &other, 2));
        let [a_scale, a_zero] = b.quantization(0.021, 11, signed);
        let [b_scale, b_zero] = b.quantization(0.034, -4, signed);
        let [c_scale, c_zero] = b.quantization(0.05, 2, signed);
        let (x, y) = if first { (y, x) } else { (x, y) };
        let name = if multiply { "com.microsoft.QLinearMul" } else { "com.microsoft.QLinearAdd" };
        let y = b.op(name, &[x, a_scale, a_zero, y, b_scale, b_zero, c_scale, c_zero]);
        // Broadcasts of another kind are left to the reference.
        b.check(&[y], Near::Exact)?;
    }

    #[test]
    fn floats_broadcast((dims, other) in broadcasts(), first in any::<bool>(), op in 0..4usize) {
        let mut b = Builder::new();
        let x = b.input(floats(&dims, 1));
        let y = b.input(floats(&other, 2));
        let (x, y) = if first { (y, x) } else { (x, y) };
        let y = b.op(["Add", "Sub", "Mul", "Div"][op], &[x, y]);
        has(&b.check(&[y], Near::Exact)?, &["float"])?;
    }

    #[test]
    fn masks((dims, other) in broadcasts(), logic in 0..3usize, test in 0..5usize, limit in -2..2i64) {
        let mut b = Builder::new();
        let x = b.input(floats(&dims, 1));
        let y = b.input(floats(&other, 2));
        let numbers = (0..other.iter().product()).map(|i| number(i, 3) as i64 % 5 - 2).collect();
        let z = b.input(Tensor::from_vec::<i64>(&other[..], numbers).expect("dimensions that fit"));
        let limit = b.constant(Tensor::scalar(limit));
        let tests = ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"];
        let smaller = b.op(tests[test], &[x, y]);
        let some = b.op(tests[(test + 1) % 5], &[z, limit]);
        let whole = b.node(Op::new("Cast").with("to", 9i64), &[z]);
        let some = b.op("Or", &[some, whole]);
        let some = b.op("Not", &[some]);
        let both = b.op(["And", "Or", "Xor"][logic], &[smaller, some]);
        let chosen = b.op("Where", &[both, x, y]);
        let number = b.node(Op::new("Cast").with("to", 7i64), &[both]);
        let small = b.op("Where", &[some, z, limit]);
        let float = b.node(Op::new("Cast").with("to", 1i64), &[small]);
        has(&b.check(&[both, chosen, number, small, float], Near::Exact)?, &["mask"])?;
    }

    #[test]
    fn gathers(dims in prop::collection::vec(1..6usize, 1..4), count in 1..7usize, axis in 0..4i64, wide in any::<bool>()) {
        let mut b = Builder::new();
        let axis = axis.min(dims.len() as i64 - 1);
        let entries = dims[axis as usize];
        let at = |i: usize| (number(i, 2) % (2 * entries)) as i64 - entries as i64;
        let x = b.input(codes(DType::U8, &dims, 1));
        let numbers = match wide {
            true => Tensor::from_vec::<i64>(&[count, 1][..], (0..count).map(at).collect()),
            false => Tensor::from_vec::<i32>(&[count, 1][..], (0..count).map(|i| at(i) as i32).collect()),
        };
        let numbers = b.input(numbers.expect("dimensions that fit"));
        let y = b.node(Op::new("Gather").with("axis", axis), &[x, numbers]);
        has(&b.check(&[y], Near::Exact)?, &["gather"])?;
    }

    #[test]
    fn functions_of_codes(function in 0..9usize, signed in any::<[bool; 2]>(), zero in -100..100i32, len in 1..300usize) {
        let mut b = Builder::new();
        let x = b.input(codes(byte(signed[0]), &[len], 1));
        let [x_scale, x_zero] = b.quantization(0.04, zero, signed[0]);
        let [y_scale, y_zero] = b.quantization(0.02, 9, signed[1]);
        let x = b.op("DequantizeLinear", &[x, x_scale, x_zero]);
        let factor = b.scalar(1.7);
        let y = match function {
            0 => x,
            1 => b.op("Mul", &[factor, x]),
            2 => {
                let y = b.op("Tanh", &[x]);
                b.op("Add", &[y, factor])
            }
            f => b.op(["Gelu", "Sigmoid", "Erf", "HardSwish", "Relu", "LeakyRelu"][f - 3], &[x]),
        };
        let y = b.op("QuantizeLinear", &[y, y_scale, y_zero]);
        let kernels = b.check(&[y], Near::Exact)?;
        has(&kernels, &["table"])?;
        prop_assert!(!kernels.contains(';'), "{}", kernels);
    }

    #[test]
    fn conversions(dims in prop::collection::vec(1..20usize, 1..5), signed in any::<bool>(), zero in -100..100i32) {
        let mut b = Builder::new();
        let x = b.input(floats(&dims, 1));
        let [scale, zero] = b.quantization(0.013, zero, signed);
        let q = b.op("QuantizeLinear", &[x, scale, zero]);
        let y = b.op("DequantizeLinear", &[q, scale, zero]);
        let rank = dims.len();
        let scales = b.constant(floats(&dims[rank - 1..], 2));
        let z = b.node(Op::new("DequantizeLinear").with("axis", -1i64), &[q, scales]);
        has(&b.check(&[q, y, z], Near::Exact)?, &["quantize"])?;
    }

    #[test]
    fn ranges_of_floats(dims in prop::collection::vec(1..20usize, 1..5), shift in -3..3i32) {
        let mut b = Builder::new();
        let x = b.input(floats(&dims, 1));
        let shift = b.scalar(shift as f32);
        let x = b.op("Add", &[x, shift]);
        let name = |i: usize| onnxq_ir::Value::new(format!("q{i}"), None);
        let names = (0..3).map(name).collect::<Vec<_>>();
        let graph: &mut Graph = &mut b.model.graph;
        let n = graph.add_node("dynamic", Op::new("DynamicQuantizeLinear"), &[Some(x)], names);
        let ys = [0, 1, 2].map(|i| graph.result(n, i));
        has(&b.check(&ys, Near::Exact)?, &["dynamic quantize"])?;
    }

    #[test]
    fn rows(
        (dims, other) in broadcasts(), added in any::<bool>(), from in any::<bool>(), to in any::<bool>(),
        softmax in any::<bool>(), rms in any::<bool>(),
    ) {
        let mut b = Builder::new();
        let [scale, zero] = b.quantization(0.02, 7, from);
        let mut x = match from {
            true => {
                let x = b.input(codes(DType::I8, &dims, 1));
                b.op("DequantizeLinear", &[x, scale, zero])
            }
            false => b.input(floats(&dims, 1)),
        };
        if added {
            let other = b.input(floats(&other, 2));
            x = b.op("Add", &[x, other]);
        }
        let width = &dims[dims.len() - 1..];
        let mut y = if softmax {
            b.node(Op::new("Softmax").with("axis", -1i64), &[x])
        } else {
            let (scale, bias) = (b.constant(floats(width, 3)), b.constant(floats(width, 4)));
            if rms {
                b.model.opsets.insert(String::new(), 23);
                b.node(Op::new("RMSNormalization").with("axis", -1i64), &[x, scale])
            } else {
                b.node(Op::new("LayerNormalization").with("epsilon", 1e-3f32), &[x, scale, bias])
            }
        };
        if to {
            let [scale, zero] = b.quantization(0.02, -3, true);
            y = b.op("QuantizeLinear", &[y, scale, zero]);
        }
        let near = if to { Near::Codes } else { Near::Floats };
        has(&b.check(&[y], near)?, &[if softmax { "softmax" } else { "norm" }])?;
    }

    #[test]
    fn softmax_of_codes(dims in prop::collection::vec(1..20usize, 1..4), axis in 0..3i64, signed in any::<bool>(), old in any::<bool>()) {
        let mut b = Builder::new();
        let x = b.input(codes(byte(signed), &dims, 1));
        let [x_scale, x_zero] = b.quantization(0.03, 7, signed);
        let [y_scale, y_zero] = b.quantization(1.0 / 256.0, -128, signed);
        let last = dims.len() as i64 - 1;
        let (axis, opset) = if old { (axis.min(last), 11i64) } else { (last, 13) };
        let op = Op::in_domain("com.microsoft", "QLinearSoftmax").with("axis", axis).with("opset", opset);
        let y = b.node(op, &[x, x_scale, x_zero, y_scale, y_zero]);
        has(&b.check(&[y], Near::Exact)?, &["softmax of codes"])?;
    }

    #[test]
    fn products_of_floats(h in heads(), shared in any::<bool>()) {
        let mut b = Builder::new();
        let q = h.operand(&mut b, h.rows, false, |d| floats(d, 1));
        let k = match shared {
            true => b.input(floats(&[h.depth, h.keys], 2)),
            false => h.operand(&mut b, h.keys, true, |d| floats(d, 2)),
        };
        let y = b.op("MatMul", &[q, k]);
        has(&b.check(&[y], Near::Floats)?, &["float MatMul"])?;
    }

    #[test]
    fn dynamic_products(rows in 1..40usize, depth in 1..80usize, columns in 1..40usize, by_column in any::<bool>(), bias in any::<bool>(), gelu in any::<bool>()) {
        let mut b = Builder::new();
        let x = b.input(floats(&[rows, depth], 1));
        let names = (0..3).map(|i| onnxq_ir::Value::new(format!("q{i}"), None)).collect::<Vec<_>>();
        let graph: &mut Graph = &mut b.model.graph;
        let n = graph.add_node("dynamic", Op::new("DynamicQuantizeLinear"), &[Some(x)], names);
        let [q, scale, zero] = [0, 1, 2].map(|i| graph.result(n, i));
        let w = b.constant(codes(DType::I8, &[depth, columns], 2));
        let sums = b.op("MatMulInteger", &[q, w, zero]);
        let w_scale = match by_column {
            true => b.constant(floats(&[columns], 3)),
            false => b.scalar(0.01),
        };
        let scale = b.op("Mul", &[w_scale, scale]);
        let mut y = b.node(Op::new("DequantizeLinear").with("axis", 1i64), &[sums, scale]);
        if bias {
            let bias = b.constant(floats(&[columns], 4));
            y = b.op("Add", &[bias, y]);
        }
        if gelu {
            y = b.op("Gelu", &[y]);
        }
        let kernels = b.check(&[y], if gelu { Near::Floats } else { Near::Exact })?;
        has(&kernels, &["dynamic quantize; dynamic matmul"])?;
        prop_assert!(!kernels.contains("Mul;"), "{}", kernels);
    }
}
