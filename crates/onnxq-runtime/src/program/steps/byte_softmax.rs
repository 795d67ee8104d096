//! Softmax of codes to codes, as QLinearSoftmax does it.

use onnxq_ir::{NodeId, Op};
use onnxq_kernels::{ByteSoftmax, Cpu};
use onnxq_ops::EvalError;

use super::{Kernel, elementwise::Quantization};
use crate::program::{
    call::Call,
    lower::{Layout, Lowering},
    source::{Code, Written, record},
};

struct Softmax {
    table: Box<[f32; 256]>,
    factor: f32,
    zero: i32,
    signed: bool,
    width: usize,
    len: usize,
}

/// QLinearSoftmax along the last axis, or along all from one on.
pub(super) fn softmax(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let home = lowering.plain(lowering.graph.operand(n, 0)?)?;
    let from = Quantization::of(lowering, n, 1)?.from(home.dtype)?;
    let to = Quantization::of(lowering, n, 3)?;
    let rank = home.dims.len() as i64;
    // Before version 13 all axes from `axis` on were one.
    let old = op.int("opset", 13) < 13;
    let axis = op.int("axis", if old { 1 } else { -1 });
    let axis = if axis < 0 {
        axis.checked_add(rank)?
    } else {
        axis
    };
    let axis = usize::try_from(axis)
        .ok()
        .filter(|&axis| axis < home.dims.len())?;
    let width: usize = home.dims[axis..].iter().product();
    let fits = home.len() > 0 && (old || width == home.dims[axis]);
    fits.then_some(())?;
    let kernel = Softmax {
        table: table(from.scale, width),
        factor: (1.0 / to.scale).floor(),
        zero: to.zero,
        signed: from.signed,
        width,
        len: home.len(),
    };
    lowering.push_node(n, Box::new(kernel), &[home.place], Layout::Plain)
}

/// Exponentials of the distances to the largest element, the last being that of zero, scaled so
/// that the sum of `width` of them stays finite; as the operator defines them.
fn table(scale: f32, width: usize) -> Box<[f32; 256]> {
    const RESERVE: f64 = 5.0;
    let room = (f64::from(f32::MAX / width as f32).ln() - RESERVE).max(0.0);
    let exp = |i: usize| ((i as f64 - 255.0) * f64::from(scale) + room).exp() as f32;
    Box::new(std::array::from_fn(exp))
}

impl Kernel for Softmax {
    fn name(&self, _: Cpu) -> String {
        "softmax of codes".to_owned()
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y, cpu) = (call.bytes(0), call.result(0), call.cpu);
        let by = ByteSoftmax {
            table: &self.table,
            factor: self.factor,
            zero: self.zero,
            signed: self.signed,
        };
        call.threads
            .spread(&mut y[..self.len], self.width, |at, y| {
                by.run(cpu, &x[at..][..y.len()], self.width, y);
            });
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        code.operand(0, "x", "u8");
        code.result(0, "y", "u8");
        let softmax = record!(ByteSoftmax {
            table: code.float_table(&self.table),
            factor: self.factor,
            zero: self.zero,
            signed: self.signed,
        });
        code.bind("softmax", softmax);
        let (cpu, len, width) = (code.cpu(), self.len, self.width);
        let (x, y) = (format!("&x[..{len}]"), format!("&mut y[..{len}]"));
        code.call("softmax.run", vec![cpu, x.into(), width.into(), y.into()]);
        Ok(())
    }
}
