//! What moves no bytes: other dimensions, other layouts, shapes.

use onnxq_ir::{NodeId, Op};
use onnxq_kernels::Cpu;
use onnxq_ops::EvalError;
use onnxq_tensor::Tensor;
use smallvec::SmallVec;

use super::Kernel;
use crate::program::{
    call::Call,
    lower::{Home, Layout, Lowering},
    source::{Code, Written},
};

/// Reshape and its like: the same bytes with other dimensions.
pub(super) fn view(lowering: &mut Lowering<'_>, n: NodeId, _: &Op) -> Option<()> {
    let result = lowering.graph.result(n, 0);
    if lowering.graph.node(n).results.len() > 1
        && lowering.graph.is_used(lowering.graph.result(n, 1))
    {
        return None;
    }
    let (dtype, dims) = lowering.type_of(result)?;
    let home = lowering.plain(lowering.graph.operand(n, 0)?)?;
    (home.dtype == dtype && home.len() == dims.iter().product::<usize>()).then_some(())?;
    let home = Home {
        dims,
        layout: Layout::Plain,
        ..home
    };
    lowering.settle(result, home);
    Some(())
}

/// Transpose. Where it takes channels-last to plain it is a view.
pub(super) fn transpose(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let graph = lowering.graph;
    let result = graph.result(n, 0);
    let x = graph.operand(n, 0)?;
    let home = lowering.home(x)?.clone();
    let (dtype, dims) = lowering.type_of(result)?;
    let rank = home.dims.len();
    let perm: SmallVec<[usize; 6]> = match op.ints("perm") {
        None => (0..rank).rev().collect(),
        Some(perm) => {
            let axis = |&p: &i64| usize::try_from(p).ok().filter(|&p| p < rank);
            perm.iter().map(axis).collect::<Option<_>>()?
        }
    };
    let whole = matches!(home.dtype.bits(), 8 | 16 | 32 | 64) && rank <= onnxq_kernels::MAX_AXES;
    (perm.len() == rank && whole).then_some(())?;
    let physical: SmallVec<[usize; 6]> = match home.layout {
        Layout::Plain => (0..rank).collect(),
        Layout::ChannelsLast => {
            let last: SmallVec<[usize; 6]> = std::iter::once(0).chain(2..rank).chain([1]).collect();
            last
        }
    };
    // Axes of one element move freely.
    let long = |axes: &[usize]| -> SmallVec<[usize; 6]> {
        axes.iter()
            .copied()
            .filter(|&a| home.dims[a] != 1)
            .collect()
    };
    if long(&physical) == long(&perm) {
        let home = Home {
            dims,
            layout: Layout::Plain,
            ..home
        };
        lowering.settle(result, home);
        return Some(());
    }
    // From where the axes are to where the result wants them.
    let place = |axis: usize| physical.iter().position(|&p| p == axis);
    let from: SmallVec<[usize; 6]> = physical.iter().map(|&a| home.dims[a]).collect();
    let perm: SmallVec<[usize; 6]> = perm.iter().map(|&a| place(a)).collect::<Option<_>>()?;
    let kernel = Transpose {
        dims: from,
        perm,
        size: dtype.bits() / 8,
    };
    lowering.push_node(n, Box::new(kernel), &[home.place], Layout::Plain)
}

/// Shape, which is known.
pub(super) fn shape(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let dims = &lowering.operand(n, 0)?.dims;
    let rank = dims.len() as i64;
    let at = |key: &str, default: i64| {
        let at = op.int(key, default);
        let at = if at < 0 { at.saturating_add(rank) } else { at };
        at.clamp(0, rank) as usize
    };
    let (start, end) = (at("start", 0), at("end", rank));
    let dims = dims.get(start..end).unwrap_or_default();
    let tensor = Tensor::vector(dims.iter().map(|&d| d as i64).collect::<Vec<i64>>());
    let home = Home {
        dtype: tensor.dtype(),
        dims: tensor.dims().into(),
        layout: Layout::Plain,
        place: lowering.add_constant(tensor),
    };
    lowering.settle(lowering.graph.result(n, 0), home);
    Some(())
}

struct Transpose {
    dims: SmallVec<[usize; 6]>,
    perm: SmallVec<[usize; 6]>,
    size: usize,
}

impl Kernel for Transpose {
    fn name(&self, _: Cpu) -> String {
        "transpose".to_owned()
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.bytes(0), call.result(0));
        let len = self.dims.iter().product::<usize>() * self.size;
        super::layout::transpose(
            call.cpu,
            &x[..len],
            self.size,
            &self.dims,
            &self.perm,
            &mut y[..len],
        )
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        super::layout::write_transpose(code, self.size, &self.dims, &self.perm)
    }
}
