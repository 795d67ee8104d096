//! Convolutions as products.

use onnxq_kernels::{Cpu, bytes_mut};
use onnxq_ops::EvalError;

use super::{Codes, Shape};
use crate::program::{
    call::Call,
    source::{Code, Expr, Written},
    steps::{
        Kernel,
        product::{
            Finish, PackedWeights, Rows, Task, task_scratch, write_product, write_requantize,
            write_run,
        },
    },
};

/// A convolution to codes.
pub(super) struct Dense {
    pub(super) shape: Shape,
    pub(super) signed: bool,
    /// The zero point of the operand: what stands in the padding.
    pub(super) padding: u8,
    pub(super) groups: Vec<Group>,
    pub(super) codes: Codes,
}

/// The weights of one group.
pub(super) struct Group {
    pub(super) weights: PackedWeights,
    pub(super) offset: Vec<i32>,
    pub(super) zero: Vec<i32>,
}

impl Kernel for Dense {
    fn name(&self, cpu: Cpu) -> String {
        self.codes.name(&self.shape, self.signed, cpu)
    }

    fn operations(&self) -> u64 {
        self.shape.operations()
    }

    fn scratch(&self, threads: usize) -> usize {
        let products = self
            .groups
            .iter()
            .map(|g| task_scratch(&g.weights, threads));
        self.shape.padded_lines() + products.max().unwrap_or(0)
    }

    fn overwritable(&mut self) -> Option<&mut Option<usize>> {
        self.codes.added.as_mut()?.overwritable()
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.bytes(0), call.result(0));
        let other = self.codes.added.and_then(|added| added.operand);
        let other = other.map(|operand| call.bytes(operand));
        let scratch = std::mem::take(&mut call.scratch);
        let shape = &self.shape;
        let (padded, scratch) = scratch.split_at_mut(shape.padded_lines());
        let padded = bytes_mut(padded);
        let [x_len, y_len] = shape.image_lens();
        let geometry = shape.geometry();
        let each = shape.outputs / shape.groups;
        for i in 0..shape.images {
            let mut left = &x[i * x_len..];
            if !shape.in_place() {
                shape.pad(&left[..x_len], self.padding, padded);
                left = padded;
            }
            for (g, group) in self.groups.iter().enumerate() {
                let columns = g * each..(g + 1) * each;
                let task = Task {
                    weights: &group.weights,
                    left: &left[g * shape.channels / shape.groups..],
                    signed: self.signed,
                    geometry,
                    strides: [shape.window.output[1] * shape.outputs, shape.outputs],
                    offset: &group.offset,
                    zero: &group.zero,
                    finish: Finish::Bytes {
                        scale: &self.codes.scale[columns.clone()],
                        zero: self.codes.zero,
                        bounds: self.codes.bounds,
                        added: self.codes.added,
                    },
                };
                let at = i * y_len + columns.start;
                let part = &mut y[i * y_len..(i + 1) * y_len][columns.start..];
                let other = other.map(|other| other.get(at..).unwrap_or_default());
                task.run(call, scratch, Rows::Bytes(part), other);
            }
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let (shape, codes) = (&self.shape, &self.codes);
        code.operand(0, "x", "u8");
        let other = codes.added.and_then(|added| added.operand);
        if let Some(operand) = other {
            code.operand(operand, "other", "u8");
        }
        code.result(0, "y", "u8");
        shape.write_images(code, other.is_some(), |code| {
            let mut left = "x";
            if !shape.in_place() {
                let [x_len, _] = shape.image_lens();
                shape.write_pad(code, &format!("&x[..{x_len}]"), self.padding);
                left = "left";
            }
            let each = shape.outputs / shape.groups;
            for (g, group) in self.groups.iter().enumerate() {
                let columns = g * each..(g + 1) * each;
                let left = part(left, "&", g * shape.channels / shape.groups);
                let right = group.weights.write(code);
                let (offset, zero) = (code.integers(&group.offset), code.integers(&group.zero));
                let strides = [shape.window.output[1] * shape.outputs, shape.outputs];
                let geometry = shape.geometry();
                write_product(
                    code,
                    left,
                    self.signed,
                    &geometry,
                    right,
                    strides,
                    offset,
                    zero,
                );
                let other = Expr::from(part("other", "&", columns.start));
                let scale = &codes.scale[columns.clone()];
                let added = codes.added.map(|added| (added, other));
                write_requantize(code, scale, codes.zero, codes.bounds, added);
                let y = part("y", "&mut ", columns.start);
                write_run(code, &format!("Output::Bytes({y}, requantize)"));
            }
        });
        Ok(())
    }
}

/// A slice from an element on.
pub(super) fn part(slice: &str, reference: &str, start: usize) -> String {
    match start {
        0 => slice.to_owned(),
        start => format!("{reference}{slice}[{start}..]"),
    }
}
