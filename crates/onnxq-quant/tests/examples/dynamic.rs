//! What is computed while a model runs, and the weights that go with it.

use onnxq_quant::{
    Params, QuantType, ValueRange, WeightSpec,
    dynamic::{dynamic_params, dynamic_quantize, dynamic_quantize_linear},
    quantize_weight,
};

use QuantType::*;

use super::{ints, matrix, scales};

#[test]
fn dynamic_matmul() {
    let weight = matrix(&[2, 3], &[1.0, -0.5, 0.25, 0.1, 0.2, -1.27]);
    let q = quantize_weight(&weight, &WeightSpec::new(Int8)).unwrap();
    assert_eq!(
        (scales(&q.scale), ints(&q.data)),
        (vec![0.01], vec![100, -50, 25, 10, 20, -127])
    );
    let q = quantize_weight(&weight, &WeightSpec::new(Int8).per_channel(-1)).unwrap();
    assert_eq!(scales(&q.scale), [0.007_874_016, 0.003_937_008, 0.01]);
    assert_eq!(ints(&q.data), [127, -127, 25, 13, 51, -127]);
    let q = quantize_weight(&weight, &WeightSpec::new(UInt8).per_channel(-1)).unwrap();
    assert_eq!(ints(&q.zero_point), [0, 182, 213]);
}

#[test]
fn dynamic_quantization() {
    let (codes, params) = dynamic_quantize_linear(&[0.3, -0.7]).unwrap();
    assert_eq!(
        (codes, params),
        (
            vec![254, 0],
            Params {
                scale: 0.003_921_569,
                zero_point: 178
            }
        )
    );
    let (codes, params) = dynamic_quantize_linear(&[1.0, 2.0]).unwrap();
    assert_eq!(
        (codes, params),
        (
            vec![127, 255],
            Params {
                scale: 0.007_843_138,
                zero_point: 0
            }
        )
    );
    assert_eq!(
        dynamic_quantize_linear(&[0.0]).unwrap(),
        (vec![0], Params::DEGENERATE)
    );
    assert_eq!(
        dynamic_quantize_linear(&[]).unwrap(),
        (vec![], Params::DEGENERATE)
    );
    assert!(dynamic_quantize_linear(&[1.0, f32::NAN]).is_err());
    let (codes, params) = dynamic_quantize::<i8>(&[0.5, -1.27], true, false).unwrap();
    assert_eq!(
        (codes, params),
        (
            vec![50, -127],
            Params {
                scale: 0.01,
                zero_point: 0
            }
        )
    );
    let (codes, params) = dynamic_quantize::<i8>(&[1.0, 2.0], false, false).unwrap();
    assert_eq!((codes, params.zero_point), (vec![-1, 127], -128));
    // Ranges that no scale fits do not panic.
    let range = ValueRange::new(f32::NEG_INFINITY, f32::INFINITY);
    dynamic_params(range, UInt8, false, false);
}
