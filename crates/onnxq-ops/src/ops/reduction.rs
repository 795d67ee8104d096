//! Reductions over axes, and the positions of extremes.
//!
//! The axes were an attribute and became an operand at opset 13 (ReduceSum) or 18. No axes means
//! all, or with `noop_with_empty_axes` none: what is done to each element, and to the sum, is done
//! even then.

use crate::Operator;

mod arg;
mod axes;
mod reduce;

use reduce::{Kind, Reduce};

const fn reduce(name: &'static str, since: &'static [i64], kind: Kind) -> Reduce {
    Reduce { name, since, kind }
}

pub(super) static OPERATORS: &[&dyn Operator] = &[
    &arg::Arg {
        name: "ArgMax",
        largest: true,
    },
    &arg::Arg {
        name: "ArgMin",
        largest: false,
    },
    &reduce("ReduceL1", &[1, 11, 13, 18], Kind::L1),
    &reduce("ReduceL2", &[1, 11, 13, 18], Kind::L2),
    &reduce("ReduceLogSum", &[1, 11, 13, 18, 28], Kind::LogSum),
    &reduce("ReduceLogSumExp", &[1, 11, 13, 18, 28], Kind::LogSumExp),
    &reduce("ReduceMax", &[1, 11, 12, 13, 18, 20], Kind::Max),
    &reduce("ReduceMean", &[1, 11, 13, 18], Kind::Mean),
    &reduce("ReduceMin", &[1, 11, 12, 13, 18, 20], Kind::Min),
    &reduce("ReduceProd", &[1, 11, 13, 18], Kind::Prod),
    &reduce("ReduceSum", &[1, 11, 13], Kind::Sum),
    &reduce("ReduceSumSquare", &[1, 11, 13, 18], Kind::SumSquare),
];
