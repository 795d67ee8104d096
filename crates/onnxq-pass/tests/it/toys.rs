//! Toy passes and models.

use onnxq_ir::{Model, NodeId, Op, ValueId, def::ValueDef};
use onnxq_pass::{
    Error, OptionInfo, OptionKind, Options, Pass, PassContext, PassError, PassInfo, PipelineInfo,
    Registry, Rewrite, Rewriter, rewrites,
};

/// A model of one chain: `x`, then an operation each, the last the result.
pub(crate) fn chain(ops: &[&str]) -> Model {
    let mut model = Model {
        ir_version: 10,
        ..Model::default()
    };
    model.opsets.insert(String::new(), 21);
    let mut v = model.graph.add_input("x", None);
    for (i, op) in ops.iter().enumerate() {
        v = model.graph.insert(Op::new(op), &[v], format!("v{i}"));
    }
    model.graph.add_output(ValueDef::new("y", None), v);
    model
}

/// The operations of the main graph, operands first.
pub(crate) fn op_types(model: &Model) -> Vec<String> {
    let graph = &model.graph;
    let ops = graph.op_order().into_iter().filter_map(|n| graph.op(n));
    ops.map(|op| op.op_type.clone()).collect()
}

/// `Identity(x)` => `x`
pub(crate) fn drop_identity(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    rw.is(n, "Identity")?;
    let x = rw.operand(n, 0)?;
    rw.replace(rw.result(n, 0), x)
}

pub(crate) const DROP_IDENTITY: PassInfo = PassInfo {
    name: "drop-identity",
    summary: "remove Identity",
    options: &[],
    build: |opts| {
        rewrites(
            opts.pass(),
            &[Rewrite {
                name: "drop-identity",
                apply: drop_identity,
            }],
        )
    },
};

/// Renames an operator; told by an option what to do instead.
struct Rename {
    from: String,
    to: String,
    fail: Option<Fail>,
    loud: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Fail {
    Error,
    Panic,
    Invalid,
}

impl Pass for Rename {
    fn name(&self) -> &str {
        "rename"
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let graph = &mut model.graph;
        for n in graph.op_order() {
            if graph.is(n, &self.from)
                && cx.begin_rewrite("rename", &self.from)
                && let Some(op) = graph.op_mut(n)
            {
                op.op_type.clone_from(&self.to);
            }
        }
        if self.loud {
            cx.note(format_args!("renamed {} to {}", self.from, self.to));
        }
        match self.fail {
            None => Ok(()),
            Some(Fail::Error) => {
                Err(PassError::new("node 'v0': no such thing").with_help("try another"))
            }
            Some(Fail::Panic) => panic!("index {} is out of\nrange", 7),
            Some(Fail::Invalid) => {
                let n = graph.op_order()[0];
                graph.set_operand(n, 0, Some(ValueId { node: n, result: 0 }));
                Ok(())
            }
        }
    }
}

fn build_rename(opts: &mut Options) -> Result<Box<dyn Pass>, Error> {
    let fails = [
        ("error", Some(Fail::Error)),
        ("panic", Some(Fail::Panic)),
        ("invalid", Some(Fail::Invalid)),
    ];
    Ok(Box::new(Rename {
        from: opts.take("from", "Relu".to_owned())?,
        to: opts.take("to", "Neg".to_owned())?,
        fail: opts.take_choice("fail", &fails, None)?,
        loud: opts.take("loud", false)?,
    }))
}

pub(crate) const RENAME: PassInfo = PassInfo {
    name: "rename",
    summary: "rename an operator",
    options: &[
        OptionInfo {
            name: "from",
            kind: OptionKind::Text,
            default: "Relu",
            help: "what to rename",
        },
        OptionInfo {
            name: "to",
            kind: OptionKind::Text,
            default: "Neg",
            help: "the new name",
        },
        OptionInfo {
            name: "fail",
            kind: OptionKind::Choice(&["error", "panic", "invalid"]),
            default: "none",
            help: "how to fail",
        },
        OptionInfo {
            name: "loud",
            kind: OptionKind::Bool,
            default: "false",
            help: "say so",
        },
    ],
    build: build_rename,
};

pub(crate) const PIPELINES: &[PipelineInfo] = &[
    PipelineInfo {
        name: "simplify",
        summary: "make it simple",
        text: "drop-identity,rename{to=Abs}",
    },
    PipelineInfo {
        name: "twice",
        summary: "make it simple twice",
        text: "simplify{from=Sin},simplify",
    },
];

pub(crate) fn registry() -> Registry {
    Registry::new(&[DROP_IDENTITY, RENAME], PIPELINES)
}
