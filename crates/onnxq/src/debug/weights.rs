//! Weights in codes, held against their float twins.

use std::collections::HashMap;

use onnxq_ir::{Graph, Model, NodeId, ValueId};
use onnxq_ops::{Value, interpret::Interpreter};
use onnxq_tensor::{DType, Dims, Tensor};

use super::dequantize::Encoding;
use crate::{
    distance::Distance,
    matching::{FloatPlace, Graphs, Layout, MatchedWeight, Matching, Parameters, layouts},
};

/// How far a weight in codes is from its float twin.
#[derive(Clone, PartialEq, Debug)]
pub struct WeightFigures {
    /// Which of the float tensors of the name it is made of.
    pub float: FloatPlace,
    /// The type of the codes.
    pub dtype: DType,
    /// The shape of the codes.
    pub dims: Vec<usize>,
    /// The distance of what the codes stand for from the float tensor.
    pub distance: Distance,
    /// The least and the largest element of the float tensor.
    pub range: (f64, f64),
    /// The least and the largest value that codes can stand for; `None` for `int32`, where they do
    /// not count.
    pub representable: Option<(f64, f64)>,
    /// How many scales there are.
    pub scales: usize,
    /// How many different codes occur; `None` for types of more than 8 bits.
    pub codes_used: Option<usize>,
    /// How many codes are at an end of their type, and not 0.
    pub saturated: u64,
    /// The output channel that is farthest from its float twin, and its signal to noise in dB.
    pub worst_channel: Option<(usize, f64)>,
}

/// Measures every matched weight; `None` for one whose values cannot be had.
pub(super) fn measure(
    floats: &[&Model],
    quantized: &Model,
    matching: &Matching<'_>,
) -> Vec<Option<WeightFigures>> {
    let computed = computed(floats, matching);
    let of = |w: &MatchedWeight| {
        let graph = matching.quantized.graph(w.codes.graph);
        let constant = graph.tensor(w.codes.value).cloned();
        let codes = constant.or_else(|| evaluate(quantized, graph, w.codes.value))?;
        figures(matching, w, &computed, &codes)
    };
    matching.weights.iter().map(of).collect()
}

/// Float twins that the float model computes from constants.
fn computed(floats: &[&Model], matching: &Matching<'_>) -> HashMap<FloatPlace, Tensor> {
    let mut found = HashMap::new();
    for &float in matching.weights.iter().flat_map(|w| &w.floats) {
        let graph = matching.floats[float.model].graph(float.place.graph);
        let value = float.place.value;
        if graph.tensor(value).is_none()
            && let Some(tensor) = evaluate(floats[float.model], graph, value)
        {
            found.insert(float, tensor);
        }
    }
    found
}

/// What a value is that depends on constants alone.
fn evaluate(model: &Model, graph: &Graph, v: ValueId) -> Option<Tensor> {
    let interpreter = Interpreter::new(model);
    let mut done: HashMap<NodeId, Vec<Value>> = HashMap::new();
    let mut open = vec![v.node];
    while let Some(&n) = open.last() {
        if done.contains_key(&n) {
            open.pop();
            continue;
        }
        let operands = graph.operands(n);
        let missing = operands.iter().flatten().map(|v| v.node);
        let missing: Vec<NodeId> = missing.filter(|n| !done.contains_key(n)).collect();
        if !missing.is_empty() {
            open.extend(missing);
            continue;
        }
        open.pop();
        let node = graph.node(n);
        let results = match (node.tensor(), node.op()) {
            (Some(tensor), _) => vec![Value::Tensor(tensor.clone())],
            (None, Some(op)) => {
                let operand = |v: &Option<ValueId>| {
                    let v = (*v)?;
                    done.get(&v.node)?.get(v.result as usize).cloned()
                };
                let operands: Vec<Option<Value>> = operands.iter().map(operand).collect();
                interpreter
                    .run_node(op, &operands, node.results.len())
                    .ok()?
            }
            _ => return None,
        };
        done.insert(n, results);
    }
    let results = done.remove(&v.node)?;
    match results.into_iter().nth(v.result as usize)? {
        Value::Tensor(tensor) => Some(tensor),
        _ => None,
    }
}

/// The constants that parameters are; `None` where they are computed.
pub(super) fn encoding(
    graphs: &Graphs<'_>,
    graph: usize,
    parameters: &Parameters,
) -> Option<Encoding> {
    let graph = graphs.graph(graph);
    let scales = parameters.scales.iter().map(|&v| graph.tensor(v).cloned());
    let scales: Option<Vec<Tensor>> = scales.collect();
    let zero_point = match parameters.zero_point {
        Some(v) => Some(graph.tensor(v)?.clone()),
        None => None,
    };
    encode(parameters, &scales?, zero_point)
}

/// With these scales and zero point.
pub(super) fn encode(
    parameters: &Parameters,
    scales: &[Tensor],
    zero_point: Option<Tensor>,
) -> Option<Encoding> {
    let scale = match scales {
        [scale] => scale.clone(),
        [a, b] => product(a, b)?,
        _ => return None,
    };
    Some(Encoding {
        scale,
        zero_point,
        axis: parameters.axis,
        block_size: parameters.block_size,
    })
}

/// The product of two scales, of which one may be for each channel.
fn product(a: &Tensor, b: &Tensor) -> Option<Tensor> {
    let (x, y) = (a.to_f32s().ok()?, b.to_f32s().ok()?);
    let longer = if x.len() > y.len() { a } else { b };
    let at = |values: &[f32], i: usize| values.get(i).or(values.first()).copied();
    let values: Option<Vec<f32>> = (0..longer.len())
        .map(|i| Some(at(&x, i)? * at(&y, i)?))
        .collect();
    Tensor::from_vec(Dims::from_slice(longer.dims()), values?).ok()
}

fn figures(
    matching: &Matching<'_>,
    weight: &MatchedWeight,
    computed: &HashMap<FloatPlace, Tensor>,
    codes: &Tensor,
) -> Option<WeightFigures> {
    let encoding = encoding(&matching.quantized, weight.codes.graph, &weight.parameters)?;
    let values = stand_for(&encoding, codes)?;
    let mut best: Option<WeightFigures> = None;
    for &float in &weight.floats {
        let graph = matching.floats[float.model].graph(float.place.graph);
        let constant = graph.tensor(float.place.value).cloned();
        let Some(twin) = constant.or_else(|| computed.get(&float).cloned()) else {
            continue;
        };
        for layout in layouts(values.dims(), &twin) {
            let values = match layout {
                Layout::Same => values.reshape(Dims::from_slice(twin.dims())).ok()?,
                Layout::Transposed => transpose(&values)?,
            };
            let distance = Distance::between(&twin, &values).ok()?;
            // Of tensors of the same name, and of squares, the nearer one is it.
            let nearer = |b: &WeightFigures| distance.sqnr_db() > b.distance.sqnr_db();
            if best.as_ref().is_none_or(nearer) {
                let axis = channel_axis(weight, &twin, layout);
                best = Some(WeightFigures {
                    float,
                    dtype: codes.dtype(),
                    dims: codes.dims().to_vec(),
                    distance,
                    range: extremes(&twin)?,
                    representable: encoding.range(codes.dtype()),
                    scales: encoding.scale.len(),
                    codes_used: codes_used(codes),
                    saturated: encoding.saturated(codes),
                    worst_channel: axis.and_then(|axis| worst_channel(&twin, &values, axis)),
                });
            }
        }
    }
    best
}

/// What codes stand for. DynamicQuantizeLSTM has a scale for each direction, or for each row of
/// each direction, of weights that are transposed.
fn stand_for(encoding: &Encoding, codes: &Tensor) -> Option<Tensor> {
    let &[directions, columns, rows] = codes.dims() else {
        return encoding.dequantize(codes);
    };
    if encoding.scale.dims() != [directions, rows] {
        return encoding.dequantize(codes);
    }
    let flat = |t: &Tensor| t.reshape([directions * rows].as_slice()).ok();
    let encoding = Encoding {
        scale: flat(&encoding.scale)?,
        zero_point: encoding.zero_point.as_ref().and_then(flat),
        axis: 0,
        block_size: 0,
    };
    // Row by row, transposed back and forth.
    let by_row = transpose_codes(codes)?;
    let by_row = by_row
        .reshape([directions * rows, columns].as_slice())
        .ok()?;
    let values = encoding.dequantize(&by_row)?;
    transpose(
        &values
            .reshape([directions, rows, columns].as_slice())
            .ok()?,
    )
}

/// `f32` with the last two dimensions swapped.
fn transpose(tensor: &Tensor) -> Option<Tensor> {
    let (values, dims) = swapped(&tensor.as_slice::<f32>().ok()?, tensor.dims())?;
    Tensor::from_vec(dims, values).ok()
}

/// Codes of 8 bits with the last two dimensions swapped.
fn transpose_codes(tensor: &Tensor) -> Option<Tensor> {
    if tensor.dtype().bits() != 8 {
        return None;
    }
    let (bytes, dims) = swapped(tensor.bytes(), tensor.dims())?;
    Tensor::new(tensor.dtype(), dims, bytes).ok()
}

fn swapped<T: Copy>(from: &[T], dims: &[usize]) -> Option<(Vec<T>, Dims)> {
    let (&columns, rest) = dims.split_last()?;
    let (&rows, outer) = rest.split_last()?;
    let mut to = Vec::with_capacity(from.len());
    for matrix in from.chunks((rows * columns).max(1)) {
        for column in 0..columns {
            to.extend((0..rows).map(|row| matrix[row * columns + column]));
        }
    }
    Some((to, outer.iter().copied().chain([columns, rows]).collect()))
}

/// The least and the largest element; `None` of none.
pub(super) fn extremes(tensor: &Tensor) -> Option<(f64, f64)> {
    let values = tensor.to_f32s().ok()?;
    let (&first, rest) = values.split_first()?;
    let ends = rest
        .iter()
        .fold((first, first), |(lo, hi), &v| (lo.min(v), hi.max(v)));
    Some((ends.0.into(), ends.1.into()))
}

/// How many different codes of 8 or fewer bits occur.
fn codes_used(codes: &Tensor) -> Option<usize> {
    if codes.dtype().bits() > 8 || !codes.dtype().is_int() {
        return None;
    }
    let mut used = [false; 256];
    if codes.dtype().bits() == 8 {
        codes
            .bytes()
            .iter()
            .for_each(|&b| used[usize::from(b)] = true);
    } else {
        for code in codes.to_i64s().ok()? {
            used[(code & 0xff) as usize] = true;
        }
    }
    Some(used.iter().filter(|&&u| u).count())
}

/// The axis of the output channels in the float tensor, as far as operator and scales tell.
fn channel_axis(weight: &MatchedWeight, float: &Tensor, layout: Layout) -> Option<usize> {
    let rank = float.rank();
    if rank < 2 {
        return None;
    }
    match weight.op.as_str() {
        "Conv" => Some(0),
        "ConvTranspose" => Some(1),
        "MatMul" => Some(rank - 1),
        "Gemm" if layout == Layout::Transposed => Some(0),
        "Gemm" => {
            let axis = weight.parameters.axis;
            Some(if axis == 0 { 0 } else { 1 })
        }
        _ => None,
    }
}

/// The slice along `axis` with the least signal to noise; `None` where all are equal.
fn worst_channel(float: &Tensor, values: &Tensor, axis: usize) -> Option<(usize, f64)> {
    let (expected, got) = (float.to_f32s().ok()?, values.to_f32s().ok()?);
    let channels = float.dims()[axis];
    let inner: usize = float.dims()[axis + 1..].iter().product();
    let mut distances = vec![Distance::default(); channels];
    for (i, (&e, &g)) in expected.iter().zip(got.iter()).enumerate() {
        distances[i / inner.max(1) % channels].add(e.into(), g.into());
    }
    let figures = distances.iter().map(Distance::sqnr_db).enumerate();
    figures
        .filter(|(_, db)| *db < f64::INFINITY)
        .min_by(|a, b| a.1.total_cmp(&b.1))
}
