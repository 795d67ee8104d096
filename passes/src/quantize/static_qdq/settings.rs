//! The options of static quantization, read once into [`StaticSettings`].

use onnxq_ir::Graph;
use onnxq_pass::{Error, OptionInfo, OptionKind, Options};
use onnxq_quant::{CalibrationSpec, Method, QuantType};

use super::{
    super::{
        names::Names,
        options::{
            ACTIVATION_SYMMETRIC, ACTIVATION_TYPE, COMPAT, EXCLUDE_NODES, MATMUL_CONST_B_ONLY,
            MIN_REAL_RANGE, MODE, Mode, NODES, OP_TYPES, PER_CHANNEL, PER_CHANNEL_AXIS,
            REDUCE_RANGE, SUBGRAPHS, WEIGHT_SYMMETRIC, WEIGHT_TYPE, complain, option, take_qtype,
        },
    },
    overrides::Overrides,
};

/// What static quantization goes by.
#[derive(Debug)]
pub(in crate::quantize) struct StaticSettings {
    pub(in crate::quantize) mode: Mode,
    pub(in crate::quantize) activation_type: QuantType,
    pub(in crate::quantize) weight_type: QuantType,
    pub(in crate::quantize) activation_symmetric: bool,
    pub(in crate::quantize) weight_symmetric: Option<bool>,
    pub(in crate::quantize) restricted_asymmetric: bool,
    pub(in crate::quantize) per_channel: bool,
    pub(in crate::quantize) per_channel_axis: Vec<(String, i64)>,
    pub(in crate::quantize) reduce_range: bool,
    pub(in crate::quantize) min_real_range: Option<f64>,
    pub(in crate::quantize) block_size: usize,
    /// The operators to quantize; `None` for those that it is known to be good for.
    pub(in crate::quantize) op_types: Option<Vec<String>>,
    pub(in crate::quantize) exclude_output: Vec<String>,
    pub(in crate::quantize) nodes: Option<Names>,
    pub(in crate::quantize) exclude_nodes: Option<Names>,
    pub(in crate::quantize) subgraphs: bool,
    pub(in crate::quantize) matmul_const_b_only: bool,
    pub(in crate::quantize) force: bool,
    pub(in crate::quantize) keep_activations: bool,
    pub(in crate::quantize) quantize_bias: bool,
    pub(in crate::quantize) adjust_weights: bool,
    pub(in crate::quantize) dedicated: bool,
    pub(in crate::quantize) qdq_weights: bool,
    pub(in crate::quantize) contrib: bool,
    /// How much of the unevenness of channels weights take over, where they do.
    pub(in crate::quantize) smooth_alpha: Option<f64>,
    pub(in crate::quantize) overrides: Overrides,
    pub(in crate::quantize) calibration: CalibrationSpec,
    /// Do as the tool of ONNX Runtime does.
    pub(in crate::quantize) compat: bool,
    /// Keys that were given and mean nothing to dynamic quantization.
    pub(in crate::quantize) static_only: Vec<&'static str>,
}

const METHODS: &[&str] = &["minmax", "entropy", "percentile", "distribution", "mse"];

use OptionKind::{Bool, Choice, Float, List, Text, UInt};

/// Every option.
pub(in crate::quantize) const STATIC_OPTIONS: &[OptionInfo] = &[
    MODE,
    ACTIVATION_TYPE,
    WEIGHT_TYPE,
    PER_CHANNEL,
    REDUCE_RANGE,
    ACTIVATION_SYMMETRIC,
    WEIGHT_SYMMETRIC,
    OP_TYPES,
    NODES,
    EXCLUDE_NODES,
    SUBGRAPHS,
    MATMUL_CONST_B_ONLY,
    COMPAT,
    PER_CHANNEL_AXIS,
    MIN_REAL_RANGE,
    option(
        "calibration-method",
        Choice(METHODS),
        "minmax",
        "static: how ranges follow from data",
    ),
    option(
        "percentile",
        Float,
        "99.999",
        "static: the share that is kept",
    ),
    option(
        "num-bins",
        UInt,
        "2048; entropy with compat: 128",
        "static: bins of a histogram (no more than num-quantized-bins make `entropy` `minmax`)",
    ),
    option(
        "num-quantized-bins",
        UInt,
        "128",
        "static: bins after quantization, of `entropy`",
    ),
    option(
        "symmetric-ranges",
        Bool,
        "false",
        "static: make calibrated ranges symmetric",
    ),
    option(
        "moving-average",
        Bool,
        "false",
        "static: average the ranges of samples",
    ),
    option(
        "averaging-constant",
        Float,
        "0.01",
        "static: the weight of a later round in the average",
    ),
    option(
        "quantize-bias",
        Bool,
        "true",
        "static: biases too, as int32",
    ),
    option(
        "disable-weight-adjust-for-int32-bias",
        Bool,
        "false",
        "static: let large biases saturate",
    ),
    option(
        "keep-removable-activations",
        Bool,
        "false",
        "static: keep Relu and Clip where a range implies them",
    ),
    option(
        "force-quantize-no-input-check",
        Bool,
        "false",
        "static: quantize shape operators whatever comes in",
    ),
    option(
        "op-types-exclude-output",
        List,
        "none",
        "static: operators whose results stay float",
    ),
    option(
        "activation-restricted-asymmetric",
        Bool,
        "false",
        "static: zero points of uint8 at an end or in the middle",
    ),
    option(
        "dedicated-qdq",
        Bool,
        "false",
        "static: a pair for each consumer of a tensor",
    ),
    option(
        "qdq-weights",
        Bool,
        "false",
        "static: keep weights in float, behind QuantizeLinear",
    ),
    option(
        "contrib-ops",
        Bool,
        "false",
        "static: QuantizeLinear and DequantizeLinear of com.microsoft",
    ),
    option(
        "block-size",
        UInt,
        "none",
        "static: elements of a matrix that share a scale",
    ),
    option(
        "overrides",
        Text,
        "none",
        "static: a JSON file of types and parameters by tensor",
    ),
    option(
        "smooth-quant",
        Bool,
        "false",
        "static: scale channels of activations down and rows of weights up before (SmoothQuant)",
    ),
    option(
        "smooth-quant-alpha",
        Float,
        "0.5",
        "static: from 0, which evens out weights, to 1, which evens out activations",
    ),
];

/// Keys that only static quantization has.
const STATIC_ONLY: &[&str] = &[
    "quantize-bias",
    "percentile",
    "num-bins",
    "num-quantized-bins",
    "symmetric-ranges",
    "moving-average",
    "averaging-constant",
    "dedicated-qdq",
    "qdq-weights",
    "contrib-ops",
    "block-size",
    "overrides",
    "keep-removable-activations",
    "force-quantize-no-input-check",
    "op-types-exclude-output",
    "activation-restricted-asymmetric",
    "disable-weight-adjust-for-int32-bias",
    "calibration-method",
    "smooth-quant",
    "smooth-quant-alpha",
];

impl StaticSettings {
    /// Reads the options.
    pub(in crate::quantize) fn take(opts: &mut Options) -> Result<StaticSettings, Error> {
        let weight_type = take_qtype(opts, "weight-type")?.unwrap_or(QuantType::Int8);
        let default = match weight_type {
            QuantType::UInt8 => QuantType::UInt8,
            _ => QuantType::Int8,
        };
        let activation_type = take_qtype(opts, "activation-type")?.unwrap_or(default);
        if activation_type == QuantType::Int8 && weight_type == QuantType::UInt8 {
            let expected = "`int8`, since no runtime multiplies int8 activations by uint8 weights";
            return Err(opts.invalid("weight-type", expected));
        }
        let min_real_range = opts.take::<Option<f64>>("min-real-range", None)?;
        if min_real_range.is_some_and(|m| m < 0.0) {
            return Err(opts.invalid("min-real-range", "a number of at least 0"));
        }
        let block_size = opts.take::<Option<usize>>("block-size", None)?;
        if block_size == Some(0) {
            return Err(opts.invalid("block-size", "a number of at least 1"));
        }
        let smooth = opts.take("smooth-quant", false)?;
        let alpha = opts.take("smooth-quant-alpha", 0.5)?;
        if !(0.0..=1.0).contains(&alpha) {
            return Err(opts.invalid("smooth-quant-alpha", "a number from 0 to 1"));
        }
        let compat = opts.take("compat", false)?;
        let subgraphs = opts.take::<Option<bool>>("subgraphs", None)?;
        let adjust = !opts.take("disable-weight-adjust-for-int32-bias", false)?;
        let list = |list: Option<Vec<String>>| list.unwrap_or_default();
        Ok(StaticSettings {
            mode: Mode::take(opts)?,
            activation_type,
            weight_type,
            activation_symmetric: opts.take("activation-symmetric", false)?,
            weight_symmetric: opts.take("weight-symmetric", None)?,
            restricted_asymmetric: opts.take("activation-restricted-asymmetric", false)?,
            per_channel: opts
                .take::<Option<bool>>("per-channel", None)?
                .unwrap_or(false),
            per_channel_axis: opts
                .take::<Option<Vec<(String, i64)>>>("per-channel-axis", None)?
                .unwrap_or_default(),
            reduce_range: opts.take("reduce-range", false)?,
            min_real_range,
            block_size: block_size.unwrap_or(0),
            op_types: opts.take("op-types", None)?,
            exclude_output: list(opts.take("op-types-exclude-output", None)?),
            nodes: Names::take(opts, "nodes")?,
            exclude_nodes: Names::take(opts, "exclude-nodes")?,
            subgraphs: subgraphs.unwrap_or(!compat),
            matmul_const_b_only: opts
                .take::<Option<bool>>("matmul-const-b-only", None)?
                .unwrap_or(false),
            force: opts.take("force-quantize-no-input-check", false)?,
            keep_activations: opts.take("keep-removable-activations", false)?,
            quantize_bias: opts.take("quantize-bias", true)?,
            adjust_weights: adjust,
            dedicated: opts.take("dedicated-qdq", false)?,
            qdq_weights: opts.take("qdq-weights", false)?,
            contrib: opts.take("contrib-ops", false)?,
            smooth_alpha: smooth.then_some(alpha),
            overrides: Overrides::take(opts)?,
            calibration: calibration(opts, activation_type, compat)?,
            compat,
            static_only: STATIC_ONLY
                .iter()
                .filter(|key| opts.is_given(key))
                .copied()
                .collect(),
        })
    }

    /// What lists of the options say and no node answers to.
    pub(in crate::quantize) fn complaints(&self, graph: &Graph) -> Vec<String> {
        let names = (self.nodes.as_ref(), self.exclude_nodes.as_ref());
        complain::of_names(graph, names.0, names.1)
    }

    /// Whether the options pick a node of this name.
    pub(in crate::quantize) fn names(&self, name: &str) -> bool {
        let excluded = self.exclude_nodes.as_ref().is_some_and(|l| l.has(name));
        self.nodes.as_ref().is_none_or(|l| l.has(name)) && !excluded
    }

    /// The axis given for `op_type`, or `default`.
    pub(in crate::quantize) fn axis(&self, op_type: &str, default: i64) -> i64 {
        let given = self.per_channel_axis.iter().find(|(op, _)| op == op_type);
        given.map_or(default, |&(_, axis)| axis)
    }
}

#[cfg(test)]
impl Default for StaticSettings {
    fn default() -> StaticSettings {
        StaticSettings {
            mode: Mode::Static,
            activation_type: QuantType::Int8,
            weight_type: QuantType::Int8,
            activation_symmetric: false,
            weight_symmetric: None,
            restricted_asymmetric: false,
            per_channel: false,
            per_channel_axis: Vec::new(),
            reduce_range: false,
            min_real_range: None,
            block_size: 0,
            op_types: None,
            exclude_output: Vec::new(),
            nodes: None,
            exclude_nodes: None,
            subgraphs: true,
            matmul_const_b_only: false,
            force: false,
            keep_activations: false,
            quantize_bias: true,
            adjust_weights: true,
            dedicated: false,
            qdq_weights: false,
            contrib: false,
            smooth_alpha: None,
            overrides: Overrides::default(),
            calibration: CalibrationSpec::MINMAX,
            compat: false,
            static_only: Vec::new(),
        }
    }
}

/// How ranges follow from data.
///
/// Histograms of `percentile` are of magnitudes unless `symmetric-ranges=false` is given: that is
/// how the tool of ONNX Runtime does it.
fn calibration(
    opts: &mut Options,
    activation: QuantType,
    compat: bool,
) -> Result<CalibrationSpec, Error> {
    let methods: Vec<(&'static str, &str)> = METHODS.iter().map(|&m| (m, m)).collect();
    let method = opts.take_choice("calibration-method", &methods, "minmax")?;
    let percentile = opts.take("percentile", 99.999)?;
    if !(0.0..=100.0).contains(&percentile) {
        return Err(opts.invalid("percentile", "a number from 0 to 100"));
    }
    let bins = opts.take::<Option<usize>>("num-bins", None)?;
    let quantized_bins = opts.take("num-quantized-bins", 128)?;
    for (key, number) in [
        ("num-bins", bins),
        ("num-quantized-bins", Some(quantized_bins)),
    ] {
        /// As many bins take a gigabyte in a large model.
        const MOST: usize = 1 << 20;
        if number.is_some_and(|n| n == 0 || n > MOST) {
            return Err(opts.invalid(key, format!("a number from 1 to {MOST}")));
        }
    }
    let averaging_constant = opts.take("averaging-constant", 0.01)?;
    if !(0.0..=1.0).contains(&averaging_constant) {
        return Err(opts.invalid("averaging-constant", "a number from 0 to 1"));
    }
    let moving_average = opts.take("moving-average", false)?;
    let given = opts.is_given("symmetric-ranges");
    let symmetric = opts.take("symmetric-ranges", false)?;
    let bins = |default| bins.unwrap_or(default);
    let steps = match activation {
        QuantType::Int16 | QuantType::UInt16 => 65_535,
        QuantType::Int4 | QuantType::UInt4 => 15,
        _ => 255,
    };
    let method = match method {
        "entropy" => Method::Entropy {
            bins: bins(if compat { 128 } else { 2048 }),
            quantized_bins,
        },
        "percentile" => Method::Percentile {
            percentile,
            bins: bins(2048),
            magnitudes: !given || symmetric,
        },
        "distribution" => Method::Distribution { bins: bins(2048) },
        "mse" => Method::Mse {
            bins: bins(2048),
            steps,
        },
        _ => Method::MinMax {
            moving_average,
            round: None,
            averaging_constant,
        },
    };
    Ok(CalibrationSpec { method, symmetric })
}

/// The type of this name, as here or as in the tool of ONNX Runtime.
pub(in crate::quantize) fn type_named(name: &str) -> Option<QuantType> {
    let name = name.to_ascii_lowercase();
    // There, `QInt8` and the like.
    let name = name.strip_prefix('q').unwrap_or(&name);
    QuantType::from_name(name)
}
