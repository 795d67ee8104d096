//! Col2Im: blocks of an image, as columns of a matrix, added up at their places.
//!
//! Operands: columns (`[batch, channels * elements of a block, blocks]`), the sizes of the image,
//! and those of a block.

use onnxq_tensor::{Dim, Shape};

use super::window::Window;
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{Real, product, real_tensor, with_real},
        rules, values,
    },
};

pub(super) struct Col2Im;

impl Operator for Col2Im {
    fn name(&self) -> &'static str {
        "Col2Im"
    }

    fn since(&self) -> &'static [i64] {
        &[18]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let (batch, rows) = match cx.shape(0).ok().map(|s| &s[..]) {
            Some([batch, rows, _]) => (batch.clone(), rows.clone()),
            _ => (Dim::UNKNOWN, Dim::UNKNOWN),
        };
        let channels = match cx.ints(2) {
            Ok(block) => match block.iter().try_fold(1i64, |n, &b| n.checked_mul(b)) {
                Some(taps @ 1..) => rows.floor_div(&Dim::known(taps)),
                _ => return Err(Unknown::new("a block without elements")),
            },
            Err(_) => Dim::UNKNOWN,
        };
        let mut shape = Shape::from_iter([batch, channels]);
        match cx.value(1) {
            Ok(image) => shape.extend(image.elems.iter().cloned()),
            Err(_) => {
                let rank = values::vector_len(cx, 1).or_else(|_| values::vector_len(cx, 2))?;
                shape.extend((0..rank).map(|i| cx.fresh(0, 2 + i)));
            }
        }
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let (image, block) = (cx.ints(1)?, cx.ints(2)?);
        let &[batch, rows, blocks] = x.dims() else {
            return Err(cx.invalid(format!("columns of {:?}", x.dims())));
        };
        if image.is_empty() || image.len() != block.len() {
            return Err(cx.invalid(format!("blocks of {block:?} in an image of {image:?}")));
        }
        let window = Window::of(cx.op(), block.len(), Some(&block)).map_err(|e| cx.invalid(e))?;
        let sizes: Option<Vec<usize>> = image.iter().map(|&n| usize::try_from(n).ok()).collect();
        let sizes = sizes.ok_or_else(|| cx.invalid(format!("an image of {image:?}")))?;
        let place = window.place(&sizes).map_err(|e| cx.invalid(e))?;
        let taps = place.taps();
        if blocks != product(&place.small) || !rows.is_multiple_of(taps) {
            let message = format!("{rows} rows of {blocks} for blocks of {block:?} in {image:?}");
            return Err(cx.invalid(message));
        }
        let mut dims = vec![batch, rows / taps];
        dims.extend(&sizes);
        let count = rules::limited(&dims)?;
        let size = product(&sizes);
        with_real!(cx, x.dtype(), T => {
            let mut y = vec![T::of(0.0); count];
            let columns = T::read(x)?;
            for row in 0..batch * rows {
                let column = &columns[row * blocks..][..blocks];
                let y = &mut y[row / taps * size..][..size];
                place.runs(&place.tap(row % taps), 0..blocks, |run| {
                    for i in 0..run.len {
                        y[run.big + i * place.stride()] += column[run.small + i];
                    }
                });
            }
            Ok(vec![real_tensor(x.dtype(), &dims, y)?])
        })
    }
}
