//! The operators on codes: which float operator each one is, and where its operands are.

use onnxq_ir::{NodeId, Op};
use onnxq_pass::Rewriter;
use onnxq_tensor::Tensor;

use super::{super::pattern::MICROSOFT, ints};

/// An operator on codes.
pub(super) struct Record {
    pub(super) domain: &'static str,
    pub(super) op_type: &'static str,
    /// The operator on floats.
    pub(super) float: &'static str,
    /// Its operands.
    pub(super) operands: &'static [Operand],
    /// Where scale and zero point of the result are; `None` where that is float.
    pub(super) result: Option<[usize; 2]>,
    /// Where a float to be added to the result is.
    pub(super) addend: Option<usize>,
    /// Makes the float operation.
    pub(super) build: fn(&mut Rewriter<'_>, NodeId, &str) -> Option<Built>,
}

/// An operand of the float operator, and where it is.
#[derive(Clone, Copy)]
pub(super) enum Operand {
    /// Codes, their scale and zero point, and the axis along which those may differ.
    Codes([usize; 3], Axis),
    /// Codes with one scale and zero point each, from here to the last.
    Rest(usize),
    /// `int32` codes in units of the product of the scales of the first two operands.
    Bias(usize),
    /// A float that is quantized while the model runs.
    Dynamic(usize),
    /// Not in codes.
    Plain(usize),
}

/// What parameters may differ along.
#[derive(Clone, Copy)]
pub(super) enum Axis {
    /// Nothing.
    None,
    /// The rows of the left factor.
    Rows,
    /// The columns of the right factor.
    Columns,
    /// The output channels of the weight of a convolution.
    Channels,
    /// The columns of the right factor of Gemm.
    GemmColumns,
}

impl Axis {
    pub(super) fn of(self, rw: &Rewriter<'_>, n: NodeId) -> Option<i64> {
        match self {
            Axis::None => None,
            Axis::Rows => Some(-2),
            Axis::Columns => Some(-1),
            Axis::Channels => Some(0),
            Axis::GemmColumns => Some(i64::from(rw.attr_int(n, "transB", 0) == 0)),
        }
    }
}

/// The float operation.
pub(super) struct Built {
    pub(super) op: Op,
    /// A constant that is its last operand.
    pub(super) last: Option<Tensor>,
    /// The opset that it needs.
    pub(super) least: i64,
}

const PLAIN: Record = Record {
    domain: MICROSOFT,
    op_type: "",
    float: "",
    operands: &[],
    result: None,
    addend: None,
    build: same_attributes,
};

/// One operand with its parameters, then those of the result.
const UNARY: Record = Record {
    operands: &[Operand::Codes([0, 1, 2], Axis::None)],
    result: Some([3, 4]),
    ..PLAIN
};

const BINARY: Record = Record {
    operands: &[
        Operand::Codes([0, 1, 2], Axis::None),
        Operand::Codes([3, 4, 5], Axis::None),
    ],
    result: Some([6, 7]),
    ..PLAIN
};

const CONV: Record = Record {
    op_type: "QLinearConv",
    float: "Conv",
    operands: &[
        Operand::Codes([0, 1, 2], Axis::None),
        Operand::Codes([3, 4, 5], Axis::Channels),
        Operand::Bias(8),
    ],
    result: Some([6, 7]),
    ..PLAIN
};

const MATMUL: Record = Record {
    op_type: "QLinearMatMul",
    float: "MatMul",
    operands: &[
        Operand::Codes([0, 1, 2], Axis::Rows),
        Operand::Codes([3, 4, 5], Axis::Columns),
    ],
    result: Some([6, 7]),
    ..PLAIN
};

/// Every operator on codes but those of [`sums`](super::sums).
pub(super) const RECORDS: &[Record] = &[
    Record { domain: "", ..CONV },
    CONV,
    Record {
        domain: "",
        ..MATMUL
    },
    MATMUL,
    Record {
        op_type: "QGemm",
        float: "Gemm",
        operands: &[
            Operand::Codes([0, 1, 2], Axis::None),
            Operand::Codes([3, 4, 5], Axis::GemmColumns),
            Operand::Bias(6),
        ],
        result: Some([7, 8]),
        build: gemm,
        ..PLAIN
    },
    Record {
        op_type: "MatMulIntegerToFloat",
        float: "MatMul",
        operands: &[
            Operand::Codes([0, 2, 4], Axis::Rows),
            Operand::Codes([1, 3, 5], Axis::Columns),
        ],
        addend: Some(6),
        ..PLAIN
    },
    Record {
        op_type: "DynamicQuantizeMatMul",
        float: "MatMul",
        operands: &[
            Operand::Dynamic(0),
            Operand::Codes([1, 2, 3], Axis::Columns),
        ],
        addend: Some(4),
        ..PLAIN
    },
    Record {
        op_type: "QLinearAdd",
        float: "Add",
        ..BINARY
    },
    Record {
        op_type: "QLinearMul",
        float: "Mul",
        ..BINARY
    },
    Record {
        op_type: "QLinearSigmoid",
        float: "Sigmoid",
        ..UNARY
    },
    Record {
        op_type: "QLinearLeakyRelu",
        float: "LeakyRelu",
        ..UNARY
    },
    Record {
        op_type: "QLinearAveragePool",
        float: "AveragePool",
        ..UNARY
    },
    Record {
        op_type: "QLinearGlobalAveragePool",
        float: "GlobalAveragePool",
        ..UNARY
    },
    Record {
        op_type: "QLinearSoftmax",
        float: "Softmax",
        build: softmax,
        ..UNARY
    },
    Record {
        op_type: "QLinearReduceMean",
        float: "ReduceMean",
        build: reduce,
        ..UNARY
    },
    Record {
        op_type: "QLinearConcat",
        float: "Concat",
        operands: &[Operand::Rest(2)],
        result: Some([0, 1]),
        ..PLAIN
    },
    Record {
        op_type: "QLinearWhere",
        float: "Where",
        operands: &[
            Operand::Plain(0),
            Operand::Codes([1, 2, 3], Axis::None),
            Operand::Codes([4, 5, 6], Axis::None),
        ],
        result: Some([7, 8]),
        ..PLAIN
    },
];

/// The record of an operation, if it is in the table.
pub(super) fn find(op: &Op) -> Option<&'static Record> {
    let mut records = RECORDS.iter();
    records.find(|r| r.op_type == op.op_type && r.domain == op.domain)
}

/// The float operation with the attributes of that on codes.
fn same_attributes(rw: &mut Rewriter<'_>, n: NodeId, float: &str) -> Option<Built> {
    let mut attrs = rw.op(n)?.attrs.clone();
    attrs.shift_remove("channels_last");
    let op = Op {
        attrs,
        ..Op::new(float)
    };
    Some(Built {
        op,
        last: None,
        least: 10,
    })
}

/// Gemm, whose bias may be left out from opset 11 on.
fn gemm(rw: &mut Rewriter<'_>, n: NodeId, float: &str) -> Option<Built> {
    let least = match rw.operand(n, 6) {
        Some(_) => 10,
        None => 11,
    };
    let built = same_attributes(rw, n, float)?;
    Some(Built { least, ..built })
}

/// Softmax along one axis from opset 13 on, before it over all axes from one on.
///
/// The attribute `opset` says which of them is meant.
fn softmax(rw: &mut Rewriter<'_>, n: NodeId, float: &str) -> Option<Built> {
    let from_axis = rw.attr_int(n, "opset", 13) < 13;
    let axis = rw.attr_int(n, "axis", if from_axis { 1 } else { -1 });
    if from_axis && rw.opset() >= 13 {
        let rank = rw.shape(rw.operand(n, 0)?)?.len() as i64;
        if axis != -1 && axis + 1 != rank {
            rw.miss(
                n,
                "it takes several axes as one, which Softmax does not from opset 13 on",
            )?;
        }
    }
    Some(Built {
        op: Op::new(float).with("axis", axis),
        last: None,
        least: if from_axis { 10 } else { 13 },
    })
}

/// A reduction, which has its axes as an operand from opset 18 on.
fn reduce(rw: &mut Rewriter<'_>, n: NodeId, float: &str) -> Option<Built> {
    let mut built = same_attributes(rw, n, float)?;
    if rw.opset() >= 18 && built.op.attrs.shift_remove("axes").is_some() {
        built.last = Some(ints(&rw.attr_ints(n, "axes", &[])));
    }
    Some(built)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_told_apart_by_their_operator() {
        for (i, a) in RECORDS.iter().enumerate() {
            for b in &RECORDS[i + 1..] {
                let differ = (a.domain, a.op_type) != (b.domain, b.op_type);
                assert!(differ, "{}", a.op_type);
            }
        }
    }
}
