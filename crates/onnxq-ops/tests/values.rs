//! Values of operators, held against ONNX Runtime 1.31: each row is an operator, the opset, its
//! operands, its attributes, and what ONNX Runtime gives. Numbers are small enough to check by
//! hand.

mod support;

use support::{evaluate, read_op, read_operand};

#[rustfmt::skip]
static CASES: &[(&str, i64, &str, &str, &str)] = &[
    ("Conv", 17, "f[1,2,3,3]=2,-3,-2,-2,-2,2,3,1,-3,-3,-1,0,1,0,-2,-2,1,2 f[2,1,2,2]=-2,-2,0,-1,2,0,0,0 f[2]=1,0", "group=2 pads=1,0,0,1 strides=2,1", "f[1,2,2,3]=4,3,1,8,4,-3,0,0,0,2,0,-4"),
    ("Conv", 17, "f[1,1,5]=-2,2,2,3,2 f[2,1,3]=-1,-1,1,1,1,2", "auto_pad=SAME_LOWER strides=2", "f[1,2,3]=4,-1,-5,2,10,5"),
    ("Conv", 17, "f[1,2,4]=-1,3,-3,-3,3,3,-1,-3 f[2,2,2]=-1,-2,2,1,0,-1,0,-2", "dilations=2", "f[1,2,2]=12,6,5,9"),
    ("ConvTranspose", 17, "f[1,2,2,2]=2,0,-3,-2,1,0,-1,-2 f[2,1,2,2]=-2,1,1,0,2,2,-1,1 f[1]=1", "strides=2,1 output_padding=1,0", "f[1,1,5,3]=-1,5,1,2,2,1,5,-4,-5,-1,0,-1,1,1,1"),
    ("ConvTranspose", 17, "f[1,1,3]=-2,-1,0 f[1,1,2]=1,-1", "auto_pad=SAME_UPPER strides=2", "f[1,1,6]=-2,2,-1,1,0,0"),
    ("ConvInteger", 17, "u8[1,1,3,3]=184,167,55,99,212,215,168,1,174 i8[1,1,2,2]=-71,81,105,-19 u8[]=7", "pads=0,0,1,1", "i32[1,1,3,3]=6158,10101,18432,27092,-1510,2767,-11917,13953,-11857"),
    ("QLinearConv", 17, "u8[1,2,2,2]=244,194,83,224,98,26,151,217 f[]=0.02 u8[]=100 i8[2,2,1,1]=40,-28,102,-6 f[2]=0.01,0.03 i8[2]=0,0 f[]=0.2 u8[]=128 i32[2]=900,-500", "", "u8[1,2,2,2]=135,135,127,131,171,157,120,162"),
    ("MaxPool", 17, "f[1,1,4,4]=-1,-4,-3,2,3,-2,1,4,-4,-2,0,1,-1,-1,-4,1", "kernel_shape=3,3 strides=2,2 ceil_mode=1 storage_order=1", "f[1,1,2,2]=3,4,0,1 i64[1,1,2,2]=1,13,10,14"),
    ("AveragePool", 17, "f[1,1,5]=8,1,7,1,0", "kernel_shape=3 strides=2 pads=1,1 count_include_pad=1", "f[1,1,3]=3,3,0.3333333"),
    ("AveragePool", 17, "f[1,1,5]=6,1,6,2,5", "kernel_shape=3 strides=2 pads=1,1", "f[1,1,3]=3.5,3,3.5"),
    ("LpPool", 17, "f[1,1,4]=8,8,4,1", "kernel_shape=2 p=2", "f[1,1,3]=11.31371,8.944272,4.123106"),
    ("MatMul", 17, "f[2,1,3]=-2,2,1,-2,3,3 f[3,2]=3,1,3,1,0,3", "", "f[2,1,2]=0,3,3,10"),
    ("MatMul", 17, "f[3]=1,2,-1 f[2,3,2]=2,3,-3,0,-1,-3,-3,-2,-2,2,-2,1", "", "f[2,2]=-3,6,-5,1"),
    ("Gemm", 17, "f[3,2]=3,0,-3,-3,-1,-1 f[2,3]=0,-1,2,0,3,3 f[2,1]=1,-3", "transA=1 transB=1", "f[2,2]=2,-11,-2,-15"),
    ("MatMulInteger", 17, "u8[2,3]=54,191,139,241,180,209 i8[3,2]=-115,-53,46,34,-34,-88 u8[]=5 i8[2]=22,-106", "", "i32[2,2]=-9753,31049,-39556,40680"),
    ("QLinearMatMul", 17, "u8[2,3]=171,205,171,16,133,77 f[]=0.02 u8[]=90 u8[3,2]=142,174,50,9,126,158 f[2]=0.01,0.02 u8[2]=120,130 f[]=0.3 u8[]=128", "", "u8[2,2]=124,117,125,116"),
    ("Einsum", 17, "f[2,3]=-3,3,0,3,0,2 f[3,2]=2,0,-1,1,-3,1", "equation=ij,ji->i", "f[2]=-9,2"),
    ("InstanceNormalization", 17, "f[1,2,3]=0,-2,-2,-3,2,1 f[2]=1,2 f[2]=0,-1", "", "f[1,2,3]=1.414206,-0.7071028,-0.7071028,-3.777457,0.8516382,-0.0741809"),
    ("LayerNormalization", 17, "f[2,3]=3,-3,-1,-3,-1,2 f[3]=1,1,1 f[3]=-1,-1,-1", "", "f[2,3]=0.3363053,-2.069044,-1.267261,-2.135549,-1.162221,0.2977699 f[2,1]=-0.3333333,-0.6666666 f[2,1]=0.4008916,0.4866637"),
    ("BatchNormalization", 17, "f[1,2,2]=0,-3,3,2 f[2]=2,2 f[2]=1,-1 f[2]=1,-1 f[2]=3,3", "", "f[1,2,2]=-0.1546986,-3.618794,3.618794,2.464096"),
    ("LRN", 17, "f[1,4,1,1]=2,-3,2,3", "size=3", "f[1,4,1,1]=1.99935,-2.998726,1.998901,2.999025"),
    ("Softmax", 11, "f[2,2,2]=2,1,-1,0,0,2,-1,0", "axis=1", "f[2,2,2]=0.6439143,0.2368828,0.0320586,0.08714432,0.1024912,0.7573132,0.0377044,0.1024912"),
    ("Softmax", 13, "f[2,2,2]=-1,0,0,0,-1,0,1,-2", "axis=1", "f[2,2,2]=0.2689414,0.5,0.7310586,0.5,0.1192029,0.880797,0.880797,0.1192029"),
    ("LogSoftmax", 17, "f[2,3]=0,1,-2,1,0,2", "", "f[2,3]=-1.349012,-0.3490122,-3.349012,-1.407606,-2.407606,-0.4076059"),
    ("Hardmax", 17, "f[2,3]=1,3,3,2,0,1", "", "f[2,3]=0,1,0,1,0,0"),
    ("ReduceSum", 17, "f[2,3]=-1,-1,1,3,-3,-3 i64[1]=1", "keepdims=0", "f[2]=-1,-3"),
    ("ReduceMean", 17, "f[2,3]=-2,-1,0,0,-1,3", "axes=0 keepdims=1", "f[1,3]=-1,-1,1.5"),
    ("ReduceLogSumExp", 17, "f[2,3]=1,-2,-1,-2,-2,2", "axes=1 keepdims=0", "f[2]=1.169846,2.035976"),
    ("ReduceMax", 17, "i8[2,3]=110,-18,-66,85,-91,-93", "axes=1 keepdims=0", "i8[2]=110,85"),
    ("ArgMax", 17, "f[2,3]=1,3,3,2,2,1", "axis=1 select_last_index=1 keepdims=0", "i64[2]=2,1"),
    ("RNN", 17, "f[2,1,2]=-1,0,0,-1 f[1,2,2]=-1,0,0,0 f[1,2,2]=1,1,-1,1", "hidden_size=2", "f[2,1,1,2]=0.7615941,0,0.642015,-0.6420149 f[1,1,2]=0.642015,-0.6420149"),
    ("GRU", 17, "f[2,1,2]=0,1,1,-1 f[1,6,2]=1,1,1,-1,-1,0,0,-1,1,-1,-1,1 f[1,6,2]=0,-1,-1,1,1,1,1,-1,0,0,-1,-1 f[1,12]=-1,-1,0,1,1,0,-1,-1,1,1,0,-1", "hidden_size=2 linear_before_reset=1 direction=reverse", "f[2,1,1,2]=0.3303326,-0.2588499,0.8764413,-0.497282 f[1,1,2]=0.3303326,-0.2588499"),
    ("LSTM", 17, "f[2,2,1]=-1,1,1,0 f[1,4,1]=-1,1,0,0 f[1,4,1]=1,0,0,-1 f[1,8]=1,-1,0,0,-1,-1,0,-1 i32[2]=2,1 - - f[1,3]=1,0,0", "hidden_size=1", "f[2,1,2,1]=-0.02397742,-0.05432809,-0.103706,0 f[1,2,1]=-0.103706,-0.05432809 f[1,2,1]=-0.4066308,-0.2048242"),
    ("com.microsoft.DynamicQuantizeLSTM", 17, "f[3,1,2]=-2,2,0,-2,-1,-1 i8[1,2,4]=-68,68,123,47,-81,15,-10,41 i8[1,1,4]=86,96,78,46 f[1,8]=0,0,-1,0,0,0,0,-1 - - - - f[1,4]=0.01,0.02,0.01,0.03 i8[1,4]=0,0,0,0 f[1]=0.01 i8[1]=0", "hidden_size=1", "f[3,1,1,1]=-0.03931255,-0.2551294,-0.08998228 f[1,1,1]=-0.08998228 f[1,1,1]=-0.8643904"),
    ("QuantizeLinear", 17, "f[2,3]=-1.5,0.5,2.5,3.5,300,-300 f[2]=1,2 i8[2]=0,3", "axis=0", "i8[2,3]=-2,0,2,5,127,-128"),
    ("DequantizeLinear", 17, "u8[2,3]=130,171,49,157,89,201 f[]=0.5 u8[]=128", "", "f[2,3]=1,21.5,-39.5,14.5,-19.5,36.5"),
    ("DynamicQuantizeLinear", 17, "f[3]=0.3,-0.7,0", "", "u8[3]=254,0,178 f[]=0.003921569 u8[]=178"),
    ("Resize", 17, "f[1,1,2,2]=5,4,0,0 - f[4]=1,1,2,1.5", "mode=linear coordinate_transformation_mode=half_pixel", "f[1,1,4,3]=5,4.5,4,3.75,3.375,3,1.25,1.125,1,0,0,0"),
    ("Resize", 17, "f[1,1,1,4]=2,4,4,7 - f[4]=1,1,1,0.6", "mode=nearest nearest_mode=ceil coordinate_transformation_mode=asymmetric", "f[1,1,1,2]=2,4"),
    ("Resize", 17, "f[1,1,1,4]=1,5,3,5 - - i64[4]=1,1,1,6", "mode=cubic exclude_outside=1", "f[1,1,1,6]=0.5945945,3,5.025463,3.182871,3.914286,5.202702"),
    ("Upsample", 9, "f[1,1,2,2]=0,3,1,3 f[4]=1,1,2,2", "mode=linear", "f[1,1,4,4]=0,1.5,3,3,0.5,1.75,3,3,1,2,3,3,1,2,3,3"),
    ("GridSample", 16, "f[1,1,2,2]=1,6,6,0 f[1,1,2,2]=-1,-1,0.2,0.4", "padding_mode=border", "f[1,1,1,2]=1,2.07"),
    ("com.microsoft.QLinearAdd", 17, "u8[4]=76,221,230,224 f[]=0.0312347 u8[]=120 u8[4]=29,246,106,34 f[]=0.0171239 u8[]=99 f[]=0.0398713 u8[]=131", "", "u8[4]=66,255,220,185"),
    ("com.microsoft.QLinearMul", 17, "u8[4]=182,29,9,228 f[]=0.0312347 u8[]=120 u8[4]=29,102,224,69 f[]=0.0171239 u8[]=99 f[]=0.0398713 u8[]=131", "", "u8[4]=73,127,0,88"),
    ("com.microsoft.QLinearSigmoid", 17, "i8[4]=-57,-31,67,40 f[]=0.05 i8[]=3 f[]=0.00390625 i8[]=-128", "", "i8[4]=-116,-88,118,93"),
    ("com.microsoft.QLinearSoftmax", 17, "u8[1,4]=77,41,110,124 f[]=0.05 u8[]=3 f[]=0.00390625 u8[]=0", "opset=13", "u8[1,4]=15,3,79,159"),
    ("com.microsoft.QLinearConcat", 17, "f[]=0.05 u8[]=9 u8[2]=107,168 f[]=0.03 u8[]=100 u8[1]=26 f[]=0.05 u8[]=9", "axis=0", "u8[3]=13,50,26"),
    ("com.microsoft.QLinearGlobalAveragePool", 17, "u8[1,1,2,2]=184,138,3,171 f[]=0.05 u8[]=9 f[]=0.03 u8[]=100", "channels_last=0", "u8[1,1,1,1]=255"),
    ("com.microsoft.QLinearAveragePool", 17, "u8[1,1,1,4]=207,92,111,148 f[]=0.05 u8[]=9 f[]=0.03 u8[]=100", "kernel_shape=1,2", "u8[1,1,1,3]=255,254,255"),
    ("com.microsoft.QLinearWhere", 17, "b[2]=1,0 u8[2]=111,132 f[]=0.05 u8[]=9 u8[2]=143,152 f[]=0.03 u8[]=100 f[]=0.06 u8[]=80", "", "u8[2]=165,106"),
    ("com.microsoft.QGemm", 17, "u8[1,3]=71,27,227 f[]=0.05 u8[]=9 i8[2,3]=-12,-74,127,10,-45,-85 f[]=0.03 i8[]=0 i32[2]=90,-70 f[]=0.6 u8[]=80", "transB=1", "u8[1,2]=144,33"),
    ("com.microsoft.MatMulIntegerToFloat", 17, "u8[1,3]=2,157,158 i8[3,2]=102,121,97,-113,-94,23 f[]=0.05 f[2]=0.03,0.01 u8[]=9 i8[2]=0,4 f[2]=1,2", "", "f[1,2]=0.454,-5.652"),
    ("com.microsoft.DynamicQuantizeMatMul", 17, "f[1,3]=0.3,-0.7,1.1 i8[3,2]=31,-75,100,112,-77,36 f[]=0.03 i8[]=3", "", "f[1,2]=-4.421435,-1.905247"),
    ("com.microsoft.Attention", 17, "f[1,2,2]=0,0,1,0 f[2,6]=1,-1,0,-1,0,0,1,1,0,1,0,1 f[6]=0,-1,1,0,0,0 i32[1,2]=1,0", "num_heads=2", "f[1,2,2]=0,0,0,0"),
    ("com.microsoft.QAttention", 17, "u8[1,2,2]=86,122,111,68 i8[2,6]=108,109,-80,-41,-91,-82,-125,-33,90,-77,125,88 f[6]=-1,-1,-1,0,-1,0 f[]=0.02 f[]=0.01 - u8[]=100 i8[]=0", "num_heads=1 unidirectional=1", "f[1,2,2]=-0.1952,0.6168,-0.9722909,0.03111886"),
    ("com.microsoft.EmbedLayerNormalization", 17, "i32[1,2]=1,0 i32[1,2]=0,1 f[2,2]=1,2,0,0 f[2,2]=2,1,-2,3 f[2,2]=3,0,0,1 f[2]=2,2 f[2]=1,-1 i32[1,2]=1,0", "", "f[1,2,2]=3,-3,-1,1 i32[1]=1"),
    ("com.microsoft.SkipLayerNormalization", 17, "f[1,2,3]=3,-3,0,-1,1,1 f[1,2,3]=0,-3,-2,0,0,-2 f[3]=2,1,2 f[3]=0,-1,0", "", "f[1,2,3]=2.535001,-2.176965,-0.1810715,-1.414214,0.4142137,-1.414214"),
];

#[test]
fn operators_give_what_onnx_runtime_gives() {
    let mut failures = Vec::new();
    for (name, opset, operands, attrs, expected) in CASES {
        let operands: Vec<_> = operands.split_whitespace().map(read_operand).collect();
        let expected: Vec<_> = expected
            .split_whitespace()
            .filter_map(read_operand)
            .collect();
        let op = read_op(name, attrs);
        let found = match evaluate(&op, *opset, &operands, expected.len()) {
            Ok(found) => found,
            Err(e) => {
                failures.push(format!("{name} {attrs}: {e}"));
                continue;
            }
        };
        for (found, expected) in found.iter().zip(&expected) {
            let found = found.as_tensor().expect("a tensor");
            let (x, y) = (found.to_f64s(), expected.to_f64s());
            let (x, y) = (x.expect("numbers"), y.expect("numbers"));
            let near = |(x, y): (&f64, &f64)| (x - y).abs() <= 1e-6 * y.abs().max(1.0);
            let same = found.dtype() == expected.dtype() && found.dims() == expected.dims();
            if !same || !x.iter().zip(y.iter()).all(near) {
                failures.push(format!("{name} {attrs}: {found:?} {x:?} instead of {y:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn operators_say_what_they_mean_to_a_quantizer() {
    use onnxq_ops::{QuantRole, lookup};
    let role = |name: &str, attrs: &str| {
        let operator = lookup("", name).expect("a known operator");
        operator.quant(&read_op(name, attrs))
    };
    let affine = |bias, channel_axis| QuantRole::Affine {
        activation: 0,
        weight: 1,
        bias,
        channel_axis,
    };
    assert_eq!(role("Conv", ""), affine(Some(2), 0));
    assert_eq!(role("ConvTranspose", ""), affine(Some(2), 1));
    assert_eq!(role("MatMul", ""), affine(None, -1));
    assert_eq!(role("Gemm", ""), affine(Some(2), 1));
    assert_eq!(role("Gemm", "transB=1"), affine(Some(2), 0));
    assert_eq!(role("LayerNormalization", ""), affine(Some(2), 0));
    assert_eq!(role("LSTM", ""), QuantRole::Recurrent);
    assert_eq!(role("Softmax", ""), QuantRole::FixedRange(0.0, 1.0));
    for name in ["MaxPool", "AveragePool", "Resize", "Upsample"] {
        assert_eq!(role(name, ""), QuantRole::SameScale, "{name}");
    }
    assert_eq!(role("GlobalAveragePool", ""), QuantRole::Elementwise);
    assert_eq!(role("QuantizeLinear", ""), QuantRole::NotQuantizable);
}
