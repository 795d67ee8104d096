//! The parts of static quantization, in the order of the work: [`settings`] are read, [`smooth`] evens
//! channels out, [`rules`] say what is done with an operator, [`marks`] which tensors are quantized
//! (with a [`marker`], from [`facts`] about the graph), [`ranges`] which of them need a range,
//! [`parameters`] what follows from it, [`weights`] what becomes of constants, [`write`] puts it all
//! into the graph, [`biases`] at the scales that came out; [`work`] goes through all of it, [`warnings`]
//! and [`masks`] say what a user should know.

pub(super) mod biases;
pub(super) mod facts;
pub(super) mod marker;
pub(super) mod marks;
pub(super) mod masks;
pub(super) mod overrides;
pub(super) mod parameters;
pub(super) mod ranges;
pub(super) mod rules;
pub(super) mod settings;
pub(super) mod smooth;
pub(super) mod warnings;
pub(super) mod weights;
pub(super) mod work;
pub(super) mod write;
