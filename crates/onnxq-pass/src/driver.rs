//! The driver of local rewrites: where to try them, in which order, and when to stop.
//!
//! Graphs are visited regions first. In each, every operation is tried in canonical order, and
//! again when it, an operand's producer, or a user changed, until nothing matches anywhere. A
//! rewrite is numbered when it has been applied and none is tried once the limit is reached, so
//! a limit of N leaves exactly the first N.

use std::collections::{HashSet, VecDeque};

use onnxq_ir::{Graph, Model, NodeId, def::Opsets};

use crate::{
    Error, Pass, PassContext, PassError,
    rewriter::{Rewriter, Trace, describe, is_used},
};

/// A local rewrite.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite {
    /// Its name in messages, in kebab-case.
    pub name: &'static str,
    /// Matches at a node and changes the graph; `None` if nothing matched and nothing changed.
    pub apply: fn(&mut Rewriter<'_>, NodeId) -> Option<()>,
}

/// A local rewrite that has data of its own, such as the options of its pass.
#[derive(Clone, Copy)]
pub struct Rule<'a> {
    /// Its name in messages, in kebab-case.
    pub name: &'a str,
    /// As [`Rewrite::apply`].
    pub apply: &'a dyn Fn(&mut Rewriter<'_>, NodeId) -> Option<()>,
}

/// The pass that applies these rewrites until none matches: what
/// [`PassInfo::build`](crate::PassInfo::build) of a pass without options returns.
pub fn rewrites(name: &'static str, list: &'static [Rewrite]) -> Result<Box<dyn Pass>, Error> {
    Ok(Box::new(Rewrites { name, list }))
}

struct Rewrites {
    name: &'static str,
    list: &'static [Rewrite],
}

impl Pass for Rewrites {
    fn name(&self) -> &str {
        self.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let rule = |r: &'static Rewrite| Rule {
            name: r.name,
            apply: &r.apply,
        };
        let rules: Vec<Rule<'_>> = self.list.iter().map(rule).collect();
        apply_rewrites(model, cx, &rules)
    }
}

/// The pass that applies one rewrite of the same name, which has data of its own.
pub fn rewriting<F>(name: &'static str, apply: F) -> Result<Box<dyn Pass>, Error>
where
    F: Fn(&mut Rewriter<'_>, NodeId) -> Option<()> + 'static,
{
    Ok(Box::new(Rewriting { name, apply }))
}

struct Rewriting<F> {
    name: &'static str,
    apply: F,
}

impl<F: Fn(&mut Rewriter<'_>, NodeId) -> Option<()>> Pass for Rewriting<F> {
    fn name(&self) -> &str {
        self.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let rule = Rule {
            name: self.name,
            apply: &self.apply,
        };
        apply_rewrites(model, cx, &[rule])
    }
}

/// Applies rules to every graph of the model until none matches.
///
/// # Errors
/// Rules that undo each other, and so would go on forever.
pub fn apply_rewrites(
    model: &mut Model,
    cx: &mut PassContext,
    rules: &[Rule<'_>],
) -> Result<(), PassError> {
    let mut driver = Driver {
        rules,
        cx,
        defaults_are_constant: model.ir_version < 4,
        failed: None,
    };
    for function in model.functions.values_mut() {
        let opsets = &function.opsets;
        let mut visit = |graph: &mut Graph| driver.run(graph, opsets);
        function.graph.for_each_graph_mut(&mut visit);
    }
    let opsets = &model.opsets;
    let mut visit = |graph: &mut Graph| driver.run(graph, opsets);
    model.graph.for_each_graph_mut(&mut visit);
    driver.failed.map_or(Ok(()), Err)
}

struct Driver<'a> {
    rules: &'a [Rule<'a>],
    cx: &'a mut PassContext,
    /// Before version 4 of the format every initializer was listed as an input.
    defaults_are_constant: bool,
    failed: Option<PassError>,
}

impl Driver<'_> {
    fn run(&mut self, graph: &mut Graph, opsets: &Opsets) {
        if self.failed.is_none()
            && let Err(error) = self.rewrite(graph, opsets)
        {
            self.failed = Some(error);
        }
    }

    fn rewrite(&mut self, graph: &mut Graph, opsets: &Opsets) -> Result<(), PassError> {
        // Far more than any rules need that make progress.
        let mut budget = 1000 + 100 * graph.node_count();
        let mut misses = HashSet::new();
        let overridable = self.overridable(graph);
        // The worklist follows changes to direct neighbours. Another round finds what depends
        // on more; nearly always the second finds nothing.
        loop {
            let mut applied = false;
            let mut worklist = Worklist::new(graph);
            while let Some(n) = worklist.pop() {
                // What is dead goes when the pass is done.
                if !is_used(graph, n) {
                    continue;
                }
                for rule in self.rules {
                    if !self.cx.may_rewrite() {
                        return Ok(());
                    }
                    let mut trace = Trace::default();
                    let rw = Rewriter {
                        graph,
                        cx: self.cx,
                        opsets,
                        rule: rule.name,
                        overridable: &overridable,
                        misses: &mut misses,
                        trace: &mut trace,
                    };
                    if !attempt(rw, rule, n) {
                        continue;
                    }
                    applied = true;
                    budget -= 1;
                    if budget == 0 {
                        return Err(PassError::new(format_args!(
                            "the rewrites of graph '{}' do not come to an end; the last is {} \
                             at {}",
                            graph.name,
                            rule.name,
                            describe(graph, n)
                        )));
                    }
                    trace.released.push(n);
                    trace.changed.push(n);
                    release(graph, &mut trace);
                    worklist.revisit(graph, &trace);
                    // The node may be something else now: it is on the list again.
                    break;
                }
            }
            if !applied {
                return Ok(());
            }
        }
    }

    fn overridable(&self, graph: &Graph) -> Vec<NodeId> {
        if self.defaults_are_constant {
            return Vec::new();
        }
        let constant = |&n: &NodeId| graph.node(n).is_constant();
        let mut found: Vec<_> = graph.inputs().iter().copied().filter(constant).collect();
        found.sort_unstable();
        found
    }
}

/// Tries a rule at `n`; whether it changed the graph.
fn attempt(mut rw: Rewriter<'_>, rule: &Rule<'_>, n: NodeId) -> bool {
    let before = rw.graph.revision();
    // Afterwards, the node may look different.
    let at = rw
        .cx
        .is_bisecting()
        .then(|| describe(rw.graph, n).to_string());
    let matched = (rule.apply)(&mut rw, n).is_some();
    let changed = rw.graph.revision() != before;
    debug_assert!(
        matched || !changed,
        "{} changed the graph at {} without a match",
        rule.name,
        describe(rw.graph, n)
    );
    if changed {
        let allowed = rw.cx.begin_rewrite(rule.name, at.unwrap_or_default());
        debug_assert!(allowed, "no rule is tried past the limit");
    }
    changed
}

/// Makes nodes that lost their last use let go of their operands.
fn release(graph: &mut Graph, trace: &mut Trace) {
    while let Some(n) = trace.released.pop() {
        if graph.op(n).is_none() || graph.node(n).operand_count() == 0 || is_used(graph, n) {
            continue;
        }
        let operands = graph.operands(n);
        graph.set_operands(n, &[]);
        for v in operands.into_iter().flatten() {
            trace.released.push(v.node);
            trace.moved.push(v.node);
            // A value that is now used once may match where it did not.
            trace.moved.extend(graph.sole_use(v).map(|u| u.node));
        }
    }
}

/// Nodes to visit, each at most once at a time.
struct Worklist {
    queue: VecDeque<NodeId>,
    queued: Vec<bool>,
}

impl Worklist {
    fn new(graph: &Graph) -> Worklist {
        let mut list = Worklist {
            queue: VecDeque::new(),
            queued: vec![false; graph.node_bound()],
        };
        for n in graph.op_order() {
            list.push(graph, n);
        }
        list
    }

    fn pop(&mut self) -> Option<NodeId> {
        let n = self.queue.pop_front()?;
        self.queued[n.index()] = false;
        Some(n)
    }

    fn push(&mut self, graph: &Graph, n: NodeId) {
        if graph.op(n).is_none() {
            return;
        }
        if n.index() >= self.queued.len() {
            self.queued.resize(graph.node_bound(), false);
        }
        if !std::mem::replace(&mut self.queued[n.index()], true) {
            self.queue.push_back(n);
        }
    }

    fn revisit(&mut self, graph: &Graph, trace: &Trace) {
        for &n in &trace.changed {
            self.push(graph, n);
            for v in graph.operands(n).into_iter().flatten() {
                self.push(graph, v.node);
            }
            for i in 0..graph.node(n).results.len() {
                for u in graph.uses(graph.result(n, i)) {
                    self.push(graph, u.node);
                }
            }
        }
        for &n in &trace.moved {
            self.push(graph, n);
        }
    }
}
