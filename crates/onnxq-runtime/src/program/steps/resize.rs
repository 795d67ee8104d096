//! Resize and Upsample to the nearest element.
//!
//! Which element that is, the reference says when the model is lowered: it resizes an image of one
//! channel whose elements are their own numbers.

use onnxq_ir::{NodeId, Op};
use onnxq_kernels::{Cpu, resize_nearest};
use onnxq_ops::{EvalError, Value, interpret::Interpreter};
use onnxq_tensor::{DType, Tensor};

use super::Kernel;
use crate::program::{
    call::Call,
    lower::{Home, Layout, Lowering},
    source::{Code, Written},
};

struct Nearest {
    /// Images, or planes of images.
    images: usize,
    /// Height, width, and channels that lie together.
    dims: [usize; 3],
    /// Which rows and columns are taken.
    rows: Vec<u32>,
    columns: Vec<u32>,
    /// Bytes of an element.
    size: usize,
}

/// Resize and Upsample of images to the nearest element, if that is known before any run.
pub(super) fn resize(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let graph = lowering.graph;
    let home = lowering.operand(n, 0)?.clone();
    let (dtype, result) = lowering.type_of(graph.result(n, 0))?;
    let [images, channels, height, width] = home.dims[..] else {
        return None;
    };
    let usual = op.str("mode").unwrap_or("nearest") == "nearest"
        && op.str("coordinate_transformation_mode") != Some("tf_crop_and_resize")
        && op.str("keep_aspect_ratio_policy").unwrap_or("stretch") == "stretch"
        && op.ints("axes").is_none()
        && dtype == home.dtype
        && [8, 16, 32, 64].contains(&dtype.bits())
        && result.len() == 4
        && result[..2] == home.dims[..2]
        && home.len() > 0
        && u32::try_from(height.checked_mul(width)?).is_ok();
    usual.then_some(())?;
    let numbers = numbers(lowering, n, op, &home, &result)?;
    let (columns, rows) = (numbers.get(..result[3])?, numbers.chunks_exact(result[3]));
    let rows: Vec<u32> = rows.map(|row| row[0] / width as u32).collect();
    let columns: Vec<u32> = columns.iter().map(|i| i % width as u32).collect();
    let (images, channels) = match home.layout {
        Layout::Plain => (images * channels, 1),
        Layout::ChannelsLast => (images, channels),
    };
    let kernel = Nearest {
        images,
        dims: [height, width, channels],
        rows,
        columns,
        size: dtype.bits() / 8,
    };
    lowering.push_node(n, Box::new(kernel), &[home.place], home.layout)
}

/// The numbers of the elements that a plane of the result is made of.
fn numbers(
    lowering: &Lowering<'_>,
    n: NodeId,
    op: &Op,
    home: &Home,
    result: &[usize],
) -> Option<Vec<u32>> {
    let graph = lowering.graph;
    let mut operands = vec![];
    for (i, v) in graph.operands(n).into_iter().enumerate() {
        let Some(v) = v else {
            operands.push(None);
            continue;
        };
        if i == 0 {
            let [height, width] = [home.dims[2], home.dims[3]];
            let numbers = (0..(height * width) as i64).collect::<Vec<_>>();
            let numbers = Tensor::from_vec(&[1, 1, height, width][..], numbers).ok()?;
            operands.push(Some(Value::Tensor(numbers)));
            continue;
        }
        let mut tensor = lowering.constant(v)?.clone();
        if tensor.dtype() == DType::I64 && tensor.len() == 4 {
            // Sizes: those of one image of one channel.
            let mut sizes = tensor.to_i64s().ok()?.to_vec();
            sizes[..2].fill(1);
            tensor = Tensor::from_vec(&[4][..], sizes).ok()?;
        }
        operands.push(Some(Value::Tensor(tensor)));
    }
    let results = Interpreter::new(lowering.model).run_node(op, &operands, 1);
    let results = results.ok()?;
    let made = results.first()?.as_tensor()?;
    let fits = made.dims() == [1, 1, result[2], result[3]] && !made.is_empty();
    fits.then_some(())?;
    let numbers = made.to_i64s().ok()?;
    let numbers = numbers.iter().map(|&i| u32::try_from(i).ok());
    numbers.collect()
}

impl Kernel for Nearest {
    fn name(&self, _: Cpu) -> String {
        "resize nearest".to_owned()
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.bytes(0), call.result(0));
        let [height, width, channels] = self.dims;
        let rows = self.rows.len();
        let from = height * width * channels * self.size;
        let to = rows * self.columns.len() * channels * self.size;
        for (x, y) in x
            .chunks_exact(from)
            .zip(y.chunks_exact_mut(to))
            .take(self.images)
        {
            match (self.size, channels) {
                (1, _) => self.image(x, self.dims, y),
                (2, 1) => self.image::<u16>(cast(x), self.dims, cast_mut(y)),
                (4, 1) => self.image::<u32>(cast(x), self.dims, cast_mut(y)),
                (8, 1) => self.image::<u64>(cast(x), self.dims, cast_mut(y)),
                (size, _) => self.image(x, [height, width, channels * size], y),
            }
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let [height, width, channels] = self.dims;
        let (element, channels) = match (self.size, channels) {
            (size, 1) => (super::layout::unsigned(size), 1),
            (size, channels) => ("u8", channels * size),
        };
        code.operand(0, "x", element);
        code.result(0, "y", element);
        let rows = code.indices(&self.rows);
        code.bind("rows", rows);
        let columns = code.indices(&self.columns);
        code.bind("columns", columns);
        let from = height * width * channels;
        let to = self.rows.len() * self.columns.len() * channels;
        let (mut x, mut y) = (format!("&x[..{from}]"), format!("&mut y[..{to}]"));
        if self.images > 1 {
            code.open(&format!("for image in 0..{}", self.images));
            x = format!("&x[image * {from}..][..{from}]");
            y = format!("&mut y[image * {to}..][..{to}]");
        }
        let arguments = vec![
            x.into(),
            [height, width, channels].into(),
            "rows".into(),
            "columns".into(),
            format!("0..{}", self.rows.len()).into(),
            y.into(),
        ];
        code.call("resize_nearest", arguments);
        if self.images > 1 {
            code.close();
        }
        Ok(())
    }
}

impl Nearest {
    fn image<T: Copy>(&self, x: &[T], dims: [usize; 3], y: &mut [T]) {
        resize_nearest(x, dims, &self.rows, &self.columns, 0..self.rows.len(), y);
    }
}

fn cast<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> &[T] {
    bytemuck::cast_slice(bytes)
}

fn cast_mut<T: bytemuck::Pod>(bytes: &mut [u8]) -> &mut [T] {
    bytemuck::cast_slice_mut(bytes)
}
