//! `onnxq-opt emit`: what is written and where, what is refused and how, and that the crate works.

use std::fs;

use onnxq::{Cpu, Isa};
use onnxq_tests::{
    emitted::cargo,
    program::{Outcome, Workbench},
};

const MODEL: &str = r#"<ir_version: 8, opset_import: ["": 17]>
main (float[N, 8] x) => (float[N, 4] y)
<float[8, 4] w = ["seed": "1"], float[4] b = ["seed": "2"]>
{
    [product] h = MatMul (x, w)
    [sum] y = Add (h, b)
}"#;

/// A sum that only the reference knows, among steps that have kernels.
const UNSUPPORTED: &str = r#"<ir_version: 8, opset_import: ["": 17]>
main (float[2, 8] x) => (uint8[2, 8] y)
<int64 axis = {1}, float s = {0.1}, uint8 z = {7}>
{ [first] a = CumSum (x, axis) [relu] h = Relu (a) [second] c = CumSum (h, axis) [out] y = QuantizeLinear (c, s, z) }"#;

/// A folder with a quantized model that leaves a dimension open.
fn bench() -> Workbench {
    let bench = Workbench::new();
    bench.write("m.txt", MODEL);
    let passes = "preprocess,quantize{mode=dynamic},fuse";
    let outcome = bench.run(["m.txt", "--passes", passes, "-o", "m.onnx"]);
    outcome.success().unwrap();
    bench
}

fn emit(bench: &Workbench, args: &[&str]) -> Outcome {
    bench.run(["emit", "m.onnx", "--shape", "x=2x8"].iter().chain(args))
}

fn read(bench: &Workbench, path: &str) -> String {
    fs::read_to_string(bench.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn a_crate_is_written_that_works() {
    let bench = bench();
    let outcome = emit(&bench, &["-o", "my-model", "--target", "portable"]);
    let said = &outcome.success().unwrap().stderr;
    assert!(
        said.starts_with("note: m.onnx -> my-model: crate 'my-model', ")
            && said.lines().count() == 1,
        "{said}"
    );
    assert!(outcome.stdout.is_empty());
    assert_eq!(bench.files(), ["m.onnx", "m.txt", "my-model"]);
    for path in [
        "Cargo.toml",
        "README.md",
        "src/lib.rs",
        "src/model.rs",
        "src/kernels/mod.rs",
        "tests/golden.rs",
        "examples/bench.rs",
    ] {
        assert!(
            !read(&bench, &format!("my-model/{path}")).is_empty(),
            "{path}"
        );
    }
    let library = read(&bench, "my-model/src/lib.rs");
    assert!(library.starts_with("//! `my-model`, compiled from `m.onnx` for `portable`.\n"));
    for name in ["product", "x", "y"] {
        assert!(library.contains(name), "{name}");
    }
    let said = cargo(&bench.path("my-model"), &["test"]).unwrap();
    assert!(
        said.contains("test outputs_are_as_recorded ... ok"),
        "{said}"
    );
}

#[test]
fn quiet_says_nothing() {
    let bench = bench();
    let outcome = emit(&bench, &["-o", "c", "--quiet"]);
    assert_eq!(outcome.success().unwrap().stderr, "");
}

#[test]
fn the_target_is_that_of_the_machine_unless_told() {
    let bench = bench();
    let targets = |args: &[&str]| {
        emit(&bench, &[&["-o", "c"], args].concat())
            .success()
            .unwrap();
        let library = read(&bench, "c/src/lib.rs");
        let first = library.lines().next().unwrap();
        first.split_once(" for ").unwrap().1.to_owned()
    };
    let native = format!("`{}`.", Cpu::detect().isa());
    assert_eq!(targets(&[]), native);
    assert_eq!(targets(&["--target", "native"]), native);
    // Of any architecture: a crate is not built where it is written.
    for isa in Isa::ALL {
        assert_eq!(targets(&["--target", isa.name()]), format!("`{isa}`."));
    }
    assert_eq!(targets(&["--target", "amx,avx2"]), "`amx`, `avx2`.");
    let manifest = read(&bench, "c/Cargo.toml");
    assert!(manifest.contains("amx = [\"avx512vnni\"]\n"), "{manifest}");
    let tiles = |name: &str| {
        bench
            .path(&format!("c/src/kernels/tile/{name}.rs"))
            .exists()
    };
    assert!(tiles("amx") && tiles("avx2") && tiles("portable") && !tiles("neon"));
    let unknown = emit(&bench, &["-o", "d", "--target", "sse2"]);
    let (message, help) = unknown.failure(2).unwrap();
    assert!(
        format!("{message} {help:?}").contains("avx512vnni"),
        "{message}"
    );
}

#[test]
fn open_dimensions_are_asked_for() {
    let bench = bench();
    let outcome = bench.run(["emit", "m.onnx", "-o", "c"]);
    let (message, help) = outcome.failure(2).unwrap();
    assert!(
        message.starts_with("m.onnx: ") && message.contains("'x' (Nx8)"),
        "{message}"
    );
    assert!(help.unwrap().contains("--shape x=Nx8"), "{help:?}");
    let misfit = bench.run(["emit", "m.onnx", "-o", "c", "--shape", "x=1x9"]);
    assert!(misfit.failure(1).unwrap().0.contains("'x'"));
    let unknown = emit(&bench, &["-o", "c", "--shape", "z=1x8"]);
    assert!(unknown.failure(1).unwrap().0.contains("the inputs are x"));
    assert_eq!(bench.files(), ["m.onnx", "m.txt"]);
}

#[test]
fn all_steps_that_cannot_be_emitted_are_listed() {
    let bench = Workbench::new();
    bench.write("m.txt", UNSUPPORTED);
    let outcome = bench.run(["emit", "m.txt", "-o", "c"]);
    let (message, _) = outcome.failure(1).unwrap();
    assert!(
        message.starts_with("m.txt: 2 of 4 steps cannot be emitted: 'first' (reference CumSum), 'second' (reference CumSum), where "),
        "{message}"
    );
    assert_eq!(bench.files(), ["m.txt"]);
}

#[test]
fn a_shape_that_depends_on_data_is_an_error() {
    let bench = Workbench::new();
    bench.write(
        "m.txt",
        r#"<ir_version: 8, opset_import: ["": 17]>
        main (float[9] x) => (uint8[M] y)
        <float s = {0.5}, uint8 z = {3}>
        { at = NonZero (x) rows = Squeeze (at) kept = Gather (x, rows) y = QuantizeLinear (kept, s, z) }"#,
    );
    let outcome = bench.run(["emit", "m.txt", "-o", "c"]);
    let (message, _) = outcome.failure(1).unwrap();
    assert!(message.starts_with("m.txt: the shape of "), "{message}");
    assert_eq!(bench.files(), ["m.txt"]);
}

#[test]
fn names_are_those_of_crates() {
    let bench = bench();
    let name = |args: &[&str]| {
        emit(&bench, args).success().unwrap();
        let manifest = read(&bench, &format!("{}/Cargo.toml", args[1]));
        let line = manifest
            .lines()
            .find(|line| line.starts_with("name = "))
            .unwrap();
        line.trim_start_matches("name = ")
            .trim_matches('"')
            .to_owned()
    };
    assert_eq!(name(&["-o", "my model.v2"]), "my_model_v2");
    assert_eq!(name(&["-o", "a", "--name", "other-name"]), "other-name");
    // A folder in a folder that is not there.
    assert_eq!(name(&["-o", "deep/er/one"]), "one");
    let refused = emit(&bench, &["-o", "7x7"]);
    let (message, help) = refused.failure(2).unwrap();
    assert!(
        message.contains("'7x7'") && help.unwrap().contains("--name"),
        "{message}"
    );
    for bad in ["", "a b", "7", "a/b", "é"] {
        let refused = emit(&bench, &["-o", "b", "--name", bad]);
        let (message, _) = refused.failure(2).unwrap();
        assert!(message.contains(&format!("'{bad}'")), "{message}");
    }
    assert!(!bench.path("b").exists() && !bench.path("7x7").exists());
}

#[test]
fn what_is_there_already_is_left_alone() {
    let bench = bench();
    fs::create_dir(bench.path("notes")).unwrap();
    bench.write("notes/todo.txt", "keep me");
    fs::create_dir(bench.path("other")).unwrap();
    bench.write("other/Cargo.toml", "[package]\nname = \"other\"\n");
    for folder in ["notes", "other", "m.txt"] {
        let refused = emit(&bench, &["-o", folder, "--name", "c"]);
        let (message, _) = refused.failure(1).unwrap();
        assert!(message.starts_with(&format!("{folder}: ")), "{message}");
    }
    assert_eq!(read(&bench, "notes/todo.txt"), "keep me");
    assert_eq!(fs::read_dir(bench.path("notes")).unwrap().count(), 1);
    assert_eq!(bench.files(), ["m.onnx", "m.txt", "notes", "other"]);
    // An empty folder is as good as none.
    fs::create_dir(bench.path("empty")).unwrap();
    emit(&bench, &["-o", "empty"]).success().unwrap();
}

#[test]
fn an_earlier_crate_is_replaced_and_what_cargo_made_stays() {
    let bench = bench();
    emit(&bench, &["-o", "c", "--target", "avx2"])
        .success()
        .unwrap();
    fs::create_dir(bench.path("c/target")).unwrap();
    bench.write("c/target/built", "by cargo");
    bench.write("c/Cargo.lock", "locked");
    bench.write("c/src/stale.rs", "");
    emit(&bench, &["-o", "c", "--target", "portable"])
        .success()
        .unwrap();
    assert_eq!(read(&bench, "c/target/built"), "by cargo");
    assert_eq!(read(&bench, "c/Cargo.lock"), "locked");
    assert!(!bench.path("c/src/stale.rs").exists());
    assert!(!bench.path("c/src/kernels/tile/avx2.rs").exists());
    assert_eq!(bench.files(), ["c", "m.onnx", "m.txt"]);
    // One that fails leaves what was there.
    let before = read(&bench, "c/src/lib.rs");
    bench.run(["emit", "m.onnx", "-o", "c"]).failure(2).unwrap();
    bench.write("u.txt", UNSUPPORTED);
    assert_eq!(bench.run(["emit", "u.txt", "-o", "c"]).status, Some(1));
    assert_eq!(read(&bench, "c/src/lib.rs"), before);
    assert_eq!(bench.files(), ["c", "m.onnx", "m.txt", "u.txt"]);
}

#[cfg(unix)]
#[test]
fn nothing_is_left_half_written() {
    let bench = bench();
    // There is no place for a folder below a file.
    let outcome = emit(&bench, &["-o", "m.txt/c"]);
    let (message, _) = outcome.failure(1).unwrap();
    assert!(message.starts_with("m.txt/c: "), "{message}");
    assert_eq!(bench.files(), ["m.onnx", "m.txt"]);
    assert_eq!(read(&bench, "m.txt"), MODEL);
}

#[test]
fn the_same_model_gives_the_same_files() {
    let bench = bench();
    let text = |folder: &str| {
        emit(
            &bench,
            &["-o", folder, "--name", "c", "--target", "amx,avx2"],
        )
        .success()
        .unwrap();
        [
            "src/lib.rs",
            "src/model.rs",
            "Cargo.toml",
            "tests/golden.rs",
        ]
        .map(|path| read(&bench, &format!("{folder}/{path}")))
    };
    assert_eq!(text("a"), text("b"));
}
