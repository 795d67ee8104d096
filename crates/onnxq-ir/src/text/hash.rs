//! Tensors by the hash of their contents.

use std::{collections::HashMap, fmt, str::FromStr};

use onnxq_tensor::{DType, Dims, Tensor};
use sha2::{Digest, Sha256};

use crate::def::{GraphDef, Literal, ModelDef, NodeDef};
use crate::{Attr, SparseTensor};

/// SHA-256 of a tensor's elements: of the bytes of `raw_data`, or, for strings, of each string
/// after its length in 8 bytes, little endian. Element type and dimensions are not part of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// Hashes the elements of `tensor`. Pages of a mapped file are given back as they are read.
    pub fn of(tensor: &Tensor) -> ContentHash {
        const CHUNK: usize = 16 << 20;
        let mut hasher = Sha256::new();
        if let Some(buffer) = tensor.buffer() {
            for from in (0..buffer.len()).step_by(CHUNK) {
                let chunk = buffer.slice(from..buffer.len().min(from + CHUNK));
                hasher.update(&*chunk);
                chunk.release();
            }
        }
        for string in tensor.strings().into_iter().flat_map(|s| s.iter()) {
            hasher.update((string.len() as u64).to_le_bytes());
            hasher.update(string);
        }
        ContentHash(hasher.finalize().into())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ContentHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<ContentHash, &'static str> {
        const EXPECTED: &str = "a SHA-256 has 64 hexadecimal digits";
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(EXPECTED);
        }
        let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])
                .zip(digit(pair[1]))
                .map(|(h, l)| h << 4 | l)
                .ok_or(EXPECTED)?;
        }
        Ok(ContentHash(hash))
    }
}

/// Where the reader of a text finds the tensors that the text has by hash only.
pub trait TensorStore {
    /// The tensor with this hash, type and these dimensions.
    fn get(&self, hash: &ContentHash, dtype: DType, dims: &[usize]) -> Option<Tensor>;
}

/// The store without tensors.
impl TensorStore for () {
    fn get(&self, _: &ContentHash, _: DType, _: &[usize]) -> Option<Tensor> {
        None
    }
}

/// The tensors of models, by hash. They share the models' memory.
#[derive(Clone, Default)]
pub struct TensorIndex {
    // Looked up, never iterated over.
    contents: HashMap<ContentHash, Tensor>,
}

impl TensorIndex {
    /// Every tensor in `model`: initializers and attributes, in nested graphs and functions too.
    pub fn new(model: &ModelDef) -> TensorIndex {
        let mut index = TensorIndex::default();
        index.add_model(model);
        index
    }

    /// Adds every tensor in `model`.
    pub fn add_model(&mut self, model: &ModelDef) {
        let mut graphs = vec![&model.graph];
        for function in &model.functions {
            self.add_nodes(&function.nodes, &mut graphs);
            for attr in function.attribute_defaults.values() {
                self.add_attr(attr, &mut graphs);
            }
        }
        while let Some(graph) = graphs.pop() {
            for initializer in &graph.initializers {
                match &initializer.value {
                    Literal::Dense(t) => self.add(t),
                    Literal::Sparse(t) => self.add_sparse(t),
                }
            }
            self.add_nodes(&graph.nodes, &mut graphs);
        }
    }

    /// Adds a tensor.
    pub fn add(&mut self, tensor: &Tensor) {
        self.contents
            .entry(ContentHash::of(tensor))
            .or_insert_with(|| tensor.clone());
    }

    fn add_nodes<'m>(&mut self, nodes: &'m [NodeDef], graphs: &mut Vec<&'m GraphDef>) {
        for attr in nodes.iter().flat_map(|node| node.attrs.values()) {
            self.add_attr(attr, graphs);
        }
    }

    fn add_attr<'m>(&mut self, attr: &'m Attr<GraphDef>, graphs: &mut Vec<&'m GraphDef>) {
        match attr {
            Attr::Tensor(t) => self.add(t),
            Attr::Tensors(ts) => ts.iter().for_each(|t| self.add(t)),
            Attr::SparseTensor(t) => self.add_sparse(t),
            Attr::SparseTensors(ts) => ts.iter().for_each(|t| self.add_sparse(t)),
            _ => graphs.extend(attr.graphs()),
        }
    }

    fn add_sparse(&mut self, tensor: &SparseTensor) {
        self.add(&tensor.values);
        self.add(&tensor.indices);
    }
}

impl TensorStore for TensorIndex {
    fn get(&self, hash: &ContentHash, dtype: DType, dims: &[usize]) -> Option<Tensor> {
        let found = self.contents.get(hash)?;
        if found.dtype() == dtype && found.dims() == dims {
            return Some(found.clone());
        }
        let dims = Dims::from_slice(dims);
        match found.strings() {
            Some(strings) if dtype == DType::String => {
                Tensor::from_strings(dims, strings.clone()).ok()
            }
            Some(_) => None,
            None => Tensor::new(dtype, dims, found.buffer().cloned()?).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_of_nothing_and_its_text() {
        let hash = ContentHash::of(&Tensor::vector::<f32>(vec![]));
        let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.parse(), Ok(hash));
        assert!("e3".parse::<ContentHash>().is_err());
        assert!("é".repeat(32).parse::<ContentHash>().is_err());
    }

    #[test]
    fn hash_is_of_all_chunks() {
        let t = Tensor::zeros(DType::U8, Dims::from_slice(&[(16 << 20) + 3])).unwrap();
        let expected: [u8; 32] = Sha256::digest(t.bytes()).into();
        assert_eq!(ContentHash::of(&t), ContentHash(expected));
    }

    #[test]
    fn found_under_other_dimensions_and_types_of_equal_bytes() {
        let mut index = TensorIndex::default();
        let t = Tensor::vector((0..12).collect::<Vec<i32>>());
        index.add(&t);
        let hash = ContentHash::of(&t);
        assert_eq!(index.get(&hash, DType::I32, &[12]), Some(t.clone()));
        assert_eq!(
            index.get(&hash, DType::I32, &[3, 4]).unwrap().dims(),
            [3, 4]
        );
        assert_eq!(
            index.get(&hash, DType::F32, &[3, 4]).unwrap().dtype(),
            DType::F32
        );
        assert_eq!(index.get(&hash, DType::I32, &[13]), None);
        assert_eq!(index.get(&hash, DType::String, &[12]), None);
        assert_eq!(().get(&hash, DType::I32, &[12]), None);
    }
}
