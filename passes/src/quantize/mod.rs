//! Insertion of QuantizeLinear and DequantizeLinear.
//!
//! [`quantize_weights`] puts constants in codes, [`insert_dynamic_qdq`] quantizes what is computed.
//! Both look at the nodes that [`select`] picks. What they leave is a float model with pairs of
//! QuantizeLinear and DequantizeLinear, which any runtime accepts and `fuse` lowers.

pub(crate) mod fold_quantized_constants;
pub(crate) mod insert_dynamic_qdq;
pub(crate) mod quantize_weights;

mod collect;
mod function;
mod names;
mod options;
mod report;
pub(crate) mod require;
mod select;
mod source;
mod spread;
mod unfold;

pub use source::{Calibrate, RangeRequest, RangeSource};

pub(crate) use function::{FUNCTION, FUNCTION_DOMAIN};
