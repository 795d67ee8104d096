//! What stands at the vertices of a [`Graph`](crate::Graph).

use bytes::Bytes;
use indexmap::IndexMap;
use onnxq_tensor::Tensor;
use smallvec::SmallVec;

use crate::{
    Attr, Graph, Type,
    def::{Literal, Metadata},
};

/// A vertex: an input, a constant, an operation, or the one `Return` of its graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// `NodeProto.name`: may be empty, need not be unique.
    pub name: String,
    /// The results; an input or a constant has one, `Return` none.
    pub results: SmallVec<[Value; 1]>,
    /// Documentation and the like, where there is any.
    pub extra: Option<Box<NodeExtra>>,
    /// The number of operands, those left out included.
    pub(crate) operand_count: u32,
    /// The number of uses of all results together.
    pub(crate) use_count: u32,
}

/// What a [`Node`] is.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// An input of the graph, a parameter of a region.
    Input,
    /// A constant: an initializer.
    Constant(Constant),
    /// An operation.
    Op(Op),
    /// Its operands are the results of the graph.
    Return,
}

/// A constant vertex.
#[derive(Clone, Debug)]
pub struct Constant {
    /// The value.
    pub value: Literal,
    /// Whether it belongs to the outermost graph and was only copied (sharing the bytes) into
    /// this region, so that it looks constant there. Export writes it once, where it belongs.
    pub sunk: bool,
}

/// An operation: which operator, and its attributes. Its regions (`then_branch`, `body`, ...) are
/// attributes.
#[derive(Clone, Debug, Default)]
pub struct Op {
    /// The operator set; `""` is the standard one.
    pub domain: String,
    /// The operator.
    pub op_type: String,
    /// The overload, of a model-local function.
    pub overload: String,
    /// The attributes, in the order of the file.
    pub attrs: IndexMap<String, Attr>,
    /// How many of the last operands are values that the regions capture. Each region has as many
    /// last inputs, in the same order.
    pub captures: usize,
}

/// A result of a node.
#[derive(Clone, Debug, Default)]
pub struct Value {
    /// The name. Need not be unique: printing and export make it so.
    pub name: String,
    /// The type, as far as known.
    pub ty: Option<Type>,
    /// Documentation, where there is any.
    pub extra: Option<Box<ValueExtra>>,
}

/// What few nodes have.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are the specification's")]
pub struct NodeExtra {
    pub doc: String,
    pub metadata: Metadata,
    pub attr_docs: Metadata,
    pub configurations: Vec<Bytes>,
}

/// What few values have.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are the specification's")]
pub struct ValueExtra {
    pub doc: String,
    pub metadata: Metadata,
}

impl Op {
    /// An operation of the standard domain.
    pub fn new(op_type: &str) -> Op {
        Op {
            op_type: op_type.to_owned(),
            ..Op::default()
        }
    }

    /// An operation of another domain.
    pub fn in_domain(domain: &str, op_type: &str) -> Op {
        Op {
            domain: domain.to_owned(),
            ..Op::new(op_type)
        }
    }

    /// The same with an attribute set.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Attr>) -> Op {
        self.attrs.insert(key.to_owned(), value.into());
        self
    }

    /// Whether this is `op_type` of the standard domain.
    pub fn is(&self, op_type: &str) -> bool {
        self.op_type == op_type && self.domain.is_empty()
    }

    /// The attribute, if set.
    pub fn attr(&self, key: &str) -> Option<&Attr> {
        self.attrs.get(key)
    }

    /// The integer attribute, or the default.
    pub fn int(&self, key: &str, default: i64) -> i64 {
        self.attr(key).and_then(Attr::as_int).unwrap_or(default)
    }

    /// The float attribute, or the default.
    pub fn float(&self, key: &str, default: f32) -> f32 {
        self.attr(key).and_then(Attr::as_float).unwrap_or(default)
    }

    /// The integers of the attribute, if set.
    pub fn ints(&self, key: &str) -> Option<&[i64]> {
        self.attr(key).and_then(Attr::as_ints)
    }

    /// The string attribute, if set and in UTF-8.
    pub fn str(&self, key: &str) -> Option<&str> {
        self.attr(key).and_then(Attr::as_str)
    }

    /// Name and graph of every region, in the order of the attributes.
    pub fn regions(&self) -> impl Iterator<Item = (&str, &Graph)> {
        self.attrs
            .iter()
            .flat_map(|(k, a)| a.graphs().iter().map(move |g| (k.as_str(), g)))
    }

    /// Every region, to change.
    pub fn regions_mut(&mut self) -> impl Iterator<Item = &mut Graph> {
        self.attrs.values_mut().flat_map(|a| a.graphs_mut())
    }

    /// `domain.op_type`, or `op_type` alone in the standard domain.
    pub fn qualified(&self) -> String {
        if self.domain.is_empty() {
            self.op_type.clone()
        } else {
            format!("{}.{}", self.domain, self.op_type)
        }
    }
}

impl Node {
    pub(crate) fn new(kind: NodeKind, name: String) -> Node {
        Node {
            kind,
            name,
            results: SmallVec::new(),
            extra: None,
            operand_count: 0,
            use_count: 0,
        }
    }

    /// The operation, if it is one.
    pub fn op(&self) -> Option<&Op> {
        match &self.kind {
            NodeKind::Op(op) => Some(op),
            _ => None,
        }
    }

    /// The operation, to change.
    pub fn op_mut(&mut self) -> Option<&mut Op> {
        match &mut self.kind {
            NodeKind::Op(op) => Some(op),
            _ => None,
        }
    }

    /// The tensor, if it is a dense constant.
    pub fn tensor(&self) -> Option<&Tensor> {
        match &self.kind {
            NodeKind::Constant(c) => c.value.as_dense(),
            _ => None,
        }
    }

    /// Whether it is an input of its graph.
    pub fn is_input(&self) -> bool {
        matches!(self.kind, NodeKind::Input)
    }

    /// Whether it is a constant, dense or sparse.
    pub fn is_constant(&self) -> bool {
        matches!(self.kind, NodeKind::Constant(_))
    }

    /// The number of operands, those left out included.
    pub fn operand_count(&self) -> usize {
        self.operand_count as usize
    }

    /// Documentation, metadata and the like, made if there is none yet.
    pub fn extra_mut(&mut self) -> &mut NodeExtra {
        self.extra.get_or_insert_default()
    }
}

impl Value {
    /// A value of this name and type.
    pub fn new(name: impl Into<String>, ty: Option<Type>) -> Value {
        Value {
            name: name.into(),
            ty,
            extra: None,
        }
    }
}
