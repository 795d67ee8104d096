//! Codes to what they stand for, and back, by the operators' own definitions.

use onnxq_ir::{Graph, Op};
use onnxq_ops::{EvalContext, EvalError, Value, lookup};
use onnxq_tensor::{DType, Dims, Tensor};

/// Codes with their scale and zero point.
#[derive(Clone, Debug)]
pub(super) struct Encoding {
    pub(super) scale: Tensor,
    pub(super) zero_point: Option<Tensor>,
    pub(super) axis: i64,
    pub(super) block_size: i64,
}

/// The newest opset with any change to the operators: new ones know every type.
const OPSET: i64 = 25;

impl Encoding {
    /// What `codes` stand for, in `f32`.
    pub(super) fn dequantize(&self, codes: &Tensor) -> Option<Tensor> {
        self.eval("DequantizeLinear", codes, codes.dtype())?
            .cast(DType::F32, true)
            .ok()
    }

    /// The codes of a type that come next to `values`.
    pub(super) fn quantize(&self, values: &Tensor, dtype: DType) -> Option<Tensor> {
        let values = values.cast(self.scale.dtype(), true).ok()?;
        self.eval("QuantizeLinear", &values, dtype)
    }

    fn eval(&self, op: &str, x: &Tensor, dtype: DType) -> Option<Tensor> {
        let mut op = Op::new(op).with("axis", self.axis);
        if self.block_size != 0 {
            op = op.with("block_size", self.block_size);
        }
        let zero_point = match &self.zero_point {
            Some(zero_point) if zero_point.dtype() == dtype => zero_point.clone(),
            _ => Tensor::zeros(dtype, Dims::from_slice(self.scale.dims())).ok()?,
        };
        // One number for all is of rank 0.
        let plain = |t: &Tensor| match t.len() {
            1 => t.reshape(Dims::new()).ok(),
            _ => Some(t.clone()),
        };
        let operands = [x.clone(), plain(&self.scale)?, plain(&zero_point)?];
        let operands = operands.map(|t| Some(Value::Tensor(t)));
        let no_region = |_: &Graph, _| Err(EvalError::Unsupported("regions".to_owned()));
        let cx = EvalContext::new(&op, OPSET, &operands, 1, &no_region);
        let results = lookup("", &op.op_type)?.eval(&cx).ok()?;
        match results.into_iter().next()? {
            Value::Tensor(t) => Some(t),
            _ => None,
        }
    }

    /// The least and the largest value that codes of a type stand for, over all scales.
    pub(super) fn range(&self, dtype: DType) -> Option<(f64, f64)> {
        let (low, high) = ends(dtype)?;
        let scales = self.scale.to_f64s().ok()?;
        let zero_points = match &self.zero_point {
            Some(t) => t.to_i64s().ok()?,
            None => vec![0],
        };
        let mut range: Option<(f64, f64)> = None;
        for (i, &scale) in scales.iter().enumerate() {
            let zero = zero_points.get(i).or(zero_points.first()).copied()?;
            let at = |code: i64| scale * (code - zero) as f64;
            let (lo, hi) = range.unwrap_or((at(low), at(high)));
            range = Some((lo.min(at(low)), hi.max(at(high))));
        }
        range
    }

    /// How many codes are at an end of their type. The code of 0 is none of them: what Relu gives
    /// stands at the lower end, and is what it should be.
    pub(super) fn saturated(&self, codes: &Tensor) -> u64 {
        let Some((low, high)) = ends(codes.dtype()) else {
            return 0;
        };
        let zero = match &self.zero_point {
            Some(t) => t.to_i64s().ok().and_then(|z| z.first().copied()),
            None => Some(0),
        };
        let is_end = |c: i64| (c == low || c == high) && Some(c) != zero;
        let bytes = codes.bytes();
        let count = match codes.dtype() {
            DType::U8 => bytes.iter().filter(|&&b| is_end(b.into())).count(),
            DType::I8 => bytes.iter().filter(|&&b| is_end((b as i8).into())).count(),
            _ => match codes.to_i64s() {
                Ok(codes) => codes.iter().filter(|&&c| is_end(c)).count(),
                Err(_) => 0,
            },
        };
        count as u64
    }
}

/// The ends of an integer type of codes.
pub(super) fn ends(dtype: DType) -> Option<(i64, i64)> {
    if !dtype.is_int() || dtype.bits() > 16 {
        return None;
    }
    let bits = dtype.bits();
    Some(if dtype.is_signed_int() {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_values() {
        let encoding = Encoding {
            scale: Tensor::vector(vec![0.5f32]),
            zero_point: Some(Tensor::scalar(10u8)),
            axis: 0,
            block_size: 0,
        };
        let values = Tensor::vector(vec![-10.0f32, 0.0, 1.2, 500.0]);
        let codes = encoding.quantize(&values, DType::U8).unwrap();
        assert_eq!(codes.to_i64s().unwrap(), [0, 10, 12, 255]);
        assert_eq!(encoding.saturated(&codes), 2);
        let of_relu = Encoding {
            zero_point: Some(Tensor::scalar(0u8)),
            ..encoding.clone()
        };
        assert_eq!(of_relu.saturated(&codes), 1);
        let back = encoding.dequantize(&codes).unwrap();
        assert_eq!(*back.as_slice::<f32>().unwrap(), [-5.0, 0.0, 1.0, 122.5]);
        assert_eq!(encoding.range(DType::U8), Some((-5.0, 122.5)));
    }

    #[test]
    fn a_scale_for_each_channel() {
        let encoding = Encoding {
            scale: Tensor::vector(vec![1.0f32, 2.0]),
            zero_point: None,
            axis: -1,
            block_size: 0,
        };
        let codes = Tensor::from_vec([2, 2].as_slice(), vec![1i8, 1, -128, 127]).unwrap();
        let values = encoding.dequantize(&codes).unwrap();
        assert_eq!(
            *values.as_slice::<f32>().unwrap(),
            [1.0, 2.0, -128.0, 254.0]
        );
        assert_eq!(encoding.range(DType::I8), Some((-256.0, 254.0)));
        assert_eq!(ends(DType::I4), Some((-8, 7)));
        assert_eq!(ends(DType::I32), None);
    }
}
