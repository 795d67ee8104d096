//! Lets equal constants be one.
//!
//! ```text
//! float[64] a = {..}, float[64] b = {..}, the same elements   =>   a, used in both places
//! ```
//!
//! Constants are equal if type, dimensions and bytes are. In a graph one vertex is left, the first
//! in canonical order. Between the main graph and regions, and between regions, large ones share
//! one initializer of the main graph.
//!
//! Does not fire on a constant that is a result of its graph, which has its name, or that callers
//! may override; nor in function bodies.
//!
//! Not every byte is read: candidates have the same type, dimensions, and bytes at some sample
//! positions. Only among those are all bytes hashed, and those with equal hashes compared. A model
//! without equal constants costs a few hundred bytes per constant.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use onnxq_ir::{Graph, Model, NodeId, NodeKind, ValueId, def::Literal};
use onnxq_pass::{Pass, PassContext, PassError, PassInfo, describe};
use onnxq_tensor::Tensor;

pub(crate) const INFO: PassInfo = PassInfo {
    name: "share-equal-initializers",
    summary: "let equal constants be one",
    options: &[],
    build: |_| Ok(Box::new(ShareEqualInitializers)),
};

/// Smaller constants stay where they are used instead of going to the main graph.
const SMALL: usize = 256;

struct ShareEqualInitializers;

impl Pass for ShareEqualInitializers {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let mut all = Vec::new();
        collect(&model.graph, &mut all);
        let classes = Classes::of(&all);
        let mut merge = |graph: &mut Graph| merge(graph, &classes, cx);
        model.graph.for_each_graph_mut(&mut merge);
        share_across(model, &classes, cx);
        Ok(())
    }
}

/// Every constant of this graph and of its regions, each memory once, in canonical order.
fn collect(graph: &Graph, all: &mut Vec<Tensor>) {
    graph.for_each_graph(&mut |g: &Graph| {
        all.extend(
            g.order()
                .into_iter()
                .filter_map(|n| g.node(n).tensor().cloned()),
        );
    });
}

/// Which memory holds equal constants.
struct Classes {
    /// The class of each memory that is like another, by address, length, type and dimensions.
    of: HashMap<Identity, usize>,
    /// A tensor of each class.
    first: Vec<Tensor>,
}

/// Tensors with the same identity are equal, without a look at their bytes.
type Identity = (usize, usize, i32, Vec<usize>);

fn identity(t: &Tensor) -> Identity {
    let (address, len) = match t.strings() {
        Some(strings) => (strings.as_ptr() as usize, strings.len()),
        None => (t.bytes().as_ptr() as usize, t.bytes().len()),
    };
    (address, len, t.dtype().onnx(), t.dims().to_vec())
}

impl Classes {
    fn of(all: &[Tensor]) -> Classes {
        let mut classes = Classes {
            of: HashMap::new(),
            first: Vec::new(),
        };
        // In canonical order all through, so that the hashes cannot show in the outcome.
        let mut seen = HashSet::new();
        let distinct = all.iter().filter(|t| seen.insert(identity(t)));
        for alike in groups(distinct, sample) {
            for equal in groups(alike.iter().copied(), contents) {
                classes.add(&equal);
            }
            if alike.len() > 1 {
                alike.iter().for_each(|t| t.release());
            }
        }
        classes
    }

    /// Tensors whose hashes are equal, and which therefore almost certainly are.
    fn add(&mut self, alike: &[&Tensor]) {
        let Some((first, rest)) = alike.split_first() else {
            return;
        };
        let class = self.first.len();
        self.first.push((*first).clone());
        self.of.insert(identity(first), class);
        let (equal, different): (Vec<&Tensor>, Vec<&Tensor>) =
            rest.iter().partition(|t| t == &first);
        for t in equal {
            self.of.insert(identity(t), class);
        }
        for t in different {
            self.add(&[t]);
        }
    }
}

/// Splits into groups of equal keys, each in order, the groups by their first. A key is computed
/// only where there is more than one tensor.
fn groups<'t>(
    tensors: impl Iterator<Item = &'t Tensor>,
    key: impl Fn(&Tensor) -> u64,
) -> Vec<Vec<&'t Tensor>> {
    let mut tensors = tensors.peekable();
    let Some(first) = tensors.next() else {
        return Vec::new();
    };
    if tensors.peek().is_none() {
        return vec![vec![first]];
    }
    let mut index: HashMap<u64, usize> = HashMap::new();
    let mut groups: Vec<Vec<&Tensor>> = Vec::new();
    for t in std::iter::once(first).chain(tensors) {
        let at = *index.entry(key(t)).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[at].push(t);
    }
    groups
}

/// A hash of type, dimensions, and a few bytes.
fn sample(t: &Tensor) -> u64 {
    const PIECES: usize = 8;
    const PIECE: usize = 32;
    let mut hasher = DefaultHasher::new();
    (t.dtype().onnx(), t.dims()).hash(&mut hasher);
    let bytes = t.bytes();
    if bytes.len() <= PIECES * PIECE {
        bytes.hash(&mut hasher);
        t.strings().hash(&mut hasher);
    } else {
        for i in 0..PIECES {
            let at = (bytes.len() - PIECE) / (PIECES - 1) * i;
            bytes[at..at + PIECE].hash(&mut hasher);
        }
        t.release();
    }
    hasher.finish()
}

/// A hash of all bytes.
fn contents(t: &Tensor) -> u64 {
    let mut hasher = DefaultHasher::new();
    t.bytes().hash(&mut hasher);
    t.strings().hash(&mut hasher);
    t.release();
    hasher.finish()
}

/// Leaves one vertex of each class in the graph.
fn merge(graph: &mut Graph, classes: &Classes, cx: &mut PassContext) {
    let listed: HashSet<NodeId> = graph.inputs().iter().copied().collect();
    let mut kept: HashMap<usize, ValueId> = HashMap::new();
    for n in graph.order() {
        let Some(t) = graph.node(n).tensor().filter(|_| !listed.contains(&n)) else {
            continue;
        };
        let Some(&class) = classes.of.get(&identity(t)) else {
            continue;
        };
        let v = ValueId { node: n, result: 0 };
        match kept.get(&class) {
            None => {
                kept.insert(class, v);
            }
            Some(&first) => {
                if !graph.is_output(v) && graph.is_used(v) {
                    if !cx.begin_rewrite("share-initializer", describe(graph, n)) {
                        return;
                    }
                    graph.replace_uses(v, first);
                }
            }
        }
    }
}

/// Lets regions use the constants of the main graph, or a common one.
fn share_across(model: &mut Model, classes: &Classes, cx: &mut PassContext) {
    let class_of = |g: &Graph, n: NodeId| {
        let t = g.node(n).tensor().filter(|t| t.byte_len() >= SMALL)?;
        classes.of.get(&identity(t)).copied()
    };
    // The name of each class, and in how many places it occurs: main graph before regions.
    let mut names: HashMap<usize, String> = HashMap::new();
    let mut places = vec![0usize; classes.first.len()];
    let mut count = |g: &Graph| {
        let listed: HashSet<NodeId> = g.inputs().iter().copied().collect();
        for n in g.order().into_iter().filter(|n| !listed.contains(n)) {
            if let Some(class) = class_of(g, n) {
                let name = &g.node(n).results[0].name;
                names.entry(class).or_insert_with(|| name.clone());
                places[class] += 1;
            }
        }
    };
    count(&model.graph);
    for region in model.graph.regions() {
        region.for_each_graph(&mut count);
    }
    if places.iter().all(|&p| p < 2) {
        return;
    }
    let shared = |g: &Graph, n: NodeId| class_of(g, n).filter(|&class| places[class] > 1);
    let mut sink_all = |g: &mut Graph| {
        for n in g.order() {
            if let Some(class) = shared(g, n) {
                sink(g, n, &classes.first[class], &names[&class], cx);
            }
        }
    };
    for n in model.graph.op_order() {
        let has_regions = |op: &onnxq_ir::Op| op.regions().next().is_some();
        if model.graph.op(n).is_some_and(has_regions)
            && let Some(op) = model.graph.op_mut(n)
        {
            for region in op.regions_mut() {
                region.for_each_graph_mut(&mut sink_all);
            }
        }
    }
    // Export knows the copies again by memory and name.
    for n in model.graph.order() {
        if let Some(class) = shared(&model.graph, n)
            && let NodeKind::Constant(c) = &mut model.graph.node_mut(n).kind
        {
            c.value = Literal::Dense(classes.first[class].clone());
        }
    }
}

/// Makes the constant `n` of a region a copy of one of the main graph.
fn sink(region: &mut Graph, n: NodeId, tensor: &Tensor, name: &str, cx: &mut PassContext) {
    let value = &region.node(n).results[0];
    let done = |c: &onnxq_ir::Constant| {
        c.sunk && value.name == name && c.value.as_dense().is_some_and(|t| t.same(tensor))
    };
    if matches!(&region.node(n).kind, NodeKind::Constant(c) if done(c))
        || !cx.begin_rewrite("share-initializer", describe(region, n))
    {
        return;
    }
    let node = region.node_mut(n);
    node.results[0].name = name.to_owned();
    if let NodeKind::Constant(c) = &mut node.kind {
        c.sunk = true;
        c.value = Literal::Dense(tensor.clone());
    }
}

/// Leaves one vertex of each memory and name in the graph: what a region had copied and brought
/// back is no second constant.
pub(super) fn share_identical(graph: &mut Graph) {
    let mut kept: HashMap<(Identity, String), ValueId> = HashMap::new();
    let listed: HashSet<NodeId> = graph.inputs().iter().copied().collect();
    for n in graph.order() {
        let Some(t) = graph.node(n).tensor().filter(|_| !listed.contains(&n)) else {
            continue;
        };
        let v = ValueId { node: n, result: 0 };
        let key = (identity(t), graph.value(v).name.clone());
        let first = *kept.entry(key).or_insert(v);
        if first != v && !graph.is_output(v) {
            graph.replace_uses(v, first);
        }
    }
}
