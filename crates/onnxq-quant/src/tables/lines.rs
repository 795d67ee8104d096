//! JSON for people and programs to compare: a line for each entry of the outer objects, whatever
//! is in it.

use std::io::{Result, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Levels whose entries have lines of their own.
const LEVELS: usize = 2;

#[derive(Default)]
struct Lines {
    level: usize,
    /// Objects are opened before it is known whether they have entries.
    empty: bool,
}

/// The text of a value that is made of numbers, strings, arrays and objects.
pub(super) fn to_lines(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let mut to = Serializer::with_formatter(&mut bytes, Lines::default());
    value
        .serialize(&mut to)
        .expect("keys are strings, and the writer is memory");
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("JSON is written as UTF-8")
}

impl Lines {
    fn open<W: ?Sized + Write>(&mut self, to: &mut W, bracket: &[u8]) -> Result<()> {
        self.level += 1;
        self.empty = true;
        to.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, to: &mut W, bracket: &[u8]) -> Result<()> {
        self.level -= 1;
        if !self.empty && self.level < LEVELS {
            self.line(to)?;
        }
        self.empty = false;
        to.write_all(bracket)
    }

    fn entry<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> Result<()> {
        self.empty = false;
        if !first {
            to.write_all(b",")?;
        }
        match self.level <= LEVELS {
            true => self.line(to),
            false if first => Ok(()),
            false => to.write_all(b" "),
        }
    }

    fn line<W: ?Sized + Write>(&self, to: &mut W) -> Result<()> {
        to.write_all(b"\n")?;
        to.write_all(" ".repeat(self.level).as_bytes())
    }
}

impl Formatter for Lines {
    fn begin_object<W: ?Sized + Write>(&mut self, to: &mut W) -> Result<()> {
        self.open(to, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, to: &mut W) -> Result<()> {
        self.close(to, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> Result<()> {
        self.entry(to, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> Result<()> {
        to.write_all(b": ")
    }

    fn begin_array<W: ?Sized + Write>(&mut self, to: &mut W) -> Result<()> {
        self.open(to, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, to: &mut W) -> Result<()> {
        self.close(to, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> Result<()> {
        self.entry(to, first)
    }
}
