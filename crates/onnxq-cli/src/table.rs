//! Tables for terminals: columns aligned, two spaces between them.

use std::fmt;

/// On which side the cells of a column end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under a head.
pub(crate) struct Table<const N: usize> {
    align: [Align; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(head: [(&str, Align); N]) -> Table<N> {
        Table {
            align: head.map(|(_, align)| align),
            rows: vec![head.map(|(name, _)| name.to_owned())],
        }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), align) in row.iter().zip(widths).zip(self.align) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                line.push_str(&match align {
                    Align::Left => format!("{cell:width$}"),
                    Align::Right => format!("{cell:>width$}"),
                });
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A signal to noise ratio for people.
pub(crate) fn decibels(sqnr_db: f64) -> String {
    if sqnr_db == f64::INFINITY {
        return "equal".to_owned();
    }
    if sqnr_db == f64::NEG_INFINITY {
        return "no signal".to_owned();
    }
    format!("{sqnr_db:.1} dB")
}
