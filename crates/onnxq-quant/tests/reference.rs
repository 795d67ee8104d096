//! Equality, bit for bit, with what `onnxruntime.quantization` computes (`make_reference.py`).

use onnxq_quant::{
    FloatType, Granularity, ParamSpec, QuantType, ValueRange, WeightSpec, adjust_weight_scale,
    dynamic::dynamic_quantize_linear, quantize_bias, quantize_lstm_weight, quantize_weight,
    quantize_with,
};
use onnxq_tensor::{DType, Dims, Tensor};
use serde_json::Value;

fn reference() -> Value {
    serde_json::from_str(include_str!("reference.json")).unwrap()
}

fn cases<'a>(reference: &'a Value, key: &str) -> &'a Vec<Value> {
    reference[key].as_array().unwrap()
}

fn bytes(v: &Value) -> Vec<u8> {
    let digits = v.as_str().unwrap().as_bytes();
    let digit = |d: u8| char::from(d).to_digit(16).unwrap() as u8;
    digits
        .chunks(2)
        .map(|d| digit(d[0]) << 4 | digit(d[1]))
        .collect()
}

fn float(v: &Value) -> FloatType {
    FloatType::from_dtype(DType::from_name(v.as_str().unwrap()).unwrap()).unwrap()
}

fn qtype(v: &Value) -> QuantType {
    QuantType::from_name(v.as_str().unwrap()).unwrap()
}

fn dims(v: &Value) -> Dims {
    v.as_array()
        .unwrap()
        .iter()
        .map(|d| d.as_u64().unwrap() as usize)
        .collect()
}

fn ints(v: &Value) -> Vec<i64> {
    v.as_array()
        .unwrap()
        .iter()
        .map(|d| d.as_i64().unwrap())
        .collect()
}

fn floats(float: FloatType, v: &Value) -> Vec<f32> {
    let bytes = bytes(v);
    let half = |b: &[u8]| half::f16::from_le_bytes([b[0], b[1]]).to_f32();
    match float {
        FloatType::F32 => bytemuck::pod_collect_to_vec(&bytes),
        _ => bytes.chunks(2).map(half).collect(),
    }
}

/// The zero points of a tensor; those of `float8` as the bits of 0.
fn zeros(t: &Tensor) -> Vec<i64> {
    t.to_i64s()
        .unwrap_or_else(|_| t.bytes().iter().map(|&b| i64::from(b)).collect())
}

#[test]
fn scales_and_zero_points() {
    let reference = reference();
    for case in cases(&reference, "params") {
        let float = float(&case["float"]);
        let spec = ParamSpec {
            symmetric: case["symmetric"].as_bool().unwrap(),
            reduce_range: case["reduce"].as_bool().unwrap(),
            min_real_range: case["least"].as_f64(),
            ..ParamSpec::new(qtype(&case["type"]))
        };
        let ranges = &reference["ranges"][case["float"].as_str().unwrap()];
        check_params(&spec, float, ranges, case);
    }
}

#[test]
fn restricted_asymmetric_parameters() {
    for case in cases(&reference(), "restricted") {
        let spec = ParamSpec {
            reduce_range: case["reduce"].as_bool().unwrap(),
            min_real_range: case["least"].as_f64(),
            restricted_asymmetric: true,
            ..ParamSpec::new(QuantType::UInt8)
        };
        check_params(&spec, FloatType::F32, case, case);
    }
}

fn check_params(spec: &ParamSpec, float: FloatType, ranges: &Value, case: &Value) {
    let (lo, hi) = (floats(float, &ranges["lo"]), floats(float, &ranges["hi"]));
    let (scales, zeros) = (floats(float, &case["scale"]), ints(&case["zero"]));
    for i in 0..lo.len() {
        let found = spec.compute(ValueRange::new(lo[i], hi[i]), float).unwrap();
        let what = format!("{spec:?} {float:?} [{}, {}]", lo[i], hi[i]);
        assert_eq!(
            found.scale.to_bits(),
            scales[i].to_bits(),
            "{what}: {found:?}"
        );
        assert_eq!(i64::from(found.zero_point), zeros[i], "{what}");
    }
}

#[test]
fn weights() {
    let reference = reference();
    let array = |v: &Value| {
        Tensor::new(
            float(&v["float"]).dtype(),
            dims(&v["dims"]),
            bytes(&v["data"]),
        )
        .unwrap()
    };
    let arrays: Vec<Tensor> = cases(&reference, "arrays").iter().map(array).collect();
    for case in cases(&reference, "weights") {
        let weight = &arrays[case[0].as_u64().unwrap() as usize];
        let granularity = match (case[4].as_i64(), case[5].as_u64()) {
            (None, _) => Granularity::PerTensor,
            (Some(axis), None) => Granularity::PerChannel { axis },
            (Some(axis), Some(block)) => Granularity::Blocked {
                axis,
                block: block as usize,
            },
        };
        let spec = WeightSpec {
            qtype: qtype(&case[1]),
            symmetric: case[2].as_bool(),
            reduce_range: case[3].as_bool().unwrap(),
            min_real_range: None,
            granularity,
        };
        let what = format!("{weight:?} {spec:?}");
        let found = quantize_weight(weight, &spec).unwrap();
        assert_eq!(found.scale.bytes(), bytes(&case[6]), "{what}");
        assert_eq!(zeros(&found.zero_point), ints(&case[7]), "{what}");
        assert_eq!(found.data.bytes(), bytes(&case[8]), "{what}");
        assert_eq!(found.data.dims(), weight.dims());
        assert_eq!(found.scale.dtype(), weight.dtype());
        assert_eq!(found.scale.dims(), found.zero_point.dims());
        let again = quantize_with(weight, granularity, &found.scale, &found.zero_point).unwrap();
        assert_eq!(again, found.data);
    }
}

#[test]
fn biases() {
    for case in cases(&reference(), "biases") {
        let float = float(&case["float"]);
        let dtype = float.dtype();
        let bias = Tensor::new(dtype, [5].as_slice(), bytes(&case["bias"])).unwrap();
        let per_channel = case["per_channel"].as_bool().unwrap();
        let shape: &[usize] = if per_channel { &[5] } else { &[] };
        let weight_scale = Tensor::new(dtype, shape, bytes(&case["weight_scale"])).unwrap();
        let input_scale = floats(float, &case["input_scale"])[0];
        let found = quantize_bias(&bias, input_scale, &weight_scale, 1.0).unwrap();
        assert_eq!(found.scale.bytes(), bytes(&case["scale"]));
        assert_eq!(found.scale.dims(), dims(&case["scale_dims"]).as_slice());
        assert_eq!(found.zero_point.dims(), dims(&case["zero_dims"]).as_slice());
        assert_eq!(found.data.bytes(), bytes(&case["data"]), "{case}");
        assert_eq!(found.axis, per_channel.then_some(0));
        if float == FloatType::F32 {
            let adjusted = adjust_weight_scale(&bias, input_scale, &weight_scale).unwrap();
            let expected = case["adjusted"].as_str().map(|_| bytes(&case["adjusted"]));
            assert_eq!(adjusted.map(|t| t.bytes().to_vec()), expected, "{case}");
        }
    }
}

#[test]
fn lstm_weights() {
    for case in cases(&reference(), "lstms") {
        let weight = Tensor::new(DType::F32, dims(&case["dims"]), bytes(&case["weight"])).unwrap();
        let spec = WeightSpec {
            reduce_range: case["reduce"].as_bool().unwrap(),
            ..WeightSpec::new(QuantType::Int8)
        };
        let per_channel = case["per_channel"].as_bool().unwrap();
        let found = quantize_lstm_weight(&weight, per_channel, &spec).unwrap();
        assert_eq!(found.data.dims(), dims(&case["data_dims"]).as_slice());
        assert_eq!(found.data.bytes(), bytes(&case["data"]));
        assert_eq!(found.scale.dims(), dims(&case["scale_dims"]).as_slice());
        assert_eq!(found.scale.bytes(), bytes(&case["scale"]));
        assert_eq!(zeros(&found.zero_point), ints(&case["zero"]));
    }
}

#[test]
fn dynamic_quantize_linear_of_the_runtime() {
    for case in cases(&reference(), "dynamic") {
        let values = floats(FloatType::F32, &case["x"]);
        let (codes, params) = dynamic_quantize_linear(&values).unwrap();
        assert_eq!(codes, bytes(&case["y"]), "{values:?}");
        let scale = floats(FloatType::F32, &case["scale"])[0];
        assert_eq!(params.scale.to_bits(), scale.to_bits(), "{values:?}");
        assert_eq!(
            i64::from(params.zero_point),
            case["zero"].as_i64().unwrap(),
            "{values:?}"
        );
    }
}
