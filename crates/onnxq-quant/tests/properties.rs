//! What must hold for any range and any data.

use onnxq_quant::{
    FloatType, Granularity, ParamSpec, QRange, QuantType, ValueRange, WeightSpec,
    data::{self, min_max},
    dequantize, quantize_weight, weight_ranges,
};
use onnxq_tensor::{Buffer, DType, Tensor};
use proptest::prelude::*;

fn integer_type() -> impl Strategy<Value = QuantType> {
    use QuantType::*;
    prop::sample::select(vec![Int8, UInt8, Int16, UInt16, Int4, UInt4])
}

fn number() -> impl Strategy<Value = f32> {
    let size = prop::sample::select(vec![1e-30f32, 1e-3, 1.0, 1e3, 1e30]);
    (-1.0f32..1.0, size).prop_map(|(v, size)| v * size)
}

fn spec() -> impl Strategy<Value = ParamSpec> {
    (integer_type(), any::<bool>(), any::<bool>()).prop_map(|(qtype, symmetric, reduce_range)| {
        ParamSpec {
            symmetric,
            reduce_range,
            ..ParamSpec::new(qtype)
        }
    })
}

/// A weight of rank 3, some of it with values of one size, and a way to group its elements.
fn weight() -> impl Strategy<Value = (Tensor, Granularity)> {
    let dims = (1usize..5, 1usize..50, 1usize..50);
    let axis = -3i64..3;
    let granularity = prop_oneof![
        Just(Granularity::PerTensor),
        axis.clone()
            .prop_map(|axis| Granularity::PerChannel { axis }),
        (axis, 1usize..40).prop_map(|(axis, block)| Granularity::Blocked { axis, block }),
    ];
    (dims, granularity, any::<u64>()).prop_map(|((a, b, c), granularity, seed)| {
        let mut state = seed | 1;
        let values = (0..a * b * c).map(|_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f32 / 8388608.0 - 1.0
        });
        (
            Tensor::from_vec([a, b, c].as_slice(), values.collect::<Vec<f32>>()).unwrap(),
            granularity,
        )
    })
}

proptest! {
    #[test]
    fn zero_has_a_code_and_the_range_is_covered(spec in spec(), a in number(), b in number()) {
        let range = ValueRange::new(a.min(b), a.max(b));
        let params = spec.compute(range, FloatType::F32).unwrap();
        let codes = spec.qrange();
        prop_assert!((codes.min..=codes.max).contains(&params.zero_point));
        prop_assert!(params.scale >= f32::MIN_POSITIVE && params.scale.is_finite());
        // Within half a step (and the rounding of the scale) of each end.
        let slack = f64::from(params.scale) * (0.5 + 1e-2);
        if params.scale != 1.0 && !spec.symmetric {
            let real = |code: i32| f64::from(params.scale) * f64::from(code - params.zero_point);
            prop_assert!(real(codes.max) + slack >= f64::from(range.hi));
            prop_assert!(real(codes.min) - slack <= f64::from(range.lo));
        }
    }

    #[test]
    fn half_scales_are_halves(spec in spec(), a in -6e4f32..6e4, b in -6e4f32..6e4) {
        let half = |v| half::f16::from_f32(v).to_f32();
        let range = ValueRange::new(half(a.min(b)), half(a.max(b)));
        let params = spec.compute(range, FloatType::F16).unwrap();
        prop_assert_eq!(half(params.scale), params.scale);
        let wide = spec.compute(range, FloatType::F32).unwrap();
        prop_assert!(params.zero_point == wide.zero_point || params.scale == 1.0);
    }

    #[test]
    fn codes_are_within_half_a_step((weight, granularity) in weight(), qtype in integer_type()) {
        let spec = WeightSpec { granularity, ..WeightSpec::new(qtype) };
        let q = quantize_weight(&weight, &spec).unwrap();
        let back = dequantize(&q.data, granularity, &q.scale, &q.zero_point).unwrap();
        let largest = q.scale.as_slice::<f32>().unwrap().iter().copied().fold(0.0, f32::max);
        // Beside the half step: at 16 bits the rounding of the division shows.
        let steps = 0.51;
        for (v, b) in weight.as_slice::<f32>().unwrap().iter().zip(&back) {
            prop_assert!((v - b).abs() <= largest * steps, "{} {}", v, b);
        }
    }

    #[test]
    fn codes_grow_with_values(mut values in prop::collection::vec(number(), 1..300), spec in spec()) {
        values.sort_by(f32::total_cmp);
        let range = min_max(&values).unwrap();
        prop_assert_eq!(range, ValueRange::new(values[0], values[values.len() - 1]));
        let params = spec.compute(range, FloatType::F32).unwrap();
        let mut codes = vec![0i16; values.len()];
        data::quantize(&values, params, &mut codes);
        prop_assert!(codes.is_sorted());
    }

    #[test]
    fn data_follows_the_definition(
        values in prop::collection::vec(prop_oneof![number(), any::<f32>()], 0..100),
        scale in 1e-20f32..1e20,
        zero_point in -128i32..128,
    ) {
        let params = onnxq_quant::Params { scale, zero_point };
        let mut codes = vec![0i8; values.len()];
        data::quantize(&values, params, &mut codes);
        let full = QRange::full(QuantType::Int8);
        for (v, code) in values.iter().zip(codes) {
            let q = f64::from((v / scale).round_ties_even()) + f64::from(zero_point);
            let q = if q.is_nan() { f64::from(full.min) } else { q };
            prop_assert_eq!(f64::from(code), q.clamp(f64::from(full.min), f64::from(full.max)));
        }
        let mut back = vec![0f32; 256];
        let all: Vec<i8> = (-128..=127).collect();
        data::dequantize(&all, params, &mut back);
        let mut again = vec![0i8; 256];
        data::quantize(&back, params, &mut again);
        prop_assert_eq!(all, again);
    }

    #[test]
    fn groups_are_independent((weight, granularity) in weight()) {
        // Each group alone, found by definition, has the range that the scan finds.
        let ranges = weight_ranges(&weight, granularity).unwrap();
        let q = quantize_weight(&weight, &WeightSpec { granularity, ..WeightSpec::new(QuantType::Int8) }).unwrap();
        let values = weight.as_slice::<f32>().unwrap();
        let index: Vec<f32> = (0..ranges.len()).map(|i| (i + 1) as f32).collect();
        let ones = Tensor::zeros(DType::I16, q.scale.dims()).unwrap();
        let scale = Tensor::from_vec(q.scale.dims(), index).unwrap();
        // Code 1 in group g stands for g + 1.
        let codes = Tensor::from_vec(weight.dims(), vec![1i16; weight.len()]).unwrap();
        let groups = dequantize(&codes, granularity, &scale, &ones).unwrap();
        let mut expected = vec![ValueRange::EMPTY; ranges.len()];
        for (v, g) in values.iter().zip(groups) {
            let e = &mut expected[g as usize - 1];
            *e = e.merge(ValueRange::new(*v, *v));
        }
        prop_assert_eq!(ranges, expected);
    }

    #[test]
    fn alignment_and_memory_do_not_matter((weight, granularity) in weight(), qtype in integer_type()) {
        let spec = WeightSpec { granularity, ..WeightSpec::new(qtype) };
        let mut bytes = vec![0u8; 3];
        bytes.extend_from_slice(weight.bytes());
        let buffer = Buffer::from(bytes).slice(3..3 + weight.byte_len());
        let moved = Tensor::new(DType::F32, weight.dims(), buffer).unwrap();
        prop_assert_eq!(quantize_weight(&moved, &spec), quantize_weight(&weight, &spec));
    }
}
