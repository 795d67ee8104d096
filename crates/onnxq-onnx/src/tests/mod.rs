//! Tests over whole models, built as messages or as [`ModelDef`]s.

mod attributes;
mod hostile;
mod read;
mod samples;
mod store;
mod tensors;

use std::path::Path;

use onnxq_ir::def::{GraphDef, ModelDef};
use onnxq_tensor::{Buffer, Bytes};
use prost::Message;

use crate::{
    Error, from_buffer,
    proto::{GraphProto, ModelProto, NodeProto, TensorProto},
};

fn text(s: &str) -> Bytes {
    Bytes::copy_from_slice(s.as_bytes())
}

fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn model_of(graph: &GraphProto) -> Bytes {
    encoded(&ModelProto {
        ir_version: Some(8),
        graph: Some(encoded(graph)),
        ..Default::default()
    })
}

fn read(bytes: Bytes) -> Result<ModelDef, Error> {
    from_buffer(Buffer::from(bytes), None, "m.onnx")
}

/// The graph that is read from `graph`.
fn read_graph(graph: &GraphProto) -> Result<GraphDef, Error> {
    read(model_of(graph)).map(|m| m.graph)
}

/// The message of the error that `graph` is.
fn refused(graph: &GraphProto) -> String {
    read_graph(graph).expect_err("accepted").to_string()
}

fn graph_of_node(node: &NodeProto) -> GraphProto {
    GraphProto {
        name: text("g"),
        node: vec![encoded(node)],
        ..Default::default()
    }
}

fn graph_of_tensor(tensor: &TensorProto) -> GraphProto {
    GraphProto {
        name: text("g"),
        initializer: vec![encoded(tensor)],
        ..Default::default()
    }
}

/// The bytes of `model` as a file.
fn written(model: &ModelDef) -> Vec<u8> {
    let mut out = Vec::new();
    crate::write_to(model, &mut out).expect("a vector takes everything");
    out
}

/// The names of the files in `dir`.
fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
