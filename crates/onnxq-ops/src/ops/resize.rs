//! Resampling: Resize and its forerunner Upsample, GridSample, AffineGrid.

use crate::Operator;

mod grid;
mod interpolate;
mod operators;
mod upgrade;

pub use {interpolate::Taps, operators::resize_taps};

pub(super) static OPERATORS: &[&dyn Operator] = &[
    &grid::AffineGrid,
    &grid::GridSample,
    &operators::Resize,
    &operators::Upsample,
];
