//! Activations of a quantized model, held against their float twins on data.

use std::{cell::RefCell, collections::HashMap};

use onnxq_ir::{Graph, Model, NodeId, ValueId};
use onnxq_ops::Value;
use onnxq_tensor::{DType, Tensor};

use super::{
    DebugError,
    dequantize::{Encoding, ends},
    weights::{encode, extremes},
};
use crate::{
    Executor,
    compare::{arrange, pair_inputs},
    data::{Data, Sample},
    distance::Distance,
    matching::{Form, Graphs, Matching, Parameters, Place},
};

/// How far a computed tensor is from its float twin, over all samples.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ActivationFigures {
    /// The distance in the model as it runs, all that came before included.
    pub model: Distance,
    /// The distance where everything that the layer reads is as in the float model: exactly so where
    /// that stays in floats, to the nearest code where it is put in codes. Where the result of the
    /// layer is in codes at once, with what those codes add.
    pub layer: Distance,
    /// What putting the float tensor in codes and back changes; `None` where it stays in floats.
    pub quantization: Option<Distance>,
    /// The least and the largest element of the float tensor.
    pub range: Option<(f64, f64)>,
    /// The least and the largest value that its codes can stand for, over all samples: it differs
    /// between them where parameters are computed.
    pub representable: Option<(f64, f64)>,
    /// The type of the codes.
    pub dtype: Option<DType>,
    /// How many codes there were.
    pub codes: u64,
    /// How many of them were at an end of their type, and not 0.
    pub saturated: u64,
}

impl ActivationFigures {
    fn merge(&mut self, later: &ActivationFigures) {
        self.model.merge(&later.model);
        self.layer.merge(&later.layer);
        match (&mut self.quantization, later.quantization) {
            (Some(whole), Some(part)) => whole.merge(&part),
            (whole @ None, part) => *whole = part,
            _ => {}
        }
        self.range = union(self.range, later.range);
        self.representable = union(self.representable, later.representable);
        self.dtype = self.dtype.or(later.dtype);
        self.codes += later.codes;
        self.saturated += later.saturated;
    }
}

fn union(a: Option<(f64, f64)>, b: Option<(f64, f64)>) -> Option<(f64, f64)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

/// Samples of which figures are kept before they are merged.
const PORTION: usize = 64;

/// Measures every matched activation.
pub(super) fn measure(
    floats: &[&Model],
    quantized: &Model,
    matching: &Matching<'_>,
    data: &Data,
    threads: Option<usize>,
    done: &(dyn Fn() + Sync),
) -> Result<Vec<ActivationFigures>, DebugError> {
    let watch = Watch::new(matching);
    let inputs = pair_inputs(&floats[0].graph, &quantized.graph)?;
    let run = |i: usize, sample: Sample| -> Result<Vec<ActivationFigures>, DebugError> {
        let twins = twins(floats, matching, &sample, i)?;
        let sample = arrange(&sample, &inputs);
        let meter = Meter::new(matching, &watch, &twins);
        for forced in [false, true] {
            meter.start();
            let intercept = |graph: &Graph, n, results: &mut [Option<Value>]| {
                meter.see(graph, n, results, forced);
            };
            let outputs = Executor::new(quantized).run_intercepted(&sample, &intercept);
            outputs.map_err(|source| DebugError::Run {
                place: "quantized",
                sample: i,
                source,
            })?;
        }
        done();
        Ok(meter.figures.into_inner())
    };
    let mut whole = vec![ActivationFigures::default(); matching.activations.len()];
    for start in (0..data.len()).step_by(PORTION) {
        let portion = start..data.len().min(start + PORTION);
        for sample in data.map(portion, threads, run)? {
            for (whole, part) in whole.iter_mut().zip(&sample) {
                whole.merge(part);
            }
        }
    }
    Ok(whole)
}

/// The tensors of each activation in the float model for sample `i`, in the order in which it gives
/// them: in a loop, one for each round.
fn twins(
    floats: &[&Model],
    matching: &Matching<'_>,
    sample: &Sample,
    i: usize,
) -> Result<Vec<Vec<Tensor>>, DebugError> {
    let mut twins = vec![Vec::new(); matching.activations.len()];
    for (model, graphs) in matching.floats.iter().enumerate() {
        let activations = matching.activations.iter().enumerate();
        let wanted: HashMap<Place, usize> = activations
            .filter(|(_, a)| a.float.model == model)
            .map(|(i, a)| (a.float.place, i))
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let kept = RefCell::new(&mut twins);
        let keep = |graph: &Graph, n, results: &mut [Option<Value>]| {
            for (place, tensor) in tensors(graphs, graph, n, results) {
                if let Some(&i) = wanted.get(&place) {
                    kept.borrow_mut()[i].push(tensor.clone());
                }
            }
        };
        let inputs = pair_inputs(&floats[0].graph, &floats[model].graph)?;
        let run = Executor::new(floats[model]).run_intercepted(&arrange(sample, &inputs), &keep);
        run.map_err(|source| DebugError::Run {
            place: "float",
            sample: i,
            source,
        })?;
    }
    Ok(twins)
}

/// The results of a node that are tensors, with their places.
fn tensors<'v>(
    graphs: &Graphs<'_>,
    graph: &Graph,
    n: NodeId,
    results: &'v [Option<Value>],
) -> impl Iterator<Item = (Place, &'v Tensor)> + use<'v> {
    let number = graphs.number(graph);
    let tensor = move |(i, value): (usize, &'v Option<Value>)| {
        let value_id = ValueId {
            node: n,
            result: i as u32,
        };
        let place = Place {
            graph: number?,
            value: value_id,
        };
        Some((place, value.as_ref()?.as_tensor()?))
    };
    results.iter().enumerate().filter_map(tensor)
}

/// What to look at in the quantized model.
struct Watch {
    forms: HashMap<Place, Watched>,
    /// Computed scales and zero points.
    parameters: HashMap<Place, ()>,
}

/// A form of an activation.
struct Watched {
    activation: usize,
    what: What,
}

enum What {
    /// The result of the layer, in floats.
    Computed { has_codes: bool },
    /// Its codes: those of a float tensor, or the result at once.
    Codes {
        parameters: Parameters,
        at_once: bool,
    },
}

impl Watch {
    fn new(matching: &Matching<'_>) -> Watch {
        let mut watch = Watch {
            forms: HashMap::new(),
            parameters: HashMap::new(),
        };
        for (i, activation) in matching.activations.iter().enumerate() {
            let forms = || activation.forms.iter();
            let computed = forms().find(|(_, form)| *form == Form::Float);
            let codes = forms().find_map(|(place, form)| match form {
                Form::Codes(parameters) => Some((*place, parameters.clone())),
                _ => None,
            });
            // A result that is in codes at once may be dequantized to a tensor of that very name.
            let first = |place: &Place| {
                let at = |p: &Place| forms().position(|(other, _)| other == p);
                codes
                    .as_ref()
                    .is_none_or(|(codes, _)| at(place) < at(codes))
            };
            let computed = computed.map(|(place, _)| *place).filter(first);
            if let Some(place) = computed {
                let has_codes = codes.is_some();
                watch.add(place, i, What::Computed { has_codes });
            }
            if let Some((place, parameters)) = codes {
                let values = parameters.scales.iter().chain(&parameters.zero_point);
                for &value in values {
                    watch.parameters.insert(Place { value, ..place }, ());
                }
                let at_once = computed.is_none();
                let what = What::Codes {
                    parameters,
                    at_once,
                };
                watch.add(place, i, what);
            }
        }
        watch
    }

    fn add(&mut self, place: Place, activation: usize, what: What) {
        self.forms.insert(place, Watched { activation, what });
    }
}

/// Measures one sample.
struct Meter<'a> {
    matching: &'a Matching<'a>,
    watch: &'a Watch,
    twins: &'a [Vec<Tensor>],
    figures: RefCell<Vec<ActivationFigures>>,
    /// How often each form was seen in this run.
    seen: RefCell<HashMap<Place, usize>>,
    /// Computed scales and zero points of this run, the latest of each.
    parameters: RefCell<HashMap<Place, Tensor>>,
}

impl<'a> Meter<'a> {
    fn new(matching: &'a Matching<'a>, watch: &'a Watch, twins: &'a [Vec<Tensor>]) -> Meter<'a> {
        let mut figures = vec![ActivationFigures::default(); twins.len()];
        for (figures, twins) in figures.iter_mut().zip(twins) {
            let ranges = twins.iter().map(extremes);
            figures.range = ranges.fold(None, union);
        }
        Meter {
            matching,
            watch,
            twins,
            figures: RefCell::new(figures),
            seen: RefCell::default(),
            parameters: RefCell::default(),
        }
    }

    /// Begins another run.
    fn start(&self) {
        self.seen.borrow_mut().clear();
        self.parameters.borrow_mut().clear();
    }

    /// Looks at the results of a node, and puts those of the float model in their place if
    /// `forced`.
    fn see(&self, graph: &Graph, n: NodeId, results: &mut [Option<Value>], forced: bool) {
        for (place, tensor) in tensors(&self.matching.quantized, graph, n, results) {
            if self.watch.parameters.contains_key(&place) {
                self.parameters.borrow_mut().insert(place, tensor.clone());
            }
        }
        let Some(number) = self.matching.quantized.number(graph) else {
            return;
        };
        for (i, result) in results.iter_mut().enumerate() {
            let value = ValueId {
                node: n,
                result: i as u32,
            };
            let place = Place {
                graph: number,
                value,
            };
            let Some(watched) = self.watch.forms.get(&place) else {
                continue;
            };
            let Some(Value::Tensor(tensor)) = result else {
                continue;
            };
            let round = self.round(place);
            let Some(twin) = self.twins[watched.activation].get(round) else {
                continue;
            };
            // A tensor of a type not known may turn out to be no floats.
            if twin.dims() != tensor.dims() || !twin.dtype().is_float() {
                continue;
            }
            let replaced = if forced {
                self.measure_layer(place, watched, tensor, twin)
            } else {
                self.measure_model(place, watched, tensor, twin);
                None
            };
            if let Some(replaced) = replaced {
                *result = Some(Value::Tensor(replaced));
            }
        }
    }

    fn round(&self, place: Place) -> usize {
        let mut seen = self.seen.borrow_mut();
        let count = seen.entry(place).or_default();
        *count += 1;
        *count - 1
    }

    /// In the model as it runs.
    fn measure_model(&self, place: Place, watched: &Watched, tensor: &Tensor, twin: &Tensor) {
        let figures = &mut self.figures.borrow_mut()[watched.activation];
        match &watched.what {
            // What is behind it reads the codes.
            What::Computed { has_codes: true } => {}
            What::Computed { has_codes: false } => add(&mut figures.model, twin, tensor),
            What::Codes { parameters, .. } => {
                let Some(encoding) = self.encoding(place, parameters) else {
                    return;
                };
                if let Some(values) = encoding.dequantize(tensor) {
                    add(&mut figures.model, twin, &values);
                }
                figures.dtype = Some(tensor.dtype());
                figures.codes += tensor.len() as u64;
                figures.saturated += encoding.saturated(tensor);
                let range = ends(tensor.dtype()).and_then(|_| encoding.range(tensor.dtype()));
                figures.representable = union(figures.representable, range);
            }
        }
    }

    /// Where all that came before is as in the float model; gives what to go on with.
    fn measure_layer(
        &self,
        place: Place,
        watched: &Watched,
        tensor: &Tensor,
        twin: &Tensor,
    ) -> Option<Tensor> {
        let figures = &mut self.figures.borrow_mut()[watched.activation];
        let (parameters, at_once) = match &watched.what {
            What::Computed { .. } => {
                add(&mut figures.layer, twin, tensor);
                return twin.cast(tensor.dtype(), true).ok();
            }
            What::Codes {
                parameters,
                at_once,
            } => (parameters, *at_once),
        };
        let encoding = self.encoding(place, parameters)?;
        if at_once {
            add(&mut figures.layer, twin, &encoding.dequantize(tensor)?);
        }
        let codes = encoding.quantize(twin, tensor.dtype())?;
        let values = encoding.dequantize(&codes)?;
        add(figures.quantization.get_or_insert_default(), twin, &values);
        Some(codes)
    }

    /// The scale and the zero point that codes have in this run.
    fn encoding(&self, place: Place, parameters: &Parameters) -> Option<Encoding> {
        let graph = self.matching.quantized.graph(place.graph);
        let computed = self.parameters.borrow();
        let tensor = |value: ValueId| {
            let constant = graph.tensor(value);
            let found = constant.or_else(|| computed.get(&Place { value, ..place }));
            found.cloned()
        };
        let scales: Option<Vec<Tensor>> = parameters.scales.iter().map(|&v| tensor(v)).collect();
        let zero_point = match parameters.zero_point {
            Some(v) => Some(tensor(v)?),
            None => None,
        };
        encode(parameters, &scales?, zero_point)
    }
}

/// Collects a tensor where it has numbers; there is no other kind among floats.
fn add(distance: &mut Distance, expected: &Tensor, got: &Tensor) {
    let _ = if expected.dtype() == got.dtype() {
        distance.add_tensors(expected, got)
    } else {
        match (expected.cast(DType::F32, true), got.cast(DType::F32, true)) {
            (Ok(expected), Ok(got)) => distance.add_tensors(&expected, &got),
            _ => Ok(()),
        }
    };
}
