//! Expansion of pipelines, options from everywhere, help.

use crate::toys::{DROP_IDENTITY, RENAME, registry};
use onnxq_pass::{Config, Error, PassInfo, PassManager, Pipeline, PipelineInfo, Registry};

fn expanded(text: &str, config: &str) -> Result<String, Error> {
    let registry = registry();
    let config = Config::parse(config, &registry)?;
    let manager = PassManager::new(&registry, &Pipeline::parse(text)?, &config)?;
    Ok(manager.pipeline().to_string())
}

fn failure(text: &str, config: &str) -> String {
    let error = expanded(text, config).unwrap_err();
    assert!(error.is_usage(), "{error}");
    format!("{error} / {}", error.help().unwrap_or_default())
}

#[test]
fn pipelines_expand_to_passes() {
    assert_eq!(expanded("", "").unwrap(), "");
    assert_eq!(
        expanded("simplify,rename", "").unwrap(),
        "drop-identity,rename{to=Abs},rename"
    );
    assert_eq!(
        expanded("twice", "").unwrap(),
        "drop-identity,rename{to=Abs from=Sin},drop-identity,rename{to=Abs}"
    );
}

#[test]
fn options_of_a_pipeline_reach_the_passes_that_know_them() {
    assert_eq!(
        expanded("twice{loud from=Cos}", "").unwrap(),
        "drop-identity,rename{to=Abs from=Cos loud},drop-identity,rename{to=Abs loud from=Cos}"
    );
}

#[test]
fn text_wins_over_the_file_and_the_file_over_the_library() {
    let config = "[simplify]\nto = 'Exp'\nloud = true\n[rename]\nfrom = 'Tan'\n";
    assert_eq!(
        expanded("simplify,rename", config).unwrap(),
        "drop-identity,rename{to=Exp from=Tan loud=true},rename{from=Tan}"
    );
    assert_eq!(
        expanded("simplify{to=Log},rename{from=Sqrt}", config).unwrap(),
        "drop-identity,rename{to=Log from=Tan loud=true},rename{from=Sqrt}"
    );
    let both = "[simplify]\nto = 'Exp'\n[rename]\nto = 'Tan'\n";
    assert_eq!(
        expanded("simplify", both).unwrap(),
        "drop-identity,rename{to=Tan}"
    );
}

#[test]
fn a_config_file_has_the_pipeline_and_values_of_all_types() {
    let config = "passes = 'simplify{loud}'\n[rename]\nloud = false\nto = 'a b'";
    let registry = registry();
    let config = Config::parse(config, &registry).unwrap();
    let passes = config.passes.clone().unwrap();
    assert_eq!(passes.to_string(), "simplify{loud}");
    let manager = PassManager::new(&registry, &passes, &config).unwrap();
    assert_eq!(
        manager.pipeline().to_string(),
        "drop-identity,rename{to=\"a b\" loud}"
    );
}

#[test]
fn misspelt_names_are_errors_that_suggest() {
    assert_eq!(
        failure("simplfy", ""),
        "no pass or pipeline is named `simplfy` / did you mean `simplify`?"
    );
    assert!(failure("zzzzzz", "").ends_with("`onnxq-opt passes` lists the passes and pipelines"));
    assert_eq!(
        failure("simplify{laud}", ""),
        "`simplify` has no option `laud` / did you mean `loud`?"
    );
    assert_eq!(
        failure("drop-identity{x}", ""),
        "`drop-identity` has no option `x` / `drop-identity` has no options"
    );
    assert_eq!(
        failure("rename{form=Abs}", ""),
        "`rename` has no option `form` / did you mean `from`?"
    );
    assert_eq!(
        failure("rename{loud=1}", ""),
        "option `loud` of `rename`: expected `true` or `false`, found `1` / "
    );
    assert_eq!(
        failure("rename{loud loud}", ""),
        "option `loud` of `rename` is given twice / "
    );
}

#[test]
fn mistakes_in_the_config_file_are_errors_that_suggest() {
    assert_eq!(
        failure("", "[simplifi]\nloud = true"),
        "config file: unknown key `simplifi` / did you mean `simplify`?"
    );
    assert_eq!(
        failure("", "pases = 'rename'"),
        "config file: unknown key `pases` / did you mean `passes`?"
    );
    assert_eq!(
        failure("", "[simplify]\nlaud = true"),
        "`simplify` has no option `laud` / did you mean `loud`?"
    );
    assert!(failure("", "passes = 3").contains("must be pipeline text"));
    assert!(failure("", "rename = 3").contains("must be a table"));
    let broken = failure("", "[rename]\nloud = ]");
    assert!(broken.starts_with("config file: line 2: "), "{broken}");
}

#[test]
fn users_can_add_passes_and_pipelines() {
    let registry = Registry::default()
        .with(RENAME)
        .with(PassInfo {
            name: "drop",
            build: |_| onnxq_pass::rewrites("drop", &[]),
            ..DROP_IDENTITY
        })
        .with_pipeline(PipelineInfo {
            name: "mine",
            summary: "",
            text: "drop,rename",
        });
    registry.check().unwrap();
    let names: Vec<_> = registry
        .expand("mine")
        .unwrap()
        .iter()
        .map(|p| p.name)
        .collect();
    assert_eq!(names, ["drop", "rename"]);
}

#[test]
fn declarations_are_checked() {
    registry().check().unwrap();
    let cyclic = registry().with_pipeline(PipelineInfo {
        name: "loop",
        summary: "",
        text: "rename,loop",
    });
    assert_eq!(
        cyclic.check().unwrap_err().to_string(),
        "pipeline `loop` contains itself"
    );
    let misnamed = registry().with(PassInfo {
        name: "other",
        ..RENAME
    });
    assert!(
        misnamed
            .check()
            .unwrap_err()
            .to_string()
            .contains("calls itself `rename`")
    );
    let twins = registry().with_pipeline(PipelineInfo {
        name: "rename",
        summary: "",
        text: "",
    });
    assert!(twins.check().is_err());
    let undeclared = registry().with(PassInfo {
        options: &[],
        ..RENAME
    });
    assert!(
        undeclared
            .check()
            .unwrap_err()
            .to_string()
            .contains("without declaring it")
    );
}

#[test]
fn lists_passes_and_pipelines_with_their_options() {
    let text = registry().to_text().unwrap();
    let expected = "\
pipelines:

  simplify: make it simple
    = drop-identity,rename{to=Abs}
    from  text                 Relu   what to rename
    to    text                 Neg    the new name
    fail  error|panic|invalid  none   how to fail
    loud  bool                 false  say so
";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("\npasses:\n\n  drop-identity: remove Identity\n\n  rename: rename an"));

    let json = registry().to_json().unwrap();
    assert_eq!(json["pipelines"][1]["name"], "twice");
    assert_eq!(json["pipelines"][1]["passes"].as_array().unwrap().len(), 4);
    assert_eq!(json["pipelines"][0]["options"][0]["name"], "from");
    let fail = &json["passes"][1]["options"][2];
    assert_eq!(fail["kind"], "choice");
    assert_eq!(fail["choices"][1], "panic");
    assert_eq!(fail["default"], "none");
}
