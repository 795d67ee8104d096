//! Lowering of QDQ to integer operators.
