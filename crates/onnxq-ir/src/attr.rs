//! Attributes of nodes.

use bytes::Bytes;
use onnxq_tensor::{Buffer, Tensor};

use crate::{Graph, Type};

/// A sparse tensor in coordinate form (`SparseTensorProto`).
#[derive(Clone, PartialEq, Debug)]
pub struct SparseTensor {
    /// The values that are not the default, of rank 1.
    pub values: Tensor,
    /// `int64` linear indices `[NNZ]`, or coordinates `[NNZ, rank]`.
    pub indices: Tensor,
    /// The dimensions of the dense tensor.
    pub dims: Vec<i64>,
}

/// The value of an attribute. `G` is the form graphs have: [`Graph`] in the IR,
/// [`GraphDef`](crate::def::GraphDef) in files and text.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the variants are the specification's names")]
pub enum Attr<G = Graph> {
    Float(f32),
    Int(i64),
    String(Bytes),
    Tensor(Tensor),
    Graph(Box<G>),
    SparseTensor(Box<SparseTensor>),
    Type(Type),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Strings(Vec<Bytes>),
    Tensors(Vec<Tensor>),
    Graphs(Vec<G>),
    SparseTensors(Vec<SparseTensor>),
    Types(Vec<Type>),
    /// In a function body: the attribute of the call with this name.
    Ref {
        name: String,
        kind: AttrKind,
    },
}

/// The type of an attribute (`AttributeProto.AttributeType`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the variants are the specification's names")]
pub enum AttrKind {
    Undefined = 0,
    Float = 1,
    Int = 2,
    String = 3,
    Tensor = 4,
    Graph = 5,
    Floats = 6,
    Ints = 7,
    Strings = 8,
    Tensors = 9,
    Graphs = 10,
    SparseTensor = 11,
    SparseTensors = 12,
    Type = 13,
    Types = 14,
}

impl AttrKind {
    /// Every kind, in the order of its code.
    pub const ALL: [AttrKind; 15] = [
        AttrKind::Undefined,
        AttrKind::Float,
        AttrKind::Int,
        AttrKind::String,
        AttrKind::Tensor,
        AttrKind::Graph,
        AttrKind::Floats,
        AttrKind::Ints,
        AttrKind::Strings,
        AttrKind::Tensors,
        AttrKind::Graphs,
        AttrKind::SparseTensor,
        AttrKind::SparseTensors,
        AttrKind::Type,
        AttrKind::Types,
    ];

    /// The kind with this `AttributeType` code.
    pub fn from_onnx(code: i32) -> Option<AttrKind> {
        AttrKind::ALL.get(usize::try_from(code).ok()?).copied()
    }

    /// The `AttributeType` code.
    pub fn onnx(self) -> i32 {
        self as i32
    }

    /// The name used by the ONNX textual syntax.
    pub fn name(self) -> &'static str {
        match self {
            AttrKind::Undefined => "undefined",
            AttrKind::Float => "float",
            AttrKind::Int => "int",
            AttrKind::String => "string",
            AttrKind::Tensor => "tensor",
            AttrKind::Graph => "graph",
            AttrKind::Floats => "floats",
            AttrKind::Ints => "ints",
            AttrKind::Strings => "strings",
            AttrKind::Tensors => "tensors",
            AttrKind::Graphs => "graphs",
            AttrKind::SparseTensor => "sparse_tensor",
            AttrKind::SparseTensors => "sparse_tensors",
            AttrKind::Type => "type_proto",
            AttrKind::Types => "type_protos",
        }
    }
}

impl<G> Attr<G> {
    /// The kind of this value; of a reference, the kind it stands for.
    pub fn kind(&self) -> AttrKind {
        match self {
            Attr::Float(_) => AttrKind::Float,
            Attr::Int(_) => AttrKind::Int,
            Attr::String(_) => AttrKind::String,
            Attr::Tensor(_) => AttrKind::Tensor,
            Attr::Graph(_) => AttrKind::Graph,
            Attr::SparseTensor(_) => AttrKind::SparseTensor,
            Attr::Type(_) => AttrKind::Type,
            Attr::Floats(_) => AttrKind::Floats,
            Attr::Ints(_) => AttrKind::Ints,
            Attr::Strings(_) => AttrKind::Strings,
            Attr::Tensors(_) => AttrKind::Tensors,
            Attr::Graphs(_) => AttrKind::Graphs,
            Attr::SparseTensors(_) => AttrKind::SparseTensors,
            Attr::Types(_) => AttrKind::Types,
            Attr::Ref { kind, .. } => *kind,
        }
    }

    /// A string attribute.
    pub fn string(value: &str) -> Attr<G> {
        Attr::String(Bytes::copy_from_slice(value.as_bytes()))
    }

    /// The integer, if this is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Attr::Int(v) => Some(*v),
            _ => None,
        }
    }

    /// The number, if this is one.
    pub fn as_float(&self) -> Option<f32> {
        match self {
            Attr::Float(v) => Some(*v),
            _ => None,
        }
    }

    /// The string, if this is one in UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Attr::String(v) => std::str::from_utf8(v).ok(),
            _ => None,
        }
    }

    /// The integers, if these are some.
    pub fn as_ints(&self) -> Option<&[i64]> {
        match self {
            Attr::Ints(v) => Some(v),
            _ => None,
        }
    }

    /// The numbers, if these are some.
    pub fn as_floats(&self) -> Option<&[f32]> {
        match self {
            Attr::Floats(v) => Some(v),
            _ => None,
        }
    }

    /// The tensor, if this is one.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match self {
            Attr::Tensor(v) => Some(v),
            _ => None,
        }
    }

    /// The graph, if this is one.
    pub fn as_graph(&self) -> Option<&G> {
        match self {
            Attr::Graph(v) => Some(v),
            _ => None,
        }
    }

    /// The graphs in this attribute: none, one, or several.
    pub fn graphs(&self) -> &[G] {
        match self {
            Attr::Graph(g) => std::slice::from_ref(&**g),
            Attr::Graphs(gs) => gs,
            _ => &[],
        }
    }

    /// The graphs in this attribute, to change.
    pub fn graphs_mut(&mut self) -> &mut [G] {
        match self {
            Attr::Graph(g) => std::slice::from_mut(&mut **g),
            Attr::Graphs(gs) => gs,
            _ => &mut [],
        }
    }

    /// The same attribute with every graph seen through `f`; tensors share their bytes.
    pub fn map_graphs<H>(&self, f: impl FnMut(&G) -> H) -> Attr<H> {
        match self {
            Attr::Float(v) => Attr::Float(*v),
            Attr::Int(v) => Attr::Int(*v),
            Attr::String(v) => Attr::String(v.clone()),
            Attr::Tensor(v) => Attr::Tensor(v.clone()),
            Attr::Graph(v) => Attr::Graph(Box::new({ f }(v))),
            Attr::SparseTensor(v) => Attr::SparseTensor(v.clone()),
            Attr::Type(v) => Attr::Type(v.clone()),
            Attr::Floats(v) => Attr::Floats(v.clone()),
            Attr::Ints(v) => Attr::Ints(v.clone()),
            Attr::Strings(v) => Attr::Strings(v.clone()),
            Attr::Tensors(v) => Attr::Tensors(v.clone()),
            Attr::Graphs(v) => Attr::Graphs(v.iter().map(f).collect()),
            Attr::SparseTensors(v) => Attr::SparseTensors(v.clone()),
            Attr::Types(v) => Attr::Types(v.clone()),
            Attr::Ref { name, kind } => Attr::Ref {
                name: name.clone(),
                kind: *kind,
            },
        }
    }

    /// The same attribute with every graph converted by `f`.
    pub fn try_map_graphs<H, E>(self, mut f: impl FnMut(G) -> Result<H, E>) -> Result<Attr<H>, E> {
        Ok(match self {
            Attr::Float(v) => Attr::Float(v),
            Attr::Int(v) => Attr::Int(v),
            Attr::String(v) => Attr::String(v),
            Attr::Tensor(v) => Attr::Tensor(v),
            Attr::Graph(v) => Attr::Graph(Box::new(f(*v)?)),
            Attr::SparseTensor(v) => Attr::SparseTensor(v),
            Attr::Type(v) => Attr::Type(v),
            Attr::Floats(v) => Attr::Floats(v),
            Attr::Ints(v) => Attr::Ints(v),
            Attr::Strings(v) => Attr::Strings(v),
            Attr::Tensors(v) => Attr::Tensors(v),
            Attr::Graphs(v) => Attr::Graphs(v.into_iter().map(f).collect::<Result<_, _>>()?),
            Attr::SparseTensors(v) => Attr::SparseTensors(v),
            Attr::Types(v) => Attr::Types(v),
            Attr::Ref { name, kind } => Attr::Ref { name, kind },
        })
    }
}

impl<G: PartialEq> PartialEq for Attr<G> {
    /// Equality of what is stored: floats are compared bit for bit, so that a model with a NaN
    /// equals itself.
    fn eq(&self, other: &Attr<G>) -> bool {
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        match (self, other) {
            (Attr::Float(a), Attr::Float(b)) => a.to_bits() == b.to_bits(),
            (Attr::Int(a), Attr::Int(b)) => a == b,
            (Attr::String(a), Attr::String(b)) => a == b,
            (Attr::Tensor(a), Attr::Tensor(b)) => a == b,
            (Attr::Graph(a), Attr::Graph(b)) => a == b,
            (Attr::SparseTensor(a), Attr::SparseTensor(b)) => a == b,
            (Attr::Type(a), Attr::Type(b)) => a == b,
            (Attr::Floats(a), Attr::Floats(b)) => bits(a) == bits(b),
            (Attr::Ints(a), Attr::Ints(b)) => a == b,
            (Attr::Strings(a), Attr::Strings(b)) => a == b,
            (Attr::Tensors(a), Attr::Tensors(b)) => a == b,
            (Attr::Graphs(a), Attr::Graphs(b)) => a == b,
            (Attr::SparseTensors(a), Attr::SparseTensors(b)) => a == b,
            (Attr::Types(a), Attr::Types(b)) => a == b,
            (Attr::Ref { name: a, kind: k }, Attr::Ref { name: b, kind: l }) => a == b && k == l,
            _ => false,
        }
    }
}

impl<G> From<i64> for Attr<G> {
    fn from(v: i64) -> Attr<G> {
        Attr::Int(v)
    }
}

impl<G> From<f32> for Attr<G> {
    fn from(v: f32) -> Attr<G> {
        Attr::Float(v)
    }
}

impl<G> From<&str> for Attr<G> {
    fn from(v: &str) -> Attr<G> {
        Attr::string(v)
    }
}

impl<G> From<Vec<i64>> for Attr<G> {
    fn from(v: Vec<i64>) -> Attr<G> {
        Attr::Ints(v)
    }
}

impl<G> From<Tensor> for Attr<G> {
    fn from(v: Tensor) -> Attr<G> {
        Attr::Tensor(v)
    }
}

impl SparseTensor {
    /// Bytes of the values and the indices.
    pub fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        self.values
            .buffer()
            .into_iter()
            .chain(self.indices.buffer())
    }
}
