//! Files to [`ModelDef`].
//!
//! Graphs inside attributes are not descended into: each gets a number and waits its turn, and when
//! all have been read they are put into their places, the last first (a graph has a higher number
//! than the one it is in).

use std::path::Path;

use indexmap::IndexMap;
use onnxq_ir::{
    Attr, AttrKind,
    def::{
        FunctionDef, GraphDef, InitializerDef, Literal, Metadata, ModelDef, NodeDef, Opsets,
        ValueDef,
    },
};
use onnxq_tensor::{Buffer, Bytes, MappedFile};
use prost::Message;

use crate::{
    Error, MAX_NESTING,
    error::Within,
    external::ExternalFiles,
    proto::{
        AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
        SparseTensorProto, StringStringEntryProto, TensorProto, ValueInfoProto,
    },
    tensor::{lossy, read_sparse, read_tensor},
    types::read_type,
};

/// Reads the model in the file `path`, and the external data beside it.
pub fn load(path: &Path) -> Result<ModelDef, Error> {
    let buffer = MappedFile::open(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    from_buffer(buffer, path.parent(), &path.display().to_string())
}

/// Reads a model from memory. External data is looked for in `dir`, and is an error where that is
/// `None`; `file` names the model in messages.
pub fn from_buffer(buffer: Buffer, dir: Option<&Path>, file: &str) -> Result<ModelDef, Error> {
    let mut reader = Reader {
        source: buffer,
        external: ExternalFiles::new(dir),
        graphs: Vec::new(),
        waiting: Vec::new(),
    };
    reader.model().in_file(file)
}

struct Reader {
    source: Buffer,
    external: ExternalFiles,
    /// Every graph met so far, read or not.
    graphs: Vec<Slot>,
    /// Numbers and contents of the graphs that are not read yet.
    waiting: Vec<(usize, Bytes)>,
}

/// A graph on its way to its place.
struct Slot {
    graph: GraphDef,
    depth: usize,
    home: Option<Home>,
}

/// The place of a graph: in `graph`, in an attribute of a node.
#[derive(Clone, Copy)]
struct Home {
    graph: usize,
    node: usize,
    attr: usize,
    /// Which of the graphs in the attribute.
    index: usize,
}

impl Reader {
    fn model(&mut self) -> Result<ModelDef, Error> {
        let proto = ModelProto::decode(self.source.bytes().clone())?;
        let (Some(ir_version), Some(graph)) = (proto.ir_version, proto.graph) else {
            return Err(Error::invalid(
                "not an ONNX model: it has no graph or no `ir_version`",
            ));
        };
        let main = self.slot(None, 0);
        self.waiting.push((main, graph));
        let mut functions = Vec::with_capacity(proto.functions.len());
        for (i, bytes) in proto.functions.into_iter().enumerate() {
            functions.push(self.function(bytes).within(|| format!("function {i}"))?);
        }
        while let Some((number, bytes)) = self.waiting.pop() {
            self.graph(number, bytes)?;
        }
        self.place_graphs();
        for (function, body, defaults) in &mut functions {
            function.nodes = std::mem::take(&mut self.graphs[*body].graph.nodes);
            let defaults = self.graphs[*defaults].graph.nodes.pop();
            function.attribute_defaults = defaults.unwrap_or_default().attrs;
        }
        Ok(ModelDef {
            ir_version,
            opsets: opsets(&proto.opset_import)?,
            producer_name: lossy(&proto.producer_name),
            producer_version: lossy(&proto.producer_version),
            domain: lossy(&proto.domain),
            model_version: proto.model_version,
            doc: lossy(&proto.doc_string),
            metadata: metadata(&proto.metadata_props),
            graph: std::mem::take(&mut self.graphs[main].graph),
            functions: functions.into_iter().map(|(f, ..)| f).collect(),
            training: proto.training_info,
            configurations: proto.configuration,
        })
    }

    /// A number for a graph.
    fn slot(&mut self, home: Option<Home>, depth: usize) -> usize {
        self.graphs.push(Slot {
            graph: GraphDef::default(),
            depth,
            home,
        });
        self.graphs.len() - 1
    }

    fn place_graphs(&mut self) {
        for number in (0..self.graphs.len()).rev() {
            let Some(home) = self.graphs[number].home else {
                continue;
            };
            let graph = std::mem::take(&mut self.graphs[number].graph);
            let attrs = &mut self.graphs[home.graph].graph.nodes[home.node].attrs;
            attrs[home.attr].graphs_mut()[home.index] = graph;
        }
    }

    /// A function, and the numbers of its body and of a graph of one node that has the defaults of its
    /// attributes.
    fn function(&mut self, bytes: Bytes) -> Result<(FunctionDef, usize, usize), Error> {
        let proto = FunctionProto::decode(bytes)?;
        let function = FunctionDef {
            domain: domain(&proto.domain)?,
            name: name("name", &proto.name)?,
            overload: name("overload", &proto.overload)?,
            inputs: names("input", &proto.input)?,
            outputs: names("output", &proto.output)?,
            attributes: names("attribute", &proto.attribute)?,
            attribute_defaults: IndexMap::new(),
            opsets: opsets(&proto.opset_import)?,
            nodes: Vec::new(),
            value_info: values("value_info", proto.value_info)?,
            doc: lossy(&proto.doc_string),
            metadata: metadata(&proto.metadata_props),
        };
        let place = || format!("`{}`", function.name);
        let (body, defaults) = (self.slot(None, 0), self.slot(None, 0));
        self.nodes(body, proto.node).within(place)?;
        self.graphs[defaults].graph.nodes.push(NodeDef::default());
        self.attributes(defaults, 0, proto.attribute_proto)
            .within(place)?;
        Ok((function, body, defaults))
    }

    fn graph(&mut self, number: usize, bytes: Bytes) -> Result<(), Error> {
        let mut proto = GraphProto::decode(bytes)?;
        let graph_name = name("name", &proto.name).within(|| "graph".to_owned())?;
        let place = || format!("graph `{graph_name}`");
        let nodes = std::mem::take(&mut proto.node);
        self.nodes(number, nodes).within(place)?;
        let parts = self.graph_parts(proto).within(place)?;
        let graph = &mut self.graphs[number].graph;
        *graph = GraphDef {
            name: graph_name,
            nodes: std::mem::take(&mut graph.nodes),
            ..parts
        };
        Ok(())
    }

    /// All of a graph but its name and nodes.
    fn graph_parts(&mut self, proto: GraphProto) -> Result<GraphDef, Error> {
        let mut initializers =
            Vec::with_capacity(proto.initializer.len() + proto.sparse_initializer.len());
        for (i, bytes) in proto.initializer.into_iter().enumerate() {
            initializers.push(
                self.initializer(bytes)
                    .within(|| format!("initializer {i}"))?,
            );
        }
        for (i, sparse) in proto.sparse_initializer.into_iter().enumerate() {
            let sparse = self.sparse_initializer(sparse);
            initializers.push(sparse.within(|| format!("sparse_initializer {i}"))?);
        }
        let mut annotations = Vec::with_capacity(proto.quantization_annotation.len());
        for a in &proto.quantization_annotation {
            let tensor = name("quantization_annotation", &a.tensor_name)?;
            annotations.push((tensor, metadata(&a.quant_parameter_tensor_names)));
        }
        Ok(GraphDef {
            inputs: values("input", proto.input)?,
            outputs: values("output", proto.output)?,
            value_info: values("value_info", proto.value_info)?,
            initializers,
            annotations,
            doc: lossy(&proto.doc_string),
            metadata: metadata(&proto.metadata_props),
            ..GraphDef::default()
        })
    }

    fn initializer(&mut self, bytes: Bytes) -> Result<InitializerDef, Error> {
        let proto = TensorProto::decode(bytes)?;
        let name = name("name", &proto.name)?;
        let (doc, metadata) = (lossy(&proto.doc_string), metadata(&proto.metadata_props));
        let tensor =
            read_tensor(proto, &self.source, &mut self.external).within(|| format!("`{name}`"))?;
        Ok(InitializerDef {
            name,
            value: Literal::Dense(tensor),
            doc,
            metadata,
        })
    }

    fn sparse_initializer(&mut self, proto: SparseTensorProto) -> Result<InitializerDef, Error> {
        let values = proto.values.clone().unwrap_or_default();
        let name = name("name", &values.name)?;
        let sparse =
            read_sparse(proto, &self.source, &mut self.external).within(|| format!("`{name}`"))?;
        Ok(InitializerDef {
            name,
            value: Literal::Sparse(Box::new(sparse)),
            doc: lossy(&values.doc_string),
            metadata: metadata(&values.metadata_props),
        })
    }

    /// Reads `nodes` into the graph `number`.
    fn nodes(&mut self, number: usize, nodes: Vec<Bytes>) -> Result<(), Error> {
        self.graphs[number].graph.nodes.reserve_exact(nodes.len());
        for (i, bytes) in nodes.into_iter().enumerate() {
            let proto = NodeProto::decode(bytes).within(|| format!("node {i}"))?;
            let (attributes, node) = node(proto).within(|| format!("node {i}"))?;
            self.graphs[number].graph.nodes.push(node);
            self.attributes(number, i, attributes).within(|| {
                let node = &self.graphs[number].graph.nodes[i];
                format!("node {i} `{}` ({})", node.name, node.op_type)
            })?;
        }
        Ok(())
    }

    /// Reads `attributes` into the node `node` of the graph `number`.
    fn attributes(
        &mut self,
        number: usize,
        node: usize,
        attributes: Vec<Bytes>,
    ) -> Result<(), Error> {
        let mut by_name = IndexMap::with_capacity(attributes.len());
        for (i, bytes) in attributes.into_iter().enumerate() {
            let place = || format!("attribute {i}");
            let proto = AttributeProto::decode(bytes).within(place)?;
            by_name.insert(name("name", &proto.name).within(place)?, proto);
        }
        for (attr, (name, proto)) in by_name.into_iter().enumerate() {
            let doc = lossy(&proto.doc_string);
            let home = Home {
                graph: number,
                node,
                attr,
                index: 0,
            };
            let value = self
                .attribute(proto, home)
                .within(|| format!("attribute `{name}`"))?;
            let node = &mut self.graphs[number].graph.nodes[node];
            if !doc.is_empty() {
                node.attr_docs.insert(name.clone(), doc);
            }
            node.attrs.insert(name, value);
        }
        Ok(())
    }

    fn attribute(&mut self, proto: AttributeProto, home: Home) -> Result<Attr<GraphDef>, Error> {
        let kind = match proto.r#type {
            None | Some(0) => None,
            Some(code) => Some(
                AttrKind::from_onnx(code)
                    .ok_or_else(|| Error::unsupported(format!("attribute type {code} is")))?,
            ),
        };
        if !proto.ref_attr_name.is_empty() {
            let name = name("ref_attr_name", &proto.ref_attr_name)?;
            return Ok(Attr::Ref {
                name,
                kind: kind.unwrap_or(AttrKind::Undefined),
            });
        }
        let stored = stored_kind(&proto);
        let kind = kind
            .or(stored)
            .ok_or_else(|| Error::invalid("it has neither a type nor a value"))?;
        let missing = || match stored {
            Some(other) => format!("it is of type {} but has a {}", kind.name(), other.name()),
            None => format!("it is of type {} but has no value", kind.name()),
        };
        let required = || Error::invalid(missing());
        // Writers that leave out what is zero leave out zeros; but not beside another value.
        let absent = || {
            if stored.is_none() {
                Ok(())
            } else {
                Err(required())
            }
        };
        Ok(match kind {
            AttrKind::Undefined => return Err(required()),
            AttrKind::Float => Attr::Float(proto.f.map_or_else(|| absent().map(|()| 0.0), Ok)?),
            AttrKind::Int => Attr::Int(proto.i.map_or_else(|| absent().map(|()| 0), Ok)?),
            AttrKind::String => Attr::String(
                proto
                    .s
                    .map_or_else(|| absent().map(|()| Bytes::new()), Ok)?,
            ),
            AttrKind::Floats => Attr::Floats(proto.floats),
            AttrKind::Ints => Attr::Ints(proto.ints),
            AttrKind::Strings => Attr::Strings(proto.strings),
            AttrKind::Tensor => {
                let tensor = proto.t.ok_or_else(required)?;
                Attr::Tensor(read_tensor(*tensor, &self.source, &mut self.external)?)
            }
            AttrKind::Tensors => Attr::Tensors(
                proto
                    .tensors
                    .into_iter()
                    .map(|t| read_tensor(t, &self.source, &mut self.external))
                    .collect::<Result<_, _>>()?,
            ),
            AttrKind::SparseTensor => {
                let sparse = proto.sparse_tensor.ok_or_else(required)?;
                Attr::SparseTensor(Box::new(read_sparse(
                    *sparse,
                    &self.source,
                    &mut self.external,
                )?))
            }
            AttrKind::SparseTensors => Attr::SparseTensors(
                proto
                    .sparse_tensors
                    .into_iter()
                    .map(|t| read_sparse(t, &self.source, &mut self.external))
                    .collect::<Result<_, _>>()?,
            ),
            AttrKind::Type => {
                let ty = read_type(proto.tp.ok_or_else(required)?)?;
                Attr::Type(ty.ok_or_else(|| Error::invalid("the type is empty"))?)
            }
            AttrKind::Types => Attr::Types(
                proto
                    .type_protos
                    .into_iter()
                    .map(|t| read_type(t)?.ok_or_else(|| Error::invalid("a type is empty")))
                    .collect::<Result<_, _>>()?,
            ),
            AttrKind::Graph => {
                self.await_graph(proto.g.ok_or_else(required)?, home)?;
                Attr::Graph(Box::default())
            }
            AttrKind::Graphs => {
                let count = proto.graphs.len();
                for (index, bytes) in proto.graphs.into_iter().enumerate() {
                    self.await_graph(bytes, Home { index, ..home })?;
                }
                Attr::Graphs(vec![GraphDef::default(); count])
            }
        })
    }

    fn await_graph(&mut self, bytes: Bytes, home: Home) -> Result<(), Error> {
        let depth = self.graphs[home.graph].depth + 1;
        if depth > MAX_NESTING {
            return Err(Error::unsupported(format!(
                "nesting deeper than {MAX_NESTING} graphs is"
            )));
        }
        let number = self.slot(Some(home), depth);
        self.waiting.push((number, bytes));
        Ok(())
    }
}

/// A node without its attributes, and these.
fn node(proto: NodeProto) -> Result<(Vec<Bytes>, NodeDef), Error> {
    let node = NodeDef {
        name: name("name", &proto.name)?,
        domain: domain(&proto.domain)?,
        op_type: name("op_type", &proto.op_type)?,
        overload: name("overload", &proto.overload)?,
        inputs: names("input", &proto.input)?,
        outputs: names("output", &proto.output)?,
        attrs: IndexMap::new(),
        attr_docs: Metadata::new(),
        doc: lossy(&proto.doc_string),
        metadata: metadata(&proto.metadata_props),
        configurations: proto.device_configurations,
    };
    Ok((proto.attribute, node))
}

/// The kind of the value that is there, for files older than the field `type`.
fn stored_kind(proto: &AttributeProto) -> Option<AttrKind> {
    let stored = [
        (proto.f.is_some(), AttrKind::Float),
        (proto.i.is_some(), AttrKind::Int),
        (proto.s.is_some(), AttrKind::String),
        (proto.t.is_some(), AttrKind::Tensor),
        (proto.g.is_some(), AttrKind::Graph),
        (!proto.floats.is_empty(), AttrKind::Floats),
        (!proto.ints.is_empty(), AttrKind::Ints),
        (!proto.strings.is_empty(), AttrKind::Strings),
        (!proto.tensors.is_empty(), AttrKind::Tensors),
        (!proto.graphs.is_empty(), AttrKind::Graphs),
        (proto.sparse_tensor.is_some(), AttrKind::SparseTensor),
        (!proto.sparse_tensors.is_empty(), AttrKind::SparseTensors),
        (proto.tp.is_some(), AttrKind::Type),
        (!proto.type_protos.is_empty(), AttrKind::Types),
    ];
    stored
        .into_iter()
        .find(|&(there, _)| there)
        .map(|(_, kind)| kind)
}

fn values(field: &str, protos: Vec<ValueInfoProto>) -> Result<Vec<ValueDef>, Error> {
    let value = |proto: ValueInfoProto| {
        let name = name("name", &proto.name)?;
        let ty = proto
            .r#type
            .map_or(Ok(None), read_type)
            .within(|| format!("`{name}`: type"))?;
        let metadata = metadata(&proto.metadata_props);
        Ok::<_, Error>(ValueDef {
            name,
            ty,
            doc: lossy(&proto.doc_string),
            metadata,
        })
    };
    protos
        .into_iter()
        .enumerate()
        .map(|(i, proto)| value(proto).within(|| format!("{field} {i}")))
        .collect::<Result<_, Error>>()
}

/// Where a domain is imported twice, its highest version counts (`docs/IR.md`).
fn opsets(protos: &[OperatorSetIdProto]) -> Result<Opsets, Error> {
    let mut opsets = Opsets::new();
    for proto in protos {
        let domain = domain(&proto.domain).within(|| "opset_import".to_owned())?;
        let version = opsets.entry(domain).or_insert(proto.version);
        *version = proto.version.max(*version);
    }
    Ok(opsets)
}

fn metadata(entries: &[StringStringEntryProto]) -> Metadata {
    entries
        .iter()
        .map(|e| (lossy(&e.key), lossy(&e.value)))
        .collect()
}

/// A domain, the standard one under its one name.
fn domain(bytes: &Bytes) -> Result<String, Error> {
    let domain = name("domain", bytes)?;
    Ok(if domain == "ai.onnx" {
        String::new()
    } else {
        domain
    })
}

fn names(field: &str, bytes: &[Bytes]) -> Result<Vec<String>, Error> {
    bytes.iter().map(|b| name(field, b)).collect()
}

/// Text by which things are found: it must not change, and so must be right.
pub(crate) fn name(field: &str, bytes: &Bytes) -> Result<String, Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(Error::invalid(format!(
            "{field} `{}` is not UTF-8",
            lossy(bytes)
        ))),
    }
}
