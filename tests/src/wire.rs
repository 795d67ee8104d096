//! Protobuf written by hand, for files that no writer would write.

/// A message being written.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// An empty message.
    pub fn new() -> Message {
        Message::default()
    }

    /// Adds a varint field.
    #[must_use]
    pub fn int(mut self, field: u32, value: i64) -> Message {
        self.varint(u64::from(field) << 3);
        self.varint(value as u64);
        self
    }

    /// Adds a field of bytes: a string, or a packed list.
    #[must_use]
    pub fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Message {
        let value = value.as_ref();
        self = self.length(field, value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// Adds a message field.
    #[must_use]
    pub fn message(self, field: u32, value: &Message) -> Message {
        self.bytes(field, &value.0)
    }

    /// Adds the head of a field of bytes that says it has `len`, and nothing behind it.
    #[must_use]
    pub fn length(mut self, field: u32, len: u64) -> Message {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(len);
        self
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A `ModelProto` of IR version 8 and opset 13 around a `GraphProto`.
pub fn model(graph: &Message) -> Vec<u8> {
    let opset = Message::new().bytes(1, "").int(2, 13);
    Message::new()
        .int(1, 8)
        .message(7, graph)
        .message(8, &opset)
        .finish()
}

/// A `ValueInfoProto` of a tensor of float32.
pub fn value(name: &str, dims: &[i64]) -> Message {
    let dims = dims.iter().fold(Message::new(), |shape, &dim| {
        shape.message(1, &Message::new().int(1, dim))
    });
    let tensor = Message::new().int(1, 1).message(2, &dims);
    let ty = Message::new().message(1, &tensor);
    Message::new().bytes(1, name).message(2, &ty)
}

/// A `NodeProto`.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    let inputs = inputs
        .iter()
        .fold(Message::new(), |node, name| node.bytes(1, name));
    let outputs = outputs
        .iter()
        .fold(inputs, |node, name| node.bytes(2, name));
    outputs.bytes(4, op)
}

/// A `GraphProto` that computes `y` from `x`, both of two elements, by one node; `initializer` is
/// a `TensorProto`.
pub fn graph(node: &Message, initializer: Option<&Message>) -> Message {
    let graph = Message::new().message(1, node).bytes(2, "g");
    let graph = match initializer {
        Some(tensor) => graph.message(5, tensor),
        None => graph,
    };
    graph
        .message(11, &value("x", &[2]))
        .message(12, &value("y", &[2]))
}
