//! Kernels of plans against the reference, on shapes nobody would choose.

use onnxq_ir::{Attr, Graph, Model, Op, ValueId, def::ValueDef};
use onnxq_runtime::{Executor, Plan, Workspace};
use onnxq_tensor::{DType, Tensor};
use proptest::prelude::*;

/// A tensor of numbers that are small, of both signs, and not alike.
fn numbers(dims: &[usize], seed: usize) -> Tensor {
    let count = dims.iter().product();
    let number = |i: usize| ((i * 7919 + seed * 104_729 + 13) % 2003) as f32 / 500.0 - 2.0;
    Tensor::from_vec(dims, (0..count).map(number).collect()).expect("dimensions that fit")
}

/// A model under construction, and the data for its inputs.
struct Builder {
    model: Model,
    data: Vec<Option<Tensor>>,
}

impl Builder {
    fn new() -> Builder {
        let mut model = Model::default();
        model.opsets.insert(String::new(), 20);
        Builder {
            model,
            data: Vec::new(),
        }
    }

    fn input(&mut self, tensor: Tensor) -> ValueId {
        self.data.push(Some(tensor));
        let name = format!("x{}", self.data.len());
        self.model.graph.add_input(name, None)
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.model.graph.add_constant("c", tensor)
    }

    fn node(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let name = format!("y{}", self.model.graph.node_count());
        self.model.graph.insert(op, operands, name)
    }

    /// Holds the plan against the reference with `y` as the result; says how many steps fell back.
    fn check(mut self, y: ValueId) -> Result<usize, TestCaseError> {
        let output = ValueDef {
            name: "y".to_owned(),
            ..ValueDef::default()
        };
        self.model.graph.add_output(output, y);
        let expected = Executor::new(&self.model).run(&self.data);
        let mut workspace = Workspace::new();
        for plan in [
            Plan::new(&self.model),
            Plan::observing(&self.model, |_, _| true),
        ] {
            let plan = plan.expect("a plan");
            for _ in 0..2 {
                let got = plan.run(&mut workspace, &self.data, &mut |_, _, _| {});
                match (&expected, got) {
                    (Ok(expected), Ok(got)) => near(&expected[0], &got[0])?,
                    (Err(e), Err(got)) => prop_assert_eq!(e.to_string(), got.to_string()),
                    (Err(e), Ok(_)) => prop_assert!(false, "the reference fails: {}", e),
                    (Ok(_), Err(e)) => prop_assert!(false, "the plan fails: {}", e),
                }
            }
        }
        Ok(workspace.by_reference())
    }
}

fn near(expected: &Tensor, got: &Tensor) -> Result<(), TestCaseError> {
    prop_assert_eq!(expected.dims(), got.dims());
    prop_assert_eq!(expected.dtype(), DType::F32);
    let (e, g) = (expected.as_slice::<f32>(), got.as_slice::<f32>());
    let (e, g) = (e.expect("floats"), g.expect("floats"));
    let scale = e.iter().fold(1e-3f32, |a, b| a.max(b.abs()));
    for (i, (e, g)) in e.iter().zip(g.iter()).enumerate() {
        let alike = (e - g).abs() <= 1e-5 * scale || (e.is_nan() && g.is_nan()) || e == g;
        prop_assert!(alike, "at {}: {}, expected {}", i, g, e);
    }
    Ok(())
}

/// A convolution: sizes, and what follows it.
#[derive(Debug, Clone)]
struct Conv {
    batch: usize,
    groups: usize,
    channels: [usize; 2],
    size: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [usize; 4],
    auto_pad: &'static str,
    bias: bool,
    sum: bool,
    relu: bool,
}

fn convs() -> impl Strategy<Value = Conv> {
    let two = |range: std::ops::Range<usize>| [range.clone(), range];
    let shape = (1..3usize, 1..4usize, two(1..5), two(1..20), two(1..5));
    let padding = prop::sample::select(vec![
        "NOTSET",
        "NOTSET",
        "SAME_UPPER",
        "SAME_LOWER",
        "VALID",
    ]);
    let window = (two(1..4), two(1..3), [0..3usize, 0..3, 0..3, 0..3], padding);
    (shape, window, any::<[bool; 3]>()).prop_map(|(shape, window, flags)| {
        let (batch, groups, channels, size, kernel) = shape;
        let (strides, dilations, pads, auto_pad) = window;
        let [bias, sum, relu] = flags;
        Conv {
            batch,
            groups,
            channels,
            size,
            kernel,
            strides,
            dilations,
            pads,
            auto_pad,
            bias,
            sum,
            relu,
        }
    })
}

fn ints(values: &[usize]) -> Attr {
    Attr::Ints(values.iter().map(|&v| v as i64).collect())
}

impl Conv {
    fn op(&self, op_type: &str) -> Op {
        let op = Op::new(op_type)
            .with("strides", ints(&self.strides))
            .with("dilations", ints(&self.dilations))
            .with("auto_pad", Attr::string(self.auto_pad));
        match self.auto_pad {
            "NOTSET" => op.with("pads", ints(&self.pads)),
            _ => op,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn conv(c in convs()) {
        let mut b = Builder::new();
        let [inputs, outputs] = c.channels;
        let x = b.input(numbers(&[c.batch, inputs * c.groups, c.size[0], c.size[1]], 1));
        let w = b.constant(numbers(&[outputs * c.groups, inputs, c.kernel[0], c.kernel[1]], 2));
        let mut operands = vec![x, w];
        if c.bias {
            operands.push(b.constant(numbers(&[outputs * c.groups], 3)));
        }
        let op = c.op("Conv").with("group", Attr::Int(c.groups as i64));
        let mut y = b.node(op.clone(), &operands);
        if c.sum {
            let other = b.node(op, &operands);
            y = b.node(Op::new("Add"), &[other, y]);
        }
        if c.relu {
            y = b.node(Op::new("Relu"), &[y]);
        }
        b.check(y)?;
    }

    #[test]
    fn pool(c in convs(), max in any::<bool>(), counts in any::<bool>()) {
        let mut b = Builder::new();
        let x = b.input(numbers(&[c.batch, c.channels[0], c.size[0], c.size[1]], 1));
        let op = c.op(if max { "MaxPool" } else { "AveragePool" });
        let op = op.with("kernel_shape", ints(&c.kernel));
        let op = if max { op } else { op.with("count_include_pad", Attr::Int(counts.into())) };
        let y = b.node(op, &[x]);
        b.check(y)?;
    }

    #[test]
    fn binary(
        dims in prop::collection::vec((1..5usize, any::<bool>(), any::<bool>()), 0..5),
        cut in 0..5usize,
        op in prop::sample::select(vec!["Add", "Sub", "Mul", "Div"]),
        own in any::<bool>(),
    ) {
        let mut b = Builder::new();
        let side = |which: fn(&(usize, bool, bool)) -> bool| -> Vec<usize> {
            dims.iter().map(|d| if which(d) { 1 } else { d.0 }).collect()
        };
        let (a_dims, b_dims) = (side(|d| d.1), side(|d| d.2));
        let mut a = b.input(numbers(&a_dims, 1));
        let mut c = b.input(numbers(&b_dims[cut.min(b_dims.len())..], 2));
        if own {
            a = b.node(Op::new("Abs"), &[a]);
            c = b.node(Op::new("Neg"), &[c]);
        }
        let y = b.node(Op::new(op), &[a, c]);
        let y = b.node(Op::new("Add"), &[y, y]);
        prop_assert_eq!(b.check(y)?, 0);
    }

    #[test]
    fn matmul(
        outer in prop::collection::vec((1..4usize, any::<bool>(), any::<bool>()), 0..3),
        cut in 0..3usize,
        [m, n, k] in [1..40usize, 1..40, 1..40],
    ) {
        let mut b = Builder::new();
        let side = |which: fn(&(usize, bool, bool)) -> bool, last: [usize; 2]| -> Vec<usize> {
            let outer = outer.iter().map(|d| if which(d) { 1 } else { d.0 });
            outer.chain(last).collect()
        };
        let (a_dims, b_dims) = (side(|d| d.1, [m, k]), side(|d| d.2, [k, n]));
        let x = b.input(numbers(&a_dims, 1));
        let w = b.input(numbers(&b_dims[cut.min(outer.len())..], 2));
        let y = b.node(Op::new("MatMul"), &[x, w]);
        prop_assert_eq!(b.check(y)?, 0);
    }

    #[test]
    fn gemm(
        [m, n, k] in [1..20usize, 1..20, 1..20],
        [a, b, rows, columns] in any::<[bool; 4]>(),
        c in any::<bool>(),
        beta in 0..3u8,
    ) {
        let mut g = Builder::new();
        let x = g.input(numbers(&if a { [k, m] } else { [m, k] }, 1));
        let w = g.input(numbers(&if b { [n, k] } else { [k, n] }, 2));
        let mut operands = vec![x, w];
        if c {
            let dims = [if rows { m } else { 1 }, if columns { n } else { 1 }];
            operands.push(g.input(numbers(&dims, 3)));
        }
        let op = Op::new("Gemm")
            .with("transA", Attr::Int(a.into()))
            .with("transB", Attr::Int(b.into()))
            .with("alpha", Attr::Float(0.5))
            .with("beta", Attr::Float(f32::from(beta)));
        let y = g.node(op, &operands);
        prop_assert_eq!(g.check(y)?, 0);
    }

    #[test]
    fn rows(
        dims in prop::collection::vec(1..70usize, 1..4),
        op in prop::sample::select(vec!["Softmax", "LayerNormalization", "ReduceMean", "ReduceSum"]),
        keeps in any::<bool>(),
    ) {
        let mut b = Builder::new();
        let width = dims[dims.len() - 1];
        let mut operands = vec![b.input(numbers(&dims, 1))];
        let mut node = Op::new(op);
        match op {
            "LayerNormalization" => {
                operands.push(b.constant(numbers(&[width], 2)));
                operands.push(b.constant(numbers(&[width], 3)));
            }
            "Softmax" => {}
            _ => {
                operands.push(b.constant(Tensor::vector(vec![-1i64])));
                node = node.with("keepdims", Attr::Int(keeps.into()));
            }
        }
        let y = b.node(node, &operands);
        prop_assert_eq!(b.check(y)?, 0);
    }

    #[test]
    fn movement(
        dims in prop::collection::vec(1..20usize, 1..5),
        shuffle in any::<u64>(),
        axis in 0..5usize,
    ) {
        let mut b = Builder::new();
        let rank = dims.len();
        let mut order: Vec<usize> = (0..rank).collect();
        for i in (1..rank).rev() {
            order.swap(i, (shuffle >> (8 * i)) as usize % (i + 1));
        }
        let x = b.input(numbers(&dims, 1));
        let y = b.node(Op::new("Transpose").with("perm", ints(&order)), &[x]);
        let mut longer: Vec<usize> = order.iter().map(|&a| dims[a]).collect();
        let axis = axis % rank;
        longer[axis] += 3;
        let z = b.input(numbers(&longer, 2));
        let y = b.node(Op::new("Concat").with("axis", Attr::Int(axis as i64)), &[y, z]);
        prop_assert_eq!(b.check(y)?, 0);
    }
}

#[test]
fn functions_of_one_tensor() {
    let names = [
        "Relu",
        "LeakyRelu",
        "Sigmoid",
        "Tanh",
        "Erf",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Exp",
        "Neg",
        "Abs",
        "Reciprocal",
        "Clip",
    ];
    for name in names {
        for len in [0, 1, 7, 64, 1000] {
            let mut b = Builder::new();
            let x = b.input(numbers(&[len], 5));
            // In place, and not.
            let own = b.node(Op::new("Neg"), &[x]);
            let (y, z) = (b.node(Op::new(name), &[x]), b.node(Op::new(name), &[own]));
            let y = b.node(Op::new("Add"), &[y, z]);
            assert_eq!(b.check(y).expect(name), 0, "{name}");
        }
    }
}

#[test]
fn convolutions_have_kernels() {
    for groups in [1, 2, 6] {
        let mut b = Builder::new();
        let x = b.input(numbers(&[2, 6, 9, 7], 1));
        let w = b.constant(numbers(&[6, 6 / groups, 3, 3], 2));
        let op = Op::new("Conv").with("group", Attr::Int(groups as i64));
        let y = b.node(op, &[x, w]);
        assert_eq!(b.check(y).expect("the same"), 0);
    }
}

#[test]
fn other_types_are_left_to_the_reference() {
    let mut b = Builder::new();
    let x = b.input(Tensor::vector(vec![1i64, 2]));
    let x = b.node(Op::new("Add"), &[x, x]);
    let y = b.node(Op::new("Cast").with("to", Attr::Int(1)), &[x]);
    assert_eq!(b.check(y).expect("the same"), 2);
}

#[test]
fn misfits_have_the_error_of_the_reference() {
    let mut b = Builder::new();
    let (x, w) = (b.input(numbers(&[2, 3], 1)), b.input(numbers(&[4, 2], 2)));
    let y = b.node(Op::new("MatMul"), &[x, w]);
    b.check(y).expect("the same error");
}

#[test]
fn what_is_wanted_is_observed_once() {
    let mut b = Builder::new();
    let x = b.input(numbers(&[1, 2, 5, 5], 1));
    let w = b.constant(numbers(&[2, 2, 3, 3], 2));
    let y = b.node(Op::new("Conv"), &[x, w]);
    let z = b.node(Op::new("Relu"), &[y]);
    let output = ValueDef {
        name: "z".to_owned(),
        ..ValueDef::default()
    };
    b.model.graph.add_output(output, z);
    let seen = |wanted: &[ValueId]| {
        let plan = Plan::observing(&b.model, |_: &Graph, v| wanted.contains(&v)).expect("a plan");
        let mut seen = Vec::new();
        plan.run(&mut Workspace::new(), &b.data, &mut |_, v, view| {
            seen.push((v, view.floats().map_or(0, |f| f.len())));
        })
        .expect("it runs");
        seen
    };
    assert_eq!(seen(&[]), []);
    assert_eq!(seen(&[y]), [(y, 18)]);
    assert_eq!(seen(&[x, y, z, w]), [(x, 50), (y, 18), (z, 18)]);
}
