//! Models emitted as crates, which plain cargo builds in folders of their own.
//!
//! - `<model>/text`: the text is that of `snapshots/emit/`, whatever tier the program was compiled
//!   on.
//! - `<model>/tiers`: one crate for all tiers of this architecture is as rustfmt and clippy want it,
//!   and gives the outputs of the program bit for bit on each of them.
//! - `<model>/portable`: the same for a crate without tiers.
//! - `digits/bare`: without the allocator, from a library without the standard one.
//! - `digits/codes`: the entry for codes gives what the one for floats gives; so does either in a
//!   caller's memory.
//! - `digits/benchmark`: what the benchmark of the crate prints.
//! - `example/build_script`: the package of `docs/examples/emit` emits, builds and reads its digit.
//! - `<model of the zoo>/<target>`: large models, optimized, on their stored inputs.
//! - `<model>/size`: how much code and weights a program grows by.
//! - `<model>/<target of AArch64>`: under qemu.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::{Command, ExitCode},
    sync::Arc,
};

use libtest_mimic::{Arguments, Failed, Trial};
use onnxq::{
    Calibrator, CompileOptions, Cpu, Crate, Isa, Model, Program, Session, compile,
    data::{Batch, Data},
};
use onnxq_tensor::Tensor;
use onnxq_tests::{
    emitted::{ARM, Emitted, SMALL, X86, cargo, emitted, released, tiers, values},
    notice,
    oracle::Tensors,
    stages::Stages,
    workspace_dir,
    zoo::zoo,
};

/// The models of the zoo, and whether they are quantized statically.
const LARGE: &[(&str, bool)] = &[
    ("digits_cnn", true),
    ("ultraface", true),
    ("mobilenet_v2", true),
    ("resnet50", true),
    ("minilm", true),
    ("minilm", false),
    ("dtln_1", false),
];

/// The most that code and weights of the digit classifiers may take, in bytes.
const SIZE: u64 = 250_000;

type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let mut add = |name: String, ignored: bool, test: Box<dyn FnOnce() -> Outcome + Send>| {
        let test = move || test().map_err(Failed::from);
        trials.push(Trial::test(name, test).with_ignored_flag(ignored));
    };
    for (i, small) in SMALL.iter().enumerate() {
        let (model, name) = (move || small_model(i), small.name);
        add(
            format!("{name}/text"),
            false,
            Box::new(move || text(name, &model()?)),
        );
        add(
            format!("{name}/tiers"),
            false,
            Box::new(move || on_all_tiers(name, &model()?)),
        );
        add(
            format!("{name}/portable"),
            false,
            Box::new(move || portable(name, &model()?)),
        );
    }
    let digits = || digits("digits");
    add(
        "digits/tiers".into(),
        false,
        Box::new(move || on_all_tiers("digits", &digits()?)),
    );
    add(
        "digits/portable".into(),
        false,
        Box::new(move || portable("digits", &digits()?)),
    );
    add(
        "digits/bare".into(),
        false,
        Box::new(move || bare(&digits()?)),
    );
    add(
        "digits/codes".into(),
        false,
        Box::new(move || codes(&digits()?)),
    );
    add(
        "digits/benchmark".into(),
        false,
        Box::new(move || benchmark(&digits()?)),
    );
    add(
        "digits/size".into(),
        false,
        Box::new(move || size("digits", &digits()?)),
    );
    add("shape_of_data/refused".into(), false, Box::new(refused));
    add("example/build_script".into(), false, Box::new(example));
    let emulated = emulator();
    for &isa in &ARM[..2] {
        let test = move || emulated_run("digits", &digits()?, isa);
        add(format!("digits/{isa}"), !emulated, Box::new(test));
    }
    let models = zoo().map(Stages::all).unwrap_or_default();
    for &(name, is_static) in LARGE {
        let Some(stages) = models.iter().find(|model| model.name == name) else {
            continue;
        };
        let form = if is_static { "static" } else { "dynamic" };
        for &isa in [Isa::Portable].iter().chain(tiers()) {
            let stages = Arc::clone(stages);
            let test = move || large(&stages, form, isa);
            add(format!("{name}_{form}/{isa}"), false, Box::new(test));
        }
        if name == "digits_cnn" {
            let stages = Arc::clone(stages);
            let test = move || {
                let inputs = stages.io()?.map(|io| io.inputs).unwrap_or_default();
                size(
                    name,
                    &Subject::new(stages.static_fused()?.model.as_ref(), &inputs)?,
                )
            };
            add(format!("{name}/size"), false, Box::new(test));
        }
        if ["digits_cnn", "ultraface"].contains(&name) {
            for &isa in &ARM[..2] {
                let stages = Arc::clone(stages);
                let test = move || {
                    let inputs = stages.io()?.map(|io| io.inputs).unwrap_or_default();
                    let subject = Subject::new(stages.static_fused()?.model.as_ref(), &inputs)?;
                    emulated_run(&stages.name, &subject, isa)
                };
                add(format!("{name}/{isa}"), !emulated, Box::new(test));
            }
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A quantized model, and inputs for it.
struct Subject {
    model: Model,
    sample: Vec<Tensor>,
}

impl Subject {
    fn new(model: &Model, inputs: &Tensors) -> Result<Subject, String> {
        let graph = &model.graph;
        let value = |&n| {
            let name = &graph.value(graph.result(n, 0)).name;
            let value = inputs.get(name).cloned();
            value.ok_or_else(|| format!("there is no '{name}'"))
        };
        let sample = graph.inputs().iter().map(value);
        Ok(Subject {
            model: model.clone(),
            sample: sample.collect::<Result<_, _>>()?,
        })
    }

    fn program(&self, cpu: Cpu) -> Result<Program, String> {
        let graph = &self.model.graph;
        let shapes = graph.inputs().iter().zip(&self.sample).map(|(&n, t)| {
            let name = graph.value(graph.result(n, 0)).name.clone();
            (name, t.dims().to_vec())
        });
        let options = CompileOptions {
            shapes: shapes.collect(),
            cpu,
            threads: 1,
        };
        compile(&self.model, &options).map_err(|e| e.to_string())
    }

    fn emit(&self, name: &str, targets: &[Isa], sample: &[Tensor]) -> Result<Crate, String> {
        let program = self.program(Cpu::detect())?;
        emitted(&program, name, targets, Some(sample.to_vec())).map_err(|e| e.to_string())
    }
}

fn small_model(i: usize) -> Result<Subject, String> {
    let model = SMALL[i].quantized().map_err(|e| e.to_string())?;
    let sample = values(&model, 100)?;
    Ok(Subject { model, sample })
}

/// The example of the documentation, statically quantized.
fn digits(name: &str) -> Result<Subject, String> {
    let folder = workspace_dir().join("docs/examples").join(name);
    let data = folder.join(format!("{name}_calib.npz"));
    let make = || {
        let mut model = onnxq::load(folder.join(format!("{name}.onnx")))?;
        let calibrator = Calibrator::files([&data], Batch::Auto);
        let session = Session::new("preprocess,quantize,fuse").calibrator(calibrator);
        session.run(&mut model)?;
        let sample = Data::open(&data, &model.graph, Batch::Auto)?.sample(5)?;
        Ok((model, sample.into_iter().flatten().collect()))
    };
    let (model, sample) = make().map_err(|e: onnxq::Error| e.to_string())?;
    Ok(Subject { model, sample })
}

/// Everything that is written, for no tier and for those of each architecture.
fn text(name: &str, subject: &Subject) -> Outcome {
    let sets = [
        ("portable", &[Isa::Portable][..]),
        ("x86_64", X86),
        ("aarch64", ARM),
    ];
    let mut model = None;
    for (set, targets) in sets {
        let made = subject.emit(name, targets, &subject.sample)?;
        for cpu in Cpu::available() {
            let program = subject.program(cpu)?;
            let other = emitted(&program, name, targets, Some(subject.sample.clone()));
            let other = other.map_err(|e| e.to_string())?;
            if other.files != made.files {
                return Err(format!(
                    "compiled for {} the crate is another one",
                    cpu.isa()
                ));
            }
        }
        snapshot(&format!("{name}.{set}"), &summary(&made)?)?;
        let text = |path| made.text(path).ok_or(format!("there is no {path}"));
        // The first line of the library names the targets.
        let (_, library) = text("src/lib.rs")?.split_once('\n').unwrap_or_default();
        let whole = [library.to_owned(), text("src/model.rs")?.to_owned()];
        match &model {
            None => model = Some(whole),
            Some(first) if *first == whole => {}
            Some(_) => {
                return Err(format!(
                    "for {set} the model's code is other than for portable"
                ));
            }
        }
    }
    let [library, model] = model.unwrap_or_default();
    snapshot(&format!("{name}.lib"), &library)?;
    snapshot(&format!("{name}.model"), &model)
}

/// The manifest, the first line of the library, the files; with sizes, but for those of the kernels,
/// which are as they are there.
fn summary(made: &Crate) -> Result<String, String> {
    let text = |path| made.text(path).ok_or(format!("there is no {path}"));
    let first = text("src/lib.rs")?.lines().next().unwrap_or_default();
    let mut summary = format!("{}\n{first}\n\n", text("Cargo.toml")?);
    for (path, bytes) in &made.files {
        match path.starts_with("src/kernels/") {
            true => summary.push_str(&format!("{path}\n")),
            false => summary.push_str(&format!("{path} {}\n", bytes.len())),
        }
    }
    Ok(summary)
}

fn snapshot(name: &str, text: &str) -> Outcome {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(workspace_dir().join("snapshots/emit"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let assert = || settings.bind(|| insta::assert_snapshot!(name, text));
    catch_unwind(AssertUnwindSafe(assert))
        .map_err(|_| format!("the text is not that of snapshots/emit/{name}.snap"))
}

/// The crate with all tiers: clean, right on each of them and on other inputs.
fn on_all_tiers(name: &str, subject: &Subject) -> Outcome {
    let name = format!("{name}_tiers");
    let made = subject.emit(&name, tiers(), &subject.sample)?;
    let emitted = Emitted::new(&name, &made)?;
    emitted.is_clean()?;
    emitted.golden(None, &[])?;
    for cpu in Cpu::available() {
        let said = emitted.golden(Some(cpu.isa()), &[]);
        said.map_err(|e| format!("{}: {e}", cpu.isa()))?;
    }
    let other = subject.emit(
        &name,
        tiers(),
        &values(subject.program(Cpu::detect())?.model(), 7)?,
    )?;
    for (path, bytes) in &made.files {
        let is_recorded = path == "tests/golden.bin";
        if (other.files[path] == *bytes) == is_recorded {
            return Err(format!("{path}, with other recorded inputs"));
        }
    }
    emitted.put(&other)?;
    emitted.golden(None, &[])
}

fn portable(name: &str, subject: &Subject) -> Outcome {
    let name = format!("{name}_portable");
    let made = subject.emit(&name, &[Isa::Portable], &subject.sample)?;
    let emitted = Emitted::new(&name, &made)?;
    emitted.is_clean()?;
    emitted.golden(None, &[])
}

/// Targets without an operating system, of which one may be installed.
const BARE: &[&str] = &[
    "x86_64-unknown-none",
    "aarch64-unknown-none",
    "thumbv7em-none-eabihf",
    "riscv32imac-unknown-none-elf",
    "wasm32v1-none",
];

const BARE_MANIFEST: &str = r#"[package]
name = "bare"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["staticlib"]

[features]
tiers = [@TIERS@]

[dependencies]
digits_bare = { path = "../digits_bare", default-features = false }

[profile.dev]
panic = "abort"
"#;

/// With a panic handler of its own: a second one, from the standard library, would be an error.
/// Without an allocator: that the `alloc` library is linked would be one, too.
const BARE_LIBRARY: &str = r#"#![no_std]

static INPUT: [f32; 64] = [0.5; 64];
static mut WORKSPACE: digits_bare::Workspace = digits_bare::Workspace::new();

/// # Safety
/// Not called twice at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn first_logit() -> f32 {
    let workspace = unsafe { &mut *&raw mut WORKSPACE };
    digits_bare::run(workspace, &digits_bare::Inputs { input: &INPUT }).logits[0]
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
"#;

/// The crate as a dependency of a library that has neither the standard library nor an allocator.
fn bare(subject: &Subject) -> Outcome {
    let made = subject.emit("digits_bare", tiers(), &subject.sample)?;
    Emitted::new("digits_bare", &made)?;
    let names = tiers().iter().map(|isa| format!("\"digits_bare/{isa}\""));
    let names: Vec<String> = names.collect();
    let manifest = BARE_MANIFEST.replace("@TIERS@", &names.join(", "));
    let user = Emitted::written("bare", &manifest, "src/lib.rs", BARE_LIBRARY)?;
    user.cargo(&["build"])?;
    user.cargo(&["build", "--features", "tiers"])?;
    let mut checked = 0;
    for target in BARE {
        let found = Command::new("rustc")
            .args(["--print", "target-libdir", "--target", target])
            .output();
        let folder = found.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        if folder.is_ok_and(|folder| !folder.is_empty() && Path::new(&folder).is_dir()) {
            user.cargo(&["check", "--target", target])?;
            checked += 1;
        }
    }
    if checked == 0 {
        notice(
            "note: no target without an operating system is installed; checked on this one alone",
        );
    }
    Ok(())
}

const CODES_TEST: &str = r#"use digits_codes::*;

type Code = @CODE@;

fn quantize(x: f32) -> Code {
    let code = (x / INPUT_SCALE).round_ties_even() as i32 + i32::from(INPUT_ZERO_POINT);
    code.clamp(i32::from(Code::MIN), i32::from(Code::MAX)) as Code
}

#[test]
fn codes_are_what_floats_become() {
    let input: [f32; 64] = std::array::from_fn(|i| (i * 37 % 64) as f32 / 60.0);
    let codes = input.map(quantize);
    let mut model = Model::new();
    let logits = *model.run(&Inputs { input: &input }).logits;
    let found = *model.run_quantized(&QuantizedInputs { input: &codes }).logits;
    let zero = i32::from(LOGITS_ZERO_POINT);
    assert_eq!(found.map(|code| (i32::from(code) - zero) as f32 * LOGITS_SCALE), logits);

    let mut memory = Box::new(Workspace::new());
    assert_eq!(*run(&mut memory, &Inputs { input: &input }).logits, logits);
    let again = run_quantized(&mut memory, &QuantizedInputs { input: &codes });
    assert_eq!(*again.logits, found);
}
"#;

fn codes(subject: &Subject) -> Outcome {
    let mut made = subject.emit("digits_codes", tiers(), &subject.sample)?;
    let library = made.text("src/lib.rs").unwrap_or_default();
    let code = ["u8", "i8"]
        .into_iter()
        .find(|code| library.contains(&format!("pub const INPUT_ZERO_POINT: {code}")));
    let test = CODES_TEST.replace("@CODE@", code.ok_or("the model takes no codes")?);
    made.files.insert("tests/codes.rs".to_owned(), test.into());
    let said = Emitted::new("digits_codes", &made)?.cargo(&["test", "--test", "codes"])?;
    match said.contains("test codes_are_what_floats_become ... ok") {
        true => Ok(()),
        false => Err(said),
    }
}

fn benchmark(subject: &Subject) -> Outcome {
    let made = subject.emit("digits_bench", tiers(), &subject.sample)?;
    let emitted = Emitted::new("digits_bench", &made)?;
    let said = emitted.cargo(&["run", "--release", "--example", "bench"])?;
    let mut lines = said.lines();
    let isa = lines
        .next()
        .and_then(|line| line.strip_prefix("instructions: "));
    if isa != Some(Cpu::detect().isa().name()) {
        return Err(format!("instructions: {isa:?}"));
    }
    let last = lines
        .next_back()
        .and_then(|line| line.strip_prefix("median_ms: "));
    match last.and_then(|ms| ms.parse::<f64>().ok()) {
        Some(ms) if ms > 0.0 => Ok(()),
        _ => Err(format!("no time: {said}")),
    }
}

/// A program that predicts, and one that does nothing.
fn size(name: &str, subject: &Subject) -> Outcome {
    let name = format!("{name}_size");
    let made = subject.emit(&name, &[Isa::Portable], &subject.sample)?;
    Emitted::new(&name, &made)?;
    let len: usize = subject.sample[0].dims().iter().product();
    let predicts = format!(
        "fn main() {{\n    let mut model = {name}::Model::new();\n    let input = [0.5; {len}];\n    \
         println!(\"{{:?}}\", model.run(&{name}::Inputs {{ input: &input }}).logits);\n}}\n"
    );
    let nothing = "fn main() {\n    println!(\"{:?}\", [0.5f32; 10]);\n}\n";
    let mut sizes = Vec::new();
    for (user, dependency, text) in [
        (
            format!("{name}_user"),
            format!("{name} = {{ path = \"../{name}\" }}"),
            &*predicts,
        ),
        (format!("{name}_nothing"), String::new(), nothing),
    ] {
        let manifest = format!(
            "[package]\nname = \"{user}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n{dependency}\n\n\
             [profile.release]\nstrip = true\n"
        );
        let built = Emitted::written(&user, &manifest, "src/main.rs", text)?;
        built.cargo(&["build", "--release"])?;
        let file = released(&user);
        let found = fs::metadata(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        sizes.push(found.len());
    }
    let grown = sizes[0].saturating_sub(sizes[1]);
    notice(&format!("note: {name}: {grown} bytes of code and weights"));
    match grown < SIZE && grown > 0 {
        true => Ok(()),
        false => Err(format!("{grown} bytes, of {SIZE}")),
    }
}

/// The example, where it is: with the versions of dependencies that the workspace has.
fn example() -> Outcome {
    let folder = workspace_dir().join("docs/examples/emit");
    fs::copy(
        workspace_dir().join("Cargo.lock"),
        folder.join("Cargo.lock"),
    )
    .map_err(|e| format!("Cargo.lock cannot be copied: {e}"))?;
    let said = cargo(&folder, &["run", "--release"])?;
    match said.starts_with("it is a 3, says the model on ") && said.lines().count() == 1 {
        true => Ok(()),
        false => Err(said),
    }
}

/// What has no form as text is refused, all of it, by name.
fn refused() -> Outcome {
    let model = onnxq::parse(
        r#"<ir_version: 8, opset_import: ["": 17]>
        main (float[4, 8] x) => (float[4, 8] y, float[4, 4] z)
        <float[8, 4] w = ["seed": "1"], int64 axis = {1}>
        { [sums] y = CumSum (x, axis) [product] z = MatMul (x, w) }"#,
    );
    let model = model.map_err(|e| e.to_string())?;
    let program = compile(&model, &CompileOptions::default()).map_err(|e| e.to_string())?;
    let error = match emitted(&program, "refused", &[Isa::Portable], None) {
        Ok(_) => return Err("there is a crate".to_owned()),
        Err(e) => e.to_string(),
    };
    let expected = ["2 of 2 steps", "'sums'", "'product'"];
    match expected.iter().all(|part| error.contains(part)) {
        true => Ok(()),
        false => Err(error),
    }
}

/// A model of the zoo for one tier.
fn large(stages: &Stages, form: &str, isa: Isa) -> Outcome {
    let stage = match form {
        "static" => stages.static_fused()?,
        _ => stages.quantized()?,
    };
    let inputs = match &*stages.name {
        "minilm" => sentence(),
        _ => stages
            .io()?
            .map(|io| io.inputs)
            .ok_or("there are no inputs")?,
    };
    let subject = Subject::new(&stage.model, &inputs)?;
    let name = format!("{}_{form}_{isa}", stages.name);
    let emitted = Emitted::new(&name, &subject.emit(&name, &[isa], &subject.sample)?)?;
    emitted.cargo(&["fmt", "--check"])?;
    emitted.golden(None, &["--release"])
}

/// 128 tokens, of which the last are padding.
fn sentence() -> Tensors {
    let tokens = |f: fn(i64) -> i64| {
        let values = (0..128).map(f).collect();
        Tensor::from_vec([1, 128].as_slice(), values).expect("there are 128")
    };
    Tensors::from_iter([
        (
            "input_ids".to_owned(),
            tokens(|i| if i < 100 { 1000 + i * 37 % 9000 } else { 0 }),
        ),
        ("attention_mask".to_owned(), tokens(|i| i64::from(i < 100))),
        ("token_type_ids".to_owned(), tokens(|_| 0)),
    ])
}

/// Whether `tests/aarch64.sh` can build and run for AArch64 here.
fn emulator() -> bool {
    let ready = Command::new(workspace_dir().join("tests/aarch64.sh"))
        .arg("ready")
        .output();
    ready.is_ok_and(|output| output.status.success())
}

fn emulated_run(name: &str, subject: &Subject, isa: Isa) -> Outcome {
    let name = format!("{name}_{isa}");
    let emitted = Emitted::new(&name, &subject.emit(&name, &[isa], &subject.sample)?)?;
    let output = Command::new(workspace_dir().join("tests/aarch64.sh"))
        .arg("in")
        .arg(emitted.folder())
        .args(["--test", "golden"])
        .output()
        .map_err(|e| format!("tests/aarch64.sh cannot be run: {e}"))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    match output.status.success() && text.contains("test outputs_are_as_recorded ... ok") {
        true => Ok(()),
        false => Err(text),
    }
}
