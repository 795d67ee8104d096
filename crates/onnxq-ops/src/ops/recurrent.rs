//! Recurrent cells over sequences: RNN, GRU, LSTM, and ONNX Runtime's LSTM with quantized weights.
//!
//! [`sequence`] runs a cell over time, in either direction; [`cells`] has the equations.

use crate::Operator;

mod activation;
mod cells;
mod operators;
mod sequence;

pub(super) static OPERATORS: &[&dyn Operator] = &[
    &operators::DynamicQuantizeLstm,
    &operators::Gru,
    &operators::Lstm,
    &operators::Rnn,
];
