//! Upgrades keep the meaning of a model: its results are the same before and after, and every node
//! is one of the later opset.

mod support;

use onnxq_ir::{
    Graph, Model, Op, Type, Value as IrValue,
    def::{ModelDef, ValueDef},
};
use onnxq_ops::{Value, infer, interpret::Interpreter, upgrade::upgrade};
use onnxq_tensor::{DType, Dim, Tensor};
use support::{read_op, read_operand};

/// Operator, opset, operands (the first is the input of the model, the others are constants),
/// attributes, and a word that the operators afterwards must contain.
#[rustfmt::skip]
static CASES: &[(&str, i64, &str, &str, &str)] = &[
    ("BatchNormalization", 6, "f[1,2,2]=0,-3,3,2 f[2]=2,3 f[2]=1,-1 f[2]=1,-1 f[2]=3,4", "is_test=1", "BatchNormalization"),
    ("BatchNormalization", 7, "f[1,2,2]=0,-3,3,2 f[2]=2,3 f[2]=1,-1 f[2]=1,-1 f[2]=3,4", "spatial=1", "BatchNormalization"),
    ("GRU", 3, "f[2,1,1]=1,2 f[1,3,1]=1,0,2 f[1,3,1]=1,1,0", "hidden_size=1 output_sequence=1", "GRU"),
    ("Gemm", 6, "f[1,2]=1,2 f[2,2]=1,2,3,4 f[2]=5,6", "broadcast=1", "Gemm"),
    ("GridSample", 16, "f[1,1,2,2]=1,2,3,4 f[1,1,1,2]=0.3,0.1", "mode=bilinear", "GridSample"),
    ("GroupNormalization", 18, "f[1,4,2]=1,2,3,4,5,7,8,9 f[2]=2,3 f[2]=1,0", "num_groups=2", "Expand"),
    ("Hardmax", 9, "f[2,2,2]=1,2,3,4,8,7,6,5", "", "Flatten"),
    ("LogSoftmax", 9, "f[2,2,2]=1,2,3,4,8,7,6,5", "axis=2", "LogSoftmax"),
    ("LpPool", 1, "f[1,1,3]=3,4,12", "kernel_shape=2", "LpPool"),
    ("MaxPool", 8, "f[1,1,3]=3,4,12", "kernel_shape=2", "MaxPool"),
    ("ReduceMean", 11, "f[2,3]=1,2,3,4,5,6", "axes=-1 keepdims=0", "ReduceMean"),
    ("ReduceSum", 9, "f[2,3]=1,2,3,4,5,6", "axes=0", "ReduceSum"),
    ("Resize", 10, "f[1,1,1,4]=1,5,2,8 f[4]=1,1,1,1.5", "mode=linear", "Resize"),
    ("Resize", 10, "f[1,1,1,4]=1,5,2,8 f[4]=1,1,1,0.6", "mode=nearest", "Resize"),
    ("Resize", 10, "f[1,1,1,4]=1,5,2,8 f[4]=1,1,2,1.6", "mode=nearest", "Resize"),
    ("Resize", 11, "f[1,1,1,4]=1,5,2,8 - f[4]=1,1,1,1.6", "mode=nearest nearest_mode=floor coordinate_transformation_mode=tf_half_pixel_for_nn", "Resize"),
    ("Resize", 11, "f[1,1,1,4]=1,5,2,8 - f[4]=1,1,1,2.3", "mode=nearest coordinate_transformation_mode=tf_half_pixel_for_nn", "Resize"),
    ("RoiAlign", 10, "f[1,1,4,4]=1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7 f[1,4]=0,0,3,3 i64[1]=0", "output_height=2 output_width=2", "RoiAlign"),
    ("Softmax", 9, "f[2,2,2]=1,2,3,4,8,7,6,5", "", "Flatten"),
    ("Softmax", 11, "f[2,2,2]=1,2,3,4,8,7,6,5", "axis=0", "Reshape"),
    ("Softmax", 11, "f[2,2,1,1]=1,2,3,4", "axis=1", "Softmax"),
    ("Upsample", 7, "f[1,1,2,2]=1,2,3,4", "mode=nearest scales=1,1,2,3", "Resize"),
    ("Upsample", 9, "f[1,1,2,2]=1,2,3,4 f[4]=1,1,2,2", "mode=linear", "Resize"),
    ("Upsample", 9, "f[1,1,2,2]=1,2,3,4 f[4]=1,1,1.5,3", "mode=nearest", "Resize"),
];

fn model(op: Op, opset: i64, operands: &[Option<Tensor>], known: bool) -> Model {
    let mut def = ModelDef::default();
    def.opsets.insert(String::new(), opset);
    let mut model = Model::from_def(def).expect("an empty model");
    let mut g = Graph::new("g");
    let mut values = Vec::new();
    for (i, t) in operands.iter().enumerate() {
        let Some(t) = t else {
            values.push(None);
            continue;
        };
        values.push(Some(if i > 0 {
            g.add_constant(format!("c{i}"), t.clone())
        } else if known {
            g.add_input("x", Some(Type::dense(t.dtype(), t.dims())))
        } else {
            let dims = (0..t.rank())
                .map(|i| Dim::symbol(&format!("d{i}")))
                .collect();
            g.add_input("x", Some(Type::tensor(t.dtype(), Some(dims))))
        }));
    }
    let n = g.add_node("n", op, &values, [IrValue::new("y", None)]);
    let v = g.result(n, 0);
    g.add_output(ValueDef::new("y", None), v);
    model.graph = g;
    infer::annotate(&mut model);
    model
}

fn run(model: &Model, x: &Tensor) -> Tensor {
    let results = Interpreter::new(model).run(&model.graph, vec![Some(Value::Tensor(x.clone()))]);
    let results = results.unwrap_or_else(|e| panic!("{e:?}"));
    results[0].as_tensor().expect("a tensor").clone()
}

fn operators(model: &Model) -> Vec<String> {
    let g = &model.graph;
    let ops = g.op_order().into_iter().filter_map(|n| g.op(n));
    ops.map(|op| op.op_type.clone()).collect()
}

#[test]
fn upgrades_keep_the_meaning() {
    for (name, opset, operands, attrs, word) in CASES {
        let operands: Vec<_> = operands.split_whitespace().map(read_operand).collect();
        let x = operands[0].clone().expect("the first is the input");
        // Without dimensions GroupNormalization does not say how many channels a group has.
        let shapes: &[bool] = if *name == "GroupNormalization" {
            &[true]
        } else {
            &[true, false]
        };
        for &known in shapes {
            for target in [10, 11, 13, 18, 21].into_iter().filter(|t| t > opset) {
                let mut m = model(read_op(name, attrs), *opset, &operands, known);
                let before = run(&m, &x);
                upgrade(&mut m, target).unwrap_or_else(|e| panic!("{name} to {target}: {e:?}"));
                assert!(
                    m.verify().is_empty(),
                    "{name} to {target}: {:?}",
                    m.verify()
                );
                let after = run(&m, &x);
                let what = format!("{name}-{opset} {attrs} at {target}: {:?}", operators(&m));
                assert_eq!(before.dims(), after.dims(), "{what}");
                assert_eq!(before.to_f64s(), after.to_f64s(), "{what}");
                if target == 21 {
                    assert!(operators(&m).iter().any(|op| op == word), "{what}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_said_later_is_refused() {
    let x = Tensor::from_f32s(DType::F32, [1, 2, 2].as_slice(), vec![1.0; 4]).expect("fits");
    let spatial = read_op("BatchNormalization", "spatial=0");
    let mut m = model(spatial, 7, &[Some(x.clone())], true);
    assert!(upgrade(&mut m, 9).is_err());
    let scales = Tensor::vector(vec![1.0f32, 2.0, 0.5]);
    let mut m = model(read_op("Resize", ""), 10, &[Some(x), Some(scales)], true);
    assert!(upgrade(&mut m, 11).is_err());
}
