//! Against the tables of ml_dtypes, and against the definition of rounding.

use super::*;

const TYPES: [DType; 7] = [
    DType::F8E4M3FN,
    DType::F8E4M3FNUZ,
    DType::F8E5M2,
    DType::F8E5M2FNUZ,
    DType::F4E2M1,
    DType::F6E2M3,
    DType::F6E3M2,
];

fn hex(text: &str) -> u32 {
    u32::from_str_radix(text, 16).unwrap()
}

/// The entries of a line of the table.
fn line(kind: &str, dtype: DType) -> Vec<&'static str> {
    let prefix = format!("{kind} {dtype} ");
    let mut lines = include_str!("ml_dtypes.txt").lines();
    lines
        .find_map(|l| l.strip_prefix(&prefix))
        .unwrap()
        .split(' ')
        .collect()
}

#[test]
fn every_code_decodes() {
    for dtype in TYPES.into_iter().chain([DType::F8E8M0]) {
        let table = line("decode", dtype);
        assert_eq!(table.len(), 1 << dtype.bits());
        for (code, expected) in table.into_iter().enumerate() {
            let value = match NarrowFloat::of(dtype) {
                Some(format) => format.decode(code as u8),
                None => decode_scale(code as u8),
            };
            match expected {
                "x" => assert!(value.is_nan(), "{dtype} {code:x}"),
                bits => assert_eq!(value.to_bits(), hex(bits), "{dtype} {code:x}"),
            }
        }
    }
    assert!(NarrowFloat::of(DType::F16).is_none());
}

#[test]
fn encoding_agrees_with_the_table() {
    for dtype in TYPES {
        let format = NarrowFloat::of(dtype).unwrap();
        for entry in line("encode", dtype) {
            let mut parts = entry.split(':').map(hex);
            let value = f32::from_bits(parts.next().unwrap());
            for saturate in [false, true] {
                let code = u32::from(format.encode(value, saturate));
                assert_eq!(
                    code,
                    parts.next().unwrap(),
                    "{dtype} {value} saturate={saturate}"
                );
            }
        }
    }
}

/// Every value, every midpoint of neighbours and the floats beside it.
#[test]
fn encoding_gives_the_nearest_code() {
    for dtype in TYPES {
        let format = NarrowFloat::of(dtype).unwrap();
        // Magnitudes ascend with their codes.
        let values: Vec<f32> = (0..=format.max).map(|code| format.decode(code)).collect();
        for (code, pair) in (0u8..).zip(values.windows(2)) {
            assert!(pair[0] < pair[1]);
            let middle = pair[0] / 2.0 + pair[1] / 2.0;
            let even = code + code % 2;
            for (value, expected) in [
                (pair[0], code),
                (pair[0].next_up(), code),
                (middle.next_down(), code),
                (middle, even),
                (middle.next_up(), code + 1),
                (pair[1].next_down(), code + 1),
                (pair[1], code + 1),
            ] {
                assert_eq!(format.encode(value, true), expected, "{dtype} {value}");
                let no_minus_zero = expected == 0 && format.special == Special::NanIsMinusZero;
                let negative = if no_minus_zero {
                    0
                } else {
                    expected | format.sign
                };
                assert_eq!(format.encode(-value, false), negative, "{dtype} -{value}");
            }
        }
    }
}

#[test]
fn scales_round_as_asked() {
    use ScaleRounding::*;
    let tiny = f32::MIN_POSITIVE / 2.0;
    for (value, up, down, nearest) in [
        (1.0, 127, 127, 127),
        (-1.0, 127, 127, 127),
        (1.25, 128, 127, 127),
        (1.5, 128, 127, 128),
        (1.75, 128, 127, 128),
        (tiny, 0, 0, 0),
        (tiny.next_up(), 1, 0, 0),
        (2f32.powi(127), 254, 254, 254),
    ] {
        for saturate in [false, true] {
            for (rounding, code) in [(Up, up), (Down, down), (Nearest, nearest)] {
                assert_eq!(
                    encode_scale(value, saturate, rounding),
                    code,
                    "{value} {rounding:?}"
                );
            }
        }
    }
    for (value, saturated, not) in [
        (0.0, 0, 255),
        (tiny.next_down(), 0, 255),
        (f32::MAX, 254, 255),
        (f32::INFINITY, 254, 255),
        (f32::NAN, 255, 255),
    ] {
        assert_eq!(encode_scale(value, true, Up), saturated, "{value}");
        assert_eq!(encode_scale(value, false, Up), not, "{value}");
    }
    assert_eq!(encode_scale(f32::MAX, false, Down), 254);
    assert!((0..=254).all(|code| encode_scale(decode_scale(code), false, Nearest) == code));
}
