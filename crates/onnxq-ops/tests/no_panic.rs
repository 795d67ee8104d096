//! No operator panics, whatever the operands and attributes: inference may leave things unknown,
//! and evaluation may fail.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use onnxq_ir::{
    Attr, Graph, Model, Op, Type, Value as IrValue,
    def::{ModelDef, ValueDef},
};
use onnxq_ops::{all, infer};
use support::{evaluate, read_op, read_operand};

use onnxq_tensor::{DType, Tensor};

/// A generator of numbers: xorshift, so that failures repeat.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.next(from.len())]
    }
}

static INTS: &[&str] = &[
    "alpha",
    "antialias",
    "auto_pad",
    "axis",
    "axes",
    "batch_axis",
    "beta",
    "block_size",
    "blocksize",
    "ceil_mode",
    "channels_last",
    "count_include_pad",
    "dilations",
    "direction",
    "dtype",
    "epsilon",
    "exclude_outside",
    "exclusive",
    "fmod",
    "group",
    "hidden_size",
    "keepdims",
    "kernel_shape",
    "k",
    "largest",
    "layout",
    "linear_before_reset",
    "mode",
    "noop_with_empty_axes",
    "num_groups",
    "num_outputs",
    "opset",
    "output_dtype",
    "output_height",
    "output_padding",
    "output_shape",
    "output_width",
    "p",
    "pads",
    "perm",
    "pooled_shape",
    "reverse",
    "sampling_ratio",
    "select_last_index",
    "size",
    "sorted",
    "split",
    "starts",
    "ends",
    "steps",
    "stash_type",
    "storage_order",
    "strides",
    "time_axis",
    "to",
    "transA",
    "transB",
    "upper",
    "value_int",
    "value_ints",
    "num_heads",
    "kv_num_heads",
];

static TEXTS: &[(&str, &[&str])] = &[
    ("auto_pad", &["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"]),
    (
        "mode",
        &[
            "linear", "cubic", "nearest", "constant", "reflect", "edge", "wrap", "DCR",
        ],
    ),
    ("direction", &["forward", "reverse", "bidirectional"]),
    (
        "coordinate_transformation_mode",
        &["asymmetric", "align_corners", "tf_crop_and_resize"],
    ),
    ("padding_mode", &["border", "reflection", "zeros"]),
    ("keep_aspect_ratio_policy", &["not_larger", "not_smaller"]),
    (
        "equation",
        &[
            "ij,jk->ik",
            "...i,i...->...",
            "ii->i",
            "i,j",
            "->",
            "ab,bc,cd->ad",
        ],
    ),
    ("reduction", &["add", "max", "none"]),
];

fn tensor(r: &mut Random, dtype: DType, dims: &[usize]) -> Option<Tensor> {
    let count: usize = dims.iter().product();
    if dtype.is_int() {
        let numbers = [0, 1, 2, 3, -1, 5, 2, 1, 0, 4, 300, i64::MAX, i64::MIN];
        let values = (0..count).map(|_| r.pick(&numbers)).collect();
        return Tensor::from_vec(dims, values).ok()?.cast(dtype, true).ok();
    }
    let numbers = [0.0, 1.0, -1.5, 0.5, 2.0, f32::NAN, f32::INFINITY, 1e30];
    let values = (0..count).map(|_| r.pick(&numbers)).collect();
    Tensor::from_f32s(dtype, dims, values).ok()
}

/// Operands that may fit: often of one type, often of one shape.
fn operands(r: &mut Random) -> Vec<Option<Tensor>> {
    let types = [
        DType::F32,
        DType::F32,
        DType::F32,
        DType::I64,
        DType::U8,
        DType::I8,
        DType::F16,
        DType::F64,
        DType::I32,
        DType::Bool,
        DType::I4,
        DType::U64,
        DType::F8E4M3FN,
    ];
    let (main, side) = (r.pick(&types), r.pick(&types));
    let (rank, extents) = (r.next(6), [0, 1, 2, 3, 4, 2, 1, 3, 2]);
    let shape: Vec<usize> = (0..rank).map(|_| r.pick(&extents)).collect();
    (0..r.next(10))
        .map(|i| {
            if r.next(10) == 0 {
                return None;
            }
            let dims = match r.next(8) {
                0..=2 => shape.clone(),
                3 => vec![],
                4 => vec![r.next(5)],
                5 => vec![shape.get(1).copied().unwrap_or(1)],
                6 => shape.iter().map(|_| r.pick(&extents)).collect(),
                _ => (0..r.next(5)).map(|_| r.pick(&extents)).collect(),
            };
            let dtype = match r.next(5) {
                0 => side,
                1 if i > 0 => DType::I64,
                2 if i > 0 => DType::F32,
                _ => main,
            };
            tensor(r, dtype, &dims)
        })
        .collect()
}

fn attributes(r: &mut Random, mut op: Op) -> Op {
    for _ in 0..r.next(6) {
        let numbers = [
            0,
            1,
            2,
            -1,
            3,
            -2,
            4,
            1,
            2,
            13,
            i64::MAX,
            i64::MIN,
            1 << 40,
            -7,
        ];
        let key = r.pick(INTS);
        let value = match r.next(4) {
            0 => Attr::Int(r.pick(&numbers)),
            1 => Attr::Float(r.pick(&[0.0, 1.0, -2.0, f32::NAN, 1e30])),
            _ => Attr::Ints((0..r.next(7)).map(|_| r.pick(&numbers)).collect()),
        };
        op = op.with(key, value);
    }
    if r.next(3) > 0 {
        let (key, values) = r.pick(TEXTS);
        op = op.with(key, r.pick(values));
    }
    op
}

fn infer_one(op: &Op, opset: i64, operands: &[Option<Tensor>], results: usize, known: bool) {
    let mut def = ModelDef::default();
    def.opsets.insert(op.domain.clone(), opset);
    let Ok(mut model) = Model::from_def(def) else {
        return;
    };
    let mut graph = Graph::new("g");
    let values: Vec<_> = operands
        .iter()
        .enumerate()
        .map(|(i, t)| {
            let t = t.as_ref()?;
            let name = format!("i{i}");
            Some(match known {
                true => graph.add_constant(name, t.clone()),
                false => graph.add_input(name, Some(Type::dense(t.dtype(), t.dims()))),
            })
        })
        .collect();
    let names = (0..results).map(|i| IrValue::new(format!("o{i}"), None));
    let n = graph.add_node("n", op.clone(), &values, names.collect::<Vec<_>>());
    for i in 0..results {
        let v = graph.result(n, i);
        graph.add_output(ValueDef::new(format!("o{i}"), None), v);
    }
    model.graph = graph;
    infer::analyze(&model);
}

/// Operators with operands (`type[dims]`, `-` where left out) and attributes that fit. Each is
/// tried as it is, which must work, and with things changed.
#[rustfmt::skip]
static FITTING: &[(&str, &str, &str)] = &[
    ("AffineGrid", "f[2,2,3] i64[4]=2,3,4,5", "align_corners=1"),
    ("AveragePool", "f[1,2,7,6]", "kernel_shape=3,2 strides=2,1 pads=1,0,1,1 ceil_mode=1"),
    ("BatchNormalization", "f[2,3,4] f[3] f[3] f[3] f[3]", "training_mode=0"),
    ("Conv", "f[1,4,6,5] f[6,2,3,2] f[6]", "group=2 pads=1,1,1,1 strides=2,1 dilations=1,2"),
    ("Conv", "f[1,4,6] f[4,1,3]", "group=4 auto_pad=SAME_LOWER"),
    ("ConvInteger", "u8[1,2,5,5] i8[3,2,2,2] u8[] i8[3]", ""),
    ("ConvTranspose", "f[1,4,3,4] f[4,2,2,3] f[4]", "group=2 strides=2,2 output_padding=1,0"),
    ("ConvTranspose", "f[1,2,3] f[2,2,2]", "output_shape=7 strides=2"),
    ("DequantizeLinear", "i8[2,6] f[2,3] i8[2,3]", "axis=1 block_size=2"),
    ("DynamicQuantizeLinear", "f[3,4]", ""),
    ("Einsum", "f[2,3] f[3,4]", "equation=ij,jk->ik"),
    ("GRU", "f[3,2,4] f[2,15,4] f[2,15,5] f[2,30] i32[2]=3,2 f[2,2,5]", "direction=bidirectional"),
    ("Gemm", "f[3,4] f[5,4] f[1,5]", "transB=1"),
    ("GlobalAveragePool", "f[1,2,3,3]", ""),
    ("GridSample", "f[1,2,4,5] f[1,3,2,2]", "mode=cubic padding_mode=reflection"),
    ("GroupNormalization", "f[2,4,3] f[4] f[4]", "num_groups=2"),
    ("LRN", "f[1,5,2,2]", "size=3"),
    ("LSTM", "f[3,2,4] f[1,20,4] f[1,20,5] f[1,40] i32[2]=3,1 f[1,2,5] f[1,2,5] f[1,15]", "direction=reverse"),
    ("LayerNormalization", "f[2,3,4] f[3,4] f[4]", "axis=1"),
    ("LpPool", "f[1,2,7]", "kernel_shape=3 p=3"),
    ("MatMul", "f[2,1,3,4] f[5,4,2]", ""),
    ("MatMulInteger", "u8[2,3,4] i8[4,5] u8[3] i8[5]", ""),
    ("MaxPool", "u8[1,2,7,6]", "kernel_shape=3,2 dilations=2,1 storage_order=1"),
    ("MaxUnpool", "f[1,1,2,2] i64[1,1,2,2]=0,2,8,10", "kernel_shape=2,2 strides=2,2"),
    ("MeanVarianceNormalization", "f[2,3,2,2]", "axes=0,2,3"),
    ("QLinearConv", "u8[1,2,5,5] f[] u8[] i8[3,2,2,2] f[3] i8[3] f[] u8[] i32[3]", "strides=2,2"),
    ("QLinearMatMul", "u8[3,4] f[] u8[] i8[4,5] f[5] i8[5] f[] u8[]", ""),
    ("QuantizeLinear", "f[2,6] f[6] i4[6]", "axis=1"),
    ("RNN", "f[2,3,4] f[1,5,4] f[1,5,5]", "layout=1"),
    ("ReduceLogSumExp", "f[2,3,4] i64[2]=0,2", "keepdims=0"),
    ("Resize", "f[1,2,4,5] - f[4]=1,1,2,1.5", "mode=cubic antialias=1"),
    ("Resize", "u8[1,2,4,5] f[8]=0,0,0,0,1,1,1,1 - i64[4]=1,2,3,7", "coordinate_transformation_mode=tf_crop_and_resize mode=linear"),
    ("RoiAlign", "f[2,3,8,8] f[2,4]=0,0,4,4,1,1,7,5 i64[2]=0,1", "output_height=2 output_width=3"),
    ("Softmax", "f[2,3,4]", "axis=1"),
    ("Attention", "f[1,4,3,2] f[1,2,5,2] f[1,2,5,3] f[3,1] f[1,2,1,2] f[1,2,1,3]", "is_causal=1"),
    ("Attention", "f[2,3,4] f[2,5,4] f[2,5,6] b[3,4] - - i64[2]=4,2", "q_num_heads=2 kv_num_heads=2"),
    ("RotaryEmbedding", "f[2,3,4,6] f[5,2] f[5,2] i64[2,4]=0,1,2,3,4,0,1,2", "rotary_embedding_dim=4"),
    ("com.microsoft.Attention", "f[2,3,4] f[4,12] f[12] i32[2]=3,2 - f[1,2,3,3]", "num_heads=2"),
    ("com.microsoft.EmbedLayerNormalization", "i32[2,3] i32[2,3] f[4,5] f[3,5] f[2,5] f[5] f[5] i32[2,3]", ""),
    ("com.microsoft.QAttention", "u8[2,3,4] i8[4,12] f[12] f[] f[12] i32[2,3] u8[] i8[12]", "num_heads=2"),
    ("com.microsoft.SkipLayerNormalization", "f[2,3,4] f[3,4] f[4] f[4] f[4]", ""),
    ("com.microsoft.DynamicQuantizeLSTM", "f[3,2,4] i8[1,4,20] i8[1,5,20] f[1,40] - - - - f[1,20] i8[1,20] f[1] i8[1]", ""),
    ("com.microsoft.DynamicQuantizeMatMul", "f[3,4] i8[4,5] f[5] i8[5] f[5]", ""),
    ("com.microsoft.MatMulIntegerToFloat", "u8[3,4] i8[4,5] f[] f[5] u8[] i8[5] f[5]", ""),
    ("com.microsoft.QGemm", "u8[3,4] f[] u8[] i8[5,4] f[5] i8[5] i32[5] f[] u8[]", "transB=1"),
    ("com.microsoft.QLinearAdd", "u8[3,4] f[] u8[] u8[4] f[] u8[] f[] u8[]", ""),
    ("com.microsoft.QLinearAveragePool", "u8[1,5,5,2] f[] u8[] f[] u8[]", "kernel_shape=2,2 channels_last=1"),
    ("com.microsoft.QLinearConcat", "f[] u8[] u8[2,3] f[] u8[] u8[2,1] f[] u8[]", "axis=1"),
    ("com.microsoft.QLinearGlobalAveragePool", "u8[1,2,3,3] f[] u8[] f[] u8[]", "channels_last=0"),
    ("com.microsoft.QLinearSigmoid", "i8[7] f[] i8[] f[] i8[]", ""),
    ("com.microsoft.QLinearSoftmax", "u8[2,3,4] f[] u8[] f[] u8[]", "opset=12 axis=1"),
    ("com.microsoft.QLinearWhere", "b[3,1] u8[3,4] f[] u8[] u8[4] f[] u8[] f[] u8[]", ""),
];

/// Changes an operand: leaves it out, or gives it another shape, type or other numbers.
fn change(r: &mut Random, operand: &Option<Tensor>) -> Option<Tensor> {
    let t = operand.as_ref()?;
    let mut dims = t.dims().to_vec();
    let at = r.next(dims.len().max(1));
    match r.next(7) {
        0 => return None,
        1 if !dims.is_empty() => dims[at] = r.next(4),
        2 => dims.insert(at.min(dims.len()), r.next(3)),
        3 if !dims.is_empty() => {
            dims.remove(at);
        }
        4 => {
            let other = [
                DType::F16,
                DType::F64,
                DType::U8,
                DType::I8,
                DType::I64,
                DType::Bool,
            ];
            return t.cast(r.pick(&other), true).ok();
        }
        _ => {}
    }
    tensor(r, t.dtype(), &dims)
}

/// Whether inference and evaluation come back.
fn survives(r: &mut Random, op: &Op, opset: i64, operands: &[Option<Tensor>]) -> bool {
    let (results, known) = (1 + r.next(4), r.next(2) == 0);
    catch_unwind(AssertUnwindSafe(|| {
        infer_one(op, opset, operands, results, known);
        let _ = evaluate(op, opset, operands, results);
    }))
    .is_ok()
}

/// How many times each is tried.
fn trials() -> usize {
    match std::env::var("ONNXQ_TRIALS") {
        Ok(n) => n.parse().expect("a number"),
        Err(_) => 200,
    }
}

fn random(case: usize, trial: usize) -> Random {
    let mut r = Random(0x9e37_79b9_7f4a_7c15 ^ ((case as u64) << 32) ^ (trial as u64 + 1));
    for _ in 0..4 {
        r.next(2);
    }
    r
}

#[test]
fn no_operator_panics_on_what_nearly_fits() {
    let mut failures = Vec::new();
    for (k, (name, operands, attrs)) in FITTING.iter().enumerate() {
        let fitting: Vec<Option<Tensor>> = operands.split_whitespace().map(read_operand).collect();
        let op = read_op(name, attrs);
        if let Err(e) = evaluate(&op, 21, &fitting, 1) {
            failures.push(format!("{name} of {operands} fails: {e}"));
        }
        for trial in 0..trials() {
            let mut r = random(k, trial);
            let mut operands = fitting.clone();
            for _ in 0..r.next(3) {
                let at = r.next(operands.len());
                operands[at] = change(&mut r, &operands[at]);
            }
            let mut changed = op.clone();
            if r.next(2) == 0 {
                changed = attributes(&mut r, changed);
            }
            let opset = r.pick(&[9, 10, 12, 13, 18, 21]);
            if !survives(&mut r, &changed, opset, &operands) {
                failures.push(format!(
                    "{name} at {opset}: {:?} of {operands:?}",
                    changed.attrs
                ));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn no_operator_panics_on_anything() {
    let mut failures = Vec::new();
    for (k, operator) in all().enumerate() {
        for trial in 0..trials() {
            let mut r = random(k, trial);
            let op = Op::in_domain(operator.domain(), operator.name());
            let op = attributes(&mut r, op);
            let opset = r.pick(&[7, 9, 10, 11, 12, 13, 17, 18, 21, 23, 25]);
            let operands = operands(&mut r);
            if !survives(&mut r, &op, opset, &operands) {
                let name = op.qualified();
                failures.push(format!("{name} at {opset}: {:?} of {operands:?}", op.attrs));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
