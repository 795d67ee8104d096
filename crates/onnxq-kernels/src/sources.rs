//! The text of this crate, for generated crates that carry it along.

/// A file of this crate.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Its path from `src`, with `/`.
    pub path: &'static str,
    /// What is in it.
    pub text: &'static str,
}

macro_rules! sources {
    ($($path:literal,)*) => {
        &[$(Source { path: $path, text: include_str!($path) }),*]
    };
}

/// All files but this one.
pub static SOURCES: &[Source] = sources![
    "activation.rs",
    "attention.rs",
    "binary.rs",
    "byte_softmax.rs",
    "caches.rs",
    "concat.rs",
    "depthwise.rs",
    "depthwise/avx2.rs",
    "depthwise/avx512.rs",
    "depthwise/avx512/registers.rs",
    "depthwise/pack.rs",
    "depthwise/strip.rs",
    "depthwise/target.rs",
    "dequantize.rs",
    "dynamic.rs",
    "elementwise.rs",
    "epilogue.rs",
    "fused.rs",
    "image.rs",
    "interpolate.rs",
    "isa.rs",
    "lib.rs",
    "lookup.rs",
    "math.rs",
    "memory.rs",
    "pack.rs",
    "pool.rs",
    "product.rs",
    "recurrent.rs",
    "requantize.rs",
    "requantize/adding.rs",
    "residual.rs",
    "resize.rs",
    "row_steps.rs",
    "rows.rs",
    "staging.rs",
    "strided.rs",
    "sum_steps.rs",
    "tiers.rs",
    "tile/amx.rs",
    "tile/amx/mode.rs",
    "tile/amx/registers.rs",
    "tile/avx2.rs",
    "tile/avx512vnni.rs",
    "tile/avxvnni.rs",
    "tile/dotprod.rs",
    "tile/i8mm.rs",
    "tile/mod.rs",
    "tile/neon.rs",
    "tile/portable.rs",
    "transpose.rs",
    "walk.rs",
];
