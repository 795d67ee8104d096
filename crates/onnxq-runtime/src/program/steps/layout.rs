//! Changes of layout.

use onnxq_kernels::Cpu;
use onnxq_ops::EvalError;

use super::Kernel;
use crate::program::{
    call::Call,
    lower::{Home, Layout},
    source::{Code, Element, Expr, Written},
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
        let (x, y) = (call.bytes(0), call.result(0));
        let bytes = self.rows * self.columns * self.size;
        let dims = [self.images, self.rows, self.columns];
        let (x, y) = (&x[..self.images * bytes], &mut y[..self.images * bytes]);
        transpose(call.cpu, x, self.size, &dims, &[0, 2, 1], y)
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let dims = [self.images, self.rows, self.columns];
        write_transpose(code, self.size, &dims, &[0, 2, 1])
    }
}

/// A tensor of elements of `size` bytes with its axes in another order.
pub(super) fn transpose(
    cpu: Cpu,
    x: &[u8],
    size: usize,
    dims: &[usize],
    order: &[usize],
    y: &mut [u8],
) -> Result<(), EvalError> {
    use bytemuck::{cast_slice, cast_slice_mut};
    match size {
        1 => onnxq_kernels::transpose(cpu, x, dims, order, y),
        2 => onnxq_kernels::transpose::<u16>(cpu, cast_slice(x), dims, order, cast_slice_mut(y)),
        4 => onnxq_kernels::transpose::<u32>(cpu, cast_slice(x), dims, order, cast_slice_mut(y)),
        8 => onnxq_kernels::transpose::<u64>(cpu, cast_slice(x), dims, order, cast_slice_mut(y)),
        _ => {
            let what = format!("a transposition of elements of {size} bytes");
            return Err(EvalError::Unsupported(what));
        }
    }
    Ok(())
}

/// A tensor of elements of `size` bytes with its axes in another order, as source text.
pub(super) fn write_transpose(
    code: &mut Code<'_>,
    size: usize,
    dims: &[usize],
    order: &[usize],
) -> Written {
    let element = unsigned(size);
    code.operand(0, "x", element);
    code.result(0, "y", element);
    let len: usize = dims.iter().product();
    let list = |numbers: &[usize]| {
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        Expr::from(format!("&[{}]", numbers.join(", ")))
    };
    let (x, y) = (format!("&x[..{len}]"), format!("&mut y[..{len}]"));
    let arguments = vec![code.cpu(), x.into(), list(dims), list(order), y.into()];
    code.call("transpose", arguments);
    Ok(())
}

/// The type of numbers of so many bytes.
pub(super) fn unsigned(size: usize) -> Element {
    match size {
        2 => "u16",
        4 => "u32",
        8 => "u64",
        _ => "u8",
    }
}
