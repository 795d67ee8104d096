//! Biases, and the scales of weights that they need.

use onnxq_quant::{
    Error, QuantType, WeightSpec, adjust_weight_scale, quantize_bias, quantize_weight,
    quantize_with,
};
use onnxq_tensor::Tensor;

use QuantType::*;

use super::{ints, matrix, scales};

#[test]
fn conv_bias() {
    let bias = Tensor::vector(vec![0.3f32, -0.2]);
    let input_scale = 3.0 / 255.0;
    let q = quantize_bias(&bias, input_scale, &Tensor::scalar(1.0f32 / 127.0), 1.0).unwrap();
    assert_eq!(scales(&q.scale), [9.263_548_4e-5]);
    assert_eq!(
        (q.scale.dims(), q.zero_point.dims(), q.axis),
        ([1].as_slice(), [].as_slice(), None)
    );
    assert_eq!((ints(&q.data), q.saturated), (vec![3238, -2159], 0));
    let per_channel = Tensor::vector(vec![0.007_874_016f32, 0.001_968_504]);
    let q = quantize_bias(&bias, input_scale, &per_channel, 1.0).unwrap();
    assert_eq!(ints(&q.data), [3238, -8636]);
    assert_eq!(
        (q.scale.dims(), q.zero_point.dims(), q.axis),
        ([2].as_slice(), [2].as_slice(), Some(0))
    );
    // Gemm's beta goes into the codes, not into the scale.
    let q = quantize_bias(&bias, input_scale, &Tensor::scalar(1.0f32 / 127.0), 0.5).unwrap();
    assert_eq!(
        (scales(&q.scale), ints(&q.data)),
        (vec![9.263_548_4e-5], vec![1619, -1079])
    );
}

#[test]
fn biases_of_other_shapes() {
    let per_channel = Tensor::vector(vec![0.5f32, 0.25]);
    let quantize = |bias: &Tensor| quantize_bias(bias, 1.0, &per_channel, 1.0);
    let row = quantize(&matrix(&[1, 2], &[1.0, 1.0])).unwrap();
    assert_eq!(
        (row.data.dims(), ints(&row.data), row.axis),
        ([1, 2].as_slice(), vec![2, 4], Some(1))
    );
    let one = quantize(&Tensor::scalar(1.0f32)).unwrap();
    assert_eq!(
        (one.data.dims(), ints(&one.data), one.axis),
        ([2].as_slice(), vec![2, 4], Some(0))
    );
    let wide = quantize(&matrix(&[1, 1], &[1.0])).unwrap();
    assert_eq!((wide.data.dims(), wide.axis), ([1, 2].as_slice(), Some(1)));
    let error = quantize(&matrix(&[2, 1], &[1.0, 1.0])).unwrap_err();
    assert_eq!(
        error,
        Error::BiasShape {
            bias: vec![2, 1],
            channels: 2
        }
    );
    assert!(quantize(&Tensor::vector(vec![f32::NAN, 1.0])).is_err());
    let tiny = Tensor::scalar(1e-30f32);
    let error = quantize_bias(&Tensor::vector(vec![1.0f32]), 1e-30, &tiny, 1.0).unwrap_err();
    assert_eq!(
        error,
        Error::Scale {
            index: 0,
            value: 0.0
        }
    );
    let none = Tensor::vector(Vec::<f32>::new());
    assert!(quantize_bias(&Tensor::vector(vec![1.0f32, 2.0]), 1.0, &none, 1.0).is_err());
    assert!(adjust_weight_scale(&Tensor::vector(vec![1.0f32, 2.0]), 1.0, &none).is_err());
}

#[test]
fn a_small_weight_scale_grows_until_the_bias_fits() {
    let input_scale = 2.0 / 255.0;
    let weight = matrix(&[2, 1, 1, 1], &[1e-7, 1.0]);
    let bias = Tensor::vector(vec![5.0f32, -4.5]);
    let spec = WeightSpec::new(Int8).per_channel(0);
    let before = quantize_weight(&weight, &spec).unwrap();
    assert_eq!(scales(&before.scale), [7.874_016e-10, 0.007_874_016]);
    let clamped = quantize_bias(&bias, input_scale, &before.scale, 1.0).unwrap();
    assert_eq!((ints(&clamped.data)[0], clamped.saturated), (2147483647, 1));
    let scale = adjust_weight_scale(&bias, input_scale, &before.scale)
        .unwrap()
        .unwrap();
    assert_eq!(scales(&scale), [2.968_887_4e-7, 0.007_874_016]);
    let data = quantize_with(&weight, spec.granularity, &scale, &before.zero_point).unwrap();
    assert_eq!(ints(&data), [0, 127]);
    let after = quantize_bias(&bias, input_scale, &scale, 1.0).unwrap();
    assert_eq!(
        (ints(&after.data), after.saturated),
        (vec![2147268834, -72866], 0)
    );
    let small = Tensor::vector(vec![1e-6f32, -4.5]);
    assert_eq!(
        adjust_weight_scale(&small, input_scale, &before.scale).unwrap(),
        None
    );
}
