//! Quantizes the digit classifier and emits it as the sources of this package's library.

use onnxq::{Calibrator, CompileOptions, EmitOptions, Isa, Session, data::Batch};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let digits = std::path::Path::new("../digits");
    let calibrator = Calibrator::files([digits.join("digits_calib.npz")], Batch::Auto);
    let mut model = onnxq::load(digits.join("digits.onnx"))?;
    Session::new("preprocess,quantize{per-channel},fuse").calibrator(calibrator).run(&mut model)?;

    let shapes = [("input".to_owned(), vec![1, 1, 8, 8])].into();
    let program = onnxq::compile(&model, &CompileOptions { shapes, ..Default::default() })?;
    let options = EmitOptions {
        name: "digits".to_owned(),
        model: "digits.onnx".to_owned(),
        targets: vec![Isa::Amx, Isa::Avx512Vnni, Isa::Avx2, Isa::Dotprod],
        sample: None,
    };
    let out = std::env::var("OUT_DIR")?;
    print!("{}", onnxq::emit(&program, &options)?.write_sources(out.as_ref())?);
    println!("cargo::rerun-if-changed=../digits");
    Ok(())
}
