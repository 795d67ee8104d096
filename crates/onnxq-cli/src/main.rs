//! `onnxq-opt`: the command line of onnxq. One file per command under `commands/`.

mod commands;
mod console;
mod files;
mod table;
mod target;

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};
use console::Failure;

/// Compile float ONNX models to INT8 ones.
#[derive(Parser)]
#[command(name = "onnxq-opt", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "`onnxq-opt passes` lists the passes, pipelines and their options.")]
struct Cli {
    #[command(subcommand)]
    command: Option<commands::Command>,
    #[command(flatten)]
    opt: commands::opt::Args,
}

fn main() -> ExitCode {
    // A panic is a bug, but a user gets one line, like for any other failure.
    std::panic::set_hook(Box::new(|_| {}));
    let result = std::panic::catch_unwind(|| match Cli::try_parse() {
        Ok(Cli {
            command: Some(command),
            ..
        }) => command.run(),
        Ok(Cli { command: None, opt }) => commands::opt::run(&opt),
        Err(e) => usage(&e),
    });
    let result = result.unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Failure::new(format!("internal error: {message}"))
            .with_help("this is a bug: please report it"))
    });
    let status = match result {
        Ok(status) => status,
        Err(failure) => {
            console::error(&failure);
            failure.status
        }
    };
    // Not returning spares the time to free every node of a large model.
    std::process::exit(i32::from(status));
}

/// What clap says, as one line; help and version as they are.
fn usage(e: &clap::Error) -> Result<u8, Failure> {
    if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        console::out(&e.to_string());
        return Ok(0);
    }
    let text = e.to_string();
    let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    let message = lines.next().unwrap_or("bad arguments");
    let mut message = message
        .strip_prefix("error: ")
        .unwrap_or(message)
        .to_owned();
    if e.kind() == ErrorKind::MissingRequiredArgument {
        // The names of what is missing stand in the lines that follow.
        let names: Vec<&str> = lines
            .clone()
            .take_while(|l| !l.starts_with("Usage"))
            .collect();
        message = format!("{message} {}", names.join(" "));
    }
    let tip = lines.find_map(|l| l.strip_prefix("tip: "));
    let help = tip.map_or_else(|| "see `onnxq-opt --help`".to_owned(), str::to_owned);
    Err(Failure::usage(message).with_help(help))
}
