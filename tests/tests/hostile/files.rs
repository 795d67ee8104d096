//! Files that are cut off or damaged, that lie about sizes, or that cannot be read or written.

use std::{fs, path::Path};

use onnxq_ir::{Model, text};
use onnxq_tests::{
    case::{Case, cases},
    program::Workbench,
    subject::to_bytes,
    wire::{Message, graph, model, node},
};

use super::{accepts, decides, digits, refuses, survives};

#[test]
fn truncated_files() {
    let bytes = digits();
    let step = bytes.len() / 300;
    for end in (0..bytes.len()).step_by(step) {
        survives(&format!("the first {end} bytes"), bytes[..end].to_vec());
    }
    let mut cuts: Vec<usize> = (0..20).collect();
    cuts.extend((0..bytes.len()).step_by(bytes.len() / 20));
    for end in cuts {
        decides(&format!("the first {end} bytes"), &bytes[..end]);
    }
}

#[test]
fn every_prefix_and_every_flipped_bit_of_small_files() {
    let mut good = 0;
    for (name, source) in cases().unwrap() {
        let case = Case::parse(&source).unwrap();
        if !name.starts_with("ir/") {
            continue;
        }
        let def = text::parse(&case.model, &()).unwrap();
        let bytes = to_bytes(&Model::from_def(def).unwrap()).unwrap();
        for end in 0..bytes.len() {
            survives(&format!("{name}, {end} bytes"), bytes[..end].to_vec());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            good += usize::from(survives(&format!("{name}, bit {bit}"), flipped));
        }
    }
    assert!(
        good > 100,
        "only {good} are still models: is anything tested?"
    );
}

#[test]
fn flipped_bits_of_a_real_file() {
    let bytes = digits();
    let mut random = Random(7);
    for round in 0..300 {
        let mut flipped = bytes.clone();
        for _ in 0..=round % 4 {
            let bit = random.below(bytes.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
        let what = format!("round {round}");
        if round % 20 == 0 {
            decides(&what, &flipped);
        }
        survives(&what, flipped);
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

#[test]
fn files_that_are_no_models() {
    refuses(b"");
    refuses(b"{\"not\": \"onnx\"}");
    refuses(&[0xff; 64]);
    refuses(b"\x89PNG\r\n\x1a\n0123456789");
    refuses(&[0; 1000]);
}

#[test]
fn lengths_that_lie() {
    for len in [3, 1 << 20, 1 << 32, 1 << 62, u64::MAX] {
        refuses(&Message::new().int(1, 8).length(7, len).finish());
        let lying = Message::new().bytes(2, "g").length(5, len);
        refuses(&model(&lying));
    }
}

fn add(initializer: &Message) -> Vec<u8> {
    model(&graph(&node("Add", &["x", "w"], &["y"]), Some(initializer)))
}

/// A `TensorProto` named `w`.
fn tensor(dtype: i64, dims: &[i64]) -> Message {
    let dims = dims
        .iter()
        .fold(Message::new(), |tensor, &dim| tensor.int(1, dim));
    dims.int(2, dtype).bytes(8, "w")
}

#[test]
fn tensors_whose_size_is_not_that_of_their_data() {
    let zeros = [0u8; 8];
    accepts(&add(&tensor(1, &[2]).bytes(9, zeros)));
    for dims in [
        &[3i64][..],
        &[1],
        &[i64::MAX],
        &[1 << 40],
        &[-2],
        &[1 << 32, 1 << 32],
        &[i64::MAX, 2, 2],
    ] {
        let message = refuses(&add(&tensor(1, dims).bytes(9, zeros)));
        assert!(message.contains("`w`"), "{message}");
        refuses(&add(&tensor(1, dims)));
    }
    for dtype in [-1, 0, 99, i64::MAX] {
        refuses(&add(&tensor(dtype, &[2]).bytes(9, zeros)));
    }
    // The data of two types at once, and a tensor twice.
    decides(
        "two fields",
        &add(&tensor(1, &[2]).bytes(9, zeros).bytes(4, zeros)),
    );
    let w = tensor(1, &[2]).bytes(9, zeros);
    let twice = graph(&node("Add", &["x", "w"], &["y"]), Some(&w)).message(5, &w);
    decides("an initializer twice", &model(&twice));
}

#[test]
fn external_data_stays_beside_the_model() {
    let external = |location: &str, entries: &[(&str, &str)]| {
        let mut entries = entries.to_vec();
        entries.push(("location", location));
        let tensor = entries
            .iter()
            .fold(tensor(1, &[2]), |tensor, (key, value)| {
                tensor.message(13, &Message::new().bytes(1, key).bytes(2, value))
            });
        add(&tensor.int(14, 1))
    };
    let bench = Workbench::new();
    bench.write("weights", [0u8; 16]);
    fs::create_dir(bench.path("sub")).unwrap();
    let run = |bytes: &[u8]| {
        bench.write("sub/a.onnx", bytes);
        bench.run(["sub/a.onnx", "--passes", "preprocess", "-o", "sub/out.onnx"])
    };
    let outside = bench.path("weights");
    for location in [
        "../weights",
        "./../weights",
        "x/../../weights",
        outside.to_str().unwrap(),
        "/etc/hostname",
        "/dev/zero",
        "",
        "missing",
        ".",
        "a\0b",
    ] {
        let outcome = run(&external(location, &[]));
        outcome
            .failure(1)
            .unwrap_or_else(|e| panic!("{location}: {e}"));
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(bench.path("weights"), bench.path("sub/link")).unwrap();
        run(&external("link", &[])).failure(1).unwrap();
    }
    bench.write("sub/weights", [0u8; 16]);
    run(&external("weights", &[("offset", "8"), ("length", "8")]))
        .success()
        .unwrap();
    fs::remove_file(bench.path("sub/out.onnx")).unwrap();
    for (offset, length) in [
        ("12", "8"),
        ("8", "9"),
        ("0", "4"),
        ("-1", "8"),
        ("18446744073709551615", "8"),
        ("8", "18446744073709551615"),
        ("one", "8"),
    ] {
        let entries = [("offset", offset), ("length", length)];
        let outcome = run(&external("weights", &entries));
        outcome
            .failure(1)
            .unwrap_or_else(|e| panic!("{entries:?}: {e}"));
    }
    assert!(!bench.path("sub/out.onnx").exists());
}

#[test]
fn files_that_cannot_be_read_or_written() {
    let bench = Workbench::new();
    bench.write("good.onnx", digits());
    fs::create_dir(bench.path("folder.onnx")).unwrap();
    let passes = ["--passes", "preprocess", "-o"];
    for (model, out) in [
        ("missing.onnx", "out.onnx"),
        ("folder.onnx", "out.onnx"),
        ("good.onnx", "folder.onnx"),
        ("good.onnx", "missing/out.onnx"),
    ] {
        let outcome = bench.run([model].into_iter().chain(passes).chain([out]));
        outcome
            .failure(1)
            .unwrap_or_else(|e| panic!("{model} {out}: {e}"));
    }
    assert_eq!(bench.files(), ["folder.onnx", "good.onnx"]);
    if Path::new("/dev/full").exists() {
        let outcome = bench.run(["good.onnx", "--passes", "preprocess", "-o", "/dev/full"]);
        assert_ne!(outcome.status, None);
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    }
}
