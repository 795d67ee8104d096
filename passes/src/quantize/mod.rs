//! Insertion of QuantizeLinear and DequantizeLinear.
//!
//! With ranges at hand [`insert_static_qdq`] does it all ([`static_qdq`] has its parts). Without,
//! [`quantize_weights`] puts constants in codes and [`insert_dynamic_qdq`] quantizes what is
//! computed, both at the nodes that [`select`] picks. What is left is a float model with pairs of
//! QuantizeLinear and DequantizeLinear, which any runtime accepts and `fuse` lowers.

pub(crate) mod fold_quantized_constants;
pub(crate) mod insert_dynamic_qdq;
pub(crate) mod insert_static_qdq;
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
mod static_qdq;
mod unfold;

pub use source::{Calibrate, RangeRequest, RangeSource};
pub use static_qdq::warnings::feature_axis;

pub(crate) use function::{FUNCTION, FUNCTION_DOMAIN};
