//! What passes say to people while they run.

use std::fmt;

/// How much a message matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// For those who look closer (`-v`).
    Verbose,
    /// The number and name of a rewrite, while bisecting.
    Rewrite,
    /// What a user may want to know.
    Note,
    /// What a user should know.
    Warning,
}

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// How much it matters.
    pub level: Level,
    /// The pass that ran; empty outside of passes.
    pub pass: String,
    /// One line.
    pub text: String,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Level::Verbose => write!(f, "{}: {}", self.pass, self.text),
            Level::Rewrite => f.write_str(&self.text),
            Level::Note => write!(f, "note: {}", self.text),
            Level::Warning => write!(f, "warning: {}", self.text),
        }
    }
}

/// How far the work has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress<'a> {
    /// A pass begins.
    Pass {
        /// Its name.
        name: &'a str,
        /// Its place in the pipeline, from 0.
        index: usize,
        /// How many passes there are.
        count: usize,
    },
    /// A pass has done part of its work.
    Step {
        /// What is being done.
        what: &'a str,
        /// How much of it is done.
        done: usize,
        /// How much there is.
        total: usize,
    },
}
