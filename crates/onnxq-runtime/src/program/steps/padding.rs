//! An image with its padding.

use std::ops::Range;

use onnxq_kernels::{Geometry, Line};

use crate::program::source::{Code, Expr};

/// An image of bytes with its channels last, as products read it: with padding around it, or where it is.
pub(super) struct Padding {
    /// Height and width.
    pub(super) input: [usize; 2],
    pub(super) channels: usize,
    /// Rows and columns before it.
    pub(super) corner: [usize; 2],
    /// Height and width of what is read.
    pub(super) size: [usize; 2],
}

impl Padding {
    /// Whether the image can be read where it is.
    pub(super) fn in_place(&self) -> bool {
        self.corner == [0, 0] && (0..2).all(|axis| self.size[axis] <= self.input[axis])
    }

    /// Height and width of what there is to be read.
    pub(super) fn read_size(&self) -> [usize; 2] {
        match self.in_place() {
            true => self.input,
            false => self.size,
        }
    }

    /// Bytes from row to row of what is read.
    pub(super) fn pitch(&self) -> usize {
        self.read_size()[1] * self.channels
    }

    /// Where a pixel of the image is, in bytes of what is read; the first ones of the padding have negative places.
    pub(super) fn offset(&self, place: [isize; 2]) -> usize {
        let [row, column] = [0, 1].map(|axis| self.corner[axis].saturating_add_signed(place[axis]));
        row * self.pitch() + column * self.channels
    }

    /// Lines of a copy with the padding, if there is to be one.
    pub(super) fn lines(&self) -> usize {
        match self.in_place() {
            true => 0,
            false => Line::count(self.size[0] * self.pitch()),
        }
    }

    fn dims(&self) -> [usize; 3] {
        [self.input[0], self.input[1], self.channels]
    }

    /// Bytes of the image without padding.
    pub(super) fn len(&self) -> usize {
        self.dims().iter().product()
    }

    /// Writes some rows of the padded image; `x` begins with the image, the padding is `value`.
    pub(super) fn copy(&self, x: &[u8], value: u8, rows: Range<usize>, to: &mut [u8]) {
        let to = &mut to[..rows.len() * self.size[1] * self.channels];
        let (dims, corner, size) = (self.dims(), self.corner, self.size);
        onnxq_kernels::pad(&x[..self.len()], dims, corner, size, value, rows, to);
    }

    /// What products read of `x`, which begins with the image: the same, or a copy of the image with padding, which is
    /// `value`, in `to`.
    pub(super) fn of<'a>(&self, x: &'a [u8], value: u8, to: &'a mut [u8]) -> &'a [u8] {
        if self.in_place() {
            return x;
        }
        self.copy(x, value, 0..self.size[0], to);
        to
    }

    /// The same as source text: the name of what is read. A copy of `x` is in the first lines of the scratch memory,
    /// which is `scratch` without them from there on.
    pub(super) fn write(&self, code: &mut Code<'_>, value: impl Into<Expr>) -> &'static str {
        if self.in_place() {
            return "x";
        }
        code.scratch();
        let lines = self.lines();
        code.line(&format!(
            "let (left, scratch) = scratch.split_at_mut({lines});"
        ));
        code.bind("left", "bytes_mut(left)");
        let len = self.size[0] * self.size[1] * self.channels;
        let arguments = vec![
            format!("&x[..{}]", self.len()).into(),
            self.dims().into(),
            self.corner.into(),
            self.size.into(),
            value.into(),
            format!("0..{}", self.size[0]).into(),
            format!("&mut left[..{len}]").into(),
        ];
        code.call("pad", arguments);
        "left"
    }
}

/// The left operand of a product.
#[derive(Clone, Copy)]
pub(super) enum Operand<'a> {
    /// Bytes where they are.
    Bytes(&'a [u8]),
    /// A copy of an image with its padding, of which each thread makes the rows that it needs.
    Image {
        /// The bytes, which begin with the image.
        image: &'a [u8],
        /// What the padding is.
        value: u8,
        copy: Copied<'a>,
    },
}

/// A padded copy of an image, as a product reads it.
#[derive(Clone, Copy)]
pub(super) struct Copied<'a> {
    pub(super) padding: &'a Padding,
    /// Where the first row of the product is, in bytes.
    pub(super) start: usize,
}

impl Copied<'_> {
    /// The bytes of the padded image that some runs of a product read, or some rows of its only run.
    pub(super) fn bytes(&self, g: &Geometry, part: &Range<usize>) -> Range<usize> {
        let (stride, rest) = match g.runs {
            1 => (g.row_stride, 0),
            _ => (g.run_stride, (g.run_len - 1) * g.row_stride),
        };
        let start = self.start + part.start * stride;
        start..start + (part.len() - 1) * stride + rest + g.extent()
    }

    /// The rows of the padded image that these bytes are in.
    pub(super) fn rows(&self, bytes: &Range<usize>) -> Range<usize> {
        let pitch = self.padding.pitch();
        bytes.start / pitch..bytes.end.div_ceil(pitch)
    }

    /// Lines of memory for the copy of these rows.
    pub(super) fn lines(&self, rows: &Range<usize>) -> usize {
        Line::count(rows.len() * self.padding.pitch())
    }
}
