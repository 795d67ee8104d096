//! INT8 kernels, and the few float ones that an INT8 model needs.
//!
//! Everything works on slices that the caller has allocated, scratch memory included: the crate is
//! `no_std`, allocates nothing and depends on nothing, so that generated code can carry it along.
//!
//! - [`Cpu`] is the tier of instructions to use, and the proof that the processor has it.
//! - [`Product`] multiplies bytes by packed weights ([`pack`]): matrix products and convolutions,
//!   with an [`Epilogue`] that makes bytes or floats of the sums before they leave the cache.
//!   Tiles for each tier ([`tile`](crate::product)) do the dot products.
//! - All else is loops in plain Rust, compiled once for each tier.
//!
//! *Invariants*: the portable body of a kernel defines its result, and every tier is equal to it
//! bit for bit. No input makes a safe function read or write outside of its slices; sizes that do
//! not fit together panic in the first lines, before anything is written.

#![no_std]
#![forbid(clippy::std_instead_of_core)]
#![cfg_attr(
    not(all(feature = "amx", feature = "avxvnni", feature = "i8mm")),
    allow(dead_code, reason = "parts that only the tiers use that are left out")
)]

mod activation;
mod attention;
mod binary;
mod byte_softmax;
mod caches;
mod concat;
mod depthwise;
#[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
mod dequantize;
mod dynamic;
mod elementwise;
mod epilogue;
mod fused;
mod image;
mod interpolate;
mod isa;
mod lookup;
mod math;
mod memory;
mod pack;
mod pool;
mod product;
mod recurrent;
#[cfg(all(target_arch = "x86_64", feature = "avx512vnni"))]
mod requantize;
mod residual;
mod resize;
mod row_steps;
mod rows;
#[cfg(feature = "sources")]
mod sources;
mod staging;
mod strided;
mod sum_steps;
mod tiers;
mod tile;
mod transpose;
mod walk;

pub use activation::{Unary, unary, unary_in_place};
pub use attention::{Attention, Heads, Mask};
pub use binary::{
    Binary, Broadcast, Comparison, UNBOUNDED, binary, binary_in_place, compare, select,
};
pub use byte_softmax::ByteSoftmax;
pub use concat::{Joined, concat};
pub use depthwise::{
    Depthwise, DepthwiseWeights, Dequantize, depthwise_packed_len, depthwise_scratch_lines,
    pack_depthwise,
};
pub use dynamic::{column_scales, dynamic_parameters, dynamic_quantize, zero_offsets};
pub use elementwise::{
    AxisScales, Combine, Operand, Quantize, Quantized, dequantize_integers, range,
    requantize_table, row_sums,
};
pub use epilogue::{Activation, Epilogue, Output, Requantize, Residual, SumSteps};
pub use image::{Image, Planes, Window, pad};
pub use interpolate::{Interpolate, Pairs, interpolate_scratch_lines};
pub use isa::{Cpu, Isa, Tiles, UnknownIsa};
pub use lookup::{lookup, lookup_floats, lookup_in_place};
pub use memory::{Line, bytes, bytes_mut, lines_mut};
pub use pack::{Packed, Weights, pack, packed_len, product_steps};
pub use pool::{Average, Pool, global_average, global_mean};
pub use product::{Geometry, Left, Product, scratch_lines};
pub use recurrent::{gru_cell_linear, gru_gates, gru_state, lstm_cell};
pub use resize::{gather_rows, resize_nearest};
pub use row_steps::{Added, RowFunction, Rows};
pub use rows::{
    Norm, Reduction, Skip, Softmax, normalize, reduce_columns, reduce_rows, skip_normalize, softmax,
};
#[cfg(feature = "sources")]
pub use sources::{SOURCES, Source};
pub use strided::{MAX_COPY_AXES, copy_strided};
pub use sum_steps::sum_steps;
pub use transpose::{Element, MAX_AXES, transpose, transpose_matrix};
