//! The command line's contract: exit status, messages, options, and what is written where.

use std::{fs, path::PathBuf};

use onnxq_tensor::Tensor;
use onnxq_tests::{
    metrics::allclose,
    oracle::{Tensors, oracle},
    program::Workbench,
    workspace_dir,
};

/// A model that every pipeline changes: an Identity to drop, a MatMul to quantize.
const MODEL: &str = r#"<ir_version: 8, opset_import: ["": 13]>
main (float[2, 16] x) => (float[2, 4] y)
<float[16, 4] w = ["seed": "1"], float[4] b = {0.5, -0.5, 0.25, 1}>
{
    a = Identity (x)
    [head] m = MatMul (a, w)
    s = Add (m, b)
    y = Relu (s)
}"#;

/// A folder with `model.onnx`.
fn bench() -> Workbench {
    let bench = Workbench::new();
    bench.write("text.txt", MODEL);
    let outcome = bench.run(["text.txt", "--passes", "", "-o", "model.onnx"]);
    outcome.success().unwrap();
    fs::remove_file(bench.path("text.txt")).unwrap();
    bench
}

fn example(file: &str) -> PathBuf {
    workspace_dir().join("docs/examples/digits").join(file)
}

fn x(rows: usize) -> Tensor {
    let values = (0..rows * 16).map(|i| ((i * 37 % 64) as f32) / 32.0 - 1.0);
    Tensor::from_vec([rows, 16].as_slice(), values.collect()).unwrap()
}

fn operators(text: &str) -> Vec<&str> {
    let known = ["Identity", "MatMul", "Gemm", "Add", "Relu"];
    known.into_iter().filter(|op| text.contains(op)).collect()
}

#[test]
fn a_pipeline_writes_a_model_that_others_load() {
    let bench = bench();
    let outcome = bench.run(["model.onnx", "--passes", "preprocess", "-o", "out.onnx"]);
    outcome.success().unwrap();
    assert!(outcome.stdout.is_empty());
    oracle().check(&bench.path("out.onnx")).unwrap();
    let inputs = Tensors::from_iter([("x".to_owned(), x(2))]);
    let run = |name: &str| oracle().run(&bench.path(name), &inputs, Default::default());
    let (before, after) = (run("model.onnx").unwrap(), run("out.onnx").unwrap());
    assert!(allclose(&before["y"], &after["y"]));
    let text = bench.run(["print", "out.onnx"]).text();
    assert!(!text.contains("Identity"), "{text}");
}

#[test]
fn bad_arguments_have_status_2() {
    let bench = bench();
    let refused = |args: &[&str]| {
        let outcome = bench.run(args);
        let (message, help) = outcome.failure(2).unwrap();
        (message.to_owned(), help.unwrap_or_default().to_owned())
    };
    refused(&[]);
    refused(&["model.onnx"]);
    refused(&["model.onnx", "--passes"]);
    refused(&["model.onnx", "--passes", "preprocess", "--no-such-option"]);
    refused(&["model.onnx", "--passes", "preprocess", "--threads", "many"]);
    refused(&["model.onnx", "--passes", "preprocess", "--emit", "pdf"]);
    refused(&["model.onnx", "--passes", "preprocess{"]);
    refused(&["model.onnx", "--passes", "preprocess,,preprocess"]);
    refused(&[
        "model.onnx",
        "--passes",
        "preprocess",
        "--config",
        "missing.toml",
    ]);
    refused(&[
        "model.onnx",
        "--passes",
        "preprocess",
        "--print-ir-after",
        "nothing",
    ]);
    refused(&["run", "model.onnx"]);
    assert_eq!(bench.files(), ["model.onnx"]);
}

#[test]
fn bad_files_have_status_1() {
    let bench = bench();
    bench.write("bad.onnx", b"no model");
    for args in [
        &["missing.onnx", "--passes", "preprocess"][..],
        &["bad.onnx", "--passes", "preprocess", "-o", "out.onnx"],
        &["print", "missing.onnx"],
        &["print", "--stats", "bad.onnx"],
        &["diff", "model.onnx", "bad.onnx"],
        &[
            "run",
            "model.onnx",
            "--inputs",
            "missing.npz",
            "--outputs",
            "out.npz",
        ],
    ] {
        let outcome = bench.run(args);
        let (message, _) = outcome
            .failure(1)
            .unwrap_or_else(|e| panic!("{args:?}: {e}"));
        let named = ["missing.onnx", "bad.onnx", "missing.npz"];
        assert!(named.iter().any(|file| message.contains(file)), "{message}");
    }
    assert_eq!(bench.files(), ["bad.onnx", "model.onnx"]);
}

#[test]
fn misspelt_names_are_answered_with_the_nearest() {
    let bench = bench();
    let help = |pipeline: &str| {
        let outcome = bench.run(["model.onnx", "--passes", pipeline, "-o", "out.onnx"]);
        let (message, help) = outcome.failure(2).unwrap();
        assert!(message.contains('`'), "{message}");
        help.unwrap_or_default().to_owned()
    };
    assert!(help("preproces").contains("`preprocess`"));
    assert!(help("eliminate-identitys").contains("`eliminate-identities`"));
    assert!(help("quantize{per-chanel}").contains("`per-channel`"));
    let outcome = bench.run(["model.onnx", "--passs", "preprocess"]);
    let (_, help) = outcome.failure(2).unwrap();
    assert!(help.unwrap_or_default().contains("--passes"), "{help:?}");
}

#[test]
fn help_and_version_go_to_standard_output() {
    let bench = Workbench::new();
    for args in [&["--help"][..], &["-h"], &["--version"], &["run", "--help"]] {
        let outcome = bench.run(args);
        outcome.success().unwrap();
        assert!(outcome.text().contains("onnxq-opt") && outcome.stderr.is_empty());
    }
}

#[test]
fn streams_take_the_place_of_files() {
    let bench = bench();
    let bytes = fs::read(bench.path("model.onnx")).unwrap();
    let piped = bench.run_with(["-", "--passes", "preprocess", "-o", "-"], &bytes);
    piped.success().unwrap();
    bench.run(["model.onnx", "--passes", "preprocess", "-o", "out.onnx"]);
    assert_eq!(piped.stdout, fs::read(bench.path("out.onnx")).unwrap());
    let text = bench.run_with(
        ["-", "--passes", "preprocess", "-o", "-", "--emit", "text"],
        &bytes,
    );
    assert!(text.text().starts_with("<ir_version: "), "{}", text.text());
    let printed = bench.run_with(["print", "-"], &bytes);
    assert_eq!(printed.text(), bench.run(["print", "model.onnx"]).text());
    let bad = bench.run_with(["-", "--passes", "preprocess", "-o", "-"], b"no model");
    assert!(bad.failure(1).unwrap().0.contains("standard input"));
}

#[test]
fn text_is_read_and_written() {
    let bench = bench();
    let passes = ["--passes", "preprocess", "-o"];
    bench
        .run(["model.onnx"].iter().chain(&passes).chain(&["out.txt"]))
        .success()
        .unwrap();
    let text = fs::read_to_string(bench.path("out.txt")).unwrap();
    assert_eq!(operators(&text), ["Gemm", "Relu"]);
    bench.run([
        "model.onnx",
        "--passes",
        "preprocess",
        "-o",
        "b.onnx",
        "--emit",
        "text",
    ]);
    assert_eq!(text, fs::read_to_string(bench.path("b.onnx")).unwrap());
    bench.write("bad.txt", "main (");
    let bad = bench.run(["bad.txt", "--passes", "preprocess"]);
    assert!(bad.failure(1).unwrap().0.contains("bad.txt"));
}

#[test]
fn the_config_file_gives_passes_and_options() {
    let bench = bench();
    bench.write("a.toml", "passes = \"eliminate-identities\"\n");
    let from_file = bench.run([
        "model.onnx",
        "--config",
        "a.toml",
        "-o",
        "-",
        "--emit",
        "text",
    ]);
    from_file.success().unwrap();
    assert!(!from_file.text().contains("Identity"));
    // The pipeline text wins over the file.
    let args = [
        "model.onnx",
        "--config",
        "a.toml",
        "--passes",
        "",
        "-o",
        "-",
        "--emit",
        "text",
    ];
    assert!(bench.run(args).text().contains("Identity"));

    for (content, word) in [
        ("passes = 3", "passes"),
        ("[quantise]\nper-channel = true", "quantise"),
        ("[eliminate-identities]\nno-such-key = true", "no-such-key"),
        ("not toml", "bad.toml"),
    ] {
        bench.write("bad.toml", content);
        let bad = bench.run([
            "model.onnx",
            "--config",
            "bad.toml",
            "--passes",
            "preprocess",
        ]);
        let (message, _) = bad.failure(2).unwrap();
        assert!(
            message.contains("bad.toml") && message.contains(word),
            "{message}"
        );
    }
}

#[test]
fn the_model_is_printed_after_passes() {
    let bench = bench();
    let stderr = |option: &[&str]| {
        let args = ["model.onnx", "--passes", "preprocess"];
        bench.run(args.iter().chain(option)).stderr
    };
    let all = stderr(&["--print-ir-after-all"]);
    let one = stderr(&["--print-ir-after", "eliminate-identities"]);
    let after = |text: &str| text.matches("# after ").count();
    assert!(after(&one) >= 1 && after(&all) > after(&one));
    assert!(one.contains("# after eliminate-identities\n"));
    let change = stderr(&["--print-ir-after-change"]);
    assert!(
        change
            .lines()
            .any(|l| l.starts_with('-') && l.contains("Identity")),
        "{change}"
    );
    assert!(change.lines().any(|l| l.starts_with("@@")), "{change}");
}

#[test]
fn the_model_is_dumped_after_every_pass() {
    let bench = bench();
    let args = [
        "model.onnx",
        "--passes",
        "eliminate-identities",
        "--dump-dir",
        "dump",
        "--dump-onnx",
    ];
    bench.run(args).success().unwrap();
    let text = fs::read_to_string(bench.path("dump/01-eliminate-identities.txt")).unwrap();
    assert_eq!(operators(&text), ["MatMul", "Add", "Relu"]);
    oracle()
        .check(&bench.path("dump/01-eliminate-identities.onnx"))
        .unwrap();
}

#[test]
fn bisecting_stops_after_so_many_rewrites() {
    let bench = Workbench::new();
    let text =
        "main (float[2] x) => (float[2] y) { a = Identity (x) b = Identity (a) y = Neg (b) }";
    bench.write("m.txt", text);
    let identities = |limit: &str| {
        let args = [
            "m.txt",
            "--passes",
            "eliminate-identities",
            "-o",
            "-",
            "--emit",
            "text",
        ];
        let outcome = bench.run(args.iter().chain(&["--opt-bisect-limit", limit]));
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
        let named = outcome.stderr.matches("rewrite ").count();
        (outcome.text().matches("Identity").count(), named)
    };
    assert_eq!(identities("0"), (2, 0));
    assert_eq!(identities("1"), (1, 1));
    assert_eq!(identities("9").0, 0);
}

#[test]
fn passes_are_timed_and_counted() {
    let bench = bench();
    let outcome = bench.run(["model.onnx", "--passes", "preprocess", "--time-passes"]);
    assert_eq!(outcome.status, Some(0));
    let row = outcome
        .stderr
        .lines()
        .find(|l| l.contains("eliminate-identities"));
    let numbers: Vec<&str> = row.unwrap().split_whitespace().collect();
    assert!(numbers.contains(&"4") && numbers.contains(&"3"), "{row:?}");
}

#[test]
fn quiet_says_less_and_verbose_says_more() {
    let bench = bench();
    let lines = |option: &[&str]| {
        let args = ["model.onnx", "--passes", "preprocess", "-o", "out.onnx"];
        bench.run(args.iter().chain(option)).stderr.lines().count()
    };
    assert_eq!(lines(&["--quiet"]), 0);
    assert!(lines(&[]) >= 1);
    assert!(lines(&["-v"]) >= lines(&[]));
}

#[test]
fn the_output_replaces_a_file_whole_or_not_at_all() {
    let bench = bench();
    let before = fs::read(bench.path("model.onnx")).unwrap();
    // In place: the mapped input is replaced by renaming.
    let outcome = bench.run(["model.onnx", "--passes", "preprocess", "-o", "model.onnx"]);
    outcome.success().unwrap();
    assert_ne!(before, fs::read(bench.path("model.onnx")).unwrap());
    assert_eq!(bench.files(), ["model.onnx"]);
    // A failure leaves the old file.
    bench.write("old.onnx", b"old");
    bench.write("bad.onnx", b"bad");
    bench
        .run(["bad.onnx", "--passes", "preprocess", "-o", "old.onnx"])
        .failure(1)
        .unwrap();
    assert_eq!(fs::read(bench.path("old.onnx")).unwrap(), b"old");
}

#[test]
fn external_data_goes_beside_the_output() {
    let bench = Workbench::new();
    fs::copy(example("digits.onnx"), bench.path("in.onnx")).unwrap();
    let passes = ["in.onnx", "--passes", "preprocess", "-o"];
    let run = |rest: &[&str]| bench.run(passes.iter().chain(rest));
    run(&["out.onnx", "--external-data"]).success().unwrap();
    assert_eq!(bench.files(), ["in.onnx", "out.onnx", "out.onnx.data"]);
    oracle().check(&bench.path("out.onnx")).unwrap();
    // And is found again.
    let text = bench.run(["print", "out.onnx"]).text();
    run(&["one.onnx"]).success().unwrap();
    assert_eq!(text, bench.run(["print", "one.onnx"]).text());
}

#[test]
fn run_reads_arrays_and_writes_outputs() {
    let bench = bench();
    let given = Tensors::from_iter([("x".to_owned(), x(6))]);
    oracle().write_npz(&bench.path("in.npz"), &given).unwrap();
    let run = |inputs: &str| {
        let args = [
            "run",
            "model.onnx",
            "--inputs",
            inputs,
            "--outputs",
            "out.npz",
        ];
        bench
            .run(args)
            .success()
            .unwrap_or_else(|e| panic!("{inputs}: {e}"));
        oracle().read_npz(&bench.path("out.npz")).unwrap()["y"].clone()
    };
    // Three samples of the model's batch of two.
    let from_npz = run("in.npz");
    let parts: Vec<Tensor> = (0..3)
        .map(|i| {
            let rows = x(6).rows(2 * i..2 * i + 2).unwrap();
            let inputs = Tensors::from_iter([("x".to_owned(), rows)]);
            let path = bench.path("model.onnx");
            oracle().run(&path, &inputs, Default::default()).unwrap()["y"].clone()
        })
        .collect();
    let expected = Tensor::concat_rows(&parts).unwrap();
    let stacked = expected.reshape(from_npz.dims()).unwrap();
    assert!(allclose(&stacked, &from_npz));

    // The same rows as a folder of files, in the order of their names.
    fs::create_dir(bench.path("folder")).unwrap();
    for i in 0..3 {
        let rows = x(6).rows(2 * i..2 * i + 2).unwrap();
        let part = Tensors::from_iter([("x".to_owned(), rows)]);
        let path = bench.path(&format!("folder/{i}.npz"));
        oracle().write_npz(&path, &part).unwrap();
    }
    assert_eq!(run("folder"), from_npz);
}

#[test]
fn data_that_does_not_fit_is_an_error_that_names_it() {
    let bench = bench();
    let refused = |name: &str, tensor: Tensor| {
        let given = Tensors::from_iter([(name.to_owned(), tensor)]);
        oracle().write_npz(&bench.path("in.npz"), &given).unwrap();
        let args = [
            "run",
            "model.onnx",
            "--inputs",
            "in.npz",
            "--outputs",
            "out.npz",
        ];
        let outcome = bench.run(args);
        outcome.failure(1).unwrap().0.to_owned()
    };
    assert!(refused("z", x(2)).contains('x'));
    let narrow = Tensor::from_vec([2usize, 3].as_slice(), vec![0f32; 6]).unwrap();
    assert!(refused("x", narrow).contains("in.npz"));
    let doubles = Tensor::from_vec([2usize, 16].as_slice(), vec![0f64; 32]).unwrap();
    assert!(refused("x", doubles).contains("float"));
    assert!(!bench.path("out.npz").exists());
}

#[test]
fn print_gives_text_and_figures() {
    let bench = bench();
    let text = bench.run(["print", "model.onnx"]);
    text.success().unwrap();
    assert_eq!(
        operators(&text.text()),
        ["Identity", "MatMul", "Add", "Relu"]
    );
    let stats = bench.run(["print", "model.onnx", "--stats"]).text();
    for word in ["4 nodes", "MatMul", "float", "quantized share 0.0 %"] {
        assert!(stats.contains(word), "no '{word}' in:\n{stats}");
    }
}

#[test]
fn diff_shows_what_changed() {
    let bench = bench();
    bench.run(["model.onnx", "--passes", "preprocess", "-o", "out.onnx"]);
    let outcome = bench.run(["diff", "model.onnx", "out.onnx"]);
    outcome.success().unwrap();
    let text = outcome.text();
    assert!(text.starts_with("--- model.onnx\n+++ out.onnx\n"), "{text}");
    assert!(
        text.lines()
            .any(|l| l.starts_with('-') && l.contains("Identity"))
    );
    assert!(
        bench
            .run(["diff", "out.onnx", "out.onnx"])
            .text()
            .is_empty()
    );
}

#[test]
fn passes_are_listed_for_people_and_programs() {
    let bench = Workbench::new();
    let text = bench.run(["passes"]).text();
    let json: serde_json::Value =
        serde_json::from_slice(&bench.run(["passes", "--json"]).stdout).unwrap();
    let names = |kind: &str| -> Vec<String> {
        let list = json[kind].as_array().unwrap();
        list.iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let (passes, pipelines) = (names("passes"), names("pipelines"));
    assert!(passes.contains(&"eliminate-identities".to_owned()));
    assert!(pipelines.contains(&"preprocess".to_owned()));
    for name in passes.iter().chain(&pipelines) {
        assert!(text.contains(name.as_str()), "{name} is not in:\n{text}");
    }
}

#[test]
fn two_runs_write_the_same_bytes() {
    let bench = Workbench::new();
    let digits = example("digits.onnx");
    let run = |out: &str, threads: &str| {
        let args = [
            "--passes",
            "preprocess,quantize,fuse",
            "--threads",
            threads,
            "-o",
            out,
        ];
        bench
            .run(
                [digits.as_os_str()]
                    .into_iter()
                    .chain(args.map(AsRef::as_ref)),
            )
            .success()
            .unwrap();
        fs::read(bench.path(out)).unwrap()
    };
    assert_eq!(run("a.onnx", "1"), run("b.onnx", "4"));
}

#[test]
fn quantizing_reports_what_it_did() {
    let bench = Workbench::new();
    let args = ["--passes", "preprocess,quantize,fuse", "-o", "out.onnx"];
    let run = |more: &[&str]| {
        let model = example("digits.onnx");
        let outcome = bench.run(
            [model.as_os_str()]
                .into_iter()
                .chain(args.map(AsRef::as_ref))
                .chain(more.iter().map(AsRef::as_ref)),
        );
        outcome.success().unwrap();
        outcome
    };
    assert!(run(&[]).stderr.contains("quantized 5 of 5 nodes"));
    let report: serde_json::Value = serde_json::from_slice(&run(&["--json"]).stdout).unwrap();
    assert!(report["bytes_after"].as_u64().unwrap() * 3 < report["bytes_before"].as_u64().unwrap());
    let stats = bench.run(["print", "out.onnx", "--stats"]).text();
    assert!(
        stats.contains("ConvInteger") && stats.contains("int8"),
        "{stats}"
    );
}

#[test]
fn nothing_to_quantize_is_a_warning() {
    let bench = Workbench::new();
    bench.write(
        "m.txt",
        "main (float[2] x) => (float[2] y) { y = Relu (x) }",
    );
    let outcome = bench.run([
        "m.txt",
        "--passes",
        "preprocess,quantize,fuse",
        "-o",
        "out.onnx",
    ]);
    outcome.success().unwrap();
    assert!(outcome.stderr.contains("warning: "), "{}", outcome.stderr);
    oracle().check(&bench.path("out.onnx")).unwrap();
}
