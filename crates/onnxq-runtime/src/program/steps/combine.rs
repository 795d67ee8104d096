//! Sums and products of codes: QLinearAdd and QLinearMul, broadcast.

use onnxq_ir::{NodeId, Op};
use onnxq_kernels::{Combine, Cpu, Quantize, Quantized};
use onnxq_ops::EvalError;
use smallvec::SmallVec;

use super::{Kernel, elementwise::Quantization};
use crate::program::{
    call::Call,
    lower::{Home, Layout, Lowering},
    source::{Code, Expr, Written},
};

struct Step {
    what: Combine,
    a: Quantized,
    b: Quantized,
    to: Quantize,
    /// How many times the second operand starts anew with other elements.
    parts: usize,
    /// Elements of the result, and of the second operand that are repeated, in each of them.
    part: [usize; 2],
}

/// QLinearAdd.
pub(super) fn add(lowering: &mut Lowering<'_>, n: NodeId, _: &Op) -> Option<()> {
    combine(lowering, n, Combine::Add)
}

/// QLinearMul.
pub(super) fn multiply(lowering: &mut Lowering<'_>, n: NodeId, _: &Op) -> Option<()> {
    combine(lowering, n, Combine::Multiply)
}

fn combine(lowering: &mut Lowering<'_>, n: NodeId, what: Combine) -> Option<()> {
    let graph = lowering.graph;
    let (dtype, dims) = lowering.type_of(graph.result(n, 0))?;
    let to = Quantization::of(lowering, n, 6)?.to(dtype)?;
    // The larger one first: both functions are symmetric.
    let (mut a, mut b) = ((graph.operand(n, 0)?, 1), (graph.operand(n, 3)?, 4));
    if lowering.home(a.0)?.dims != dims || lowering.constant(a.0).is_some() {
        (a, b) = (b, a);
    }
    let (a_home, b_home) = (lowering.home(a.0)?.clone(), lowering.home(b.0)?.clone());
    (a_home.dims == dims).then_some(())?;
    let a_of = Quantization::of(lowering, n, a.1)?.from(a_home.dtype)?;
    let b_of = Quantization::of(lowering, n, b.1)?.from(b_home.dtype)?;
    // As many axes for both.
    let mut padded = Home {
        dims: SmallVec::from_elem(1, dims.len().checked_sub(b_home.dims.len())?),
        ..b_home.clone()
    };
    padded.dims.extend_from_slice(&b_home.dims);
    let same_rank = padded.dims.len() == b_home.dims.len();
    let layout = match same_rank || padded.is_both() {
        true => a_home.layout,
        false => Layout::Plain,
    };
    let a_home = lowering.laid(a.0, layout)?;
    if same_rank {
        padded = lowering.laid(b.0, layout)?;
    }
    padded.layout = layout;
    let (parts, repeated) = repeats(&a_home.in_memory(), &padded.in_memory())?;
    let len = a_home.len();
    (len > 0).then_some(())?;
    let kernel = Step {
        what,
        a: a_of,
        b: b_of,
        to,
        parts,
        part: [len / parts, repeated],
    };
    lowering.push_node(n, Box::new(kernel), &[a_home.place, padded.place], layout)
}

/// How to repeat the elements of `b` to have those of `a`: in how many parts, and how many
/// elements of `b` are repeated in each. `None` where that is not how they are broadcast.
pub(super) fn repeats(a: &[usize], b: &[usize]) -> Option<(usize, usize)> {
    (a.len() == b.len()).then_some(())?;
    let first = (0..a.len()).find(|&i| a[i] != b[i]).unwrap_or(a.len());
    let rest = (first..a.len()).find(|&i| b[i] != 1).unwrap_or(a.len());
    (a[rest..] == b[rest..]).then_some(())?;
    if first == a.len() {
        return Some((1, a.iter().product()));
    }
    Some((a[..first].iter().product(), b[rest..].iter().product()))
}

impl Kernel for Step {
    fn name(&self, _: Cpu) -> String {
        match self.what {
            Combine::Add => "add codes".to_owned(),
            Combine::Multiply => "multiply codes".to_owned(),
        }
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (a, b, y, cpu) = (call.bytes(0), call.bytes(1), call.result(0), call.cpu);
        let [len, row] = self.part;
        let parts = y.chunks_exact_mut(len).take(self.parts).enumerate();
        for (i, y) in parts {
            let (a, b) = (&a[i * len..][..len], &b[i * row..][..row]);
            let unit = if row == len { 64 } else { row };
            call.threads.spread(y, unit, |at, y| {
                let a = &a[at..][..y.len()];
                let b = if row == len { &b[at..][..y.len()] } else { b };
                self.what.run(cpu, (a, self.a), (b, self.b), self.to, y);
            });
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let [len, row] = self.part;
        code.operand(0, "a", "u8");
        code.operand(1, "b", "u8");
        code.result(0, "y", "u8");
        code.bind("a_codes", Expr::from(self.a));
        code.bind("b_codes", Expr::from(self.b));
        code.bind("to", Expr::from(self.to));
        let cpu = code.cpu();
        let (mut a, mut b) = (format!("&a[..{len}]"), format!("&b[..{row}]"));
        let mut y = format!("&mut y[..{len}]");
        if self.parts > 1 {
            code.open(&format!("for part in 0..{}", self.parts));
            a = format!("&a[part * {len}..][..{len}]");
            b = format!("&b[part * {row}..][..{row}]");
            y = format!("&mut y[part * {len}..][..{len}]");
        }
        code.bind("a", format!("({a}, a_codes)"));
        code.bind("b", format!("({b}, b_codes)"));
        let function = format!("{}.run", Expr::from(self.what));
        code.call(
            &function,
            vec![cpu, "a".into(), "b".into(), "to".into(), y.into()],
        );
        if self.parts > 1 {
            code.close();
        }
        Ok(())
    }
}
