//! Insertion of QuantizeLinear and DequantizeLinear.
