//! Pieces of transformers as one operator each: those of the standard domain, and those of ONNX
//! Runtime's `com.microsoft`, which its optimizer fuses, with their quantized forms.

use crate::{Operator, ops::quantization::MS};

mod attention;
mod embedding;
mod flex;
mod grouped;
mod heads;
mod linear;
mod multihead;
mod rotary;
mod scaled;
mod skip;

pub(super) static OPERATORS: &[&dyn Operator] = &[
    &attention::Attention,
    &attention::QAttention,
    &embedding::EmbedLayerNormalization,
    &embedding::QEmbedLayerNormalization,
    &flex::FlexAttention,
    &grouped::GroupQueryAttention,
    &linear::LinearAttention,
    &multihead::MultiHeadAttention,
    &rotary::RotaryEmbedding { domain: "" },
    &rotary::RotaryEmbedding { domain: MS },
    &scaled::ScaledAttention,
    &skip::SkipLayerNormalization {
        name: "SkipLayerNormalization",
        simplified: false,
    },
    &skip::SkipLayerNormalization {
        name: "SkipSimplifiedLayerNormalization",
        simplified: true,
    },
];
