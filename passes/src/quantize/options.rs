//! The options of `quantize` that dynamic quantization has, read once into [`Settings`].
//!
//! The keys are those of the command line's contract. Those of static quantization are with it,
//! which is where they are said to have no effect if quantization is dynamic.

use onnxq_pass::{Error, OptionInfo, OptionKind, Options, PassContext, PassError};
use onnxq_quant::QuantType;

use super::{names::Names, source::RangeSource};

/// The operators that dynamic quantization knows.
pub(super) const DYNAMIC_OPS: &[&str] = &["Conv", "Gather", "Gemm", "LSTM", "MatMul"];

/// What both passes of dynamic quantization go by.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) mode: Mode,
    /// Why dynamic quantization cannot do what the options say.
    pub(super) unfit: Option<String>,
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
}

pub(super) const fn option(
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
pub(super) const TYPES: &[&str] = &[
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int4",
    "uint4",
    "float8e4m3fn",
];

use OptionKind::{Bool, Choice, Float, List, Table};

pub(super) const MODE: OptionInfo = option(
    "mode",
    Choice(MODES),
    "auto",
    "static where calibration data or ranges are given, else dynamic",
);
pub(super) const ACTIVATION_TYPE: OptionInfo = option(
    "activation-type",
    Choice(TYPES),
    "static: int8, or uint8 if weights are; dynamic: uint8",
    "the type of what is computed, and of embedding tables",
);
pub(super) const WEIGHT_TYPE: OptionInfo = option(
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
    "static: false, dynamic: true",
    "leave a MatMul alone whose right operand is computed",
);

pub(super) const COMPAT: OptionInfo = option(
    "compat",
    Bool,
    "false",
    "quantize what the quantization tool of ONNX Runtime does, and nothing else",
);

pub(super) const PER_CHANNEL: OptionInfo = option(
    "per-channel",
    Bool,
    "false; dynamic, in bodies: where it is needed",
    "one scale for each output channel of a weight",
);
pub(super) const REDUCE_RANGE: OptionInfo = option(
    "reduce-range",
    Bool,
    "false",
    "leave the highest bit of weights unused",
);
pub(super) const WEIGHT_SYMMETRIC: OptionInfo = option(
    "weight-symmetric",
    Bool,
    "true for signed types",
    "put the zero point of weights in the middle",
);
pub(super) const PER_CHANNEL_AXIS: OptionInfo = option(
    "per-channel-axis",
    Table,
    "the output channels",
    "the axis of the channels, by operator, as in [MatMul:1,Conv:0]",
);
pub(super) const MIN_REAL_RANGE: OptionInfo = option(
    "min-real-range",
    Float,
    "none",
    "the least distance between the ends of a range",
);

/// The options that say how weights are quantized dynamically.
pub(super) const WEIGHT_OPTIONS: &[OptionInfo] = &[
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
];

/// How a model is quantized.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// Statically where ranges, or data to find them, are provided; else dynamically.
    Auto,
    Dynamic,
    Static,
}

impl Mode {
    pub(super) fn take(opts: &mut Options) -> Result<Mode, Error> {
        let modes = [
            ("auto", Mode::Auto),
            ("dynamic", Mode::Dynamic),
            ("static", Mode::Static),
        ];
        opts.take_choice("mode", &modes, Mode::Auto)
    }

    /// Whether quantization is static in this context.
    pub(super) fn is_static(self, cx: &PassContext) -> bool {
        match self {
            Mode::Auto => cx.get::<RangeSource>().is_some(),
            mode => mode == Mode::Static,
        }
    }
}

impl Settings {
    /// Reads the options that both passes take.
    pub(super) fn take(opts: &mut Options) -> Result<Settings, Error> {
        let mode = Mode::take(opts)?;
        let mut unfit = None;
        let default = QuantType::UInt8;
        let activation_type = take_type(opts, "activation-type", default, mode, &mut unfit)?;
        let op_types = opts.take::<Option<Vec<String>>>("op-types", None)?;
        let compat = opts.take("compat", false)?;
        let subgraphs = opts.take::<Option<bool>>("subgraphs", None)?;
        let all = || DYNAMIC_OPS.iter().map(|&op| op.to_owned()).collect();
        Ok(Settings {
            mode,
            unfit,
            activation_type,
            activation_symmetric: opts.take("activation-symmetric", false)?,
            op_types: op_types.unwrap_or_else(all),
            nodes: Names::take(opts, "nodes")?,
            exclude_nodes: Names::take(opts, "exclude-nodes")?,
            subgraphs: subgraphs.unwrap_or(!compat),
            matmul_const_b_only: opts
                .take::<Option<bool>>("matmul-const-b-only", None)?
                .unwrap_or(true),
            compat,
        })
    }

    /// Whether quantization is dynamic in this context.
    ///
    /// # Errors
    /// It is, and the options are those of static quantization.
    pub(super) fn is_dynamic(&self, cx: &PassContext) -> Result<bool, PassError> {
        match &self.unfit {
            _ if self.mode.is_static(cx) => Ok(false),
            Some(message) => Err(PassError::new(message).with_help(STATIC_HELP)),
            None => Ok(true),
        }
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
    /// Reads the options that only weights have.
    pub(super) fn take(
        opts: &mut Options,
        settings: &mut Settings,
    ) -> Result<WeightSettings, Error> {
        let Settings {
            mode,
            activation_type,
            unfit,
            ..
        } = settings;
        let weight_type = take_type(opts, "weight-type", QuantType::Int8, *mode, unfit)?;
        if *activation_type == QuantType::Int8 && weight_type == QuantType::UInt8 {
            let expected = "`int8`, since no runtime multiplies int8 activations by uint8 weights";
            return Err(opts.invalid("weight-type", expected));
        }
        let min_real_range = opts.take::<Option<f64>>("min-real-range", None)?;
        if min_real_range.is_some_and(|m| m < 0.0) {
            return Err(opts.invalid("min-real-range", "a number of at least 0"));
        }
        Ok(WeightSettings {
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

const STATIC_HELP: &str = "give calibration data or ranges to quantize statically";

/// The type that an option names.
pub(super) fn take_qtype(
    opts: &mut Options,
    key: &'static str,
) -> Result<Option<QuantType>, Error> {
    let types: Vec<(&'static str, Option<QuantType>)> = QuantType::ALL
        .iter()
        .map(|&t| (t.name(), Some(t)))
        .collect();
    opts.take_choice(key, &types, None)
}

/// One of the types of 8 bits; where others are refused only if quantization turns out to be
/// dynamic, `unfit` says why.
fn take_type(
    opts: &mut Options,
    key: &'static str,
    default: QuantType,
    mode: Mode,
    unfit: &mut Option<String>,
) -> Result<QuantType, Error> {
    let qtype = take_qtype(opts, key)?.unwrap_or(default);
    let expected = "`int8` or `uint8` in dynamic quantization";
    match qtype {
        QuantType::Int8 | QuantType::UInt8 => Ok(qtype),
        _ if mode == Mode::Dynamic => Err(opts.invalid(key, expected)),
        _ => {
            let message = format!("`{key}`: expected {expected}, found `{qtype}`");
            unfit.get_or_insert(message);
            Ok(default)
        }
    }
}

/// Warnings about lists of the options that no node answers to.
pub(super) mod complain {
    use onnxq_ir::{Graph, NodeId};

    use super::Names;

    /// What `nodes` and `exclude-nodes` say and no node of the graph answers to.
    pub(in crate::quantize) fn of_names(
        graph: &Graph,
        nodes: Option<&Names>,
        exclude: Option<&Names>,
    ) -> Vec<String> {
        let lists = [("nodes", nodes), ("exclude-nodes", exclude)];
        if lists.iter().all(|(_, list)| list.is_none()) {
            return Vec::new();
        }
        let mut names = Vec::new();
        graph.for_each_graph(&mut |g: &Graph| {
            let ops = |n: &NodeId| g.op(*n).is_some();
            names.extend(g.node_ids().filter(ops).map(|n| g.node(n).name.clone()));
        });
        let mut complaints = Vec::new();
        for (key, list) in lists {
            let Some(list) = list else { continue };
            for name in list.unmatched(names.iter().map(String::as_str)) {
                complaints.push(format!("{key} lists `{name}`, and no node has that name"));
            }
        }
        complaints
    }

    /// The first few of a list of names, for a message; `None` if there are none.
    pub(in crate::quantize) fn few(names: &[String]) -> Option<String> {
        const FEW: usize = 3;
        let quoted = names.iter().take(FEW).map(|name| format!("`{name}`"));
        let quoted: Vec<String> = quoted.collect();
        match names.len() {
            0 => None,
            1..=FEW => Some(quoted.join(", ")),
            more => Some(format!("{} and {} more", quoted.join(", "), more - FEW)),
        }
    }
}
