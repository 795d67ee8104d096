//! ImageDecoder: an image from the bytes of its file, `[height, width, channels]`. Types only: no
//! format is read here.

use onnxq_tensor::{DType, Dim, Shape};

use crate::{InferContext, Operator, Unknown};

pub(super) static OPERATORS: &[&dyn Operator] = &[&ImageDecoder];

struct ImageDecoder;

impl Operator for ImageDecoder {
    fn name(&self) -> &'static str {
        "ImageDecoder"
    }

    fn since(&self) -> &'static [i64] {
        &[20]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let channels = match cx.op().str("pixel_format").unwrap_or("RGB") {
            "Grayscale" => 1,
            _ => 3,
        };
        let shape = Shape::from_iter([cx.fresh(0, 0), cx.fresh(0, 1), Dim::known(channels)]);
        cx.set_tensor(0, DType::U8, shape);
        Ok(())
    }
}
