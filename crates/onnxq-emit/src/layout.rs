//! Statements and declarations of the crate's own text, laid out as rustfmt does.

use std::fmt::Write;

/// Columns of a line.
const WIDTH: usize = 100;

/// What a list of arguments or elements may take on one line.
const LIST_WIDTH: usize = 60;

/// `module::{items}`, broken as rustfmt breaks it two levels deep.
pub(crate) fn import(module: &str, items: &[&str]) -> String {
    if let [item] = items {
        return format!("{module}::{item}");
    }
    let line = format!("{module}::{{{}}}", items.join(", "));
    if 4 + line.len() < WIDTH {
        return line;
    }
    let mut text = format!("{module}::{{\n");
    let mut at = String::from("       ");
    for item in items {
        if at.len() + 1 + item.len() + 1 >= WIDTH {
            let _ = writeln!(text, "{at}");
            at = String::from("       ");
        }
        let _ = write!(at, " {item},");
    }
    let _ = write!(text, "{at}\n    }}");
    text
}

/// Buffers of the arena, as a statement.
pub(crate) fn binding(names: &[&str], ranges: &[String]) -> String {
    let head = format!("    let [{}] =", names.join(", "));
    let list = format!("[{}]", ranges.join(", "));
    let call = format!("buffers(cx.arena, {list});");
    if "cx.arena, ".len() + list.len() <= LIST_WIDTH {
        let line = format!("{head} {call}\n");
        return match line.len() <= WIDTH + 1 {
            true => line,
            false => format!("{head}\n        {call}\n"),
        };
    }
    let list = array(&list, ranges, 8);
    format!("{head} buffers(\n        cx.arena,\n        {list},\n    );\n")
}

/// An array, whose text on one line is given.
fn array(line: &str, items: &[String], indent: usize) -> String {
    if line.len() - 2 <= LIST_WIDTH {
        return line.to_owned();
    }
    let margin = " ".repeat(indent + 4);
    let mut text = String::from("[\n");
    // Short ones fill lines.
    let short = items.iter().all(|item| item.len() <= 10);
    let mut at = 0;
    for item in items {
        let fits = short && at > 0 && at + 1 + item.len() < WIDTH;
        match fits {
            true => text.push(' '),
            false if at > 0 => text.push('\n'),
            false => {}
        }
        if !fits {
            text.push_str(&margin);
            at = margin.len();
        } else {
            at += 1;
        }
        let _ = write!(text, "{item},");
        at += item.len() + 1;
    }
    let _ = write!(text, "\n{}]", " ".repeat(indent));
    text
}

/// The head of a function, with its opening brace.
pub(crate) fn signature(head: &str, parameters: &[String], result: &str) -> String {
    signature_at("", head, parameters, result)
}

/// The same, indented.
pub(crate) fn signature_at(
    indent: &str,
    head: &str,
    parameters: &[String],
    result: &str,
) -> String {
    let line = format!("{indent}{head}({}){result} {{\n", parameters.join(", "));
    if line.len() <= WIDTH + 1 {
        return line;
    }
    let mut text = format!("{indent}{head}(\n");
    for parameter in parameters {
        let _ = writeln!(text, "{indent}    {parameter},");
    }
    let _ = writeln!(text, "{indent}){result} {{");
    text
}

/// A call as a statement.
pub(crate) fn call(name: &str, arguments: &[String], mark: &str) -> String {
    let list = arguments.join(", ");
    let line = format!("    {name}({list}){mark};\n");
    if list.len() <= LIST_WIDTH && line.len() <= WIDTH + 1 {
        return line;
    }
    let mut text = format!("    {name}(\n");
    for argument in arguments {
        let _ = writeln!(text, "        {argument},");
    }
    let _ = writeln!(text, "    ){mark};");
    text
}
