//! Operators that move, select, repeat or make elements without calculating with them.

pub(super) mod concat;
pub(super) mod constant;
pub(super) mod cumulate;
pub(super) mod expand;
pub(super) mod gather;
pub(super) mod one_hot;
pub(super) mod order;
pub(super) mod pad;
pub(super) mod reshape;
pub(super) mod scatter;
pub(super) mod select;
pub(super) mod shape;
pub(super) mod slice;
pub(super) mod transpose;
