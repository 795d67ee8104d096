//! Gather: entries of an axis by their numbers, as embeddings are looked up.

use onnxq_ir::{NodeId, Op};
use onnxq_kernels::{Cpu, gather_rows};
use onnxq_ops::EvalError;
use onnxq_tensor::DType;

use super::Kernel;
use crate::program::{
    call::{Call, elements},
    lower::{Layout, Lowering},
    source::{Code, Expr, Written},
};

struct Gather {
    outer: usize,
    /// Entries of the axis, and bytes of one.
    entries: usize,
    inner: usize,
    numbers: usize,
    wide: bool,
    node: String,
}

/// Gather of anything.
pub(super) fn gather(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let graph = lowering.graph;
    let x = lowering.plain(graph.operand(n, 0)?)?;
    let numbers = lowering.plain(graph.operand(n, 1)?)?;
    let wide = match numbers.dtype {
        DType::I64 => true,
        DType::I32 => false,
        _ => return None,
    };
    let rank = x.dims.len();
    let axis = op.int("axis", 0);
    let axis = if axis < 0 {
        axis.checked_add(rank as i64)?
    } else {
        axis
    };
    let axis = usize::try_from(axis).ok().filter(|&a| a < rank)?;
    let outer: usize = x.dims[..axis].iter().product();
    let inner = x.dims[axis + 1..].iter().product::<usize>() * x.dtype.bits() / 8;
    let kernel = Gather {
        outer,
        entries: x.dims[axis],
        inner,
        numbers: numbers.len(),
        wide,
        node: lowering.name(n),
    };
    let (_, dims) = lowering.type_of(graph.result(n, 0))?;
    let len: usize = dims.iter().product();
    (len > 0 && len * x.dtype.bits() / 8 == outer * inner * kernel.numbers).then_some(())?;
    lowering.push_node(
        n,
        Box::new(kernel),
        &[x.place, numbers.place],
        Layout::Plain,
    )
}

impl Kernel for Gather {
    fn name(&self, _: Cpu) -> String {
        "gather".to_owned()
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, numbers, y) = (call.bytes(0), call.bytes(1), call.result(0));
        let size = self.entries * self.inner;
        for i in 0..self.outer {
            let x = &x[i * size..][..size];
            let y = &mut y[i * self.numbers * self.inner..][..self.numbers * self.inner];
            let done = match self.wide {
                true => gather_rows(x, self.inner, &elements::<i64>(numbers)[..self.numbers], y),
                false => gather_rows(x, self.inner, &elements::<i32>(numbers)[..self.numbers], y),
            };
            done.map_err(|number| {
                let (node, entries) = (&self.node, self.entries);
                EvalError::Invalid(format!("{node}: index {number} of {entries} entries"))
            })?;
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        code.operand(0, "x", "u8");
        code.operand(1, "numbers", if self.wide { "i64" } else { "i32" });
        code.result(0, "y", "u8");
        code.can_fail();
        let size = self.entries * self.inner;
        let result = self.numbers * self.inner;
        let (mut x, mut y) = (format!("&x[..{size}]"), format!("&mut y[..{result}]"));
        if self.outer > 1 {
            code.open(&format!("for i in 0..{}", self.outer));
            x = format!("&x[i * {size}..][..{size}]");
            y = format!("&mut y[i * {result}..][..{result}]");
        }
        let numbers = format!("&numbers[..{}]", self.numbers);
        let arguments = vec![x.into(), self.inner.into(), numbers.into(), y.into()];
        code.bind("done", Expr::Call("gather_rows".to_owned(), arguments));
        code.open("if let Err(index) = done");
        code.open("return Err(IndexError");
        code.line(&format!("node: {:?},", self.node));
        code.line("index,");
        code.line(&format!("entries: {},", self.entries));
        code.close_with("});");
        code.close();
        if self.outer > 1 {
            code.close();
        }
        Ok(())
    }
}
