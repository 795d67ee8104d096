//! Random graphs keep their outputs through `preprocess`, and through every pass of it alone. Where
//! one does not, the rewrite that is to blame is found by bisection.
//!
//! `ONNXQ_GRAPHS` is how many graphs there are (500 by default), `ONNXQ_SEED` the first seed.

use std::{collections::BTreeMap, env, fmt::Write as _, fs};

use onnxq_ir::{Model, NodeId, text};
use onnxq_pass::{PassInfo, Registry, Rewrite, Rewriter, rewrites};
use onnxq_tests::{
    bisect::{find_culprit, run_limited},
    metrics::check_close,
    notice,
    oracle::{Level, Tensors, oracle},
    random_graph::{RandomGraph, families, generate},
    subject::{check_laws, interpret, to_bytes},
    target_dir,
};

const PIPELINE: &str = "preprocess";

/// One graph in so many is also executed by ONNX Runtime, which takes longest.
const SAMPLE: u64 = 5;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |n| n.parse().expect("a number"))
}

fn model(graph: &RandomGraph) -> Model {
    let def = text::parse(&graph.text, &()).unwrap_or_else(|e| panic!("{e}\n{}", graph.text));
    Model::from_def(def).unwrap_or_else(|e| panic!("{e}\n{}", graph.text))
}

/// Whether every output is where it was.
fn same(graph: &RandomGraph, got: &Tensors) -> Result<(), String> {
    for (name, expected) in &graph.outputs {
        let got = got
            .get(name)
            .ok_or_else(|| format!("output '{name}' is missing"))?;
        check_close(expected, got, graph.tolerances[name])
            .map_err(|e| format!("output '{name}': {e}"))?;
    }
    Ok(())
}

fn keeps_outputs(graph: &RandomGraph, model: &Model) -> Result<(), String> {
    check_laws(model)?;
    let got = interpret(model, &graph.inputs).map_err(|e| e.to_string())?;
    same(graph, &got)
}

/// What a pipeline breaks of a graph, and the rewrite that does.
fn broken(registry: &Registry, pipeline: &str, graph: &RandomGraph) -> Option<String> {
    let before = model(graph);
    let check = |after: &Model| keeps_outputs(graph, after);
    let problem = match run_limited(registry, pipeline, &before, None) {
        Ok((after, _)) => check(&after).err()?,
        Err(e) => e.to_string(),
    };
    Some(match find_culprit(registry, pipeline, &before, check) {
        Some(culprit) => culprit.to_string(),
        None => format!("{problem} (no single rewrite is to blame)"),
    })
}

/// Whether ONNX Runtime computes the same, before and after; `None` where it cannot run the graph.
fn by_onnx_runtime(registry: &Registry, graph: &RandomGraph) -> Option<Result<(), String>> {
    let before = model(graph);
    let run = |model: &Model| {
        let bytes = to_bytes(model).map_err(|e| e.to_string())?;
        let got = oracle().run(&bytes, &graph.inputs, Level::Disabled);
        got.map_err(|e| e.to_string())
    };
    let old = run(&before).ok()?;
    if let Err(e) = same(graph, &old) {
        return Some(Err(format!("before: {e}")));
    }
    let (after, _) = run_limited(registry, PIPELINE, &before, None).ok()?;
    Some(run(&after).and_then(|got| same(graph, &got)))
}

/// Leaves the graph where it can be looked at.
fn keep(seed: u64, graph: &RandomGraph) {
    let folder = target_dir().join("random-graphs");
    let _ = fs::create_dir_all(&folder); // the message has the seed
    let _ = fs::write(folder.join(format!("{seed}.txt")), &graph.text);
}

#[test]
fn preprocess_keeps_outputs() {
    let registry = onnxq_passes::registry();
    let passes = registry.expand(PIPELINE).expect("it is a pipeline");
    let mut passes: Vec<&str> = passes.iter().map(|p| p.name).collect();
    passes.sort_unstable();
    passes.dedup();
    let first = number("ONNXQ_SEED", 1);
    let mut failures = String::new();
    let mut recipes = BTreeMap::<&str, usize>::new();
    let (mut sampled, mut nodes, mut changes) = (0, 0, 0);
    for seed in first..first + number("ONNXQ_GRAPHS", 500) {
        let graph = generate(seed);
        graph
            .recipes
            .iter()
            .for_each(|&r| *recipes.entry(r).or_default() += 1);
        model(&graph).for_each_graph(|g| nodes += g.op_order().len());
        let mut problems = Vec::new();
        if let Err(e) = keeps_outputs(&graph, &model(&graph)) {
            problems.push(format!("as it is: {e}"));
        }
        problems.extend(broken(&registry, PIPELINE, &graph));
        let run = run_limited(&registry, PIPELINE, &model(&graph), None);
        changes += run.map_or(0, |(_, context)| context.rewrites());
        for pass in &passes {
            let alone = broken(&registry, pass, &graph);
            problems.extend(alone.map(|e| format!("alone: {e}")));
        }
        if seed % SAMPLE == 0
            && let Some(outcome) = by_onnx_runtime(&registry, &graph)
        {
            sampled += 1;
            problems.extend(outcome.err().map(|e| format!("by ONNX Runtime: {e}")));
        }
        if !problems.is_empty() {
            keep(seed, &graph);
        }
        for problem in problems {
            let line = problem.lines().next().unwrap_or_default();
            let _ = writeln!(failures, "seed {seed}: {line}");
        }
    }
    notice(&format!(
        "{nodes} nodes by {recipes:?}; {changes} rewrites; {sampled} graphs by ONNX Runtime too"
    ));
    assert!(
        failures.is_empty(),
        "{failures}the graphs are in {}",
        target_dir().join("random-graphs").display()
    );
}

/// Every recipe is used, so that none is dead.
#[test]
fn every_recipe_is_used() {
    let mut unused: Vec<&str> = families().map(|(name, _)| name).collect();
    for seed in 1..400 {
        let graph = generate(seed);
        unused.retain(|name| !graph.recipes.contains(name));
        if unused.is_empty() {
            return;
        }
    }
    panic!("never used: {unused:?}");
}

#[test]
fn the_same_seed_is_the_same_graph() {
    for seed in [3, 77, 1234] {
        assert_eq!(generate(seed).text, generate(seed).text);
    }
}

/// Drops a Tanh as if it did nothing.
fn drop_tanh(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Tanh")?;
    let x = rw.operand(n, 0)?;
    rw.replace(rw.result(n, 0), x)
}

const INJECTED: PassInfo = PassInfo {
    name: "drop-tanh",
    summary: "a bug",
    options: &[],
    build: |opts| {
        let list = &[Rewrite {
            name: "drop-tanh",
            apply: drop_tanh,
        }];
        rewrites(opts.pass(), list)
    },
};

/// Among passes that are right, the one that is wrong is found, and the node.
#[test]
fn an_injected_bug_is_found() {
    let registry = onnxq_passes::registry().with(INJECTED);
    let pipeline = "infer-shapes,eliminate-identities,fold-constants,drop-tanh,\
                    share-equal-initializers,fuse-conv-bn";
    let mut found = 0;
    for seed in 1..200 {
        let graph = generate(seed);
        let before = model(&graph);
        let check = |after: &Model| keeps_outputs(&graph, after);
        let Some(culprit) = find_culprit(&registry, pipeline, &before, check) else {
            continue;
        };
        assert_eq!(culprit.pass, "drop-tanh", "seed {seed}: {culprit}");
        assert!(culprit.message.contains("Tanh"), "seed {seed}: {culprit}");
        // One rewrite less, and all is well.
        let fewer = run_limited(&registry, pipeline, &before, Some(culprit.number - 1));
        let (fewer, _) = fewer.expect("passes run");
        assert_eq!(check(&fewer), Ok(()), "seed {seed}");
        found += 1;
        if found == 5 {
            return;
        }
    }
    panic!("found {found} times only");
}
