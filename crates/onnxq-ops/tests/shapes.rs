//! Symbolic shapes of results.

mod support;

use onnxq_ir::{
    Graph, Model, Type, Value as IrValue,
    def::{ModelDef, ValueDef},
};
use onnxq_ops::infer;
use onnxq_tensor::{DType, Dim, Shape};
use support::{read_op, read_operand};

/// Operator, operands (`shape` of symbols for an input, or a constant as elsewhere), attributes,
/// and the shapes of the results.
#[rustfmt::skip]
static CASES: &[(&str, &str, &str, &str)] = &[
    ("Conv", "(N,3,H,W) f[8,3,3,3]", "pads=1,1,1,1 strides=2,2", "(N,8,(H-1)//2+1,(W-1)//2+1)"),
    ("Conv", "(N,4,L) (M,2,3)", "group=2 auto_pad=SAME_UPPER strides=3", "(N,M,ceil(L/3))"),
    ("ConvTranspose", "(N,4,L) (4,2,3)", "group=2 strides=2 pads=1,0", "(N,4,2*L)"),
    ("MaxPool", "(N,C,H,W)", "kernel_shape=2,2 strides=2,2", "(N,C,H//2,W//2) (N,C,H//2,W//2)"),
    ("GlobalAveragePool", "(N,C,H,W)", "", "(N,C,1,1)"),
    ("MatMul", "(N,1,S,K) (H,K,T)", "", "(N,H,S,T)"),
    ("MatMul", "(K) (B,K,T)", "", "(B,T)"),
    ("Gemm", "(K,M) (N,K)", "transA=1 transB=1", "(M,N)"),
    ("Einsum", "(B,S,H,D) (B,T,H,D)", "equation=bshd,bthd->bhst", "(B,H,S,T)"),
    ("LayerNormalization", "(N,S,C) (C)", "", "(N,S,C) (N,S,1) (N,S,1)"),
    ("ReduceMean", "(N,C,H,W)", "axes=2,3 keepdims=0", "(N,C)"),
    ("ArgMax", "(N,C,H)", "axis=-1 keepdims=0", "(N,C)"),
    ("LSTM", "(S,N,I) (2,4*H,I) (2,4*H,H)", "direction=bidirectional", "(S,2,N,H) (2,N,H) (2,N,H)"),
    ("GRU", "(N,S,I) (1,15,I) (1,15,5)", "hidden_size=5 layout=1", "(N,S,1,5) (N,1,5)"),
    ("Resize", "(N,3,H,W) - f[4]=1,1,2,0.5", "", "(N,3,2*H,W//2)"),
    ("Upsample", "(N,3,H,W) f[4]=1,1,2,3", "", "(N,3,2*H,3*W)"),
    ("GridSample", "(N,C,H,W) (N,P,Q,2)", "", "(N,C,P,Q)"),
    ("QLinearConv", "(N,3,H,W) f[]=1 u8[]=0 i8[8,3,1,1] f[]=1 i8[]=0 f[]=1 u8[]=0", "strides=2,2", "(N,8,(H-1)//2+1,(W-1)//2+1)"),
    ("DynamicQuantizeLinear", "(N,S)", "", "(N,S) () ()"),
    ("RoiAlign", "(N,C,H,W) (R,4) (R)", "output_height=2 output_width=3", "(R,C,2,3)"),
];

fn shape(text: &str) -> Shape {
    let inner = text.trim_start_matches('(');
    let inner = inner.strip_suffix(')').unwrap_or(inner);
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in inner.chars() {
        match c {
            ',' if depth == 0 => parts.push(String::new()),
            c => {
                depth += i32::from(c == '(') - i32::from(c == ')');
                parts.last_mut().expect("one part at least").push(c);
            }
        }
    }
    parts
        .iter()
        .filter(|p| !p.is_empty())
        .map(|p| Dim::parse(p))
        .collect()
}

#[test]
fn shapes_are_polynomials_of_the_operands_dimensions() {
    for (name, operands, attrs, expected) in CASES {
        let expected: Vec<Shape> = expected.split_whitespace().map(shape).collect();
        let mut def = ModelDef::default();
        def.opsets
            .insert(String::new(), if *name == "Upsample" { 9 } else { 17 });
        let mut model = Model::from_def(def).expect("an empty model");
        let mut g = Graph::new("g");
        let mut values = Vec::new();
        for (i, text) in operands.split_whitespace().enumerate() {
            values.push(match read_operand(text) {
                Some(t) => Some(g.add_constant(format!("c{i}"), t)),
                None if text == "-" => None,
                None => {
                    let ty = Type::tensor(DType::F32, Some(shape(text)));
                    Some(g.add_input(format!("x{i}"), Some(ty)))
                }
            });
        }
        let names = (0..expected.len()).map(|i| IrValue::new(format!("y{i}"), None));
        let n = g.add_node(
            "n",
            read_op(name, attrs),
            &values,
            names.collect::<Vec<_>>(),
        );
        for i in 0..expected.len() {
            let v = g.result(n, i);
            g.add_output(ValueDef::new(format!("y{i}"), None), v);
        }
        model.graph = g;
        let facts = infer::analyze(&model).results(&model.graph);
        let found: Vec<_> = facts.iter().map(|f| f.shape().cloned()).collect();
        let expected: Vec<_> = expected.into_iter().map(Some).collect();
        assert_eq!(found, expected, "{name} {attrs}");
    }
}
