//! Convolutions as products.

use onnxq_kernels::{Cpu, bytes_mut};
use onnxq_ops::EvalError;

use super::{Codes, Shape};
use crate::program::{
    call::Call,
    steps::{
        Kernel,
        product::{Finish, PackedWeights, Rows, Task, task_scratch},
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

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.bytes(0), call.result(0));
        let other = match self.codes.added {
            Some(added) => call.bytes(added.operand),
            None => &[],
        };
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
                let other = other.get(at..).unwrap_or_default();
                task.run(call, scratch, Rows::Bytes(part), other);
            }
        }
        Ok(())
    }
}
