//! Every fuzz target for a few rounds, and on everything that was once a finding. `docs/testing.md`
//! says how to run one for longer.

use onnxq_tests::fuzz::{
    Until, corpus,
    corpus::Corpus,
    run, run_one,
    targets::{TARGETS, Target},
};

fn target(name: &str) -> &'static Target {
    let found = TARGETS.iter().find(|t| t.name == name);
    found.unwrap_or_else(|| panic!("there is no target '{name}'"))
}

#[test]
fn a_few_rounds_of_each() {
    let corpus = Corpus::new(20);
    let mut problems = Vec::new();
    for target in TARGETS {
        let outcome = run(target, &corpus, 1, Until::Rounds(2000), |_| {});
        assert!(
            outcome.accepted > outcome.rounds / 50,
            "{}: only {} of {} inputs are taken",
            target.name,
            outcome.accepted,
            outcome.rounds
        );
        let input = |input: &[u8]| String::from_utf8_lossy(input).into_owned();
        let found = outcome.findings.iter();
        problems
            .extend(found.map(|f| format!("{}: {}\n{}", target.name, f.problem, input(&f.input))));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

/// What begins every mutation is taken as it is.
#[test]
fn the_corpus_is_good() {
    let corpus = Corpus::new(5);
    for text in &corpus.texts {
        assert_ne!(
            run_one(target("parser"), text.as_bytes()),
            Ok(false),
            "{text}"
        );
    }
    let evaluated = |text: &&String| {
        let taken = run_one(target("evaluators"), text.as_bytes());
        taken.unwrap_or_else(|e| panic!("{e}: {text}"))
    };
    let taken = corpus.operators.iter().filter(evaluated).count();
    // What is random has no evaluation.
    assert!(taken + 10 > corpus.operators.len(), "{taken} are taken");
}

#[test]
fn findings_are_mended() {
    for (name, input) in corpus::findings() {
        let of = name.split('-').next().unwrap_or_default();
        if let Err(problem) = run_one(target(of), &input) {
            panic!("{name}: {problem}");
        }
    }
}
