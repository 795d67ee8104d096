//! [`ModelDef`] to the bytes of a `ModelProto`.
//!
//! A [`Rope`] is written backwards, so everything here goes from the last field to the first. Field
//! numbers are those of [`proto`](crate::proto). Graphs nest through the list of [`Step`]s instead of
//! the call stack.

use indexmap::IndexMap;
use onnxq_ir::{
    Attr, AttrKind, SparseTensor,
    def::{
        FunctionDef, GraphDef, InitializerDef, Literal, Metadata, ModelDef, NodeDef, Opsets,
        ValueDef,
    },
};
use onnxq_tensor::{Buffer, Tensor};

use crate::{
    rope::{Mark, Rope},
    types::write_type,
};

/// Tensors below this size stay in the model: a reader opens no file for a scale.
const EXTERNAL_FROM: usize = 1024;

/// Where the weights lie that are not in the model.
pub(crate) struct ExternalData {
    /// The path of their file, from the model's directory.
    pub(crate) location: String,
    /// Their offsets there, in the order of [`Encoded::weights`].
    pub(crate) offsets: Vec<u64>,
}

/// An encoded model.
pub(crate) struct Encoded {
    pub(crate) rope: Rope,
    /// The initializers that may lie in another file, *last first*.
    pub(crate) weights: Vec<Buffer>,
}

/// Encodes `model`, with its weights in `external` where that is given.
pub(crate) fn encode(model: &ModelDef, external: Option<&ExternalData>) -> Encoded {
    let mut encoder = Encoder {
        out: Rope::default(),
        steps: Vec::new(),
        weights: Vec::new(),
        external,
    };
    encoder.model(model);
    Encoded {
        rope: encoder.out,
        weights: encoder.weights,
    }
}

/// What remains to be written, the next one last.
enum Step<'a> {
    /// The last of these functions.
    Functions(&'a [FunctionDef]),
    /// What a function has before its body, to close it.
    FunctionHead(&'a FunctionDef, Mark),
    /// What a function has between its body and the defaults of its attributes.
    FunctionMiddle(&'a FunctionDef),
    /// A graph as this field.
    Graph(u32, &'a GraphDef),
    /// The last of these nodes as this field.
    Nodes(u32, &'a [NodeDef]),
    /// What a node has before its attributes, to close it.
    NodeHead(u32, &'a NodeDef, Mark),
    /// The last of the first so many attributes.
    Attrs(AttrList<'a>, usize),
    /// What an attribute has before its value, to close it.
    AttrHead(u32, &'a str, Mark),
    /// Closes a message.
    Close(u32, Mark),
    /// What a model has before its graph.
    ModelHead(&'a ModelDef),
    /// What a model has between its graph and its functions.
    ModelMiddle(&'a ModelDef),
}

#[derive(Clone, Copy)]
struct AttrList<'a> {
    field: u32,
    attrs: &'a IndexMap<String, Attr<GraphDef>>,
    docs: Option<&'a Metadata>,
}

struct Encoder<'a> {
    out: Rope,
    steps: Vec<Step<'a>>,
    weights: Vec<Buffer>,
    external: Option<&'a ExternalData>,
}

impl<'a> Encoder<'a> {
    fn model(&mut self, model: &'a ModelDef) {
        for bytes in model.configurations.iter().rev() {
            self.out.bytes(26, bytes);
        }
        self.steps.push(Step::ModelHead(model));
        self.steps.push(Step::Graph(7, &model.graph));
        self.steps.push(Step::ModelMiddle(model));
        self.steps.push(Step::Functions(&model.functions));
        while let Some(step) = self.steps.pop() {
            self.step(step);
        }
    }

    fn step(&mut self, step: Step<'a>) {
        match step {
            Step::Functions(functions) => {
                if let Some((function, rest)) = functions.split_last() {
                    self.steps.push(Step::Functions(rest));
                    self.function(function);
                }
            }
            Step::FunctionMiddle(function) => {
                self.out.text(10, &function.domain);
                self.opsets(9, &function.opsets);
                self.out.text(8, &function.doc);
            }
            Step::FunctionHead(function, end) => {
                self.out.texts(6, &function.attributes);
                self.out.texts(5, &function.outputs);
                self.out.texts(4, &function.inputs);
                self.out.required_text(1, &function.name);
                self.out.close(25, end);
            }
            Step::Graph(field, graph) => self.graph(field, graph),
            Step::Nodes(field, nodes) => {
                if let Some((node, rest)) = nodes.split_last() {
                    self.steps.push(Step::Nodes(field, rest));
                    self.node(field, node);
                }
            }
            Step::NodeHead(field, node, end) => {
                self.out.required_text(4, &node.op_type);
                self.out.text(3, &node.name);
                self.out.texts(2, &node.outputs);
                self.out.texts(1, &node.inputs);
                self.out.close(field, end);
            }
            Step::Attrs(list, left) => {
                if let Some((name, attr)) =
                    left.checked_sub(1).and_then(|i| list.attrs.get_index(i))
                {
                    self.steps.push(Step::Attrs(list, left - 1));
                    let doc = list
                        .docs
                        .and_then(|d| d.get(name))
                        .map_or("", String::as_str);
                    self.attr(list.field, name, attr, doc);
                }
            }
            Step::AttrHead(field, name, end) => {
                self.out.required_text(1, name);
                self.out.close(field, end);
            }
            Step::Close(field, end) => self.out.close(field, end),
            Step::ModelHead(model) => self.model_head(model),
            Step::ModelMiddle(model) => {
                for bytes in model.training.iter().rev() {
                    self.out.bytes(20, bytes);
                }
                self.metadata(14, &model.metadata);
                self.opsets(8, &model.opsets);
            }
        }
    }

    fn model_head(&mut self, model: &ModelDef) {
        self.out.text(6, &model.doc);
        if model.model_version != 0 {
            self.out.int(5, model.model_version);
        }
        self.out.text(4, &model.domain);
        self.out.text(3, &model.producer_version);
        self.out.text(2, &model.producer_name);
        self.out.int(1, model.ir_version);
    }

    fn function(&mut self, function: &'a FunctionDef) {
        let end = self.out.mark();
        self.metadata(14, &function.metadata);
        self.out.text(13, &function.overload);
        self.values(12, &function.value_info);
        self.steps.push(Step::FunctionHead(function, end));
        self.steps.push(Step::Nodes(7, &function.nodes));
        self.steps.push(Step::FunctionMiddle(function));
        let attrs = &function.attribute_defaults;
        self.steps.push(Step::Attrs(
            AttrList {
                field: 11,
                attrs,
                docs: None,
            },
            attrs.len(),
        ));
    }

    fn graph(&mut self, field: u32, graph: &'a GraphDef) {
        let end = self.out.mark();
        self.metadata(16, &graph.metadata);
        for init in graph.initializers.iter().rev() {
            if let Literal::Sparse(sparse) = &init.value {
                self.sparse(15, sparse, Some(init));
            }
        }
        for (tensor, parameters) in graph.annotations.iter().rev() {
            let end = self.out.mark();
            self.metadata(2, parameters);
            self.out.required_text(1, tensor);
            self.out.close(14, end);
        }
        self.values(13, &graph.value_info);
        self.values(12, &graph.outputs);
        self.values(11, &graph.inputs);
        self.out.text(10, &graph.doc);
        for init in graph.initializers.iter().rev() {
            if let Literal::Dense(tensor) = &init.value {
                let offset = self.external_offset(tensor);
                self.tensor(5, tensor, Some(init), offset);
            }
        }
        self.out.text(2, &graph.name);
        self.steps.push(Step::Close(field, end));
        self.steps.push(Step::Nodes(1, &graph.nodes));
    }

    fn node(&mut self, field: u32, node: &'a NodeDef) {
        let end = self.out.mark();
        for bytes in node.configurations.iter().rev() {
            self.out.bytes(10, bytes);
        }
        self.metadata(9, &node.metadata);
        self.out.text(8, &node.overload);
        self.out.text(7, &node.domain);
        self.out.text(6, &node.doc);
        self.steps.push(Step::NodeHead(field, node, end));
        let list = AttrList {
            field: 5,
            attrs: &node.attrs,
            docs: Some(&node.attr_docs),
        };
        self.steps.push(Step::Attrs(list, node.attrs.len()));
    }

    fn attr(&mut self, field: u32, name: &'a str, attr: &'a Attr<GraphDef>, doc: &str) {
        let end = self.out.mark();
        if let Attr::Ref { name, .. } = attr {
            self.out.text(21, name);
        }
        if attr.kind() != AttrKind::Undefined {
            self.out.int(20, i64::from(attr.kind().onnx()));
        }
        self.out.text(13, doc);
        self.steps.push(Step::AttrHead(field, name, end));
        match attr {
            Attr::Float(v) => self.out.float(2, *v),
            Attr::Int(v) => self.out.int(3, *v),
            Attr::String(v) => self.out.bytes(4, v),
            Attr::Tensor(v) => self.tensor(5, v, None, None),
            Attr::Graph(v) => self.steps.push(Step::Graph(6, v)),
            Attr::Floats(v) => v.iter().rev().for_each(|&v| self.out.float(7, v)),
            Attr::Ints(v) => v.iter().rev().for_each(|&v| self.out.int(8, v)),
            Attr::Strings(v) => v.iter().rev().for_each(|v| self.out.bytes(9, v)),
            Attr::Tensors(v) => v.iter().rev().for_each(|v| self.tensor(10, v, None, None)),
            // Steps are taken last first.
            Attr::Graphs(v) => self.steps.extend(v.iter().map(|g| Step::Graph(11, g))),
            Attr::Type(v) => write_type(&mut self.out, 14, v),
            Attr::Types(v) => v
                .iter()
                .rev()
                .for_each(|v| write_type(&mut self.out, 15, v)),
            Attr::SparseTensor(v) => self.sparse(22, v, None),
            Attr::SparseTensors(v) => v.iter().rev().for_each(|v| self.sparse(23, v, None)),
            Attr::Ref { .. } => {}
        }
    }

    /// A tensor, with the name and documentation of `init`, and its data here or in the other file.
    fn tensor(
        &mut self,
        field: u32,
        tensor: &Tensor,
        init: Option<&InitializerDef>,
        offset: Option<u64>,
    ) {
        let end = self.out.mark();
        if let Some(init) = init {
            self.metadata(16, &init.metadata);
        }
        let external = offset.zip(self.external);
        if let Some((offset, external)) = external {
            self.out.int(14, 1);
            self.entry(13, "length", &tensor.byte_len().to_string());
            self.entry(13, "offset", &offset.to_string());
            self.entry(13, "location", &external.location);
        }
        self.out.text(12, init.map_or("", |i| &i.doc));
        if let Some(buffer) = tensor.buffer().filter(|_| external.is_none()) {
            self.out.buffer(9, buffer);
        }
        self.out.text(8, init.map_or("", |i| &i.name));
        for string in tensor.strings().into_iter().flat_map(|s| s.iter().rev()) {
            self.out.bytes(6, string);
        }
        self.out.int(2, i64::from(tensor.dtype().onnx()));
        for &dim in tensor.dims().iter().rev() {
            self.out.int(1, dim as i64);
        }
        self.out.close(field, end);
    }

    /// Notes a weight that may lie in another file; where it does, if one is written.
    fn external_offset(&mut self, tensor: &Tensor) -> Option<u64> {
        let buffer = tensor.buffer().filter(|b| b.len() >= EXTERNAL_FROM)?;
        self.weights.push(buffer.clone());
        let offsets = &self.external?.offsets;
        offsets
            .get(offsets.len().checked_sub(self.weights.len())?)
            .copied()
    }

    fn sparse(&mut self, field: u32, sparse: &SparseTensor, init: Option<&InitializerDef>) {
        let end = self.out.mark();
        for &dim in sparse.dims.iter().rev() {
            self.out.int(3, dim);
        }
        self.tensor(2, &sparse.indices, None, None);
        self.tensor(1, &sparse.values, init, None);
        self.out.close(field, end);
    }

    fn values(&mut self, field: u32, values: &[ValueDef]) {
        for value in values.iter().rev() {
            let end = self.out.mark();
            self.metadata(4, &value.metadata);
            self.out.text(3, &value.doc);
            if let Some(ty) = &value.ty {
                write_type(&mut self.out, 2, ty);
            }
            self.out.required_text(1, &value.name);
            self.out.close(field, end);
        }
    }

    fn opsets(&mut self, field: u32, opsets: &Opsets) {
        for (domain, &version) in opsets.iter().rev() {
            let end = self.out.mark();
            self.out.int(2, version);
            self.out.required_text(1, domain);
            self.out.close(field, end);
        }
    }

    fn metadata(&mut self, field: u32, metadata: &Metadata) {
        for (key, value) in metadata.iter().rev() {
            self.entry(field, key, value);
        }
    }

    /// A `StringStringEntryProto`.
    fn entry(&mut self, field: u32, key: &str, value: &str) {
        let end = self.out.mark();
        self.out.required_text(2, value);
        self.out.required_text(1, key);
        self.out.close(field, end);
    }
}
