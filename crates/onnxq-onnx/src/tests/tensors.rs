//! The forms in which a file may store a tensor.

use onnxq_ir::def::Literal;
use onnxq_tensor::{DType, Tensor};

use super::*;
use crate::{proto::SparseTensorProto, tensor_from_bytes};

fn proto(dtype: DType, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: text("w"),
        data_type: Some(dtype.onnx()),
        dims: dims.to_vec(),
        ..TensorProto::default()
    }
}

fn read_one(proto: &TensorProto) -> Tensor {
    let graph = read_graph(&graph_of_tensor(proto)).unwrap();
    graph.initializers[0].value.as_dense().unwrap().clone()
}

/// The bytes of a tensor whose elements are in `int32_data`.
fn from_int32(dtype: DType, dims: &[i64], values: &[i32]) -> Vec<u8> {
    read_one(&TensorProto {
        int32_data: values.to_vec(),
        ..proto(dtype, dims)
    })
    .bytes()
    .to_vec()
}

#[test]
fn int32_data_of_every_type_it_serves() {
    use DType::*;
    assert_eq!(
        from_int32(I32, &[2], &[-1, 2]),
        [255, 255, 255, 255, 2, 0, 0, 0]
    );
    for dtype in [U16, I16, F16, BF16] {
        assert_eq!(
            from_int32(dtype, &[2], &[0x3c00, -2]),
            [0, 0x3c, 0xfe, 0xff]
        );
    }
    for dtype in [U8, I8, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0] {
        assert_eq!(from_int32(dtype, &[2], &[-1, 0x7f]), [0xff, 0x7f]);
    }
    assert_eq!(from_int32(Bool, &[3], &[0, 1, 256]), [0, 1, 1]);
    for dtype in [U4, I4, F4E2M1] {
        assert_eq!(from_int32(dtype, &[3], &[0x21, 0x03]), [0x21, 0x03]);
    }
    for dtype in [U2, I2] {
        assert_eq!(
            from_int32(dtype, &[5], &[0b11_10_01_00, 1]),
            [0b11_10_01_00, 1]
        );
    }
    for dtype in [F6E2M3, F6E3M2] {
        assert_eq!(from_int32(dtype, &[2], &[0x3f, 1]), [0x7f, 0]);
    }
}

#[test]
fn the_other_typed_fields() {
    use DType::*;
    let one = |proto| read_one(&proto).bytes().to_vec();
    let f32s = vec![1.0f32, f32::NAN];
    let bits: Vec<u8> = f32s.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(
        one(TensorProto {
            float_data: f32s.clone(),
            ..proto(F32, &[2])
        }),
        bits
    );
    assert_eq!(
        one(TensorProto {
            float_data: f32s,
            ..proto(Complex64, &[])
        }),
        bits
    );
    let f64s = vec![1.0f64, -0.0];
    let bits: Vec<u8> = f64s.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(
        one(TensorProto {
            double_data: f64s.clone(),
            ..proto(F64, &[2])
        }),
        bits
    );
    assert_eq!(
        one(TensorProto {
            double_data: f64s,
            ..proto(Complex128, &[1])
        }),
        bits
    );
    let i64s = TensorProto {
        int64_data: vec![-1],
        ..proto(I64, &[1])
    };
    assert_eq!(one(i64s), (-1i64).to_le_bytes());
    let u64s = TensorProto {
        uint64_data: vec![u64::MAX],
        ..proto(U64, &[1])
    };
    assert_eq!(one(u64s), [255; 8]);
    let u32s = TensorProto {
        uint64_data: vec![7],
        ..proto(U32, &[1])
    };
    assert_eq!(one(u32s), 7u32.to_le_bytes());
    let strings = TensorProto {
        string_data: vec![text("a"), text("")],
        ..proto(String, &[2])
    };
    assert_eq!(
        read_one(&strings).strings().unwrap()[..],
        [text("a"), text("")]
    );
}

#[test]
fn raw_data_is_taken_as_it_lies() {
    let raw = TensorProto {
        raw_data: Some(text("abcdef")),
        ..proto(DType::U16, &[3])
    };
    assert_eq!(read_one(&raw).bytes(), b"abcdef");
    let empty = TensorProto {
        raw_data: Some(text("")),
        ..proto(DType::U16, &[3, 0])
    };
    assert_eq!(read_one(&empty).dims(), [3, 0]);
    let both = TensorProto {
        raw_data: Some(text("")),
        int32_data: vec![5],
        ..proto(DType::U8, &[])
    };
    assert_eq!(read_one(&both).bytes(), [5]);
}

#[test]
fn tensors_are_views_of_the_file() {
    let raw = vec![1u8; 10_000];
    let proto = TensorProto {
        raw_data: Some(raw.into()),
        ..proto(DType::U8, &[10_000])
    };
    let file = Buffer::from(model_of(&graph_of_tensor(&proto)));
    let model = from_buffer(file.clone(), None, "m.onnx").unwrap();
    let tensor = model.graph.initializers[0].value.as_dense().unwrap();
    assert!(file.as_ptr_range().contains(&tensor.bytes().as_ptr()));
}

#[test]
fn wrong_lengths_name_file_tensor_and_numbers() {
    let error = |proto| refused(&graph_of_tensor(&proto));
    let short = TensorProto {
        raw_data: Some(text("abc")),
        ..proto(DType::F32, &[2, 3])
    };
    assert_eq!(
        error(short),
        "m.onnx: graph `g`: initializer 0: `w`: raw_data: float[2, 3] needs 24 bytes, found 3"
    );
    let typed = TensorProto {
        float_data: vec![0.0; 5],
        ..proto(DType::F32, &[2, 3])
    };
    assert!(error(typed).ends_with("`w`: float_data: float[2, 3] needs 6 values, found 5"));
    let packed = TensorProto {
        int32_data: vec![0; 3],
        ..proto(DType::I4, &[3])
    };
    assert!(error(packed).ends_with("int32_data: int4[3] needs 2 values, found 3"));
    let absent = proto(DType::I64, &[]);
    assert!(error(absent).ends_with("int64_data: int64[] needs 1 values, found 0"));
    let string = TensorProto {
        raw_data: Some(text("abc")),
        ..proto(DType::String, &[1])
    };
    assert!(error(string).contains("raw_data: string is not a fixed-size element type"));
}

#[test]
fn shapes_that_no_data_can_have() {
    let error = |proto| refused(&graph_of_tensor(&proto));
    assert!(error(proto(DType::F32, &[2, -1])).ends_with("negative dimension in [2, -1]"));
    let huge = error(proto(DType::F32, &[i64::MAX, i64::MAX]));
    assert!(huge.contains("number of elements"), "{huge}");
    let large = error(proto(DType::U8, &[1 << 40]));
    assert!(
        large.ends_with("needs 1099511627776 values, found 0"),
        "{large}"
    );
    assert!(error(TensorProto::default()).ends_with("a tensor without an element type"));
    let future = TensorProto {
        data_type: Some(99),
        ..TensorProto::default()
    };
    assert!(error(future).ends_with("element type 99 is not supported"));
    let segment = TensorProto {
        segment: Some(text("")),
        ..proto(DType::F32, &[0])
    };
    assert!(error(segment).ends_with("a tensor in segments is not supported"));
}

#[test]
fn sparse_tensors_need_both_parts() {
    let values = TensorProto {
        float_data: vec![1.0],
        ..proto(DType::F32, &[1])
    };
    let indices = TensorProto {
        int64_data: vec![3],
        ..proto(DType::I64, &[1])
    };
    let sparse = |indices| GraphProto {
        name: text("g"),
        sparse_initializer: vec![SparseTensorProto {
            values: Some(values.clone()),
            indices,
            dims: vec![5],
        }],
        ..GraphProto::default()
    };
    let graph = read_graph(&sparse(Some(indices))).unwrap();
    assert_eq!(graph.initializers[0].name, "w");
    assert!(matches!(&graph.initializers[0].value, Literal::Sparse(s) if s.dims == [5]));
    let error = refused(&sparse(None));
    assert_eq!(
        error,
        "m.onnx: graph `g`: sparse_initializer 0: `w`: indices: a sparse tensor without indices"
    );
}

#[test]
fn a_tensor_in_a_file_of_its_own() {
    let proto = TensorProto {
        float_data: vec![1.0, 2.0],
        ..proto(DType::F32, &[2])
    };
    let (name, tensor) = tensor_from_bytes(&Buffer::from(encoded(&proto)), "input_0.pb").unwrap();
    assert_eq!(
        (name.as_str(), tensor),
        ("w", Tensor::vector(vec![1.0f32, 2.0]))
    );
    let error = tensor_from_bytes(&Buffer::from(vec![0xff; 9]), "input_0.pb").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("input_0.pb: not an ONNX model"),
        "{error}"
    );
}
