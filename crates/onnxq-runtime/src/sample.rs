//! Numbers to run a model on where there is no data.

use onnxq_tensor::{DType, Tensor, TensorError};

/// Why there are no numbers for an input.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SampleError {
    #[error("there are no numbers for {0}")]
    Type(DType),
    #[error("there is not enough memory for it")]
    Memory,
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Numbers for input `index` of a model, which it takes whatever it does with them: floats in [-1, 1), codes
/// of any value, and of what may be an index, a size or a mask, 1; of what is named like a type, 0,
/// as there may be one type only. They are the same each time.
///
/// # Errors
/// A type that is none of numbers, dimensions that nothing has room for.
pub fn sample_values(
    name: &str,
    dtype: DType,
    dims: &[usize],
    index: usize,
) -> Result<Tensor, SampleError> {
    if dtype == DType::String {
        return Err(SampleError::Type(dtype));
    }
    let mut state = index as u32;
    // In [0, 1).
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let (low, range) = match dtype {
        DType::Bool => (1.0, 0.0),
        _ if dtype.is_float() => (-1.0, 2.0),
        DType::U8 => (0.0, 256.0),
        DType::I8 => (-128.0, 256.0),
        _ if name.contains("type") => (0.0, 0.0),
        _ => (1.0, 0.0),
    };
    let whole = !dtype.is_float();
    let mut number = || {
        let x = low + range * next();
        if whole { x.floor() } else { x }
    };
    // No more than can be had: a size given in error must not abort the program.
    let mut numbers = Vec::new();
    let len = onnxq_tensor::element_count(dims)?;
    numbers
        .try_reserve_exact(len)
        .map_err(|_| SampleError::Memory)?;
    numbers.extend((0..len).map(|_| number()));
    Ok(Tensor::from_f32s(dtype, dims, numbers)?)
}
