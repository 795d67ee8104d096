//! Scales and zero points, in the form that DequantizeLinear and QuantizeLinear take.

use onnxq_ir::{NodeId, Op, Value, ValueId};
use onnxq_pass::Rewriter;
use onnxq_tensor::{DType, Dims, Tensor};

use super::{super::pattern::insert_like, codes::stem, shared::Shared};

/// A parameter as DequantizeLinear takes it.
#[derive(Clone)]
enum Origin {
    /// As it is.
    Given(ValueId),
    /// This tensor instead of the constant.
    Instead(ValueId, Tensor),
}

/// How many a parameter has.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Count {
    One,
    /// One for each index on an axis; how many, where that is known.
    Axis(Option<usize>),
}

/// A scale or a zero point.
#[derive(Clone)]
pub(super) struct Parameter {
    value: Origin,
    pub(super) count: Count,
}

impl Parameter {
    /// `v`, a scalar or a vector.
    pub(super) fn of(rw: &Rewriter<'_>, v: ValueId) -> Option<Parameter> {
        let count = match rw.shape(v)?.as_slice() {
            [] => Count::One,
            [n] => match n.as_const() {
                Some(1) => Count::One,
                n => Count::Axis(n.and_then(|n| usize::try_from(n).ok())),
            },
            _ => return Parameter::of_columns(rw, v),
        };
        Some(Parameter {
            value: Origin::Given(v),
            count,
        })
    }

    /// The constant `v` with dimensions `[..., 1, N]`, if it is the same for every matrix.
    fn of_columns(rw: &Rewriter<'_>, v: ValueId) -> Option<Parameter> {
        let tensor = rw.constant(v)?;
        let &[.., 1, columns] = tensor.dims() else {
            return None;
        };
        let row = tensor
            .bytes()
            .get(..tensor.byte_len() / tensor.len().max(1) * columns)?;
        let same = !row.is_empty() && tensor.bytes().chunks(row.len()).all(|other| other == row);
        same.then_some(())?;
        Parameter::instead(v, &tensor, columns, row)
    }

    /// The constant `v`, with an element for each of `channels`, after which `after` dimensions
    /// follow.
    pub(super) fn of_channels(rw: &Rewriter<'_>, v: ValueId, after: usize) -> Option<Parameter> {
        let tensor = rw.constant(v)?;
        let at = tensor.rank().checked_sub(after + 1)?;
        let channels = tensor.dims()[at];
        (tensor.len() == channels).then_some(())?;
        Parameter::instead(v, &tensor, channels, tensor.bytes())
    }

    fn instead(v: ValueId, tensor: &Tensor, len: usize, bytes: &[u8]) -> Option<Parameter> {
        let (dims, count) = match len {
            1 => (Dims::new(), Count::One),
            _ => (Dims::from_elem(len, 1), Count::Axis(Some(len))),
        };
        let tensor = Tensor::new(tensor.dtype(), dims, bytes.to_vec()).ok()?;
        Some(Parameter {
            value: Origin::Instead(v, tensor),
            count,
        })
    }

    /// The same for each of `len`, if it is constant.
    fn repeated(&self, rw: &Rewriter<'_>, len: Option<usize>) -> Option<Parameter> {
        /// No axis of a weight is longer.
        const MOST: usize = 1 << 24;
        let len = len.filter(|&len| len <= MOST)?;
        let tensor = self.constant(rw)?;
        Parameter::instead(self.source(), &tensor, len, &tensor.bytes().repeat(len))
    }

    pub(super) fn source(&self) -> ValueId {
        match self.value {
            Origin::Given(v) | Origin::Instead(v, _) => v,
        }
    }

    pub(super) fn is_one(&self) -> bool {
        self.count == Count::One
    }

    pub(super) fn constant(&self, rw: &Rewriter<'_>) -> Option<Tensor> {
        match &self.value {
            Origin::Given(v) => rw.constant(*v),
            Origin::Instead(_, tensor) => Some(tensor.clone()),
        }
    }

    fn insert(&self, rw: &mut Rewriter<'_>) -> ValueId {
        match &self.value {
            Origin::Given(v) => *v,
            Origin::Instead(v, tensor) => insert_like(rw, *v, tensor.clone()),
        }
    }
}

/// Scale and zero point.
#[derive(Clone)]
pub(super) struct Parameters {
    pub(super) scale: Parameter,
    pub(super) zero: Option<Parameter>,
    /// A zero point that is left out and must not be.
    new_zero: Option<Tensor>,
    /// The axis along which they differ.
    pub(super) axis: Option<i64>,
}

impl Parameters {
    /// `scale` and `zero`, which may differ along `axis`.
    pub(super) fn of(
        rw: &mut Rewriter<'_>,
        n: NodeId,
        scale: ValueId,
        zero: Option<ValueId>,
        axis: Option<i64>,
    ) -> Option<Parameters> {
        let (Some(scale), None | Some(Some(_))) = (
            Parameter::of(rw, scale),
            zero.map(|zero| Parameter::of(rw, zero)),
        ) else {
            rw.miss(n, "how many scales and zero points there are is not known")?;
            return None;
        };
        let zero = zero.and_then(|zero| Parameter::of(rw, zero));
        Parameters::new(rw, n, scale, zero, axis)
    }

    /// `scale` and `zero`, as many of the one as of the other.
    pub(super) fn new(
        rw: &mut Rewriter<'_>,
        n: NodeId,
        scale: Parameter,
        zero: Option<Parameter>,
        axis: Option<i64>,
    ) -> Option<Parameters> {
        let zeros = zero.as_ref().map(|zero| zero.count);
        let given = |scale, zero| {
            Some(Parameters {
                scale,
                zero,
                new_zero: None,
                axis,
            })
        };
        if scale.is_one() && zeros.is_none_or(|zeros| zeros == Count::One) {
            return Some(Parameters {
                scale,
                zero,
                new_zero: None,
                axis: None,
            });
        }
        if axis.is_none() {
            rw.miss(n, "there is more than one scale or zero point")?;
        }
        match (scale.count, &zero) {
            (Count::Axis(len), Some(one)) if one.is_one() => {
                let tensor = one.constant(rw)?;
                match tensor.bytes().iter().all(|&b| b == 0) {
                    true => given(scale, None),
                    false => {
                        let zero = one.repeated(rw, len)?;
                        given(scale, Some(zero))
                    }
                }
            }
            (
                Count::One,
                Some(Parameter {
                    count: Count::Axis(len),
                    ..
                }),
            ) => {
                let scale = scale.repeated(rw, *len)?;
                given(scale, zero)
            }
            _ => given(scale, zero),
        }
    }

    /// Those of the result of `n`.
    pub(super) fn of_result(
        rw: &mut Rewriter<'_>,
        n: NodeId,
        [scale, zero]: [usize; 2],
    ) -> Option<Parameters> {
        let (scale, zero) = (rw.operand(n, scale)?, rw.operand(n, zero));
        let mut parameters = Parameters::of(rw, n, scale, zero, Some(-2))?;
        if parameters.zero.is_none() {
            // It says of which type the codes are.
            let dtype = rw.dtype(rw.result(n, 0))?;
            if dtype != DType::U8 {
                let dims = match parameters.scale.count {
                    Count::One => Dims::new(),
                    Count::Axis(len) => Dims::from_elem(len?, 1),
                };
                parameters.new_zero = Some(Tensor::zeros(dtype, dims).ok()?);
            }
        }
        Some(parameters)
    }

    /// The opset that DequantizeLinear and QuantizeLinear need.
    pub(super) fn least(&self, rw: &Rewriter<'_>) -> i64 {
        match (self.axis, rw.dtype(self.scale.source())) {
            (_, Some(DType::F16 | DType::BF16)) => 19,
            (Some(_), _) => 13,
            _ => 10,
        }
    }

    pub(super) fn operation(&self, op_type: &str) -> Op {
        let op = Op::new(op_type);
        match self.axis {
            Some(axis) => op.with("axis", axis),
            None => op,
        }
    }

    pub(super) fn operands(&self, rw: &mut Rewriter<'_>, v: ValueId) -> Vec<Option<ValueId>> {
        let scale = self.scale.insert(rw);
        let zero = self.zero.as_ref().map(|zero| zero.insert(rw));
        let mut operands = vec![Some(v), Some(scale)];
        operands.extend(zero.map(Some));
        operands
    }

    /// Quantizes `real`; gives the codes, with the name and the type of `codes`.
    pub(super) fn quantize(
        self,
        rw: &mut Rewriter<'_>,
        real: ValueId,
        codes: Value,
        shared: &Shared,
    ) -> ValueId {
        let stem = stem(&codes.name, "_quantized").to_owned();
        let name = shared.name(rw.graph(), format!("{stem}_QuantizeLinear"));
        let mut operands = self.operands(rw, real);
        if let Some(zero) = &self.new_zero {
            let zero = rw.insert_constant(format!("{stem}_zero_point"), zero.clone());
            operands.push(Some(zero));
        }
        let n = rw.insert_node(name, self.operation("QuantizeLinear"), &operands, [codes]);
        rw.result(n, 0)
    }
}
