//! The options of `quantize`, read once into [`Settings`].
//!
//! The keys are those of the command line's contract. What only static quantization uses is
//! accepted and said to have no effect; what is not implemented is an error.

use onnxq_pass::{Error, OptionInfo, OptionKind, Options};
use onnxq_quant::QuantType;

use super::names::Names;

/// The operators that dynamic quantization knows.
pub(super) const DYNAMIC_OPS: &[&str] = &["Conv", "Gather", "Gemm", "LSTM", "MatMul"];

/// What both passes of dynamic quantization go by.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) activation_type: QuantType,
    pub(super) activation_symmetric: bool,
    pub(super) op_types: Vec<String>,
    pub(super) nodes: Option<Names>,
    pub(super) exclude_nodes: Option<Names>,
    pub(super) subgraphs: bool,
    pub(super) matmul_const_b_only: bool,
    /// Do as the tool of ONNX Runtime does.
    pub(super) compat: bool,
}

/// How weights are quantized.
#[derive(Debug)]
pub(super) struct WeightSettings {
    pub(super) weight_type: QuantType,
    /// Where it is not given, weights in bodies get scales for channels if they need them.
    pub(super) per_channel: Option<bool>,
    pub(super) per_channel_axis: Vec<(String, i64)>,
    pub(super) reduce_range: bool,
    pub(super) symmetric: Option<bool>,
    pub(super) min_real_range: Option<f64>,
    /// Keys that were given and concern static quantization only.
    pub(super) without_effect: Vec<&'static str>,
}

const fn option(
    name: &'static str,
    kind: OptionKind,
    default: &'static str,
    help: &'static str,
) -> OptionInfo {
    OptionInfo {
        name,
        kind,
        default,
        help,
    }
}

const MODES: &[&str] = &["auto", "dynamic", "static"];
const TYPES: &[&str] = &[
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int4",
    "uint4",
    "float8e4m3fn",
];
const METHODS: &[&str] = &["minmax", "entropy", "percentile", "distribution", "mse"];

use OptionKind::{Bool, Choice, Float, List, Table, Text, UInt};

pub(super) const MODE: OptionInfo = option(
    "mode",
    Choice(MODES),
    "auto",
    "static where calibration data or ranges are given, else dynamic",
);
pub(super) const ACTIVATION_TYPE: OptionInfo = option(
    "activation-type",
    Choice(TYPES),
    "uint8",
    "the type of what is computed, and of embedding tables",
);
const WEIGHT_TYPE: OptionInfo = option(
    "weight-type",
    Choice(TYPES),
    "int8",
    "the type of constant weights",
);
pub(super) const ACTIVATION_SYMMETRIC: OptionInfo = option(
    "activation-symmetric",
    Bool,
    "false",
    "put the zero point of activations in the middle",
);
pub(super) const OP_TYPES: OptionInfo = option(
    "op-types",
    List,
    "every one that the mode supports",
    "the operators to quantize",
);
pub(super) const NODES: OptionInfo = option(
    "nodes",
    List,
    "all",
    "the nodes to quantize, by name; `*` stands for anything",
);
pub(super) const EXCLUDE_NODES: OptionInfo = option(
    "exclude-nodes",
    List,
    "none",
    "nodes to leave alone, by name; `*` stands for anything",
);
pub(super) const SUBGRAPHS: OptionInfo = option(
    "subgraphs",
    Bool,
    "true; false with compat",
    "quantize inside the bodies of If, Loop and Scan",
);
pub(super) const MATMUL_CONST_B_ONLY: OptionInfo = option(
    "matmul-const-b-only",
    Bool,
    "true",
    "leave a MatMul alone whose right operand is computed",
);

pub(super) const COMPAT: OptionInfo = option(
    "compat",
    Bool,
    "false",
    "quantize what the quantization tool of ONNX Runtime does, and nothing else",
);

/// The options that say how weights are quantized, and those without effect here.
pub(super) const WEIGHT_OPTIONS: &[OptionInfo] = &[
    MODE,
    ACTIVATION_TYPE,
    WEIGHT_TYPE,
    option(
        "per-channel",
        Bool,
        "false; in bodies, where it is needed",
        "one scale for each output channel of a weight",
    ),
    option(
        "reduce-range",
        Bool,
        "false",
        "leave the highest bit of weights unused",
    ),
    ACTIVATION_SYMMETRIC,
    option(
        "weight-symmetric",
        Bool,
        "true for signed types",
        "put the zero point of weights in the middle",
    ),
    OP_TYPES,
    NODES,
    EXCLUDE_NODES,
    SUBGRAPHS,
    MATMUL_CONST_B_ONLY,
    COMPAT,
    option(
        "per-channel-axis",
        Table,
        "the output channels",
        "the axis of the channels, by operator, as in [MatMul:1,Conv:0]",
    ),
    option(
        "min-real-range",
        Float,
        "none",
        "the least distance between the ends of a range",
    ),
    // Of static quantization.
    option("quantize-bias", Bool, "true", "static: biases too"),
    option(
        "calibration-method",
        Choice(METHODS),
        "minmax",
        "static: how ranges follow from data",
    ),
    option("percentile", Float, "99.999", "static: of `percentile`"),
    option("num-bins", UInt, "by method", "static: bins of a histogram"),
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
        "static: of `moving-average`",
    ),
    option(
        "dedicated-qdq",
        Bool,
        "false",
        "static: a pair for each consumer of a tensor",
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
        "static: zero points at an end or in the middle",
    ),
    option(
        "disable-weight-adjust-for-int32-bias",
        Bool,
        "false",
        "static: let large biases saturate",
    ),
    // Not in this version.
    option("qdq-weights", Bool, "false", "not in this version"),
    option("contrib-ops", Bool, "false", "not in this version"),
    option("smooth-quant", Bool, "false", "not in this version"),
    option("smooth-quant-alpha", Float, "0.5", "not in this version"),
    option("block-size", UInt, "none", "not in this version"),
    option("overrides", Text, "none", "not in this version"),
];

/// Keys of [`WEIGHT_OPTIONS`] that change nothing in dynamic quantization.
const STATIC_ONLY: &[&str] = &[
    "quantize-bias",
    "percentile",
    "num-bins",
    "num-quantized-bins",
    "symmetric-ranges",
    "moving-average",
    "averaging-constant",
    "dedicated-qdq",
    "keep-removable-activations",
    "force-quantize-no-input-check",
    "op-types-exclude-output",
    "activation-restricted-asymmetric",
    "disable-weight-adjust-for-int32-bias",
];

/// Keys of [`WEIGHT_OPTIONS`] that are promised and missing.
const MISSING: &[&str] = &[
    "qdq-weights",
    "contrib-ops",
    "smooth-quant",
    "smooth-quant-alpha",
    "block-size",
    "overrides",
];

impl Settings {
    /// Reads the options that both passes take.
    pub(super) fn take(opts: &mut Options) -> Result<Settings, Error> {
        let modes = [("auto", 0), ("dynamic", 1), ("static", 2)];
        if opts.take_choice("mode", &modes, 0)? == 2 {
            let expected = "`auto` or `dynamic`: static quantization is not in this version";
            return Err(opts.invalid("mode", expected));
        }
        let activation_type = take_type(opts, "activation-type", QuantType::UInt8)?;
        let op_types = opts.take::<Option<Vec<String>>>("op-types", None)?;
        let compat = opts.take("compat", false)?;
        let subgraphs = opts.take::<Option<bool>>("subgraphs", None)?;
        let all = || DYNAMIC_OPS.iter().map(|&op| op.to_owned()).collect();
        Ok(Settings {
            activation_type,
            activation_symmetric: opts.take("activation-symmetric", false)?,
            op_types: op_types.unwrap_or_else(all),
            nodes: Names::take(opts, "nodes")?,
            exclude_nodes: Names::take(opts, "exclude-nodes")?,
            subgraphs: subgraphs.unwrap_or(!compat),
            matmul_const_b_only: opts.take("matmul-const-b-only", true)?,
            compat,
        })
    }

    /// Whether the options pick a node of this name.
    pub(super) fn names(&self, name: &str) -> bool {
        self.nodes.as_ref().is_none_or(|names| names.has(name)) && !self.excludes(name)
    }

    /// Whether `exclude-nodes` has this name.
    pub(super) fn excludes(&self, name: &str) -> bool {
        let list = self.exclude_nodes.as_ref();
        list.is_some_and(|names| names.has(name))
    }
}

impl WeightSettings {
    /// Reads the options that only weights have; `activation_type` is that of [`Settings`].
    pub(super) fn take(
        opts: &mut Options,
        activation_type: QuantType,
    ) -> Result<WeightSettings, Error> {
        let weight_type = take_type(opts, "weight-type", QuantType::Int8)?;
        if activation_type == QuantType::Int8 && weight_type == QuantType::UInt8 {
            let expected = "`int8`, since no runtime multiplies int8 activations by uint8 weights";
            return Err(opts.invalid("weight-type", expected));
        }
        let min_real_range = opts.take::<Option<f64>>("min-real-range", None)?;
        if min_real_range.is_some_and(|m| m < 0.0) {
            return Err(opts.invalid("min-real-range", "a number of at least 0"));
        }
        let methods: Vec<(&'static str, &str)> = METHODS.iter().map(|&m| (m, m)).collect();
        opts.take_choice("calibration-method", &methods, "minmax")?;
        for &key in STATIC_ONLY.iter().chain(MISSING) {
            take_unused(opts, key)?;
        }
        let given = |key: &&&'static str| opts.is_given(key);
        if let Some(key) = MISSING.iter().find(given) {
            return Err(opts.invalid(key, format!("no `{key}`: it is not in this version")));
        }
        let method = ["calibration-method"];
        Ok(WeightSettings {
            without_effect: STATIC_ONLY
                .iter()
                .chain(&method)
                .filter(given)
                .copied()
                .collect(),
            weight_type,
            per_channel: opts.take("per-channel", None)?,
            per_channel_axis: opts
                .take::<Option<Vec<(String, i64)>>>("per-channel-axis", None)?
                .unwrap_or_default(),
            reduce_range: opts.take("reduce-range", false)?,
            symmetric: opts.take("weight-symmetric", None)?,
            min_real_range,
        })
    }

    /// The axis given for `op_type`, or `default`.
    pub(super) fn axis(&self, op_type: &str, default: i64) -> i64 {
        let given = self.per_channel_axis.iter().find(|(op, _)| op == op_type);
        given.map_or(default, |&(_, axis)| axis)
    }
}

/// One of the types of 8 bits.
fn take_type(
    opts: &mut Options,
    key: &'static str,
    default: QuantType,
) -> Result<QuantType, Error> {
    let types: Vec<(&'static str, QuantType)> =
        QuantType::ALL.iter().map(|&t| (t.name(), t)).collect();
    let qtype = opts.take_choice(key, &types, default)?;
    match qtype {
        QuantType::Int8 | QuantType::UInt8 => Ok(qtype),
        _ => Err(opts.invalid(key, "`int8` or `uint8` in dynamic quantization")),
    }
}

/// Takes an option whose value has no use here; it must still be of its type.
fn take_unused(opts: &mut Options, key: &'static str) -> Result<(), Error> {
    let kind = WEIGHT_OPTIONS.iter().find(|o| o.name == key);
    match kind.map(|o| o.kind) {
        Some(Bool) => opts.take::<Option<bool>>(key, None).map(drop),
        Some(Float) => opts.take::<Option<f64>>(key, None).map(drop),
        Some(UInt) => opts.take::<Option<usize>>(key, None).map(drop),
        Some(List) => opts.take::<Option<Vec<String>>>(key, None).map(drop),
        _ => opts.take::<Option<String>>(key, None).map(drop),
    }
}
