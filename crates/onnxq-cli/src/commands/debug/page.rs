//! The figures of `onnxq-opt debug` as a page that needs no other file.

use std::fmt::Write;

use onnxq::debug::DebugReport;

use super::{Args, rows, verdict};
use crate::{files, table::Align};

const STYLE: &str = "\
body { font: 14px system-ui, sans-serif; margin: 2em; color: #222 }
table { border-collapse: collapse }
th, td { padding: .2em .8em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left }
th { position: sticky; top: 0; background: #fff }
tr:hover td { background: #f4f4f4 }";

pub(super) fn page(args: &Args, report: &DebugReport) -> String {
    let title = format!(
        "{} against {}",
        files::name(&args.quantized),
        files::name(&args.float)
    );
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{0}</title>\n\
         <style>\n{STYLE}\n</style>\n<h1>{0}</h1>\n<p>{1}</p>\n",
        escape(&title),
        escape(&verdict(report)),
    );
    let activations = report.activations.iter().map(rows::activation);
    table(&mut page, "activations", rows::ACTIVATIONS, activations);
    let weights = report.weights.iter().map(rows::weight);
    table(&mut page, "weights", rows::WEIGHTS, weights);
    page.push_str("</html>\n");
    page
}

fn table<const N: usize>(
    page: &mut String,
    title: &str,
    head: [(&str, Align); N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let _ = write!(page, "<h2>{title}</h2>\n<table>\n");
    let mut line = |tag: &str, cells: &[String]| {
        page.push_str("<tr>");
        for cell in cells {
            let _ = write!(page, "<{tag}>{}</{tag}>", escape(cell));
        }
        page.push_str("</tr>\n");
    };
    line("th", &head.map(|(name, _)| name.to_owned()));
    for row in rows {
        line("td", &row);
    }
    page.push_str("</table>\n");
}

fn escape(text: &str) -> String {
    let escape = |c| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        c => String::from(c),
    };
    text.chars().map(escape).collect()
}
