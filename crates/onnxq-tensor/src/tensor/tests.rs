//! Making and reading tensors, from honest and from lying parts.

use proptest::prelude::*;

use super::*;

fn shape(dims: &[usize]) -> Dims {
    Dims::from_slice(dims)
}

#[test]
fn lengths_must_be_exact() {
    for (dtype, dims, bytes) in [
        (DType::F32, [2, 3], 24),
        (DType::Complex128, [1, 2], 32),
        (DType::U4, [3, 1], 2),
        (DType::I2, [3, 3], 3),
        (DType::F6E2M3, [3, 1], 3),
        (DType::F6E2M3, [2, 1], 2),
        (DType::Bool, [0, 7], 0),
    ] {
        let tensor = Tensor::new(dtype, shape(&dims), vec![0; bytes]).unwrap();
        assert_eq!(
            (tensor.len(), tensor.byte_len()),
            (dims[0] * dims[1], bytes)
        );
        for wrong in [Some(bytes + 1), bytes.checked_sub(1)]
            .into_iter()
            .flatten()
        {
            let error = Tensor::new(dtype, shape(&dims), vec![0; wrong]).unwrap_err();
            assert!(matches!(error, TensorError::Length { expected, found, .. }
                if (expected, found) == (bytes, wrong)));
        }
    }
    let error = Tensor::new(DType::F32, shape(&[2]), vec![0; 3]).unwrap_err();
    assert_eq!(error.to_string(), "float[2] needs 8 bytes, found 3");
    assert!(Tensor::new(DType::String, shape(&[1]), vec![0]).is_err());
    assert!(Tensor::from_strings(shape(&[2]), [Bytes::new()]).is_err());
    assert!(Tensor::from_vec(shape(&[3]), vec![1i32, 2]).is_err());
    assert!(Tensor::from_bools(shape(&[1]), vec![]).is_err());
}

#[test]
fn absurd_dimensions_are_errors() {
    let huge = usize::MAX;
    for dims in [
        vec![huge, 2],
        vec![huge],
        vec![1 << 32, 1 << 32],
        vec![1 << 31, 1 << 31],
    ] {
        let dims = shape(&dims);
        let too_large = Err(TensorError::TooLarge(dims.to_vec()));
        assert_eq!(
            Tensor::new(DType::U2, dims.clone(), vec![]).map(|_| ()),
            too_large
        );
        for &dtype in DType::ALL {
            assert_eq!(
                Tensor::zeros(dtype, dims.clone()).map(|_| ()),
                too_large,
                "{dtype}"
            );
        }
        let one = Tensor::scalar(1u8);
        assert_eq!(
            Tensor::fill(DType::F64, dims.clone(), &one).map(|_| ()),
            too_large
        );
        assert_eq!(
            Tensor::fill(DType::I4, dims.clone(), &one).map(|_| ()),
            too_large
        );
        assert!(one.reshape(dims.clone()).is_err());
        assert!(Tensor::from_packed_bits(DType::I4, dims, [1]).is_err());
    }
    // Not too large to be counted, but to be held.
    let dims = shape(&[1 << 54]);
    assert!(Tensor::zeros(DType::F32, dims.clone()).is_err());
    assert!(Tensor::zeros(DType::String, dims.clone()).is_err());
    assert!(Tensor::from_packed_bits(DType::U4, dims, []).is_err());
    // A zero makes the rest harmless.
    let empty = Tensor::zeros(DType::F32, shape(&[huge, 0, huge])).unwrap();
    assert!(empty.is_empty() && empty.byte_len() == 0);
    assert_eq!(empty.reshape(shape(&[0, 5])).unwrap().len(), 0);
}

#[test]
fn reshaping_shares_the_bytes() {
    let tensor = Tensor::vector((0..6i32).collect());
    let reshaped = tensor.reshape(shape(&[2, 3])).unwrap();
    assert_eq!((reshaped.dims(), reshaped.rank()), ([2, 3].as_slice(), 2));
    assert!(reshaped.buffer().unwrap().same(tensor.buffer().unwrap()));
    assert!(!reshaped.same(&tensor) && reshaped.reshape(shape(&[6])).unwrap().same(&tensor));
    let error = tensor.reshape(shape(&[4])).unwrap_err();
    assert_eq!(error.to_string(), "cannot view 6 elements as [4]");
    let strings = Tensor::zeros(DType::String, shape(&[2])).unwrap();
    assert!(
        strings
            .reshape(shape(&[1, 2]))
            .unwrap()
            .reshape(shape(&[2]))
            .unwrap()
            .same(&strings)
    );
}

#[test]
fn bits_can_be_read_as_another_type() {
    let signed = Tensor::vector(vec![-1i8, 1]).bit_cast(DType::U8).unwrap();
    assert_eq!(*signed.as_slice::<u8>().unwrap(), [255, 1]);
    assert!(signed.bit_cast(DType::U16).is_err() && signed.bit_cast(DType::String).is_err());
}

#[test]
fn unaligned_bytes_are_copied_aligned_ones_are_not() {
    let values = [1.5f32, -2.0, 3.0];
    let mut bytes = vec![0u8];
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    let buffer = Buffer::from_vec(vec![0u64; 2]);
    assert_eq!(buffer.as_ptr() as usize % 8, 0);
    let aligned = Tensor::new(DType::F32, shape(&[3]), buffer.slice(4..16)).unwrap();
    assert!(matches!(
        aligned.as_slice::<f32>().unwrap(),
        Cow::Borrowed(_)
    ));
    let odd = Tensor::new(DType::F32, shape(&[3]), buffer.slice(1..13)).unwrap();
    assert!(matches!(odd.as_slice::<f32>().unwrap(), Cow::Owned(_)));
    let read = Tensor::new(DType::F32, shape(&[3]), Buffer::from(bytes).slice(1..13)).unwrap();
    assert_eq!(*read.as_slice::<f32>().unwrap(), values);
    assert!(read.as_slice::<i32>().is_err());
    assert!(Tensor::scalar(1u8).as_bools().is_err());
}

#[test]
fn integers_of_every_width_widen() {
    let wide = |t: Tensor| t.to_i64s();
    assert_eq!(wide(Tensor::vector(vec![-3i16, 3])).unwrap(), [-3, 3]);
    assert_eq!(wide(Tensor::vector(vec![7u64])).unwrap(), [7]);
    assert!(wide(Tensor::vector(vec![u64::MAX])).is_err());
    assert!(wide(Tensor::scalar(1.0f32)).is_err());
    assert!(wide(Tensor::zeros(DType::String, shape(&[1])).unwrap()).is_err());
    let packed = |dtype, codes: [u8; 5]| Tensor::from_packed_bits(dtype, shape(&[5]), codes);
    let small = packed(DType::I4, [0, 7, 8, 15, 0xf3]).unwrap();
    assert_eq!(small.bytes(), [0x70, 0xf8, 0x03]);
    assert_eq!(wide(small).unwrap(), [0, 7, -8, -1, 3]);
    let small = packed(DType::U2, [0, 1, 2, 3, 3]).unwrap();
    assert_eq!(small.bytes(), [0b1110_0100, 0b11]);
    assert_eq!(wide(small).unwrap(), [0, 1, 2, 3, 3]);
    assert!(packed(DType::U8, [0; 5]).is_err());
    assert!(Tensor::from_packed_bits(DType::I4, shape(&[3]), [1, 2]).is_err());
}

#[test]
fn zeros_of_every_type() {
    for &dtype in DType::ALL {
        let zeros = Tensor::zeros(dtype, shape(&[3, 5])).unwrap();
        assert_eq!((zeros.dtype(), zeros.len()), (dtype, 15));
        assert!(zeros.bytes().iter().all(|&b| b == 0));
    }
    // Aligned for the widest element.
    let wide = Tensor::zeros(DType::F64, shape(&[3])).unwrap();
    assert!(matches!(wide.as_slice::<f64>().unwrap(), Cow::Borrowed(_)));
}

proptest! {
    #[test]
    fn packed_codes_read_back(codes in prop::collection::vec(0u8..64, 0..40), which in 0usize..7) {
        let packed: Vec<DType> = DType::ALL.iter().copied().filter(|d| d.is_packed()).collect();
        let dtype = packed[which];
        let mask = (1 << dtype.bits()) - 1;
        let dims = shape(&[codes.len()]);
        let tensor = Tensor::from_packed_bits(dtype, dims, codes.iter().copied()).unwrap();
        prop_assert_eq!(tensor.byte_len(), dtype.byte_len(codes.len()).unwrap());
        for (i, code) in codes.iter().enumerate() {
            prop_assert_eq!(tensor.packed_bits(i), code & mask);
        }
    }
}
