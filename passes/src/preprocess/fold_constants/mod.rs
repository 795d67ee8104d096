//! Computes what does not depend on the inputs of the model.
//!
//! ```text
//! y = Transpose(W)                        =>   y, a constant
//! n = Gather(Shape(x), 1), x[N, 3, 8]     =>   n = 3
//! Reshape(x, Concat(Shape(x)[0], 12))     =>   Reshape(x, {0, 12})
//! y = If(true) <then_branch, ...>         =>   the nodes of then_branch
//! ```
//!
//! A node is computed where all its operands are constants, or where inference knows its
//! results: the lengths of static dimensions, and what is computed from them. Only the types of
//! the model's inputs are believed, not annotations of inner values.
//!
//! Does not fire
//! - where the result takes more than `max-bytes` and more than the constants that only this node
//!   used, or than a constant of which it and others take parts: folding must not make the file grow. `ConstantOfShape`, `Expand`, `Tile` and `Range` of
//!   more than a handful of elements stay;
//! - on random operators;
//! - on `QuantizeLinear` and `DequantizeLinear`: between them a model says what is quantized;
//! - on `Loop`, `Scan`, calls of functions, and operators of other domains;
//! - in function bodies;
//! - where the operator cannot be evaluated; a line under `-v` says so.
//!
//! The pages of a mapped file that hold operands are given back after use.

mod branches;
mod evaluate;
mod target;

use std::{
    cell::{OnceCell, RefCell},
    collections::{HashMap, HashSet},
};

use onnxq_ir::{Graph, Model, NodeId, Type, ValueId, deep};
use onnxq_ops::infer::{self, GraphFacts};
use onnxq_pass::{
    OptionInfo, OptionKind, Options, Pass, PassContext, PassError, PassInfo, describe,
};
use onnxq_tensor::Tensor;

use super::{
    graft::{Names, release},
    share_equal_initializers::share_identical,
};
use evaluate::Verdict;

pub(crate) const INFO: PassInfo = PassInfo {
    name: "fold-constants",
    summary: "compute what does not depend on the inputs",
    options: &[OptionInfo {
        name: "max-bytes",
        kind: OptionKind::UInt,
        default: "1024",
        help: "how large a result may be that is larger than the constants it replaces",
    }],
    build,
};

fn build(opts: &mut Options) -> Result<Box<dyn Pass>, onnxq_pass::Error> {
    Ok(Box::new(FoldConstants {
        max_bytes: opts.take("max-bytes", 1024)?,
    }))
}

struct FoldConstants {
    max_bytes: usize,
}

impl Pass for FoldConstants {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        // A node whose size was not known may be known once its operands are constants.
        const ROUNDS: usize = 4;
        for _ in 0..ROUNDS {
            let facts = infer::analyze(&without_annotations(model));
            let mut folder = Folder {
                max_bytes: self.max_bytes,
                opset: model.opset("").unwrap_or(1),
                functions: model.functions.keys().map(|id| id.name.clone()).collect(),
                cx,
                folded: false,
                inlined: false,
                unsized_: false,
            };
            folder.graph(&mut model.graph, Surroundings::main(&facts));
            let again = folder.folded && folder.unsized_;
            if folder.inlined {
                share_identical(&mut model.graph);
            }
            if folder.folded {
                model.graph.sink_captured_constants();
            }
            if !again {
                break;
            }
        }
        Ok(())
    }
}

/// The model with types of its inputs only. Annotations of inner values may be stale: a batch that
/// was 1 when the model was traced, and is a symbol since. A warning is enough elsewhere, but
/// here the 1 would become part of the model.
fn without_annotations(model: &Model) -> Model {
    let mut bare = model.clone();
    bare.graph.for_each_graph_mut(&mut |graph: &mut Graph| {
        for n in graph.op_order() {
            for i in 0..graph.node(n).results.len() {
                graph.set_type(graph.result(n, i), None);
            }
            for region in graph.op_mut(n).into_iter().flat_map(|op| op.regions_mut()) {
                forget_shapes_of_inputs(region);
            }
        }
    });
    bare
}

fn forget_shapes_of_inputs(region: &mut Graph) {
    for n in region.inputs().to_vec() {
        let v = region.result(n, 0);
        let dtype = region.ty(v).and_then(Type::dtype);
        if region.node(n).is_input() {
            region.set_type(v, dtype.map(|dtype| Type::tensor(dtype, None)));
        }
    }
}

struct Folder<'a> {
    max_bytes: usize,
    opset: i64,
    /// Names of model-local functions, which may be those of operators.
    functions: HashSet<String>,
    cx: &'a mut PassContext,
    folded: bool,
    inlined: bool,
    /// Whether a node was left alone because the size of its result is not known.
    unsized_: bool,
}

/// What is known of a graph from around it.
struct Surroundings<'a> {
    facts: &'a GraphFacts,
    /// The constants that come in through inputs.
    inputs: HashMap<NodeId, Tensor>,
    is_main: bool,
}

impl<'a> Surroundings<'a> {
    fn main(facts: &'a GraphFacts) -> Surroundings<'a> {
        Surroundings {
            facts,
            inputs: HashMap::new(),
            is_main: true,
        }
    }
}

/// A graph being folded: what is known of its values.
struct Known<'a> {
    around: Surroundings<'a>,
    /// Constants that callers may override.
    overridable: HashSet<NodeId>,
    /// Where nodes that came from a branch were, to find what is known of them.
    origin: HashMap<NodeId, (&'a GraphFacts, NodeId)>,
    /// The names of its values, once a branch came.
    names: OnceCell<RefCell<Names>>,
}

impl<'a> Known<'a> {
    fn place(&self, n: NodeId) -> (&'a GraphFacts, NodeId) {
        let here = (self.around.facts, n);
        self.origin.get(&n).copied().unwrap_or(here)
    }

    /// What inference knows of `v` at the start.
    fn fact(&self, v: ValueId) -> &'a infer::Fact {
        let (facts, node) = self.place(v.node);
        facts.get(ValueId { node, ..v })
    }

    /// The constant that `v` is by now.
    fn constant(&self, graph: &Graph, v: ValueId) -> Option<Tensor> {
        match graph.tensor(v) {
            Some(t) => Some(t.clone()).filter(|_| !self.overridable.contains(&v.node)),
            None => self.around.inputs.get(&v.node).cloned(),
        }
    }
}

impl Folder<'_> {
    fn graph(&mut self, graph: &mut Graph, around: Surroundings<'_>) {
        let overridable = graph
            .inputs()
            .iter()
            .copied()
            .filter(|&n| graph.node(n).is_constant())
            .collect();
        let mut known = Known {
            around,
            overridable,
            origin: HashMap::new(),
            names: OnceCell::new(),
        };
        let mut pending = graph.op_order();
        pending.reverse();
        while let Some(n) = pending.pop() {
            let results = graph.node(n).results.len();
            let is_used = (0..results).any(|i| graph.is_used(graph.result(n, i)));
            if !is_used || !self.cx.may_rewrite() {
                continue;
            }
            if let Some(branch) = self.take_branch(graph, n, &known) {
                let (ops, facts) = branch;
                if let Some(facts) = facts {
                    known
                        .origin
                        .extend(ops.iter().map(|&(new, old)| (new, (facts, old))));
                }
                pending.extend(ops.into_iter().rev().map(|(new, _)| new));
                continue;
            }
            match self.evaluate(graph, n, &known) {
                Verdict::Known(tensors) => self.replace(graph, n, tensors),
                Verdict::Unsized => self.unsized_ = true,
                Verdict::Stays => self.fold_target(graph, n, &known),
            }
            if graph.op(n).is_some_and(|op| op.regions().next().is_some()) {
                self.regions(graph, n, &known);
            }
        }
    }

    /// Makes the results of `n` constants; `None` for those without uses.
    fn replace(&mut self, graph: &mut Graph, n: NodeId, tensors: Vec<Option<Tensor>>) {
        if !self.cx.begin_rewrite("fold", describe(graph, n)) {
            return;
        }
        self.folded = true;
        for (i, tensor) in tensors.into_iter().enumerate() {
            let Some(tensor) = tensor else { continue };
            let old = graph.result(n, i);
            let name = graph.value(old).name.clone();
            let new = graph.add_constant(name, tensor);
            graph.replace_uses(old, new);
        }
        release(graph, n);
    }

    fn regions(&mut self, graph: &mut Graph, n: NodeId, known: &Known<'_>) {
        let captures = graph.op(n).map_or(0, |op| op.captures);
        let operands = graph.operands(n);
        let first = operands.len().saturating_sub(captures);
        let captured: Vec<Option<Tensor>> = operands[first..]
            .iter()
            .map(|v| v.and_then(|v| known.constant(graph, v)))
            .collect();
        let (facts, place) = known.place(n);
        let Some(op) = graph.op_mut(n) else { return };
        for (key, attr) in &mut op.attrs {
            let Some(facts) = facts.region(place, key) else {
                continue;
            };
            for region in attr.graphs_mut() {
                let inputs = region.inputs();
                let first = inputs.len().saturating_sub(captures);
                let constants = inputs[first..].iter().zip(&captured);
                let constants = constants.filter_map(|(&n, t)| Some((n, t.clone()?)));
                let around = Surroundings {
                    facts,
                    inputs: constants.collect(),
                    is_main: false,
                };
                deep(|| self.graph(region, around));
            }
        }
    }
}
