//! The digit classifier, which `build.rs` makes of `digits.onnx`.

#![no_std]

include!(concat!(env!("OUT_DIR"), "/lib.rs"));
