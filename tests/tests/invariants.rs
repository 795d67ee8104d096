//! Which package may reach which, as `docs/ARCHITECTURE.md` says, over `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use onnxq_tests::workspace_dir;

/// Everything a package reaches by normal dependencies, by name.
struct Reach {
    direct: BTreeMap<String, BTreeSet<String>>,
}

impl Reach {
    fn load() -> Reach {
        let metadata: Metadata = MetadataCommand::new()
            .manifest_path(workspace_dir().join("Cargo.toml"))
            .other_options([
                "--locked".to_owned(),
                "--filter-platform=host-tuple".to_owned(),
            ])
            .exec()
            .expect("cargo metadata runs");
        let name = |id| metadata[id].name.to_string();
        let resolve = metadata.resolve.as_ref().expect("metadata has the graph");
        let mut direct: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in &resolve.nodes {
            let normal = node.deps.iter().filter(|dep| {
                let mut kinds = dep.dep_kinds.iter();
                kinds.any(|kind| kind.kind == DependencyKind::Normal)
            });
            // Versions of a package are taken together: they have the same job.
            direct
                .entry(name(&node.id))
                .or_default()
                .extend(normal.map(|dep| name(&dep.pkg)));
        }
        Reach { direct }
    }

    /// Whether the workspace has this package yet.
    fn has(&self, package: &str) -> bool {
        self.direct.contains_key(package)
    }

    fn of(&self, package: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut pending = vec![package];
        while let Some(at) = pending.pop() {
            for next in self.direct.get(at).into_iter().flatten() {
                if reached.insert(next.as_str()) {
                    pending.push(next);
                }
            }
        }
        reached
    }

    /// Our packages among those that `package` reaches.
    fn ours(&self, package: &str) -> BTreeSet<&str> {
        let mut ours = self.of(package);
        ours.retain(|name| name.starts_with("onnxq"));
        ours
    }
}

/// What each package may reach of ours.
const MAY_REACH: &[(&str, &[&str])] = &[
    ("onnxq-tensor", &[]),
    ("onnxq-ir", &["onnxq-tensor"]),
    ("onnxq-onnx", &["onnxq-ir", "onnxq-tensor"]),
    ("onnxq-ops", &["onnxq-ir", "onnxq-tensor"]),
    ("onnxq-quant", &["onnxq-tensor"]),
    ("onnxq-pass", &["onnxq-ir", "onnxq-tensor"]),
    (
        "onnxq-passes",
        &[
            "onnxq-ir",
            "onnxq-ops",
            "onnxq-pass",
            "onnxq-quant",
            "onnxq-tensor",
        ],
    ),
    ("onnxq-kernels", &[]),
    (
        "onnxq-runtime",
        &[
            "onnxq-ir",
            "onnxq-kernels",
            "onnxq-ops",
            "onnxq-quant",
            "onnxq-tensor",
        ],
    ),
    (
        "onnxq-emit",
        &[
            "onnxq-ir",
            "onnxq-kernels",
            "onnxq-ops",
            "onnxq-quant",
            "onnxq-runtime",
            "onnxq-tensor",
        ],
    ),
];

#[test]
fn packages_reach_what_they_may() {
    let reach = Reach::load();
    for (package, allowed) in MAY_REACH {
        if !reach.has(package) {
            continue;
        }
        for reached in reach.ours(package) {
            assert!(
                allowed.contains(&reached),
                "{package} reaches {reached}, which docs/ARCHITECTURE.md rules out"
            );
        }
    }
}

#[test]
fn protobuf_stays_with_the_files() {
    let reach = Reach::load();
    for package in reach
        .direct
        .keys()
        .filter(|name| name.starts_with("onnxq-"))
    {
        let reached = reach.of(package);
        if reached.contains("prost") {
            let through = *package == "onnxq-onnx" || reached.contains("onnxq-onnx");
            assert!(
                through,
                "{package} reaches prost, but not through onnxq-onnx"
            );
        }
    }
    assert!(!reach.of("onnxq-ir").contains("prost"));
    assert!(!reach.of("onnxq-passes").contains("prost"));
}

#[test]
fn kernels_depend_on_nothing() {
    let reach = Reach::load();
    assert_eq!(reach.of("onnxq-kernels"), BTreeSet::new());
}

#[test]
fn the_pass_manager_names_no_pass() {
    let reach = Reach::load();
    assert!(!reach.of("onnxq-pass").contains("onnxq-passes"));
    assert!(!reach.of("onnxq-pass").contains("onnxq-ops"));
}

#[test]
fn the_emitter_sees_no_graph() {
    let reach = Reach::load();
    let direct = &reach.direct["onnxq-emit"];
    assert!(direct.contains("onnxq-runtime"));
    assert!(!direct.contains("onnxq-ir") && !direct.contains("onnxq-ops"));
}

#[test]
fn the_program_is_made_of_the_library() {
    let reach = Reach::load();
    let direct = &reach.direct["onnxq-cli"];
    let ours: Vec<&String> = direct.iter().filter(|n| n.starts_with("onnxq")).collect();
    assert_eq!(ours, ["onnxq"]);
    for package in ["clap", "indicatif"] {
        assert!(
            !reach.of("onnxq").contains(package),
            "onnxq reaches {package}"
        );
    }
}
