//! Pieces of transformers as one operator each, of ONNX Runtime's domain `com.microsoft`: what its
//! optimizer fuses, and the quantized forms of that.

use crate::Operator;

mod attention;
mod embedding;
mod skip;

pub(super) static OPERATORS: &[&dyn Operator] = &[
    &attention::Attention,
    &attention::QAttention,
    &embedding::EmbedLayerNormalization,
    &embedding::QEmbedLayerNormalization,
    &skip::SkipLayerNormalization {
        name: "SkipLayerNormalization",
        simplified: false,
    },
    &skip::SkipLayerNormalization {
        name: "SkipSimplifiedLayerNormalization",
        simplified: true,
    },
];
