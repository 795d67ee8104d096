//! Convolutions as products.

use onnxq_kernels::{Cpu, Geometry, bytes_mut};
use onnxq_ops::EvalError;

use super::{Codes, write_images};
use crate::program::{
    call::Call,
    source::{Code, Expr, Written},
    steps::{
        Kernel,
        padding::{Copied, Operand, Padding},
        product::{
            Finish, PackedWeights, Rows, Task, image_task_scratch, product_name, task_scratch,
            write_product, write_requantize, write_run,
        },
    },
};

/// A convolution to codes: of each image, one or more products.
pub(super) struct Dense {
    /// For a profile.
    pub(super) what: String,
    pub(super) operations: u64,
    pub(super) images: usize,
    /// Elements of one image of the result.
    pub(super) y_len: usize,
    pub(super) padding: Padding,
    pub(super) signed: bool,
    /// The zero point of the operand: what stands in the padding.
    pub(super) zero: u8,
    pub(super) parts: Vec<Part>,
    pub(super) codes: Codes,
}

/// One product: the channels of one group, or every so many pixels.
pub(super) struct Part {
    /// Where the first row is in the padded image, in bytes.
    pub(super) left: usize,
    pub(super) geometry: Geometry,
    pub(super) weights: PackedWeights,
    pub(super) offset: Vec<i32>,
    pub(super) zero: Vec<i32>,
    pub(super) scale: Vec<f32>,
    /// Where the first row of the result is, in elements.
    pub(super) start: usize,
    /// Elements of the result from run to run and from row to row.
    pub(super) strides: [usize; 2],
}

impl Dense {
    /// How the only product reads a padded copy, if that is what it does. Several ones share a copy.
    fn copied(&self) -> Option<Copied<'_>> {
        match &self.parts[..] {
            [part] if !self.padding.in_place() => Some(Copied {
                padding: &self.padding,
                start: part.left,
            }),
            _ => None,
        }
    }
}

impl Kernel for Dense {
    fn name(&self, cpu: Cpu) -> String {
        product_name(&self.what, self.signed, cpu)
    }

    fn operations(&self) -> u64 {
        self.operations
    }

    fn scratch(&self, threads: usize) -> usize {
        if let (Some(copy), [part]) = (self.copied(), &self.parts[..]) {
            return image_task_scratch(&part.weights, &part.geometry, copy, threads);
        }
        let products = self
            .parts
            .iter()
            .map(|part| task_scratch(&part.weights, threads));
        self.padding.lines() + products.max().unwrap_or(0)
    }

    fn overwritable(&mut self) -> Option<&mut Option<usize>> {
        self.codes.added.as_mut()?.overwritable()
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.bytes(0), call.result(0));
        let other = self.codes.added.and_then(|added| added.operand);
        let other = other.map(|operand| call.bytes(operand));
        let scratch = std::mem::take(&mut call.scratch);
        let copied = self.copied();
        let lines = match copied {
            Some(_) => 0,
            None => self.padding.lines(),
        };
        let (padded, scratch) = scratch.split_at_mut(lines);
        let (padded, x_len) = (bytes_mut(padded), self.padding.len());
        for i in 0..self.images {
            let x = &x[i * x_len..];
            let left = match copied {
                Some(_) => x,
                None => self.padding.of(x, self.zero, padded),
            };
            let y = &mut y[i * self.y_len..(i + 1) * self.y_len];
            for part in &self.parts {
                let task = Task {
                    weights: &part.weights,
                    left: match copied {
                        Some(copy) => Operand::Image {
                            image: x,
                            value: self.zero,
                            copy,
                        },
                        None => Operand::Bytes(&left[part.left..]),
                    },
                    signed: self.signed,
                    geometry: part.geometry,
                    strides: part.strides,
                    offset: &part.offset,
                    zero: &part.zero,
                    finish: Finish::Bytes {
                        scale: &part.scale,
                        zero: self.codes.zero,
                        bounds: self.codes.bounds,
                        added: self.codes.added,
                    },
                };
                let at = i * self.y_len + part.start;
                let other = other.map(|other| other.get(at..).unwrap_or_default());
                task.run(call, scratch, Rows::Bytes(&mut y[part.start..]), other);
            }
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let codes = &self.codes;
        code.operand(0, "x", "u8");
        let other = codes.added.and_then(|added| added.operand);
        if let Some(operand) = other {
            code.operand(operand, "other", "u8");
        }
        code.result(0, "y", "u8");
        let lens = [self.padding.len(), self.y_len];
        write_images(code, self.images, lens, other.is_some(), |code| {
            let left = self.padding.write(code, self.zero);
            for part in &self.parts {
                let right = part.weights.write(code);
                let (offset, zero) = (code.integers(&part.offset), code.integers(&part.zero));
                write_product(
                    code,
                    slice_from(left, "&", part.left),
                    self.signed,
                    &part.geometry,
                    right,
                    part.strides,
                    offset,
                    zero,
                );
                let other = Expr::from(slice_from("other", "&", part.start));
                let added = codes.added.map(|added| (added, other));
                write_requantize(code, &part.scale, codes.zero, codes.bounds, added);
                let y = slice_from("y", "&mut ", part.start);
                write_run(code, &format!("Output::Bytes({y}, requantize)"));
            }
        });
        Ok(())
    }
}

/// A slice from an element on.
pub(super) fn slice_from(slice: &str, reference: &str, start: usize) -> String {
    match start {
        0 => slice.to_owned(),
        start => format!("{reference}{slice}[{start}..]"),
    }
}
