//! Removes quantization that has been done already.
//!
//! ```text
//! QuantizeLinear(DequantizeLinear(c, s, z), s, z)   =>   c
//! DequantizeLinear(c, s, z), twice                  =>   once
//! QuantizeLinear(x, s, z), twice                    =>   once
//! ```
//!
//! Parameters are the same where their numbers are, whatever constants hold them. A code that is
//! turned into a number and back is the same code: the number is `n * s`, rounded once, and `n` has
//! fewer bits than the type of `s`.
//!
//! Does not fire where parameters differ, which is a change of scale; for `float8`, and for 16 bits
//! with scales of 16 bits; and where both results are results of the graph. A pair between float
//! operators stays: it is what the model says that it rounds.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use onnxq_ir::{Graph, Model, NodeId, ValueId};
use onnxq_pass::{
    Pass, PassContext, PassError, PassInfo, Rewriter, Rule, apply_rewrites, describe,
};

use super::{pattern::MICROSOFT, qdq};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "eliminate-redundant-qdq",
    summary: "remove QuantizeLinear of what was dequantized so, and merge equal ones",
    options: &[],
    build: |_| Ok(Box::new(EliminateRedundantQdq)),
};

struct EliminateRedundantQdq;

impl Pass for EliminateRedundantQdq {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let rule = Rule {
            name: "requantize",
            apply: &requantize,
        };
        apply_rewrites(model, cx, &[rule])?;
        model.for_each_graph_mut(|graph| merge_equal(graph, cx));
        Ok(())
    }
}

/// QuantizeLinear of what was dequantized with the same parameters.
fn requantize(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    let q = qdq::quantize(rw, n)?;
    let x = qdq::dequantized(rw, rw.operand(n, 0)?)?;
    if !x.params.same(&q.params) || !q.params.comes_back() {
        return None;
    }
    let old = rw.result(n, 0);
    // The file would need an Identity.
    let computed = rw.op(x.codes.node).is_some() && !rw.graph().is_output(x.codes);
    if rw.graph().is_output(old) {
        computed.then_some(())?;
        let name = rw.name(old).to_owned();
        rw.rename(x.codes, name);
    }
    rw.replace(old, x.codes)
}

/// What makes two of these nodes the same.
type Key = (bool, ValueId, u64);

/// Merges nodes that quantize, or dequantize, one value in the same way.
fn merge_equal(graph: &mut Graph, cx: &mut PassContext) {
    let mut seen: HashMap<Key, Vec<NodeId>> = HashMap::new();
    // What callers may override is no constant.
    let overridable: HashSet<NodeId> = graph.inputs().iter().copied().collect();
    for n in graph.op_order() {
        let Some(key) = key(graph, n, &overridable) else {
            continue;
        };
        let alike = seen.entry(key).or_default();
        let Some(&first) = alike.iter().find(|&&first| is_same(graph, first, n)) else {
            alike.push(n);
            continue;
        };
        let (new, old) = (graph.result(first, 0), graph.result(n, 0));
        let outputs = graph.is_output(new) && graph.is_output(old);
        if outputs || !graph.is_used(old) {
            continue;
        }
        if !cx.begin_rewrite("merge-equal-qdq", describe(graph, n)) {
            return;
        }
        if graph.is_output(old) {
            let name = graph.value(old).name.clone();
            graph.value_mut(new).name = name;
        }
        graph.replace_uses(old, new);
        graph.set_operands(n, &[]);
    }
}

/// `None` where `n` is neither, or what it takes is not constant.
fn key(graph: &Graph, n: NodeId, overridable: &HashSet<NodeId>) -> Option<Key> {
    let op = graph.op(n)?;
    let quantizes = match op.op_type.as_str() {
        "QuantizeLinear" => true,
        "DequantizeLinear" => false,
        _ => return None,
    };
    let mut hasher = DefaultHasher::new();
    (op.domain.is_empty() || op.domain == MICROSOFT).then_some(())?;
    op.domain.hash(&mut hasher);
    for i in 1..3 {
        if let Some(v) = graph.operand(n, i) {
            (!overridable.contains(&v.node)).then_some(())?;
            graph.tensor(v)?.bytes().hash(&mut hasher);
        }
    }
    Some((quantizes, graph.operand(n, 0)?, hasher.finish()))
}

fn is_same(graph: &Graph, a: NodeId, b: NodeId) -> bool {
    let (Some(x), Some(y)) = (graph.op(a), graph.op(b)) else {
        return false;
    };
    let same = |i| match (graph.operand(a, i), graph.operand(b, i)) {
        (Some(v), Some(w)) => {
            v == w || (graph.tensor(v).is_some() && graph.tensor(v) == graph.tensor(w))
        }
        (None, None) => true,
        _ => false,
    };
    let attrs = |op: &onnxq_ir::Op| -> Vec<_> {
        let mut attrs: Vec<_> = op
            .attrs
            .iter()
            .map(|(k, v)| (k.clone(), v.map_graphs(|_| ())))
            .collect();
        attrs.sort_by(|a, b| a.0.cmp(&b.0));
        attrs
    };
    x.domain == y.domain && attrs(x) == attrs(y) && same(1) && same(2)
}
