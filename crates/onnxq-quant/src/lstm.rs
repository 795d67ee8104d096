//! The weights of `com.microsoft.DynamicQuantizeLSTM`.

use onnxq_tensor::{Dims, Tensor};

use crate::{Error, Granularity, QuantizedWeight, Result, WeightSpec, quantize_weight};

/// Quantizes a weight `W` or `R` of an `LSTM`, `[directions, 4 * hidden, input]`, and transposes
/// it to the `[directions, input, 4 * hidden]` that `DynamicQuantizeLSTM` takes.
///
/// One scale for each direction, shape `[directions]`; or, `per_channel`, one for each row, shape
/// `[directions, 4 * hidden]`. The granularity of `spec` is not used. Its type must have 8 bits.
pub fn quantize_lstm_weight(
    weight: &Tensor,
    per_channel: bool,
    spec: &WeightSpec,
) -> Result<QuantizedWeight> {
    let &[directions, rows, columns] = weight.dims() else {
        return Err(Error::LstmShape(weight.dims().to_vec()));
    };
    if spec.qtype.dtype().bits() != 8 {
        return Err(Error::NotQuantType(spec.qtype.dtype()));
    }
    let spec = WeightSpec {
        granularity: Granularity::PerChannel { axis: 0 },
        ..*spec
    };
    let quantized = if per_channel {
        let flat = [usize::saturating_mul(directions, rows), columns];
        let q = quantize_weight(&weight.reshape(flat.as_slice())?, &spec)?;
        let dims = [directions, rows];
        QuantizedWeight {
            data: q.data,
            scale: q.scale.reshape(dims.as_slice())?,
            zero_point: q.zero_point.reshape(dims.as_slice())?,
        }
    } else {
        quantize_weight(weight, &spec)?
    };
    let mut bytes = vec![0u8; quantized.data.byte_len()];
    if !bytes.is_empty() {
        let matrices = quantized.data.bytes().chunks(rows * columns);
        for (from, to) in matrices.zip(bytes.chunks_mut(rows * columns)) {
            transpose(from, to, columns);
        }
    }
    let dims = Dims::from_slice(&[directions, columns, rows]);
    let data = Tensor::new(quantized.data.dtype(), dims, bytes)?;
    Ok(QuantizedWeight { data, ..quantized })
}

/// Transposes rows of `columns` bytes, in tiles whose lines stay in the cache.
fn transpose(from: &[u8], to: &mut [u8], columns: usize) {
    const TILE: usize = 32;
    let rows = from.len() / columns;
    for row in (0..rows).step_by(TILE) {
        for column in (0..columns).step_by(TILE) {
            for r in row..rows.min(row + TILE) {
                for c in column..columns.min(column + TILE) {
                    to[c * rows + r] = from[r * columns + c];
                }
            }
        }
    }
}
