//! The sizes of a convolution, and how the rows of its product lie in the operand.

use onnxq_ir::Op;
use onnxq_kernels::{Geometry, Line, Weights, product_steps};
use onnxq_tensor::Tensor;

use crate::{
    plan::{Window, Window2},
    program::{
        lower::Home,
        source::{Code, Expr},
    },
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

    /// The image with its padding: height and width.
    fn padded(&self) -> [usize; 2] {
        let w = &self.window;
        [0, 1].map(|axis| {
            let reach = (w.kernel[axis] - 1) * w.dilations[axis] + 1;
            (w.output[axis] - 1) * w.strides[axis] + reach
        })
    }

    /// Whether the operand can be read where it is.
    pub(super) fn in_place(&self) -> bool {
        let padded = self.padded();
        self.window.begin == [0, 0] && (0..2).all(|axis| padded[axis] <= self.window.input[axis])
    }

    /// Bytes from row to row of the image that products read.
    fn pitch(&self) -> usize {
        let width = match self.in_place() {
            true => self.window.input[1],
            false => self.padded()[1],
        };
        width * self.channels
    }

    /// Lines of a copy of one image with its padding, if there is to be one.
    pub(super) fn padded_lines(&self) -> usize {
        match self.in_place() {
            true => 0,
            false => Line::count(self.padded()[0] * self.pitch()),
        }
    }

    /// Whether the bytes that a row of the window meets lie together: they do not where it is
    /// dilated, or where there are channels of other groups between them.
    fn whole_rows(&self) -> bool {
        self.window.dilations[1] == 1 && self.groups == 1
    }

    /// Where the rows of one group's product are.
    pub(super) fn geometry(&self) -> Geometry {
        let (w, pitch) = (&self.window, self.pitch());
        let inputs = self.channels / self.groups;
        let pointwise = w.kernel == [1, 1] && w.strides == [1, 1] && self.in_place();
        if pointwise && w.input == w.output {
            return Geometry::matrix(w.output[0] * w.output[1], inputs, self.channels);
        }
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

    /// The statements that `f` writes, once for each image. `x` and `y` are operand and result there, and
    /// `other`, if there is one, another operand like the result.
    pub(super) fn write_images(
        &self,
        code: &mut Code<'_>,
        other: bool,
        mut f: impl FnMut(&mut Code<'_>),
    ) {
        let [x_len, y_len] = self.image_lens();
        if self.images > 1 {
            code.open(&format!("for image in 0..{}", self.images));
            code.bind("x", format!("&x[image * {x_len}..][..{x_len}]"));
            code.bind("y", format!("&mut y[image * {y_len}..][..{y_len}]"));
            if other {
                code.bind("other", format!("&other[image * {y_len}..][..{y_len}]"));
            }
        }
        f(code);
        if self.images > 1 {
            code.close();
        }
    }

    /// Writes an image with its padding, which is `value`.
    pub(super) fn pad(&self, x: &[u8], value: u8, to: &mut [u8]) {
        let (w, size) = (&self.window, self.padded());
        let dims = [w.input[0], w.input[1], self.channels];
        let to = &mut to[..size[0] * size[1] * self.channels];
        onnxq_kernels::pad(x, dims, w.begin, size, value, 0..size[0], to);
    }

    /// Writes the copy of an image `x` with its padding, the value of which is `value`, to the first
    /// lines of the scratch memory: both are `left` and `scratch` from there on.
    pub(super) fn write_pad(&self, code: &mut Code<'_>, x: &str, value: impl Into<Expr>) {
        let (w, size) = (&self.window, self.padded());
        code.scratch();
        let lines = self.padded_lines();
        code.line(&format!(
            "let (left, scratch) = scratch.split_at_mut({lines});"
        ));
        code.bind("left", "bytes_mut(left)");
        let len = size[0] * size[1] * self.channels;
        let arguments = vec![
            x.into(),
            [w.input[0], w.input[1], self.channels].into(),
            w.begin.into(),
            size.into(),
            value.into(),
            format!("0..{}", size[0]).into(),
            format!("&mut left[..{len}]").into(),
        ];
        code.call("pad", arguments);
    }
}
