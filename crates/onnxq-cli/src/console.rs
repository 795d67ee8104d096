//! What the program says: results on standard output, everything else on standard error.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use onnxq::pass::{Level, Message, Progress};

/// Why a command failed: one `error:` line, and a `help:` line where there is something to do.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// The exit status: 1 for a bad model, bad data or a failed pass, 2 for bad arguments.
    pub(crate) status: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            help: None,
            status: 1,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure {
            status: 2,
            ..Failure::new(message)
        }
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Failure {
        self.help = Some(help.into());
        self
    }
}

impl From<onnxq::Error> for Failure {
    fn from(e: onnxq::Error) -> Failure {
        let (help, usage) = match &e {
            onnxq::Error::File(e) => (e.help().map(str::to_owned), false),
            onnxq::Error::Pass(e) => (e.help(), e.is_usage()),
            _ => (None, false),
        };
        let status = if usage { 2 } else { 1 };
        Failure {
            message: e.to_string(),
            help,
            status,
        }
    }
}

impl From<onnxq::onnx::Error> for Failure {
    fn from(e: onnxq::onnx::Error) -> Failure {
        onnxq::Error::from(e).into()
    }
}

impl From<onnxq::pass::Error> for Failure {
    fn from(e: onnxq::pass::Error) -> Failure {
        onnxq::Error::from(e).into()
    }
}

impl From<onnxq::data::DataError> for Failure {
    fn from(e: onnxq::data::DataError) -> Failure {
        onnxq::Error::from(e).into()
    }
}

/// Prints to standard output. A reader that went away is no failure of ours.
pub(crate) fn out(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Prints a line to standard error.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints a failure: each part on one line, whatever is in it.
pub(crate) fn error(failure: &Failure) {
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    say(format_args!("error: {}", one_line(&failure.message)));
    if let Some(help) = &failure.help {
        say(format_args!("help: {}", one_line(help)));
    }
}

/// How much to say.
#[derive(clap::Args, Clone, Copy, Default)]
pub(crate) struct Verbosity {
    /// Say only what went wrong
    #[arg(long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

impl Verbosity {
    /// Prints a message if it is to be heard.
    pub(crate) fn show(self, message: &Message) {
        let heard = match message.level {
            Level::Verbose => self.verbose,
            Level::Rewrite => true,
            Level::Note => !self.quiet,
            Level::Warning => true,
        };
        if heard {
            say(message);
        }
    }

    /// Prints a note of the command itself.
    pub(crate) fn note(self, text: impl std::fmt::Display) {
        if !self.quiet {
            say(format_args!("note: {text}"));
        }
    }

    /// A progress bar, where standard error is a terminal.
    pub(crate) fn bar(self, length: usize) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(length as u64);
        if let Ok(style) = ProgressStyle::with_template("{msg:28} {bar:32} {pos}/{len}") {
            bar.set_style(style);
        }
        bar
    }
}

/// Shows on `bar` how far a pipeline has come.
pub(crate) fn show_progress(bar: &ProgressBar, progress: Progress<'_>) {
    match progress {
        Progress::Pass { name, index, count } => {
            bar.set_length(count as u64);
            bar.set_position(index as u64);
            bar.set_message(name.to_owned());
        }
        Progress::Step { what, done, total } => bar.set_message(format!("{what} {done}/{total}")),
    }
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KB", "MB", "GB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}
