//! Crates that [`emit`](onnxq::emit) has made, in folders of their own, and cargo in them as users run
//! it; small models to make them of.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use onnxq::{
    CompileOptions, Crate, EmitOptions, Error, Isa, Model, Program, Session, compile, data::Data,
    emit, ir::Type, sample_values, tensor::Tensor,
};

use crate::target_dir;

/// The tiers of x86-64 and of AArch64.
pub const X86: &[Isa] = &[Isa::Amx, Isa::Avx512Vnni, Isa::AvxVnni, Isa::Avx2];
/// See [`X86`].
pub const ARM: &[Isa] = &[Isa::I8mm, Isa::Dotprod, Isa::Neon];

/// The tiers of this machine's architecture.
pub fn tiers() -> &'static [Isa] {
    if cfg!(target_arch = "x86_64") {
        X86
    } else if cfg!(target_arch = "aarch64") {
        ARM
    } else {
        &[]
    }
}

/// A crate in a folder of its own, which stays from one run of the tests to the next: what has not
/// changed is not built again.
#[derive(Debug)]
pub struct Emitted {
    folder: PathBuf,
}

/// Where they are.
fn root() -> PathBuf {
    target_dir().join("emitted")
}

impl Emitted {
    /// Puts a crate in the folder of this name.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(name: &str, made: &Crate) -> Result<Emitted, String> {
        let folder = root().join(name);
        let emitted = Emitted { folder };
        emitted.put(made)?;
        Ok(emitted)
    }

    /// A crate of one file and a manifest.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn written(name: &str, manifest: &str, file: &str, text: &str) -> Result<Emitted, String> {
        let mut made = Crate::default();
        for (path, text) in [("Cargo.toml", manifest), (file, text)] {
            made.files.insert(path.to_owned(), text.into());
        }
        Emitted::new(name, &made)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts these files in the place of those that are there.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn put(&self, made: &Crate) -> Result<(), String> {
        let place = || -> io::Result<()> {
            for path in files(&self.folder)? {
                let is_kept = path == "Cargo.lock" || made.files.contains_key(&path);
                if !is_kept {
                    fs::remove_file(self.folder.join(path))?;
                }
            }
            for (path, bytes) in &made.files {
                let path = self.folder.join(path);
                if fs::read(&path).is_ok_and(|found| found == *bytes) {
                    continue;
                }
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::write(path, bytes)?;
            }
            Ok(())
        };
        place().map_err(|e| format!("{}: {e}", self.folder.display()))
    }

    /// Runs cargo in the folder; what it prints.
    ///
    /// # Errors
    /// It fails, and what it says then.
    pub fn cargo(&self, args: &[&str]) -> Result<String, String> {
        cargo(&self.folder, args)
    }

    /// Runs the recorded test on these tiers alone, or on those that the crate is for.
    ///
    /// # Errors
    /// It fails, or there is none.
    pub fn golden(&self, tiers: Option<Isa>, profile: &[&str]) -> Result<(), String> {
        let features = format!("alloc,{}", tiers.map_or("", Isa::name));
        let features = features.trim_end_matches([',']).replace(",portable", "");
        let mut args = vec!["test", "--test", "golden"];
        if tiers.is_some() {
            args.extend(["--no-default-features", "--features", &features]);
        }
        args.extend(profile);
        let said = self.cargo(&args)?;
        match said.contains("test outputs_are_as_recorded ... ok") {
            true => Ok(()),
            false => Err(format!("the test has not run: {said}")),
        }
    }

    /// Checks that the text is as rustfmt and clippy want it.
    ///
    /// # Errors
    /// It is not.
    pub fn is_clean(&self) -> Result<(), String> {
        self.cargo(&["fmt", "--check"])?;
        self.cargo(&["clippy", "--all-targets", "--", "-D", "warnings"])?;
        let alone = [
            "clippy",
            "--all-targets",
            "--no-default-features",
            "--",
            "-D",
            "warnings",
        ];
        self.cargo(&alone).map(drop)
    }
}

/// Runs cargo in a folder, with one target directory for all of them; what it prints.
///
/// # Errors
/// It fails, and what it says then.
pub fn cargo(folder: &Path, args: &[&str]) -> Result<String, String> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(args)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", root().join("build"))
        .env("CARGO_TERM_COLOR", "never")
        .output()
        .map_err(|e| format!("cargo cannot be run: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!(
            "cargo {}, in {}:\n{}{}",
            args.join(" "),
            folder.display(),
            text(&output.stdout),
            text(&output.stderr)
        )),
    }
}

/// The file that cargo makes of a program of this name, with optimizations.
pub fn released(name: &str) -> PathBuf {
    let name = format!("{name}{}", env::consts::EXE_SUFFIX);
    root().join("build").join("release").join(name)
}

/// The files below a folder, with `/`.
fn files(folder: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut pending = vec![String::new()];
    while let Some(at) = pending.pop() {
        let entries = match fs::read_dir(folder.join(&at)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let path = format!("{at}{}", entry.file_name().display());
            match entry.file_type()?.is_dir() {
                true => pending.push(format!("{path}/")),
                false => found.push(path),
            }
        }
    }
    Ok(found)
}

/// Emits a program. The recorded inputs are `sample`, or made up.
///
/// # Errors
/// Those of the emitter.
pub fn emitted(
    program: &Program,
    name: &str,
    targets: &[Isa],
    sample: Option<Vec<Tensor>>,
) -> Result<Crate, Error> {
    let options = EmitOptions {
        name: name.to_owned(),
        model: format!("{name}.onnx"),
        targets: targets.to_vec(),
        sample,
    };
    Ok(emit(program, &options)?)
}

/// Made-up values of the inputs of a model with fixed shapes; others for each `seed`.
///
/// # Errors
/// A shape is not known, or there are no values of a type.
pub fn values(model: &Model, seed: usize) -> Result<Vec<Tensor>, String> {
    let graph = &model.graph;
    let inputs = graph.inputs().iter().enumerate();
    let values = inputs.map(|(i, &n)| {
        let (value, ty) = (graph.result(n, 0), graph.ty(graph.result(n, 0)));
        let value = graph.value(value);
        let shape = ty.and_then(Type::shape);
        let shape = shape.ok_or_else(|| format!("'{}' has no shape", value.name))?;
        let dtype = ty.and_then(Type::dtype);
        let dtype = dtype.ok_or_else(|| format!("'{}' has no type", value.name))?;
        let dims: Option<Vec<usize>> = shape
            .iter()
            .map(|dim| usize::try_from(dim.as_const()?).ok())
            .collect();
        let dims = dims.ok_or_else(|| format!("'{}' has open dimensions", value.name))?;
        sample_values(&value.name, dtype, &dims, seed + i).map_err(|e| e.to_string())
    });
    values.collect()
}

/// A small model and how it is quantized.
#[derive(Clone, Copy, Debug)]
pub struct Small {
    /// What it is called.
    pub name: &'static str,
    /// Float, as text.
    text: &'static str,
    pipeline: &'static str,
}

impl Small {
    /// The quantized model.
    ///
    /// # Errors
    /// A pass fails.
    pub fn quantized(&self) -> Result<Model, Error> {
        let mut model = onnxq::parse(self.text)?;
        let samples = (0..4).map(|seed| values(&model, 10 * seed).expect("shapes are fixed"));
        let samples = samples.map(|sample| sample.into_iter().map(Some).collect());
        let data = Data::from_samples(samples.collect::<Vec<_>>());
        let session = Session::new(self.pipeline);
        let session = match self.pipeline.contains("dynamic") {
            true => session,
            false => session.calibration_data(data),
        };
        session.run(&mut model)?;
        Ok(model)
    }

    /// The program of the quantized model.
    ///
    /// # Errors
    /// A pass fails, or it has no program.
    pub fn program(&self, options: &CompileOptions) -> Result<Program, Error> {
        compile(&self.quantized()?, options)
    }
}

/// Small CNNs, the second of which grows again; a block of a transformer in both forms, an LSTM.
pub const SMALL: &[Small] = &[
    Small {
        name: "cnn",
        text: CNN,
        pipeline: "preprocess,quantize{per-channel activation-type=uint8},fuse",
    },
    Small {
        name: "unet",
        text: UNET,
        pipeline: "preprocess,quantize{per-channel activation-type=uint8},fuse",
    },
    Small {
        name: "transformer_static",
        text: TRANSFORMER,
        pipeline: "preprocess,quantize,fuse",
    },
    Small {
        name: "transformer_dynamic",
        text: TRANSFORMER,
        pipeline: "preprocess,quantize{mode=dynamic},fuse",
    },
    Small {
        name: "lstm",
        text: LSTM,
        pipeline: "preprocess,quantize{mode=dynamic},fuse",
    },
];

const CNN: &str = r#"<ir_version: 8, opset_import: ["": 17]>
main (float[1, 3, 12, 12] image) => (float[1, 10] scores)
<float[16, 3, 3, 3] w1 = ["seed": "1"], float[16] b1 = ["seed": "2"],
 float[16, 1, 3, 3] w2 = ["seed": "3"], float[16] b2 = ["seed": "4"],
 float[16, 16, 1, 1] w3 = ["seed": "5"], float[16] b3 = ["seed": "6"],
 float[16, 10] w4 = ["seed": "7"]>
{
    [stem] a = Conv <pads = [1, 1, 1, 1]> (image, w1, b1)
    [stem_relu] b = Relu (a)
    [pool] c = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
    [depthwise] d = Conv <pads = [1, 1, 1, 1], group = 16> (c, w2, b2)
    [depthwise_relu] e = Relu (d)
    [pointwise] f = Conv (e, w3, b3)
    [residual] g = Add (c, f)
    [residual_relu] h = Relu (g)
    [average] i = GlobalAveragePool (h)
    [flatten] j = Flatten (i)
    [classify] scores = MatMul (j, w4)
}"#;

const UNET: &str = r#"<ir_version: 8, opset_import: ["": 17]>
main (float[1, 3, 12, 12] image) => (float[1, 4, 12, 12] mask)
<float[8, 3, 3, 3] w1 = ["seed": "1"], float[8] b1 = ["seed": "2"],
 float[16, 8, 3, 3] w2 = ["seed": "3"], float[16] b2 = ["seed": "4"],
 float[32, 8, 3, 3] w3 = ["seed": "5"], float[8] b3 = ["seed": "6"],
 float[4, 16, 1, 1] w4 = ["seed": "7"], float[4] scales = {1, 1, 2, 2}>
{
    [down] a = Conv <pads = [1, 1, 1, 1]> (image, w1, b1)
    [down_relu] b = Relu (a)
    [pool] c = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
    [middle] d = Conv <pads = [1, 1, 1, 1]> (c, w2, b2)
    [middle_relu] e = Relu (d)
    [half] f = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (e)
    [whole] g = Resize <mode = "linear"> (f, "", scales)
    [both] h = Concat <axis = 1> (e, g)
    [up] i = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]> (h, w3, b3)
    [joined] j = Concat <axis = 1> (i, b)
    [classify] mask = Conv (j, w4)
}"#;

const TRANSFORMER: &str = r#"<ir_version: 8, opset_import: ["": 17]>
main (float[1, 8, 32] x) => (float[1, 8, 32] y)
<float[32] g1 = ["seed": "1", "lo": "0.5", "hi": "1.5"], float[32] e1 = ["seed": "2"],
 float[32, 32] wq = ["seed": "3"], float[32] bq = ["seed": "4"],
 float[32, 32] wk = ["seed": "5"], float[32] bk = ["seed": "6"],
 float[32, 32] wv = ["seed": "7"], float[32] bv = ["seed": "8"],
 float[32, 32] wo = ["seed": "9"], float[32] bo = ["seed": "10"],
 float[32] g2 = ["seed": "11", "lo": "0.5", "hi": "1.5"], float[32] e2 = ["seed": "12"],
 float[32, 64] w1 = ["seed": "13"], float[64] b1 = ["seed": "14"],
 float[64, 32] w2 = ["seed": "15"], float[32] b2 = ["seed": "16"],
 int64[4] heads = {1, 8, 2, 16}, int64[3] whole = {1, 8, 32}, float scale = {0.25},
 float root = {1.4142135}, float one = {1}, float half = {0.5}>
{
    [norm] n = LayerNormalization (x, g1, e1)
    [query] q0 = MatMul (n, wq) q1 = Add (q0, bq) q2 = Reshape (q1, heads)
    q = Transpose <perm = [0, 2, 1, 3]> (q2)
    [key] k0 = MatMul (n, wk) k1 = Add (k0, bk) k2 = Reshape (k1, heads)
    k = Transpose <perm = [0, 2, 3, 1]> (k2)
    [value] v0 = MatMul (n, wv) v1 = Add (v0, bv) v2 = Reshape (v1, heads)
    v = Transpose <perm = [0, 2, 1, 3]> (v2)
    [scores] s0 = MatMul (q, k) s1 = Mul (s0, scale)
    [softmax] s = Softmax <axis = -1> (s1)
    [mix] m0 = MatMul (s, v) m1 = Transpose <perm = [0, 2, 1, 3]> (m0) m = Reshape (m1, whole)
    [out] o0 = MatMul (m, wo) o1 = Add (o0, bo)
    [residual] o = Add (o1, x)
    [norm2] p = LayerNormalization (o, g2, e2)
    [up] f0 = MatMul (p, w1) f1 = Add (f0, b1)
    f2 = Div (f1, root) f3 = Erf (f2) f4 = Add (f3, one) f5 = Mul (f1, f4)
    [gelu] f = Mul (f5, half)
    [down] d0 = MatMul (f, w2) d1 = Add (d0, b2)
    [residual2] y = Add (d1, o)
}"#;

const LSTM: &str = r#"<ir_version: 8, opset_import: ["": 17]>
main (float[6, 1, 16] x, float[1, 1, 24] h, float[1, 1, 24] c) => (float[6, 1, 8] y, float[1, 1, 24] last_h, float[1, 1, 24] last_c)
<float[1, 96, 16] w = ["seed": "1"], float[1, 96, 24] r = ["seed": "2"], float[1, 192] b = ["seed": "3"],
 float[24, 8] u = ["seed": "4"], int64[1] direction = {1}>
{
    [cell] s, last_h, last_c = LSTM <hidden_size = 24> (x, w, r, b, , h, c)
    [squeeze] t = Squeeze (s, direction)
    [project] z = MatMul (t, u)
    [mask] y = Sigmoid (z)
}"#;
