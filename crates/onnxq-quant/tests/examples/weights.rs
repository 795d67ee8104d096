//! Weights: codes of every type, of tensors, channels and blocks.

use half::f16;
use onnxq_quant::{
    Error, Granularity, QuantType, ValueRange, WeightSpec, dequantize, quantize_lstm_weight,
    quantize_weight, quantize_weight_in_ranges, quantize_with, weight_ranges,
};
use onnxq_tensor::{DType, Tensor, TensorError};

use QuantType::*;

use super::{ints, matrix, scales};

#[test]
fn weight_vector() {
    let weight = Tensor::vector(vec![-1.0f32, -0.5, 0.0, 0.25, 0.7, 1.27]);
    let quantize = |qtype, symmetric, reduce_range| {
        let spec = WeightSpec {
            symmetric,
            reduce_range,
            ..WeightSpec::new(qtype)
        };
        let q = quantize_weight(&weight, &spec).unwrap();
        assert_eq!((q.scale.rank(), q.zero_point.rank()), (0, 0));
        (scales(&q.scale)[0], ints(&q.zero_point)[0], ints(&q.data))
    };
    assert_eq!(
        quantize(Int8, None, false),
        (0.01, 0, vec![-100, -50, 0, 25, 70, 127])
    );
    assert_eq!(
        quantize(Int8, None, true),
        (0.019_843_75, 0, vec![-50, -25, 0, 13, 35, 64])
    );
    assert_eq!(
        quantize(Int8, Some(false), false),
        (0.008_901_961, -16, vec![-128, -72, -16, 12, 63, 127])
    );
    assert_eq!(
        quantize(UInt8, None, false),
        (0.008_901_961, 112, vec![0, 56, 112, 140, 191, 255])
    );
    assert_eq!(
        quantize(UInt8, Some(true), false),
        (0.009_960_785, 128, vec![28, 78, 128, 153, 198, 255])
    );
    assert_eq!(
        quantize(UInt8, None, true),
        (0.017_874_016, 56, vec![0, 28, 56, 70, 95, 127])
    );
}

#[test]
fn conv_weight_per_channel() {
    let weight = matrix(&[2, 2, 1, 1], &[1.0, -0.5, 0.25, 0.125]);
    let q = quantize_weight(&weight, &WeightSpec::new(Int8).per_channel(0)).unwrap();
    assert_eq!(scales(&q.scale), [0.007_874_016, 0.001_968_504]);
    assert_eq!(ints(&q.data), [127, -64, 127, 64]);
    let reduced = WeightSpec {
        reduce_range: true,
        ..WeightSpec::new(Int8).per_channel(0)
    };
    let q = quantize_weight(&weight, &reduced).unwrap();
    assert_eq!(
        (scales(&q.scale), ints(&q.data)),
        (vec![0.015625, 0.00390625], vec![64, -32, 64, 32])
    );
    let unsigned = WeightSpec {
        symmetric: Some(true),
        ..WeightSpec::new(UInt8).per_channel(0)
    };
    let q = quantize_weight(&weight, &unsigned).unwrap();
    assert_eq!(
        (ints(&q.zero_point), ints(&q.data)),
        (vec![128, 128], vec![255, 64, 255, 192])
    );
}

#[test]
fn four_bits_are_packed() {
    let weight = matrix(&[2, 3], &[1.006_453, 0.7, 0.1, 0.3, -0.1, 0.9]);
    let scale = Tensor::scalar(0.143_779f32);
    let zero = Tensor::from_packed_bits(DType::I4, [].as_slice(), [0]).unwrap();
    let data = quantize_with(&weight, Granularity::PerTensor, &scale, &zero).unwrap();
    assert_eq!(ints(&data), [7, 5, 1, 2, -1, 6]);
    assert_eq!(data.bytes(), [0x57, 0x21, 0x6f]);
    let odd = quantize_weight(
        &Tensor::vector(vec![1.0f32, -1.0, 0.5]),
        &WeightSpec::new(UInt4),
    );
    assert_eq!(odd.unwrap().data.bytes(), [0x1f, 0x0c]);
}

#[test]
fn long_odd_rows_of_four_bits_are_packed() {
    let values: Vec<f32> = (0..5 * 4099)
        .map(|i| ((i * 7919) % 301) as f32 - 150.0)
        .collect();
    let weight = matrix(&[5, 4099], &values);
    for granularity in [Granularity::PerTensor, Granularity::PerChannel { axis: 0 }] {
        let q = |qtype| {
            quantize_weight(
                &weight,
                &WeightSpec {
                    granularity,
                    ..WeightSpec::new(qtype)
                },
            )
            .unwrap()
        };
        let narrow = q(Int4);
        let zero = vec![0i8; narrow.scale.len()];
        let zero = Tensor::from_vec(narrow.scale.dims(), zero).unwrap();
        // Within the range of the weight nothing saturates, so 8 bits hold the same codes.
        let wide = quantize_with(&weight, granularity, &narrow.scale, &zero).unwrap();
        let wide = ints(&wide)
            .into_iter()
            .map(|c| c.clamp(-8, 7))
            .collect::<Vec<_>>();
        assert_eq!(ints(&narrow.data), wide);
    }
}

#[test]
fn layer_norm_scale_of_ones() {
    let q = quantize_weight(&Tensor::vector(vec![1.0f32; 4]), &WeightSpec::new(Int8)).unwrap();
    assert_eq!(
        (scales(&q.scale), ints(&q.data)),
        (vec![1.0 / 127.0], vec![127; 4])
    );
}

#[test]
fn empty_weights() {
    let empty = matrix(&[0, 3], &[]);
    for qtype in QuantType::ALL {
        let q = quantize_weight(&empty, &WeightSpec::new(*qtype)).unwrap();
        assert_eq!(
            (scales(&q.scale), q.zero_point.byte_len()),
            (vec![1.0], 1.max(qtype.dtype().bits() / 8))
        );
        let q = quantize_weight(&empty, &WeightSpec::new(*qtype).per_channel(1)).unwrap();
        assert_eq!(
            (scales(&q.scale), q.data.dims()),
            (vec![1.0; 3], [0, 3].as_slice())
        );
    }
    let q = quantize_weight(&empty, &WeightSpec::new(Int8).blocked(0, 2)).unwrap();
    assert_eq!(q.scale.dims(), [0, 3]);
}

#[test]
fn elements_that_are_not_numbers_are_named() {
    let mut values = vec![0.5f32; 3 * 3000];
    values[4567] = f32::INFINITY;
    let weight = matrix(&[3, 3000], &values);
    for granularity in [
        Granularity::PerTensor,
        Granularity::PerChannel { axis: 0 },
        Granularity::PerChannel { axis: 1 },
        Granularity::Blocked { axis: 1, block: 7 },
    ] {
        let found = weight_ranges(&weight, granularity).unwrap_err();
        assert_eq!(
            found,
            Error::NotFinite {
                index: 4567,
                value: f32::INFINITY
            }
        );
    }
    values[1234] = f32::NAN;
    for granularity in [Granularity::PerTensor, Granularity::PerChannel { axis: 1 }] {
        let found = weight_ranges(&matrix(&[3, 3000], &values), granularity).unwrap_err();
        assert_eq!(found.to_string(), "element 1234 is NaN");
    }
}

#[test]
fn given_ranges_and_parameters() {
    let weight = Tensor::vector(vec![-2.0f32, 0.5, 1.0]);
    let spec = WeightSpec::new(Int8);
    let q = quantize_weight_in_ranges(&weight, &spec, &[ValueRange::new(-1.27, 1.0)]).unwrap();
    assert_eq!(
        (scales(&q.scale), ints(&q.data)),
        (vec![0.01], vec![-128, 50, 100])
    );
    let count = quantize_weight_in_ranges(&weight, &spec, &[]).unwrap_err();
    assert_eq!(
        count,
        Error::Count {
            what: "ranges",
            expected: 1,
            found: 0
        }
    );
    let with = |scale: f32, zero: &Tensor| {
        quantize_with(
            &weight,
            Granularity::PerTensor,
            &Tensor::scalar(scale),
            zero,
        )
    };
    let zero = Tensor::scalar(0i8);
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(matches!(
            with(bad, &zero),
            Err(Error::Scale { index: 0, .. })
        ));
    }
    assert_eq!(
        with(1.0, &Tensor::scalar(0i32)),
        Err(Error::NotQuantType(DType::I32))
    );
    assert_eq!(ints(&with(1.0, &Tensor::scalar(3u16)).unwrap()), [1, 3, 4]);
    let integers = Tensor::vector(vec![1i64]);
    assert_eq!(
        quantize_weight(&integers, &spec),
        Err(Error::NotFloat(DType::I64))
    );
}

#[test]
fn blocks() {
    let weight = matrix(&[3, 2], &[1.0, 10.0, -2.0, 0.0, 4.0, 0.0]);
    let q = quantize_weight(&weight, &WeightSpec::new(Int8).blocked(0, 2)).unwrap();
    assert_eq!(q.scale.dims(), [2, 2]);
    assert_eq!(
        scales(&q.scale),
        [2.0 / 127.0, 10.0 / 127.0, 4.0 / 127.0, 1.0]
    );
    assert_eq!(ints(&q.data), [64, 127, -127, 0, 127, 0]);
    let zero = Granularity::Blocked { axis: 0, block: 0 };
    assert_eq!(weight_ranges(&weight, zero), Err(Error::EmptyBlock));
    // Ranges whose width overflows have a scale all the same.
    let huge = matrix(&[1, 2], &[-3e38, 3e38]);
    let q = quantize_weight(&huge, &WeightSpec::new(UInt8).blocked(1, 2)).unwrap();
    assert_eq!(scales(&q.scale), [2.352_941_1e36]);
}

#[test]
fn float8_weights() {
    let weight = matrix(&[2, 2], &[0.25, 0.25, -0.25, 0.5]);
    let q = quantize_weight(&weight, &WeightSpec::new(Float8E4M3FN)).unwrap();
    assert_eq!(
        (q.data.dtype(), q.zero_point.dtype()),
        (DType::F8E4M3FN, DType::F8E4M3FN)
    );
    let back = dequantize(&q.data, Granularity::PerTensor, &q.scale, &q.zero_point).unwrap();
    for (a, b) in back.iter().zip([0.25, 0.25, -0.25, 0.5]) {
        assert!((a - b).abs() <= b.abs() / 16.0, "{a} {b}");
    }
    // A channel of one value has no deviation.
    let q = quantize_weight(&weight, &WeightSpec::new(Float8E4M3FN).per_channel(0)).unwrap();
    assert_eq!(scales(&q.scale)[0], 0.25 / 448.0);
    let reduced = WeightSpec {
        reduce_range: true,
        ..WeightSpec::new(Float8E4M3FN)
    };
    assert_eq!(
        quantize_weight(&weight, &reduced),
        Err(Error::Float8("reduced range"))
    );
    let blocked = WeightSpec::new(Float8E4M3FN).blocked(0, 1);
    assert_eq!(
        quantize_weight(&weight, &blocked),
        Err(Error::Float8("blocks"))
    );
    let zero = Tensor::new(DType::F8E4M3FN, [].as_slice(), vec![0x38]).unwrap();
    let given = quantize_with(
        &weight,
        Granularity::PerTensor,
        &Tensor::scalar(1.0f32),
        &zero,
    );
    assert_eq!(given, Err(Error::Float8("zero point but 0")));
}

#[test]
fn half_weights_have_half_scales() {
    let weight = Tensor::vector([1.0f32, -0.5].map(f16::from_f32).to_vec());
    let q = quantize_weight(&weight, &WeightSpec::new(Int8)).unwrap();
    assert_eq!(
        q.scale.as_slice::<f16>().unwrap()[0],
        f16::from_f32(1.0 / 127.0)
    );
    assert_eq!(ints(&q.data), [127, -64]);
    let brain = Tensor::vector([1.0f32, -0.5].map(half::bf16::from_f32).to_vec());
    let q = quantize_weight(&brain, &WeightSpec::new(Int8)).unwrap();
    assert_eq!(q.scale.dtype(), DType::BF16);
}

#[test]
fn lstm_weights_are_transposed() {
    let weight = matrix(&[1, 2, 3], &[1.0, 2.0, 3.0, -4.0, -5.0, -127.0]);
    let q = quantize_lstm_weight(&weight, false, &WeightSpec::new(Int8)).unwrap();
    assert_eq!(
        (q.data.dims(), ints(&q.data)),
        ([1, 3, 2].as_slice(), vec![1, -4, 2, -5, 3, -127])
    );
    assert_eq!(
        (q.scale.dims(), q.zero_point.dims()),
        ([1].as_slice(), [1].as_slice())
    );
    let q = quantize_lstm_weight(&weight, true, &WeightSpec::new(Int8)).unwrap();
    assert_eq!(
        (q.scale.dims(), q.zero_point.dims()),
        ([1, 2].as_slice(), [1, 2].as_slice())
    );
    assert_eq!(ints(&q.data), [42, -4, 85, -5, 127, -127]);
    let flat = quantize_lstm_weight(&Tensor::scalar(1.0f32), false, &WeightSpec::new(Int8));
    assert_eq!(flat, Err(Error::LstmShape(vec![])));
    let narrow = quantize_lstm_weight(&weight, false, &WeightSpec::new(Int4));
    assert_eq!(narrow, Err(Error::NotQuantType(DType::I4)));
    let empty = quantize_lstm_weight(&matrix(&[1, 4, 0], &[]), true, &WeightSpec::new(Int8));
    assert_eq!(empty.unwrap().data.dims(), [1, 0, 4]);
    let absurd = [1 << 40, 1 << 40, 0];
    let absurd = quantize_lstm_weight(&matrix(&absurd, &[]), true, &WeightSpec::new(Int8));
    assert!(matches!(
        absurd,
        Err(Error::Tensor(
            TensorError::TooLarge(_) | TensorError::Reshape { .. }
        ))
    ));
}
