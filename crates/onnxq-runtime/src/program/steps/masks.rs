//! Truth values and what is chosen by them: casts, comparisons, And, Or, Not, Where.

use onnxq_ir::{NodeId, Op, ValueId};
use onnxq_kernels::Cpu;
use onnxq_ops::EvalError;
use onnxq_tensor::DType;
use smallvec::SmallVec;

use super::{Kernel, broadcast::Broadcast, layout::unsigned};
use crate::program::{
    Place,
    call::{Call, elements},
    lower::{Home, Layout, Lowering},
    source::{Code, Element, Written},
};

#[derive(Clone, Copy, Debug)]
enum Test {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug)]
enum Logic {
    And,
    Or,
    Xor,
}

struct Two<F> {
    f: F,
    along: Broadcast<2>,
    dtype: DType,
}

/// And, Or, Xor.
pub(super) fn logic(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let f = match op.op_type.as_str() {
        "And" => Logic::And,
        "Or" => Logic::Or,
        "Xor" => Logic::Xor,
        _ => return None,
    };
    two(lowering, n, f, |dtype| dtype == DType::Bool)
}

/// Equal, Less, Greater and so on.
pub(super) fn compare(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let f = match op.op_type.as_str() {
        "Equal" => Test::Equal,
        "Less" => Test::Less,
        "LessOrEqual" => Test::LessOrEqual,
        "Greater" => Test::Greater,
        "GreaterOrEqual" => Test::GreaterOrEqual,
        _ => return None,
    };
    let types = [DType::I64, DType::I32, DType::F32];
    two(lowering, n, f, |dtype| types.contains(&dtype))
}

fn two<F>(lowering: &mut Lowering<'_>, n: NodeId, f: F, fits: impl Fn(DType) -> bool) -> Option<()>
where
    Two<F>: Kernel + 'static,
{
    let graph = lowering.graph;
    let (a, b) = (
        lowering.plain(graph.operand(n, 0)?)?,
        lowering.plain(graph.operand(n, 1)?)?,
    );
    (a.dtype == b.dtype && fits(a.dtype)).then_some(())?;
    let (_, dims) = lowering.type_of(graph.result(n, 0))?;
    let kernel = Two {
        f,
        along: Broadcast::new(&dims, [&a.dims, &b.dims])?,
        dtype: a.dtype,
    };
    lowering.push_node(n, Box::new(kernel), &[a.place, b.place], Layout::Plain)
}

/// Every element of `y` from those of the operands that meet there.
fn each<A: Copy, B>(along: &Broadcast<2>, [a, b]: [&[A]; 2], y: &mut [B], f: impl Fn(A, A) -> B) {
    let step = along.moves.map(usize::from);
    along.each(0, along.len(), |at, len, [a_at, b_at]| {
        for (i, y) in y[at..][..len].iter_mut().enumerate() {
            *y = f(a[a_at + i * step[0]], b[b_at + i * step[1]]);
        }
    });
}

/// The type of elements of plain numbers and truth values.
fn element(dtype: DType) -> Element {
    match dtype {
        DType::I64 => "i64",
        DType::I32 => "i32",
        DType::F32 => "f32",
        DType::I8 => "i8",
        _ => "u8",
    }
}

/// Binds `name` to a row of it, and gives its element `i` as an expression.
fn write_row(code: &mut Code<'_>, name: &str, at: &str, moves: bool, width: usize) -> String {
    match moves {
        true => {
            code.bind(name, format!("&{name}[{at}..][..{width}]"));
            format!("{name}[i]")
        }
        false => format!("{name}[{at}]"),
    }
}

/// [`each`] as source text; `f` is an expression for an element of the result.
fn write_each(
    code: &mut Code<'_>,
    along: &Broadcast<2>,
    element: Element,
    f: impl Fn(&str, &str) -> String,
) {
    code.operand(0, "a", element);
    code.operand(1, "b", element);
    code.result(0, "y", "u8");
    let width = along.width;
    along.write(code, |code, at, [a_at, b_at]| {
        let a = write_row(code, "a", &a_at, along.moves[0], width);
        let b = write_row(code, "b", &b_at, along.moves[1], width);
        code.open(&format!(
            "for (i, y) in y[{at}..][..{width}].iter_mut().enumerate()"
        ));
        code.line(&format!("*y = {};", f(&a, &b)));
        code.close();
    });
}

impl Kernel for Two<Logic> {
    fn name(&self, _: Cpu) -> String {
        format!("mask {:?}", self.f)
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (operands, y) = ([call.bytes(0), call.bytes(1)], call.result(0));
        match self.f {
            Logic::And => each(&self.along, operands, y, |a, b| a & b),
            Logic::Or => each(&self.along, operands, y, |a, b| a | b),
            Logic::Xor => each(&self.along, operands, y, |a, b| a ^ b),
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let sign = match self.f {
            Logic::And => "&",
            Logic::Or => "|",
            Logic::Xor => "^",
        };
        write_each(code, &self.along, "u8", |a, b| format!("{a} {sign} {b}"));
        Ok(())
    }
}

impl Two<Test> {
    fn test<T: bytemuck::AnyBitPattern + PartialOrd>(&self, operands: [&[u8]; 2], y: &mut [u8]) {
        let operands = operands.map(elements::<T>);
        match self.f {
            Test::Equal => each(&self.along, operands, y, |a, b| u8::from(a == b)),
            Test::Less => each(&self.along, operands, y, |a, b| u8::from(a < b)),
            Test::LessOrEqual => each(&self.along, operands, y, |a, b| u8::from(a <= b)),
            Test::Greater => each(&self.along, operands, y, |a, b| u8::from(a > b)),
            Test::GreaterOrEqual => each(&self.along, operands, y, |a, b| u8::from(a >= b)),
        }
    }
}

impl Kernel for Two<Test> {
    fn name(&self, _: Cpu) -> String {
        format!("mask {:?}", self.f)
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (operands, y) = ([call.bytes(0), call.bytes(1)], call.result(0));
        match self.dtype {
            DType::I64 => self.test::<i64>(operands, y),
            DType::I32 => self.test::<i32>(operands, y),
            _ => self.test::<f32>(operands, y),
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let sign = match self.f {
            Test::Equal => "==",
            Test::Less => "<",
            Test::LessOrEqual => "<=",
            Test::Greater => ">",
            Test::GreaterOrEqual => ">=",
        };
        let element = element(self.dtype);
        write_each(code, &self.along, element, |a, b| {
            format!("u8::from({a} {sign} {b})")
        });
        Ok(())
    }
}

/// Not, and casts between integers, truth values and floats, save those of floats to integers.
struct Cast {
    from: DType,
    to: DType,
    len: usize,
    not: bool,
}

/// Cast.
pub(super) fn cast(lowering: &mut Lowering<'_>, n: NodeId, _: &Op) -> Option<()> {
    one(lowering, n, false)
}

/// Not.
pub(super) fn not(lowering: &mut Lowering<'_>, n: NodeId, _: &Op) -> Option<()> {
    one(lowering, n, true)
}

fn one(lowering: &mut Lowering<'_>, n: NodeId, not: bool) -> Option<()> {
    let home = lowering.operand(n, 0)?.clone();
    let (to, _) = lowering.type_of(lowering.graph.result(n, 0))?;
    let whole = [DType::I64, DType::I32, DType::U8, DType::I8, DType::Bool];
    let fits = match home.dtype {
        DType::F32 => to == DType::Bool || to == DType::F32,
        from => whole.contains(&from) && (whole.contains(&to) || to == DType::F32),
    };
    fits.then_some(())?;
    let kernel = Cast {
        from: home.dtype,
        to,
        len: home.len(),
        not,
    };
    lowering.push_node(n, Box::new(kernel), &[home.place], home.layout)
}

impl Cast {
    fn integers(&self, x: impl Iterator<Item = i64>, y: &mut [u8]) {
        let not = u8::from(self.not);
        match self.to {
            DType::I64 => cast_to::<i64>(x, y, |x| x),
            DType::I32 => cast_to::<i32>(x, y, |x| x as i32),
            DType::F32 => cast_to::<f32>(x, y, |x| x as f32),
            DType::Bool => cast_to::<u8>(x, y, |x| u8::from(x != 0) ^ not),
            _ => cast_to::<u8>(x, y, |x| x as u8),
        }
    }
}

fn cast_to<T: bytemuck::Pod>(x: impl Iterator<Item = i64>, y: &mut [u8], f: impl Fn(i64) -> T) {
    for (y, x) in bytemuck::cast_slice_mut::<u8, T>(y).iter_mut().zip(x) {
        *y = f(x);
    }
}

impl Kernel for Cast {
    fn name(&self, _: Cpu) -> String {
        match self.not {
            true => "mask Not".to_owned(),
            false => format!("cast {} to {}", self.from, self.to),
        }
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (x, y) = (call.bytes(0), call.result(0));
        match self.from {
            DType::F32 if self.to == DType::F32 => {
                y[..4 * self.len].copy_from_slice(&x[..4 * self.len])
            }
            DType::F32 => {
                for (y, &x) in y.iter_mut().zip(&elements::<f32>(x)[..self.len]) {
                    *y = u8::from(x != 0.0);
                }
            }
            DType::I64 => self.integers(elements::<i64>(x)[..self.len].iter().copied(), y),
            DType::I32 => {
                self.integers(elements::<i32>(x)[..self.len].iter().map(|&x| x.into()), y)
            }
            DType::I8 => self.integers(x[..self.len].iter().map(|&x| (x as i8).into()), y),
            _ => self.integers(x[..self.len].iter().map(|&x| x.into()), y),
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let (from, to) = (element(self.from), element(self.to));
        code.operand(0, "x", from);
        code.result(0, "y", to);
        let value = match self.to {
            DType::Bool if from == "f32" => "u8::from(x != 0.0)".to_owned(),
            DType::Bool if self.not => "u8::from(x == 0)".to_owned(),
            DType::Bool => "u8::from(x != 0)".to_owned(),
            _ if from == to => "x".to_owned(),
            _ => format!("x as {to}"),
        };
        let head = format!(
            "for (y, &x) in y[..{0}].iter_mut().zip(&x[..{0}])",
            self.len
        );
        code.open(&head);
        code.line(&format!("*y = {value};"));
        code.close();
        Ok(())
    }
}

struct Where {
    along: Broadcast<3>,
    /// Bytes of an element.
    size: usize,
}

/// Where.
pub(super) fn choose(lowering: &mut Lowering<'_>, n: NodeId, _: &Op) -> Option<()> {
    let graph = lowering.graph;
    let operands: SmallVec<[ValueId; 3]> = graph.operands(n).into_iter().collect::<Option<_>>()?;
    let &[condition, a, b] = &operands[..] else {
        return None;
    };
    let homes: Option<Vec<Home>> = [condition, a, b]
        .map(|v| lowering.plain(v))
        .into_iter()
        .collect();
    let homes = homes?;
    let [condition, a, b] = &homes[..] else {
        return None;
    };
    let size = a.dtype.bits() / 8;
    let fits = condition.dtype == DType::Bool && a.dtype == b.dtype && [1, 2, 4, 8].contains(&size);
    fits.then_some(())?;
    let (_, dims) = lowering.type_of(graph.result(n, 0))?;
    let kernel = Where {
        along: Broadcast::new(&dims, [&condition.dims, &a.dims, &b.dims])?,
        size,
    };
    let places: Vec<Place> = homes.iter().map(|home| home.place).collect();
    lowering.push_node(n, Box::new(kernel), &places, Layout::Plain)
}

impl Where {
    fn choose<T: bytemuck::Pod>(&self, condition: &[u8], a: &[u8], b: &[u8], y: &mut [u8]) {
        let (a, b, y) = (
            elements::<T>(a),
            elements::<T>(b),
            bytemuck::cast_slice_mut::<u8, T>(y),
        );
        let step = self.along.moves.map(usize::from);
        self.along
            .each(0, self.along.len(), |at, len, [c_at, a_at, b_at]| {
                for (i, y) in y[at..][..len].iter_mut().enumerate() {
                    let (a, b) = (a[a_at + i * step[1]], b[b_at + i * step[2]]);
                    *y = if condition[c_at + i * step[0]] != 0 {
                        a
                    } else {
                        b
                    };
                }
            });
    }
}

impl Kernel for Where {
    fn name(&self, _: Cpu) -> String {
        "mask Where".to_owned()
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let (condition, a, b) = (call.bytes(0), call.bytes(1), call.bytes(2));
        let y = call.result(0);
        match self.size {
            1 => self.choose::<u8>(condition, a, b, y),
            2 => self.choose::<u16>(condition, a, b, y),
            4 => self.choose::<u32>(condition, a, b, y),
            _ => self.choose::<u64>(condition, a, b, y),
        }
        Ok(())
    }

    fn write(&self, code: &mut Code<'_>) -> Written {
        let element = unsigned(self.size);
        code.operand(0, "condition", "u8");
        code.operand(1, "a", element);
        code.operand(2, "b", element);
        code.result(0, "y", element);
        let (along, width) = (&self.along, self.along.width);
        along.write(code, |code, at, places| {
            let names = ["condition", "a", "b"];
            let [condition, a, b] = std::array::from_fn(|i| {
                write_row(code, names[i], &places[i], along.moves[i], width)
            });
            code.open(&format!(
                "for (i, y) in y[{at}..][..{width}].iter_mut().enumerate()"
            ));
            code.open(&format!("*y = match {condition}"));
            code.line(&format!("0 => {b},"));
            code.line(&format!("_ => {a},"));
            code.close_with("};");
            code.close();
        });
        Ok(())
    }
}
