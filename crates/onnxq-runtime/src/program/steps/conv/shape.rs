//! The sizes of a convolution, and how the rows of its product lie in the operand.

use onnxq_ir::Op;
use onnxq_kernels::{Geometry, Weights, product_steps};
use onnxq_tensor::Tensor;

use crate::{
    plan::{Window, Window2},
    program::{lower::Home, steps::padding::Padding},
};

/// A convolution with all its sizes.
pub(super) struct Shape {
    pub(super) window: Window2,
    pub(super) images: usize,
    /// Channels in all, of the operand and of the result.
    pub(super) channels: usize,
    pub(super) outputs: usize,
    pub(super) groups: usize,
}

impl Shape {
    /// The sizes of a node with these operands, if it is an ordinary one.
    pub(super) fn of(op: &Op, x: &Home, w: &Tensor) -> Option<Shape> {
        let groups = usize::try_from(op.int("group", 1))
            .ok()
            .filter(|&g| g > 0)?;
        let rank = x.dims.len();
        let fits = (3..=4).contains(&rank)
            && w.rank() == rank
            && !w.dims().contains(&0)
            && !x.dims.contains(&0)
            && w.dims()[0].is_multiple_of(groups)
            && w.dims()[1].checked_mul(groups) == Some(x.dims[1]);
        let window = Window::of(op).filter(|_| fits)?;
        Some(Shape {
            window: window.place(&x.dims[2..], Some(&w.dims()[2..]))?,
            images: x.dims[0],
            channels: x.dims[1],
            outputs: w.dims()[0],
            groups,
        })
    }

    /// Whether each channel is alone.
    pub(super) fn is_depthwise(&self) -> bool {
        self.groups == self.channels && self.outputs == self.channels && self.groups > 1
    }

    /// Multiplications and additions.
    pub(super) fn operations(&self) -> u64 {
        let positions = self.window.output[0] * self.window.output[1] * self.images;
        let depth = self.channels / self.groups * self.window.kernel[0] * self.window.kernel[1];
        2 * (positions * self.outputs * depth) as u64
    }

    /// For a profile.
    pub(super) fn name(&self) -> String {
        let [height, width] = self.window.kernel;
        match self.groups {
            _ if self.is_depthwise() => format!("{height}x{width} depthwise"),
            1 => format!("{height}x{width}"),
            groups => format!("{height}x{width} in {groups} groups"),
        }
    }

    /// Bytes of one image of the operand, and elements of one of the result.
    pub(super) fn image_lens(&self) -> [usize; 2] {
        let w = &self.window;
        [
            w.input[0] * w.input[1] * self.channels,
            w.output[0] * w.output[1] * self.outputs,
        ]
    }

    /// Elements of the result from row to row and from pixel to pixel.
    pub(super) fn result_strides(&self) -> [usize; 2] {
        [self.window.output[1] * self.outputs, self.outputs]
    }

    /// The image as products read it.
    pub(super) fn padding(&self) -> Padding {
        let w = &self.window;
        Padding {
            input: w.input,
            channels: self.channels,
            corner: w.begin,
            size: [0, 1].map(|axis| {
                let reach = (w.kernel[axis] - 1) * w.dilations[axis] + 1;
                (w.output[axis] - 1) * w.strides[axis] + reach
            }),
        }
    }

    /// Whether the bytes that a row of the window meets lie together: they do not where it is
    /// dilated, or where there are channels of other groups between them.
    fn whole_rows(&self) -> bool {
        self.window.dilations[1] == 1 && self.groups == 1
    }

    /// Where the rows of one group's product are.
    pub(super) fn geometry(&self) -> Geometry {
        let w = &self.window;
        let pointwise = w.kernel == [1, 1] && w.strides == [1, 1] && self.padding().in_place();
        match pointwise && w.input == w.output {
            true => {
                let inputs = self.channels / self.groups;
                Geometry::matrix(w.output[0] * w.output[1], inputs, self.channels)
            }
            false => self.geometry_by_rows(),
        }
    }

    /// The same with a run for each row of the result.
    pub(super) fn geometry_by_rows(&self) -> Geometry {
        let (w, pitch) = (&self.window, self.padding().pitch());
        let inputs = self.channels / self.groups;
        let (inner, depth) = match self.whole_rows() {
            true => (1, w.kernel[1] * self.channels),
            false => (w.kernel[1], inputs),
        };
        Geometry {
            runs: w.output[0],
            run_len: w.output[1],
            run_stride: w.strides[0] * pitch,
            row_stride: w.strides[1] * self.channels,
            segments: [w.kernel[0], inner],
            segment_strides: [w.dilations[0] * pitch, w.dilations[1] * self.channels],
            depth,
        }
    }

    /// The weights of one group: a segment for each row of the window, or for each position of it; or a single one,
    /// where that takes half as many steps.
    pub(super) fn weights<'a>(&self, w: &'a Tensor, signed: bool, group: usize) -> Weights<'a> {
        let (inputs, [height, width]) = (w.dims()[1], self.window.kernel);
        let (positions, columns) = (height * width, self.outputs / self.groups);
        let (segments, width) = match self.whole_rows() {
            true => (height, width),
            false => (positions, 1),
        };
        let (segments, width) =
            match product_steps(1, positions * inputs) < product_steps(segments, width * inputs) {
                true => (1, positions),
                false => (segments, width),
            };
        Weights {
            data: &w.bytes()[group * columns * inputs * positions..],
            signed,
            columns,
            segments,
            depth: [width, inputs],
            strides: [inputs * positions, width, 1, positions],
        }
    }
}
