//! `If` with a constant condition: the nodes of the branch that is taken.

use std::{cell::RefCell, collections::HashSet};

use onnxq_ir::{Attr, Graph, NodeId, ValueId};
use onnxq_ops::infer::GraphFacts;
use onnxq_pass::describe;

use super::{Folder, Known};
use crate::preprocess::graft::{Graft, Named, Names, release};

/// The nodes that came, each with what it was in the branch, and what is known of the branch.
type Branch<'a> = (Vec<(NodeId, NodeId)>, Option<&'a GraphFacts>);

impl Folder<'_> {
    /// Puts the nodes of the branch that `n` takes in the place of `n`.
    ///
    /// Not where a result has no counterpart in the branch.
    pub(super) fn take_branch<'k>(
        &mut self,
        graph: &mut Graph,
        n: NodeId,
        known: &Known<'k>,
    ) -> Option<Branch<'k>> {
        if !graph.is(n, "If") {
            return None;
        }
        let condition = graph.operand(n, 0)?;
        let condition = known.constant(graph, condition).or_else(|| {
            let value = known.fact(condition).value.as_ref()?;
            value.to_tensor()
        });
        let [holds] = condition?.as_bools().ok()?[..] else {
            return None;
        };
        let key = if holds { "then_branch" } else { "else_branch" };
        let op = graph.op(n)?;
        let branch = op.attr(key)?.as_graph()?;
        let results = graph.node(n).results.len();
        if branch.outputs.len() < results || branch.results().contains(&None) {
            return None;
        }
        let captures = op.captures;
        if !self.cx.begin_rewrite("inline-branch", describe(graph, n)) {
            return None;
        }
        self.folded = true;
        self.inlined = true;
        let Some(Attr::Graph(branch)) = graph.op_mut(n)?.attrs.shift_remove(key) else {
            return None;
        };
        let operands = graph.operands(n);
        let names = known.names.get_or_init(|| RefCell::new(Names::of(graph)));
        let grafted = Graft {
            inputs: &operands[operands.len().saturating_sub(captures)..],
            rename: &|named, name| match named {
                Named::Result => names.borrow_mut().unique(name),
                Named::Node | Named::Constant => name.to_owned(),
            },
            keep_sunk: !known.around.is_main,
            keep_types: true,
        }
        .run(graph, *branch);
        let mut unnamed: HashSet<NodeId> = grafted.ops.iter().map(|&(new, _)| new).collect();
        for (i, new) in grafted.results.iter().enumerate().take(results) {
            let Some(new) = *new else { continue };
            let old = ValueId {
                node: n,
                result: i as u32,
            };
            // The name outside is the one that users and files know.
            let name = graph.value(old).name.clone();
            if graph.is_used(old) && unnamed.remove(&new.node) {
                graph.value_mut(new).name = name;
            }
            graph.replace_uses(old, new);
        }
        release(graph, n);
        let (facts, place) = known.place(n);
        Some((grafted.ops, facts.region(place, key)))
    }
}
