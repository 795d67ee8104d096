//! A tensor that is added to a requantized product, in the same step.

use onnxq_ir::NodeId;
use onnxq_kernels::{Residual, SumSteps, sum_steps};
use onnxq_tensor::DType;

use super::elementwise::{Quantization, byte_bounds};
use crate::program::{
    Place,
    lower::{Layout, Lowering},
    source::{Expr, record},
};

/// A tensor that is added to a requantized product, see [`Residual`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Added {
    /// Which operand of the step it is; `None` where the result has it before.
    pub(super) operand: Option<usize>,
    /// Whether it is one row, for all rows of the result.
    pub(super) row: bool,
    pub(super) signed: bool,
    pub(super) scales: [f32; 3],
    pub(super) zeros: [i32; 2],
    pub(super) bounds: [i32; 2],
    pub(super) steps: Option<SumSteps>,
}

impl Added {
    /// The same with the tensor.
    pub(super) fn residual<'a>(&self, data: Option<&'a [u8]>) -> Residual<'a> {
        Residual {
            data,
            row: self.row,
            signed: self.signed,
            scales: self.scales,
            zeros: self.zeros,
            bounds: self.bounds,
            steps: self.steps,
        }
    }

    /// See [`Kernel::overwritable`](super::Kernel::overwritable).
    pub(super) fn overwritable(&mut self) -> Option<&mut Option<usize>> {
        // Without steps the other tensor is read when the result has been written.
        (self.steps.is_some() && !self.row).then_some(&mut self.operand)
    }

    /// The same as source text. `other` is an expression for the slice, which is not asked for where the result has it.
    pub(super) fn write(&self, other: Expr) -> Expr {
        let some = |value| Expr::Call("Some".to_owned(), vec![value]);
        let steps = self.steps.map(|steps| {
            some(record!(SumSteps {
                factor: steps.factor,
                other_factor: steps.other_factor,
                start: steps.start,
            }))
        });
        let data = self.operand.map(|_| some(other));
        record!(Residual {
            data: data.unwrap_or_else(|| "None".into()),
            row: self.row,
            signed: self.signed,
            scales: self.scales,
            zeros: self.zeros,
            bounds: self.bounds,
            steps: steps.unwrap_or_else(|| "None".into()),
        })
    }
}

/// The QLinearAdd that alone uses the result of `n`, which is `product`, if its other operand is there already. The
/// layout is that of the result.
pub(super) fn following(
    lowering: &mut Lowering<'_>,
    n: NodeId,
    product: Quantization,
    layout: Layout,
) -> Option<(NodeId, Place, Added)> {
    let result = lowering.graph.result(n, 0);
    let (add, operand, op) = lowering.sole_user(result)?;
    let is_add = op.domain == "com.microsoft" && op.op_type == "QLinearAdd";
    if !is_add || !matches!(operand, 0 | 3) {
        return None;
    }
    let (of_product, of_other) = match operand {
        0 => (0, 3),
        _ => (3, 0),
    };
    let quantization = |at: usize| {
        Some(Quantization {
            scale: lowering.scalar(add, at + 1)?,
            zero: lowering.zero_point(add, at + 2)?,
        })
    };
    // The sum must take the product for what it is.
    let [first, other, sum] = [of_product, of_other, 5].map(quantization);
    let (first, other_of, sum) = (first?, other?, sum?);
    if first != product {
        return None;
    }
    let v = lowering.graph.operand(add, of_other)?;
    let (y_dtype, y_dims) = lowering.type_of(lowering.graph.result(add, 0))?;
    let bounds = byte_bounds(y_dtype)?;
    let home = lowering.home(v)?;
    let columns = match layout {
        Layout::Plain => *y_dims.last()?,
        Layout::ChannelsLast => *y_dims.get(1)?,
    };
    let row = layout == Layout::Plain
        && home.dims != y_dims
        && home.dims.last() == Some(&columns)
        && home.len() == columns
        && home.dims.len() <= y_dims.len();
    let same = (home.dims == y_dims || row) && lowering.type_of(result)?.1 == y_dims;
    byte_bounds(home.dtype).filter(|_| same)?;
    let other = match row {
        true => home.clone(),
        false => lowering.laid(v, layout)?,
    };
    let mut added = Added {
        operand: Some(1),
        row,
        signed: other.dtype == DType::I8,
        scales: [first.scale, other_of.scale, sum.scale],
        zeros: [other_of.zero, sum.zero],
        bounds,
        steps: None,
    };
    if is_wide(columns) {
        let of_product = byte_bounds(lowering.type_of(result)?.0)?;
        let cpu = lowering.options.cpu;
        added.steps = sum_steps(cpu, first.zero, of_product, &added.residual(None));
    }
    Some((add, other.place, added))
}

/// Sums in steps are made with the bytes, 64 columns at a time. Where much less is left for the last ones, it is faster to
/// add whole rows that follow on each other.
fn is_wide(columns: usize) -> bool {
    4 * columns >= 3 * columns.next_multiple_of(64)
}
