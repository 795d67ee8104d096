//! Nodes of every operator with random operands and attributes: nothing panics, and where a node
//! can be evaluated, what inference says of it is true.

use std::panic::{AssertUnwindSafe, catch_unwind};

use onnxq_ir::{Model, Op, Type, Value as Result_, def::ValueDef};
use onnxq_ops::{Operator, Value, infer, interpret::Interpreter, upgrade};
use onnxq_tensor::{Bytes, DType, Tensor};

/// A generator of numbers that look random (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 33) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Mostly small, now and then as large as can be.
    fn int(&mut self) -> i64 {
        match self.below(60) {
            0 => i64::MIN,
            1 => i64::MAX,
            3 => 1 << 40,
            _ => self.below(8) as i64 - 3,
        }
    }

    fn ints(&mut self) -> Vec<i64> {
        (0..self.below(5)).map(|_| self.int()).collect()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

const DTYPES: &[DType] = &[
    DType::F32,
    DType::F32,
    DType::F32,
    DType::F64,
    DType::F16,
    DType::I64,
    DType::I64,
    DType::I32,
    DType::I8,
    DType::U8,
    DType::Bool,
    DType::U4,
    DType::String,
];

/// Attributes that some operator has, of every kind.
const INTS: &[&str] = &[
    "axis",
    "axes",
    "perm",
    "k",
    "blocksize",
    "to",
    "dtype",
    "starts",
    "ends",
    "pads",
    "split",
    "num_outputs",
    "batch_dims",
    "keepdims",
    "exclusive",
    "reverse",
    "upper",
    "fmod",
    "largest",
    "allowzero",
    "broadcast",
    "batch_axis",
    "time_axis",
    "start",
    "end",
    "shape",
    "value_int",
    "value_ints",
    "new_axis",
    "kernel_shape",
    "strides",
    "dilations",
    "group",
    "output_padding",
    "output_shape",
    "transA",
    "transB",
    "hidden_size",
    "num_groups",
    "num_heads",
    "block_size",
    "select_last_index",
    "noop_with_empty_axes",
    "ceil_mode",
    "count_include_pad",
    "stash_type",
    "training_mode",
    "spatial",
    "p",
    "size",
    "detect_negative",
    "sample_size",
    "repeats",
];
const FLOATS: &[&str] = &[
    "alpha", "beta", "epsilon", "min", "max", "value", "lambd", "scales",
];
const STRINGS: &[(&str, &[&str])] = &[
    (
        "mode",
        &[
            "constant", "edge", "reflect", "wrap", "CRD", "DCR", "linear", "cubic", "circular",
        ],
    ),
    ("reduction", &["none", "add", "mul", "max", "min"]),
    ("direction", &["LEFT", "RIGHT", "bidirectional", "reverse"]),
    ("approximate", &["tanh", "none"]),
    ("auto_pad", &["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"]),
    (
        "equation",
        &["ij,jk->ik", "...i->...", "ii", "i,j", "ij->ji", "->"],
    ),
    (
        "coordinate_transformation_mode",
        &["half_pixel", "align_corners", "asymmetric"],
    ),
];

/// Dimensions with which operands often fit each other.
fn dims(r: &mut Random, usual: &[usize]) -> Vec<usize> {
    match r.below(6) {
        0 => (0..r.below(5)).map(|_| r.below(4) as usize).collect(),
        1 => vec![],
        2 => vec![r.below(5) as usize],
        3 => usual[r.below(usual.len() as u64 + 1) as usize..].to_vec(),
        _ => usual.to_vec(),
    }
}

fn tensor(r: &mut Random, dtype: DType, dims: Vec<usize>) -> Tensor {
    let count = dims.iter().product();
    let made = match dtype {
        DType::String => {
            let strings: Vec<Bytes> = (0..count)
                .map(|_| Bytes::from_static([&b"a"[..], b"b", b""][r.below(3) as usize]))
                .collect();
            Tensor::from_strings(dims, strings)
        }
        DType::I64 => Tensor::from_vec(dims, (0..count).map(|_| r.int()).collect()),
        _ => {
            let small = (0..count).map(|_| r.below(9) as f32 - 4.0).collect();
            Tensor::from_vec(dims, small).and_then(|t: Tensor| t.cast(dtype, true))
        }
    };
    made.expect("the elements fit the dimensions")
}

/// A model of one node.
fn model(r: &mut Random, operator: &dyn Operator) -> (Model, Vec<Option<Value>>) {
    let mut op = Op::in_domain(operator.domain(), operator.name());
    for _ in 0..r.below(4) {
        let key = r.pick(INTS);
        op = if r.one_in(2) {
            op.with(key, r.int())
        } else {
            op.with(key, r.ints())
        };
    }
    if r.one_in(3) {
        op = op.with(r.pick(FLOATS), r.below(5) as f32 - 2.0);
    }
    if r.one_in(3) {
        let (key, values) = r.pick(STRINGS);
        op = op.with(key, r.pick(values));
    }
    let usual: Vec<usize> = (0..r.below(5)).map(|_| 1 + r.below(3) as usize).collect();
    let dtype = r.pick(DTYPES);
    let mut model = Model::default();
    let opset = match r.below(4) {
        0 => r.pick(operator.since()),
        1 => 13,
        2 => 18,
        _ => 22,
    };
    model.opsets.insert(operator.domain().to_owned(), opset);
    let mut inputs = Vec::new();
    let mut operands = Vec::new();
    for i in 0..r.below(5) {
        if i > 0 && r.one_in(12) {
            operands.push(None);
            continue;
        }
        let dtype = match r.below(5) {
            0 | 1 if i > 0 => DType::I64,
            2 => r.pick(DTYPES),
            _ => dtype,
        };
        let dims = dims(r, &usual);
        let t = tensor(r, dtype, dims);
        let name = format!("x{i}");
        operands.push(Some(if r.one_in(2) {
            model.graph.add_constant(name, t)
        } else {
            let ty = Type::dense(t.dtype(), t.dims());
            inputs.push(Some(Value::Tensor(t)));
            model.graph.add_input(name, Some(ty))
        }));
    }
    let results = 1 + r.below(3) as usize;
    let values = (0..results).map(|i| Result_::new(format!("y{i}"), None));
    let n = model.graph.add_node("n", op, &operands, values);
    for i in 0..results {
        let output = ValueDef {
            name: format!("y{i}"),
            ..ValueDef::default()
        };
        let v = model.graph.result(n, i);
        model.graph.add_output(output, v);
    }
    (model, inputs)
}

/// Evaluates and infers; says where the two contradict each other.
fn contradiction(model: &Model, inputs: &[Option<Value>]) -> Option<String> {
    let facts = infer::analyze(model).results(&model.graph);
    let results = Interpreter::new(model)
        .run(&model.graph, inputs.to_vec())
        .ok()?;
    for (fact, value) in facts.iter().zip(&results) {
        let Value::Tensor(t) = value else { continue };
        if t.len() > 1 << 16 {
            continue;
        }
        let wrong_type = fact.dtype().is_some_and(|d| d != t.dtype());
        let wrong_shape = fact.shape().is_some_and(|shape| {
            let mut dims = shape.iter().zip(t.dims());
            let differs = |d: Option<i64>, n: usize| d.is_some_and(|d| d != n as i64);
            shape.len() != t.rank() || dims.any(|(d, &n)| differs(d.as_const(), n))
        });
        let wrong_value = match (&fact.value, t.to_i64s()) {
            (Some(value), Ok(found)) => {
                let mut elems = value.elems.iter().zip(&found);
                elems.any(|(d, &n)| d.as_const().is_some_and(|d| d != n))
            }
            _ => false,
        };
        if wrong_type || wrong_shape || wrong_value {
            return Some(format!(
                "inferred {:?} {:?}, found {t:?} {:?}",
                fact.ty,
                fact.value,
                t.to_i64s()
            ));
        }
    }
    None
}

#[test]
fn nothing_panics_and_inference_is_true() {
    let rounds: u64 = std::env::var("ONNXQ_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(300);
    let mut failures = Vec::new();
    for operator in onnxq_ops::all() {
        // By name, so that other operators do not change what this one is tried with (FNV-1a).
        let name = format!("{}.{}", operator.domain(), operator.name());
        let seed = name.bytes().fold(0x811c_9dc5u32, |hash, b| {
            (hash ^ u32::from(b)).wrapping_mul(0x0100_0193)
        });
        for round in 0..rounds {
            let mut r = Random(u64::from(seed) << 32 | (round + 1) << 1 | 1);
            r.next();
            let (mut model, inputs) = model(&mut r, operator);
            let tried = catch_unwind(AssertUnwindSafe(|| {
                let found = contradiction(&model, &inputs);
                if operator.domain().is_empty() {
                    infer::annotate(&mut model);
                    let _ = upgrade::upgrade(&mut model, 22);
                }
                found
            }));
            let problem = match tried {
                Ok(None) => continue,
                Ok(Some(found)) => found,
                Err(_) => "panicked".to_owned(),
            };
            let name = operator.name();
            failures.push(format!("{name}, round {round}: {problem}"));
            break;
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
