//! What a kernel is called with.

use onnxq_kernels::{Cpu, Line};
use onnxq_tensor::Tensor;
use smallvec::SmallVec;

use super::{Memory, Place, Program, Step, store::Store, threads::Threads};
use crate::plan::Pool;

/// Operands, results and the rest that a kernel needs to run.
pub(super) struct Call<'a> {
    pub(super) cpu: Cpu,
    pub(super) threads: &'a Threads,
    /// Packed weights.
    pub(super) weights: &'a Store,
    pub(super) scratch: &'a mut [Line],
    pub(super) pool: &'a mut Pool,
    operands: SmallVec<[&'a [u8]; 4]>,
    results: SmallVec<[&'a mut [Line]; 1]>,
}

/// A buffer, and its lines until they are taken.
type Part<'a> = (usize, Option<&'a mut [Line]>);

/// The lines as bytes.
pub(super) fn bytes(lines: &[Line]) -> &[u8] {
    onnxq_kernels::bytes(lines)
}

impl<'a> Call<'a> {
    pub(super) fn new(program: &'a Program, step: &Step, memory: &'a mut Memory) -> Call<'a> {
        let Memory {
            pages,
            inputs,
            pool,
        } = memory;
        let inputs: &'a [Tensor] = inputs;
        let (arena, scratch) = pages.lines_mut().split_at_mut(program.arena);
        let mut used: SmallVec<[usize; 8]> = step.results.clone().into_iter().collect();
        used.extend(step.operands.iter().filter_map(|place| match *place {
            Place::Buffer(b) => Some(b),
            _ => None,
        }));
        used.sort_unstable_by_key(|&b| (program.buffers[b].0, program.buffers[b].1));
        used.dedup();
        // The arena is cut where buffers begin and end, from the front.
        let mut parts: SmallVec<[Part<'a>; 8]> = SmallVec::new();
        let (mut rest, mut at) = (&mut arena[..], 0);
        for b in used {
            let (offset, lines) = program.buffers[b];
            if lines == 0 {
                parts.push((b, Some(&mut [])));
                continue;
            }
            let (_, tail) = rest.split_at_mut(offset - at);
            let (part, tail) = tail.split_at_mut(lines);
            (rest, at) = (tail, offset + lines);
            parts.push((b, Some(part)));
        }
        let results = step.results.iter().map(|b| {
            let part = parts.iter_mut().find(|(part, _)| part == b);
            part.and_then(|(_, lines)| lines.take()).unwrap_or_default()
        });
        let results = results.collect();
        let shared: SmallVec<[(usize, &'a [Line]); 8]> = parts
            .into_iter()
            .filter_map(|(b, lines)| Some((b, &*lines?)))
            .collect();
        let operands = step.operands.iter().map(|place| match *place {
            Place::Input(i) => inputs[i].bytes(),
            Place::Constant(i) => program.constants[i].bytes(),
            Place::Buffer(b) => {
                let part = shared.iter().find(|(part, _)| *part == b);
                part.map_or(&[][..], |(_, lines)| bytes(lines))
            }
        });
        Call {
            cpu: program.options.cpu,
            threads: &program.threads,
            weights: &program.weights,
            scratch,
            pool,
            operands: operands.collect(),
            results,
        }
    }

    /// The bytes of an operand; there may be more than it has elements.
    pub(super) fn bytes(&self, i: usize) -> &'a [u8] {
        self.operands[i]
    }

    /// An operand of `float32`.
    pub(super) fn floats(&self, i: usize) -> &'a [f32] {
        elements(self.operands[i])
    }

    /// Takes a result, which may have more bytes than elements.
    pub(super) fn result(&mut self, i: usize) -> &'a mut [u8] {
        onnxq_kernels::bytes_mut(std::mem::take(&mut self.results[i]))
    }

    /// Takes a result of `float32`.
    pub(super) fn result_floats(&mut self, i: usize) -> &'a mut [f32] {
        bytemuck::cast_slice_mut(self.result(i))
    }
}

/// Bytes as elements, as many as are whole.
pub(super) fn elements<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> &[T] {
    let whole = bytes.len() / size_of::<T>() * size_of::<T>();
    bytemuck::cast_slice(&bytes[..whole])
}
