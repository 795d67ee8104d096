//! Changes of layout.

use onnxq_kernels::Cpu;
use onnxq_ops::EvalError;

use super::Kernel;
use crate::program::{
    call::Call,
    lower::{Home, Layout},
};

/// Moves the channels to the end, or back: images of `rows` × `columns` elements, transposed.
struct Relay {
    images: usize,
    rows: usize,
    columns: usize,
    /// Bytes of an element.
    size: usize,
    to: Layout,
}

/// A step that gives a tensor another layout.
pub(in crate::program) fn relay(home: &Home, to: Layout) -> Option<Box<dyn Kernel>> {
    let [images, channels, space] = home.image()?;
    let (rows, columns) = match to {
        Layout::ChannelsLast => (channels, space),
        Layout::Plain => (space, channels),
    };
    Some(Box::new(Relay {
        images,
        rows,
        columns,
        size: home.dtype.bits() / 8,
        to,
    }))
}

impl Kernel for Relay {
    fn name(&self, _: Cpu) -> String {
        let to = match self.to {
            Layout::ChannelsLast => "channels last",
            Layout::Plain => "channels first",
        };
        format!("transpose to {to}")
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let bytes = self.rows * self.columns * self.size;
        let (x, y) = (call.bytes(0), call.result(0));
        for image in 0..self.images {
            let x = &x[image * bytes..][..bytes];
            let y = &mut y[image * bytes..][..bytes];
            transpose(self.rows, self.columns, self.size, x, y);
        }
        Ok(())
    }
}

/// A matrix of elements of `size` bytes, transposed.
pub(super) fn transpose(rows: usize, columns: usize, size: usize, x: &[u8], y: &mut [u8]) {
    for column in 0..columns {
        for row in 0..rows {
            let from = (row * columns + column) * size;
            let to = (column * rows + row) * size;
            y[to..to + size].copy_from_slice(&x[from..from + size]);
        }
    }
}
