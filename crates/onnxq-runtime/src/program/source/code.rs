//! The text of one step, while its kernel writes it.

use super::{
    super::{Place, Program, Step, store::Stored},
    Change, Expr, Location, Needs, Parameter, StepSource,
    expr::Literal,
};

/// Elements of an array that is a literal, at most.
const INLINE: usize = 8;

/// Bytes to which constants are aligned.
const LINE: usize = 64;

/// The type of the elements of a slice.
pub(in crate::program) type Element = &'static str;

/// Why a step has no form as source text.
pub(in crate::program) struct Reason(pub(super) String);

/// Whether a step has been written.
pub(in crate::program) type Written = Result<(), Reason>;

/// A step that cannot be written.
pub(in crate::program) fn unwritten(reason: &str) -> Written {
    Err(Reason(reason.to_owned()))
}

/// Constants that are no literals.
pub(super) struct Pool {
    pub(super) bytes: Vec<u8>,
    /// Where each constant of the program is, once it is there.
    tensors: Vec<Option<Location>>,
}

impl Pool {
    pub(super) fn new(tensors: usize) -> Pool {
        Pool {
            bytes: Vec::new(),
            tensors: vec![None; tensors],
        }
    }

    /// Adds bytes; returns where they begin.
    fn add(&mut self, bytes: &[u8]) -> usize {
        let at = self.bytes.len().next_multiple_of(LINE);
        self.bytes.resize(at, 0);
        self.bytes.extend_from_slice(bytes);
        at
    }

    /// Where a tensor is; a constant is added the first time.
    pub(super) fn location(&mut self, program: &Program, place: Place) -> Location {
        match place {
            Place::Input(i) => Location::Input(i),
            Place::Buffer(b) => {
                let (offset, lines) = program.buffers[b];
                Location::Arena(offset, lines)
            }
            Place::Constant(i) => {
                if let Some(known) = self.tensors[i] {
                    return known;
                }
                let bytes = program.constants[i].bytes();
                let location = Location::Constant(self.add(bytes), bytes.len());
                self.tensors[i] = Some(location);
                location
            }
        }
    }
}

/// The text of one step. Functions that return an [`Expr`] for data put it among the constants,
/// unless it is short enough for a literal.
pub(in crate::program) struct Code<'p> {
    program: &'p Program,
    step: &'p Step,
    pool: &'p mut Pool,
    parameters: Vec<Parameter>,
    needs: Needs,
    change: Option<Change>,
    fallible: bool,
    text: String,
    /// How deep the next statement is indented.
    indent: usize,
}

impl<'p> Code<'p> {
    pub(super) fn new(program: &'p Program, step: &'p Step, pool: &'p mut Pool) -> Code<'p> {
        Code {
            program,
            step,
            pool,
            parameters: Vec::new(),
            needs: Needs::default(),
            change: None,
            fallible: false,
            text: String::new(),
            indent: 4,
        }
    }

    pub(super) fn finish(self, name: String, kernel: String, operations: u64) -> StepSource {
        StepSource {
            name,
            kernel,
            operations,
            parameters: self.parameters,
            needs: self.needs,
            change: self.change,
            fallible: self.fallible,
            body: self.text,
        }
    }

    /// Makes an operand of the step a parameter; its slice may be longer than its elements.
    pub(in crate::program) fn operand(&mut self, i: usize, name: &str, element: Element) {
        let location = self.pool.location(self.program, self.step.operands[i]);
        self.parameter(name, element, false, location);
    }

    /// Makes a result of the step a parameter; its slice may be longer than its elements.
    pub(in crate::program) fn result(&mut self, i: usize, name: &str, element: Element) {
        let place = Place::Buffer(self.step.results[i]);
        let location = self.pool.location(self.program, place);
        self.parameter(name, element, true, location);
    }

    fn parameter(&mut self, name: &str, element: Element, mutable: bool, location: Location) {
        self.parameters.push(Parameter {
            name: name.to_owned(),
            element,
            mutable,
            location,
        });
    }

    /// Makes the tier a parameter.
    pub(in crate::program) fn cpu(&mut self) -> Expr {
        self.needs.cpu = true;
        "cpu".into()
    }

    /// Makes scratch memory a parameter.
    pub(in crate::program) fn scratch(&mut self) -> Expr {
        self.needs.scratch = true;
        "scratch".into()
    }

    /// Says that the step does nothing but to change between floats and codes.
    pub(in crate::program) fn changes(&mut self, change: Change) {
        self.change = Some(change);
    }

    /// Says that data can make the step fail.
    pub(in crate::program) fn can_fail(&mut self) {
        self.fallible = true;
    }

    /// Packed weights.
    pub(in crate::program) fn stored(&mut self, stored: &Stored) -> Expr {
        let program = self.program;
        self.bytes(program.weights.get(stored))
    }

    /// Bytes of all packed weights.
    pub(in crate::program) fn stored_len(&self) -> usize {
        self.program.weights.len()
    }

    /// Bytes, `&[u8]`.
    pub(in crate::program) fn bytes(&mut self, bytes: &[u8]) -> Expr {
        let at = self.pool.add(bytes);
        self.constant("bytes", at, bytes.len())
    }

    /// A table, `&[u8; 256]`.
    pub(in crate::program) fn table(&mut self, table: &[u8; 256]) -> Expr {
        let at = self.pool.add(table);
        self.needs.constants = true;
        Expr::Text(format!("constants.table({at})"))
    }

    /// A table of floats, `&[f32; 256]`.
    pub(in crate::program) fn float_table(&mut self, table: &[f32; 256]) -> Expr {
        let at = self.pool.add(&little_endian(table, f32::to_le_bytes));
        self.needs.constants = true;
        Expr::Text(format!("constants.float_table({at})"))
    }

    /// Floats, `&[f32]`.
    pub(in crate::program) fn floats(&mut self, values: &[f32]) -> Expr {
        self.numbers(values, "floats", f32::to_le_bytes)
    }

    /// Integers, `&[i32]`.
    pub(in crate::program) fn integers(&mut self, values: &[i32]) -> Expr {
        self.numbers(values, "integers", i32::to_le_bytes)
    }

    /// Numbers of elements, `&[u32]`.
    pub(in crate::program) fn indices(&mut self, values: &[u32]) -> Expr {
        self.numbers(values, "numbers", u32::to_le_bytes)
    }

    fn numbers<T: Copy + Literal>(
        &mut self,
        values: &[T],
        function: &str,
        bytes: impl Fn(T) -> [u8; 4],
    ) -> Expr {
        if values.len() <= INLINE {
            let literals: Vec<String> = values.iter().map(Literal::literal).collect();
            let text = literals.join(", ");
            if text.len() <= 50 {
                return Expr::Text(format!("&[{text}]"));
            }
        }
        let at = self.pool.add(&little_endian(values, bytes));
        self.constant(function, at, values.len())
    }

    fn constant(&mut self, function: &str, at: usize, len: usize) -> Expr {
        self.needs.constants = true;
        Expr::Text(format!("constants.{function}({at}, {len})"))
    }

    /// `let name = value;`
    pub(in crate::program) fn bind(&mut self, name: &str, value: impl Into<Expr>) {
        let at = self.indent + "let ".len() + name.len() + " = ".len();
        let value = value.into().layout(self.indent, at, 1);
        self.line(&format!("let {name} = {value};"));
    }

    /// A call as a statement.
    pub(in crate::program) fn call(&mut self, function: &str, arguments: Vec<Expr>) {
        let call = Expr::Call(function.to_owned(), arguments);
        let call = call.layout(self.indent, self.indent, 1);
        self.line(&format!("{call};"));
    }

    /// A line as it is.
    pub(in crate::program) fn line(&mut self, line: &str) {
        self.text.push_str(&" ".repeat(self.indent));
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// `head {`: what follows is indented until [`close`](Code::close).
    pub(in crate::program) fn open(&mut self, head: &str) {
        self.line(format!("{head} {{").trim_start());
        self.indent += 4;
    }

    /// `}`
    pub(in crate::program) fn close(&mut self) {
        self.close_with("}");
    }

    /// What ends a block.
    pub(in crate::program) fn close_with(&mut self, end: &str) {
        self.indent -= 4;
        self.line(end);
    }
}

fn little_endian<T: Copy>(values: &[T], bytes: impl Fn(T) -> [u8; 4]) -> Vec<u8> {
    values.iter().flat_map(|&v| bytes(v)).collect()
}
