//! Casts against what ONNX Runtime gives, and every pair of types.

use half::{bf16, f16};

use super::*;

fn floats(values: &[f32]) -> Tensor {
    Tensor::vector(values.to_vec())
}

fn strings(values: &[&'static str]) -> Tensor {
    let values: Vec<Bytes> = values.iter().map(|&v| v.into()).collect();
    Tensor::from_strings(vec![values.len()], values).unwrap()
}

fn texts(tensor: &Tensor) -> Vec<String> {
    let strings = tensor.cast(DType::String, true).unwrap();
    let text = |b: &Bytes| String::from_utf8(b.to_vec()).unwrap();
    strings.strings().unwrap().iter().map(text).collect()
}

#[track_caller]
fn casts<T: Element>(from: &Tensor, expected: &[T]) {
    let cast = from.cast(T::DTYPE, true).unwrap();
    assert_eq!(cast.dims(), from.dims());
    assert_eq!(cast.as_slice::<T>().unwrap(), expected);
}

/// The table is what ONNX Runtime 1.31.1 gives, except for `uint32` out of range, where its
/// vector and scalar code differ: that is its scalar code.
#[test]
fn floats_out_of_range_are_as_in_onnx_runtime() {
    let values = [
        1.9,
        -1.9,
        255.5,
        300.0,
        -129.0,
        3e9,
        5e9,
        1e19,
        2e19,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        65536.5,
        40000.0,
    ];
    let (least, long) = (i32::MIN, i64::MIN);
    let half = 1u64 << 63;
    let f = floats(&values);
    for t in [&f, &f.cast(DType::F64, true).unwrap()] {
        casts::<u8>(t, &[1, 255, 255, 44, 127, 0, 0, 0, 0, 0, 0, 0, 0, 64]);
        casts::<i8>(t, &[1, -1, -1, 44, 127, 0, 0, 0, 0, 0, 0, 0, 0, 64]);
        casts::<u16>(
            t,
            &[1, 65535, 255, 300, 65407, 0, 0, 0, 0, 0, 0, 0, 0, 40000],
        );
        casts::<i16>(t, &[1, -1, 255, 300, -129, 0, 0, 0, 0, 0, 0, 0, 0, -25536]);
        casts::<i32>(
            t,
            &[
                1, -1, 255, 300, -129, least, least, least, least, least, least, least, 65536,
                40000,
            ],
        );
        casts::<u32>(
            t,
            &[
                1,
                u32::MAX,
                255,
                300,
                4294967167,
                3000000000,
                705032704,
                0,
                0,
                0,
                0,
                0,
                65536,
                40000,
            ],
        );
        casts::<i64>(
            t,
            &[
                1, -1, 255, 300, -129, 3000000000, 5000000000, long, long, long, long, long, 65536,
                40000,
            ],
        );
        casts::<u64>(
            t,
            &[
                1,
                u64::MAX,
                255,
                300,
                18446744073709551487,
                3000000000,
                5000000000,
                9999999980506447872,
                0,
                0,
                half,
                half,
                65536,
                40000,
            ],
        );
    }
    casts(
        &floats(&[-2147483648.0, 2147483520.0]),
        &[i32::MIN, 2147483520],
    );
    casts(
        &Tensor::vector(vec![2147483647.9, -2147483648.9]),
        &[i32::MAX, i32::MIN],
    );
    let nan_is_true = floats(&[0.0, -0.0, 0.1, f32::NAN])
        .cast(DType::Bool, true)
        .unwrap();
    assert_eq!(nan_is_true.as_bools().unwrap(), [false, false, true, true]);
}

#[test]
fn integers_wrap() {
    let t = Tensor::vector(vec![200i16, -1, 300, 0]);
    casts::<i8>(&t, &[-56, -1, 44, 0]);
    casts::<u64>(&t, &[200, u64::MAX, 300, 0]);
    casts::<f32>(&t, &[200.0, -1.0, 300.0, 0.0]);
    casts::<i64>(&Tensor::vector(vec![u64::MAX, 1 << 63]), &[-1, i64::MIN]);
    casts::<f32>(&Tensor::vector(vec![u64::MAX]), &[18446744073709551616.0]);
    // Rounded once: by way of f64 the first would be a tie.
    casts::<f32>(
        &Tensor::vector(vec![(1i64 << 60) + (1 << 36) + 1]),
        &[1152921642045800448.0],
    );
    casts::<f16>(
        &Tensor::vector(vec![2049i32, 70000]),
        &[f16::from_f32(2048.0), f16::INFINITY],
    );
    casts::<i32>(
        &Tensor::from_bools(vec![2], vec![true, false]).unwrap(),
        &[1, 0],
    );
    // A byte that is neither 0 nor 1 is true.
    casts::<f32>(
        &Tensor::new(DType::Bool, vec![2], vec![0, 7]).unwrap(),
        &[0.0, 1.0],
    );
}

/// As ONNX Runtime does: half away from zero, then the lowest bits.
#[test]
fn integers_under_a_byte_are_rounded_and_wrap() {
    let t = floats(&[
        1.5,
        2.5,
        -1.5,
        0.5,
        7.5,
        -8.6,
        -20.0,
        300.0,
        f32::INFINITY,
        f32::NAN,
    ]);
    for (dtype, expected) in [
        (DType::I4, [2, 3, -2, 1, -8, 7, -4, -4, 0, 0]),
        (DType::U4, [2, 3, 14, 1, 8, 7, 12, 12, 0, 0]),
        (DType::I2, [-2, -1, -2, 1, 0, -1, 0, 0, 0, 0]),
        (DType::U2, [2, 3, 2, 1, 0, 3, 0, 0, 0, 0]),
    ] {
        let small = t.cast(dtype, true).unwrap();
        assert_eq!(small.to_i64s().unwrap(), expected, "{dtype}");
        casts::<i64>(&small, &expected);
        casts::<f32>(&small, &expected.map(|v| v as f32));
        assert_eq!(texts(&small)[4], expected[4].to_string());
    }
    let ints = Tensor::vector(vec![0i32, 7, 8, -9, 200])
        .cast(DType::I4, true)
        .unwrap();
    assert_eq!(ints.to_i64s().unwrap(), [0, 7, -8, 7, -8]);
}

#[test]
fn narrow_floats_saturate_or_not() {
    let t = floats(&[448.0, 1e9, f32::NEG_INFINITY, f32::NAN, 0.3]);
    let code = |dtype, saturate| t.cast(dtype, saturate).unwrap().bytes().to_vec();
    assert_eq!(code(DType::F8E4M3FN, true), [0x7e, 0x7e, 0xfe, 0x7f, 0x2a]);
    assert_eq!(code(DType::F8E4M3FN, false), [0x7e, 0x7f, 0xff, 0x7f, 0x2a]);
    assert_eq!(code(DType::F8E5M2, false), [0x5f, 0x7c, 0xfc, 0x7e, 0x35]);
    assert_eq!(code(DType::F8E5M2FNUZ, true)[3], 0x80);
    assert_eq!(code(DType::F4E2M1, true), [0x77, 0x8f, 0x01]);
    assert_eq!(code(DType::F8E8M0, true), [136, 157, 254, 255, 126]);
    let down = t
        .cast_rounded(DType::F8E8M0, false, ScaleRounding::Down)
        .unwrap();
    assert_eq!(down.bytes(), [135, 156, 255, 255, 125]);
    let back = t
        .cast(DType::F6E3M2, true)
        .unwrap()
        .to_f32s()
        .unwrap()
        .into_owned();
    assert_eq!(back, [28.0, 28.0, -28.0, -0.0, 0.3125]);
    assert_eq!(
        t.cast(DType::F8E8M0, true).unwrap().to_f64s().unwrap()[4],
        0.5
    );
}

#[test]
fn halves_are_reached_through_float() {
    let t = Tensor::vector(vec![1.0 + 2f64.powi(-11) + 2f64.powi(-30), 1e-8, 65520.0]);
    casts::<f16>(&t, &[f16::ONE, f16::ZERO, f16::INFINITY]);
    casts::<bf16>(
        &floats(&[1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8)]),
        &[bf16::ONE, bf16::from_f32(1.015625)],
    );
    // More than a vector register, and an odd tail.
    let values: Vec<f32> = (0..37).map(|i| i as f32 * 0.25 - 3.0).collect();
    let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
    casts::<f16>(&floats(&values), &halves);
    casts::<f32>(&Tensor::vector(halves), &values);
}

#[test]
fn numbers_are_written_like_printf() {
    let t = floats(&[
        1.5,
        0.1,
        1e-5,
        1e-4,
        123456789.0,
        1e8,
        1e7,
        16777216.0,
        std::f32::consts::E,
        100000.0,
        1e20,
        f32::MIN_POSITIVE,
        0.0,
        -0.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ]);
    assert_eq!(
        texts(&t),
        [
            "1.5",
            "0.1",
            "9.9999997e-06",
            "9.9999997e-05",
            "1.2345679e+08",
            "1e+08",
            "10000000",
            "16777216",
            "2.7182817",
            "100000",
            "1e+20",
            "1.1754944e-38",
            "0",
            "-0",
            "INF",
            "-INF",
            "NaN",
        ]
    );
    let t = Tensor::vector(vec![1e300, 1.0 / 3.0, 99999999.6, 1e-4]);
    assert_eq!(texts(&t), ["1e+300", "0.33333333", "1e+08", "0.0001"]);
    assert_eq!(
        texts(&Tensor::vector(vec![i64::MIN, 5])),
        ["-9223372036854775808", "5"]
    );
    assert_eq!(
        texts(&Tensor::from_bools(vec![2], vec![true, false]).unwrap()),
        ["1", "0"]
    );
    assert_eq!(texts(&Tensor::scalar(bf16::from_f32(0.1))), ["0.10009766"]);
}

#[test]
fn strings_are_read_like_strtod() {
    let t = strings(&[
        "1.5", " 2", "3 ", "-7.e1", "1e3", "+.5", "-INF", "infinity", "1e39", "2e",
    ]);
    casts::<f32>(
        &t,
        &[
            1.5,
            2.0,
            3.0,
            -70.0,
            1000.0,
            0.5,
            f32::NEG_INFINITY,
            f32::INFINITY,
            f32::INFINITY,
            2.0,
        ],
    );
    assert!(
        strings(&["nan"])
            .cast(DType::F64, true)
            .unwrap()
            .scalar_f64()
            .unwrap()
            .is_nan()
    );
    let t = strings(&["1.5", " 2", "-7", "2.718", "+5", "300"]);
    casts::<i32>(&t, &[1, 2, -7, 2, 5, 300]);
    casts::<i8>(&t, &[1, 2, -7, 2, 5, 44]);
    casts::<u8>(&t, &[1, 2, 249, 2, 5, 44]);
    casts::<u64>(
        &strings(&["18446744073709551615", "-1"]),
        &[u64::MAX, u64::MAX],
    );
    casts::<i32>(&strings(&["9999999999"]), &[1410065407]);
    let bools = strings(&["0", "-0.5", "2"])
        .cast(DType::Bool, true)
        .unwrap();
    assert_eq!(bools.as_bools().unwrap(), [false, false, true]);
    for text in ["", "abc", ".", "-", "1e400", "é", "--1", "e5"] {
        let error = strings(&[text]).cast(DType::F32, true).unwrap_err();
        assert_eq!(error.to_string(), format!("{text:?} is not a float"));
    }
    for text in ["", "inf", "9223372036854775808", ".5"] {
        assert!(strings(&[text]).cast(DType::I64, true).is_err());
    }
}

#[test]
fn every_pair_of_types_casts_or_is_an_error() {
    let values = Tensor::vector(vec![0i8, 1, 1]).reshape(vec![1, 3]).unwrap();
    for &from in DType::ALL {
        let Ok(tensor) = values.cast(from, true) else {
            continue;
        };
        for &to in DType::ALL {
            match tensor.cast(to, true) {
                Ok(cast) => {
                    assert_eq!((cast.dtype(), cast.dims()), (to, [1, 3].as_slice()));
                    let expected = if from == DType::F8E8M0 || to == DType::F8E8M0 {
                        continue; // It has no zero.
                    } else {
                        values.cast(to, true).unwrap()
                    };
                    assert!(cast == expected, "{from} to {to}");
                }
                Err(error) => {
                    assert!(to.name().starts_with("complex"), "{from} to {to}: {error}");
                }
            }
        }
        let empty = Tensor::zeros(from, vec![0, 2]).unwrap();
        assert!(
            DType::ALL
                .iter()
                .all(|&to| empty.cast(to, true).is_ok() || to.name().starts_with("complex"))
        );
    }
    assert!(Tensor::scalar([1f32, 0.0]).cast(DType::F32, true).is_err());
    assert!(Tensor::scalar([1f32, 0.0]).to_f64s().is_err());
    assert!(strings(&["1"]).to_f32s().is_err());
}

#[test]
fn nothing_is_copied_without_need() {
    let t = floats(&[1.0, 2.0]);
    assert!(t.cast(DType::F32, true).unwrap().same(&t));
    assert!(matches!(t.to_f32s().unwrap(), Cow::Borrowed(_)));
    let wide = t.cast(DType::F64, true).unwrap();
    assert!(matches!(wide.to_f64s().unwrap(), Cow::Borrowed(_)));
    assert_eq!(wide.to_f32s().unwrap(), t.to_f32s().unwrap());
}

#[test]
fn unaligned_bytes_are_read() {
    let mut bytes = vec![0];
    bytes.extend([1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()));
    let buffer = crate::Buffer::from(bytes);
    let t = Tensor::new(DType::F32, vec![2], buffer.slice(1..9)).unwrap();
    assert_eq!(t.to_f32s().unwrap(), [1.5, -2.0].as_slice());
    casts::<i32>(&t, &[1, -2]);
    casts::<f16>(&t, &[f16::from_f32(1.5), f16::from_f32(-2.0)]);
}

#[test]
fn scalars_and_fills() {
    assert_eq!(Tensor::vector(vec![7u8]).scalar_i64().unwrap(), 7);
    assert_eq!(
        Tensor::scalar(f16::from_f32(0.5)).scalar_f64().unwrap(),
        0.5
    );
    assert_eq!(Tensor::scalar(0.5f32).item::<f32>().unwrap(), 0.5);
    assert!(Tensor::scalar(0.5f32).item::<f64>().is_err());
    assert!(Tensor::scalar(0.5f32).scalar_i64().is_err());
    let error = Tensor::vector(vec![1, 2]).scalar_i64().unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected one element, found dimensions [2]"
    );

    let three = Tensor::scalar(3.0f32);
    for &dtype in DType::ALL {
        let Ok(expected) = floats(&[3.0; 5]).cast(dtype, true) else {
            continue;
        };
        assert!(
            Tensor::fill(dtype, vec![5], &three).unwrap() == expected,
            "{dtype}"
        );
        let zero = Tensor::fill(dtype, vec![2, 3], &Tensor::scalar(0.0f32)).unwrap();
        assert_eq!(zero.dims(), [2, 3]);
    }
    let pair = Tensor::fill(DType::Complex128, vec![2], &Tensor::scalar([1f64, 2.0])).unwrap();
    assert_eq!(
        pair.as_slice::<[f64; 2]>().unwrap(),
        [[1.0, 2.0]; 2].as_slice()
    );
    assert!(Tensor::fill(DType::F32, vec![2], &floats(&[1.0, 2.0])).is_err());
    assert!(Tensor::fill(DType::F32, vec![1 << 62], &three).is_err());
    let t = Tensor::from_f32s(DType::F16, vec![1, 2], vec![0.5, 1e9]).unwrap();
    assert_eq!(t.to_f32s().unwrap(), [0.5, f32::INFINITY].as_slice());
    assert!(Tensor::from_f32s(DType::F16, vec![3], vec![0.5]).is_err());
}
