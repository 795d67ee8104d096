//! Turns `Constant` nodes into initializers, and initializers that are also listed as inputs into
//! plain ones, so that every later pass finds constants in one form and one place.
//!
//! ```text
//! W = Constant <value = float[2] {1, 2}> ()   =>   float[2] W = {1, 2}
//! ```
//!
//! Every form of the attribute is known. A sparse value, of a `Constant` or an initializer, becomes
//! dense where that takes no more room in the file than before, or at most 64 KiB.
//!
//! Does not fire where the attribute is a reference (in a function body), where it is malformed,
//! or where a sparse value would grow; the node stays.
//!
//! Before version 4 of the format every initializer had to be listed as an input, and exporters
//! went on doing it. Such an input is a default that callers could override, and nothing could be
//! folded into it; a note says how many there were.

use onnxq_ir::{
    Attr, Graph, Model, NodeId, NodeKind, Op, SparseTensor, Value, ValueId, def::Literal,
};
use onnxq_pass::{Pass, PassContext, PassError, PassInfo, describe};
use onnxq_tensor::{Dims, Tensor, element_count};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "constants-to-initializers",
    summary: "turn Constant nodes, and initializers listed as inputs, into plain initializers",
    options: &[],
    build: |_| Ok(Box::new(ConstantsToInitializers)),
};

/// A sparse value whose dense form takes no more than this always becomes dense.
const SMALL: usize = 64 << 10;

struct ConstantsToInitializers;

impl Pass for ConstantsToInitializers {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        unlist_initializers(model, cx);
        model.for_each_graph_mut(|graph| {
            for n in graph.order() {
                convert(graph, n, cx);
            }
        });
        model.graph.sink_captured_constants();
        Ok(())
    }
}

/// Makes initializers that are listed as inputs plain ones, which the format knows from
/// version 4 on.
pub(super) fn unlist_initializers(model: &mut Model, cx: &mut PassContext) {
    let listed = |&n: &NodeId| model.graph.node(n).is_constant();
    let count = model.graph.inputs().iter().copied().filter(listed).count();
    if count == 0 || !cx.begin_rewrite("unlist-initializers", "the inputs of the model") {
        return;
    }
    // Before version 4 they could not be overridden: nothing is lost.
    if model.ir_version >= 4 {
        cx.note(format_args!(
            "{count} initializers were also listed as inputs; callers can no longer override them"
        ));
    }
    model.graph.unlist_constants();
    model.ir_version = model.ir_version.max(4);
}

fn convert(graph: &mut Graph, n: NodeId, cx: &mut PassContext) {
    let literal = match &graph.node(n).kind {
        NodeKind::Op(op) if op.is("Constant") => literal(op),
        NodeKind::Constant(c) => match &c.value {
            Literal::Sparse(sparse) => densify(sparse).map(Literal::Dense),
            Literal::Dense(_) => None,
        },
        _ => None,
    };
    let old = ValueId { node: n, result: 0 };
    let Some(literal) = literal.filter(|_| graph.is_used(old)) else {
        return;
    };
    if !cx.begin_rewrite("constant-to-initializer", describe(graph, n)) {
        return;
    }
    let sunk = matches!(&graph.node(n).kind, NodeKind::Constant(c) if c.sunk);
    let value = Value {
        ty: None,
        ..graph.value(old).clone()
    };
    let new = graph.add_literal(value, literal, sunk);
    graph.replace_uses(old, new);
}

/// The value of a `Constant`, if it is well formed and better off as an initializer.
fn literal(op: &Op) -> Option<Literal> {
    let (key, attr) = op.attrs.first()?;
    if op.attrs.len() != 1 {
        return None;
    }
    let dense = match (key.as_str(), attr) {
        ("value", Attr::Tensor(t)) => t.clone(),
        ("value_float", Attr::Float(v)) => Tensor::scalar(*v),
        ("value_int", Attr::Int(v)) => Tensor::scalar(*v),
        ("value_floats", Attr::Floats(v)) => Tensor::vector(v.clone()),
        ("value_ints", Attr::Ints(v)) => Tensor::vector(v.clone()),
        ("value_string", Attr::String(v)) => Tensor::from_strings(Dims::new(), [v.clone()]).ok()?,
        ("value_strings", Attr::Strings(v)) => {
            Tensor::from_strings(vec![v.len()], v.as_slice()).ok()?
        }
        ("sparse_value", Attr::SparseTensor(s)) => densify(s)?,
        _ => return None,
    };
    Some(Literal::Dense(dense))
}

/// The dense form, where it may be made; `None` too where indices are out of bounds or elements
/// are not whole bytes.
fn densify(sparse: &SparseTensor) -> Option<Tensor> {
    let dims: Option<Vec<usize>> = sparse.dims.iter().map(|&d| d.try_into().ok()).collect();
    let dims = dims?;
    let dtype = sparse.values.dtype();
    let bytes = dtype.byte_len(element_count(&dims).ok()?)?;
    let present = sparse.values.byte_len() + sparse.indices.byte_len();
    if !dtype.bits().is_multiple_of(8)
        || sparse.values.buffer().is_none()
        || bytes > present.max(SMALL)
    {
        return None;
    }
    let width = dtype.bits() / 8;
    let mut data = vec![0u8; bytes];
    let positions = linear_indices(sparse, &dims)?;
    if positions.len() != sparse.values.len() {
        return None;
    }
    for (position, value) in positions
        .into_iter()
        .zip(sparse.values.bytes().chunks_exact(width))
    {
        let at = position.checked_mul(width)?;
        data.get_mut(at..at + width)?.copy_from_slice(value);
    }
    Tensor::new(dtype, dims, data).ok()
}

/// Where the values stand in the dense form: the indices as they are, or from coordinates.
fn linear_indices(sparse: &SparseTensor, dims: &[usize]) -> Option<Vec<usize>> {
    let indices = sparse.indices.to_i64s().ok()?;
    let index = |i: i64, dim: usize| usize::try_from(i).ok().filter(|&i| i < dim);
    match sparse.indices.dims() {
        [_] => {
            let count = element_count(dims).ok()?;
            indices.into_iter().map(|i| index(i, count)).collect()
        }
        [_, rank] if *rank == dims.len() && *rank > 0 => indices
            .chunks_exact(*rank)
            .map(|at| {
                let mut coordinates = at.iter().zip(dims);
                coordinates.try_fold(0, |sum, (&i, &dim)| Some(sum * dim + index(i, dim)?))
            })
            .collect(),
        _ => None,
    }
}
