//! What the lowerings look for: dequantized activations and weights.

use std::{cell::RefCell, collections::HashMap};

use onnxq_ir::{NodeKind, Value, ValueId, def::Literal};
use onnxq_pass::Rewriter;
use onnxq_tensor::{DType, Dims, Tensor};

use crate::quantize::{FUNCTION, FUNCTION_DOMAIN};

/// The domain of the operators of ONNX Runtime.
pub(super) const MICROSOFT: &str = "com.microsoft";

/// A value that is quantized while the model runs, with one scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Activation {
    /// What is quantized.
    pub(super) source: ValueId,
    pub(super) codes: ValueId,
    pub(super) scale: ValueId,
    pub(super) zero_point: ValueId,
    /// The type of the codes.
    pub(super) qtype: DType,
    /// The float type it is dequantized to.
    pub(super) dtype: DType,
}

/// `v`, if it is `DequantizeLinear(codes, scale, zero_point)` with parameters that the model
/// computes from what it quantizes.
pub(super) fn activation(rw: &Rewriter<'_>, v: ValueId) -> Option<Activation> {
    let (dequantized, dtype) = match rw.producer(v, "Cast") {
        Some(cast) => {
            let dtype = DType::from_onnx(rw.attr_int(cast, "to", 0) as i32)?;
            (rw.operand(cast, 0)?, dtype)
        }
        None => (v, DType::F32),
    };
    let n = rw.producer(dequantized, "DequantizeLinear")?;
    let [codes, scale, zero_point] = [rw.operand(n, 0)?, rw.operand(n, 1)?, rw.operand(n, 2)?];
    if scale.node != zero_point.node {
        return None;
    }
    let mut source = rw.operand(codes.node, 0)?;
    let qtype = if rw.is(scale.node, "DynamicQuantizeLinear").is_some() {
        (codes.node == scale.node).then_some(DType::U8)?
    } else {
        rw.is_in(scale.node, FUNCTION_DOMAIN, FUNCTION)?;
        let quantize = rw.producer(codes, "QuantizeLinear")?;
        let same =
            rw.operand(quantize, 1) == Some(scale) && rw.operand(quantize, 2) == Some(zero_point);
        same.then_some(())?;
        DType::from_onnx(rw.attr_int(scale.node, "to", 0) as i32)?
    };
    // The way from float16 and back.
    if dtype != DType::F32 {
        source = rw.operand(rw.producer(source, "Cast")?, 0)?;
    }
    Some(Activation {
        source,
        codes,
        scale,
        zero_point,
        qtype,
        dtype,
    })
}

/// A constant in codes of 8 bits.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    pub(super) codes: ValueId,
    pub(super) scale: ValueId,
    /// Left out where it is 0.
    pub(super) zero_point: Option<ValueId>,
    /// The operand, also where it is 0.
    pub(super) zero_operand: Option<ValueId>,
    pub(super) tensor: Tensor,
    pub(super) scales: Tensor,
    pub(super) zero_points: Option<Tensor>,
    /// The axis along which scales differ; `None` where there is one for all.
    pub(super) axis: Option<usize>,
}

/// `v`, if it is `DequantizeLinear` of constants with codes of 8 bits.
pub(super) fn weight(rw: &Rewriter<'_>, v: ValueId) -> Option<Weight> {
    let n = rw.producer(v, "DequantizeLinear")?;
    let (codes, scale) = (rw.operand(n, 0)?, rw.operand(n, 1)?);
    let (tensor, scales) = (rw.constant(codes)?, rw.constant(scale)?);
    let float = matches!(scales.dtype(), DType::F32 | DType::F16);
    let eight_bits = matches!(tensor.dtype(), DType::I8 | DType::U8);
    if !eight_bits || !float || rw.attr_int(n, "block_size", 0) != 0 {
        return None;
    }
    let zero_operand = rw.operand(n, 2);
    let mut zero_point = zero_operand;
    let mut zero_points = None;
    if let Some(v) = zero_point {
        let tensor = rw.constant(v)?;
        if tensor.bytes().iter().all(|&z| z == 0) {
            zero_point = None;
        } else {
            zero_points = Some(tensor);
        }
    }
    let rank = tensor.rank() as i64;
    let axis = match scales.rank() {
        0 => None,
        1 => {
            let axis = rw.attr_int(n, "axis", 1);
            let axis = if axis < 0 { axis + rank } else { axis };
            Some(usize::try_from(axis).ok().filter(|&a| a < tensor.rank())?)
        }
        _ => return None,
    };
    Some(Weight {
        codes,
        scale,
        zero_point,
        zero_operand,
        tensor,
        scales,
        zero_points,
        axis,
    })
}

/// Constants made of others, so that regions that share one share what is made of it.
#[derive(Default)]
pub(super) struct Derived {
    tensors: RefCell<HashMap<(usize, usize), Tensor>>,
}

impl Derived {
    /// The tensor that `make` makes of `source`, made once.
    pub(super) fn tensor(
        &self,
        source: &Tensor,
        make: impl FnOnce() -> Option<Tensor>,
    ) -> Option<Tensor> {
        let bytes = source.bytes().as_ptr_range();
        let key = (bytes.start as usize, bytes.end as usize);
        if let Some(tensor) = self.tensors.borrow().get(&key) {
            return Some(tensor.clone());
        }
        let made = make()?;
        self.tensors.borrow_mut().insert(key, made.clone());
        Some(made)
    }
}

/// Adds a constant that takes the place of the constant `old`, with its name.
pub(super) fn insert_like(rw: &mut Rewriter<'_>, old: ValueId, tensor: Tensor) -> ValueId {
    let name = rw.name(old).to_owned();
    let sunk = match &rw.graph().node(old.node).kind {
        NodeKind::Constant(c) => c.sunk,
        _ => false,
    };
    let value = Value::new(name, None);
    rw.graph_mut(old.node)
        .add_literal(value, Literal::Dense(tensor), sunk)
}

/// The last two dimensions of a tensor of bytes swapped.
pub(super) fn transpose(tensor: &Tensor) -> Option<Tensor> {
    let (outer, last) = tensor
        .dims()
        .split_at_checked(tensor.rank().checked_sub(2)?)?;
    let &[rows, columns] = last else { return None };
    let from = tensor.bytes();
    let mut to = vec![0u8; from.len()];
    if !from.is_empty() {
        let matrices = from.chunks(rows * columns);
        for (from, to) in matrices.zip(to.chunks_mut(rows * columns)) {
            transpose_matrix(from, to, columns);
        }
    }
    let dims: Dims = outer.iter().copied().chain([columns, rows]).collect();
    Tensor::new(tensor.dtype(), dims, to).ok()
}

/// Transposes rows of `columns` bytes, in tiles whose lines stay in the cache.
fn transpose_matrix(from: &[u8], to: &mut [u8], columns: usize) {
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
