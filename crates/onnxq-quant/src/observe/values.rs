//! The values of a tensor or channel: all of them while they are few, else their counts.

use super::cells::{Cells, exponent};

#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    pub(super) count: u64,
    /// The smallest magnitude.
    pub(super) least: f32,
    pub(super) form: Form,
}

#[derive(Clone, Debug)]
pub(super) enum Form {
    /// In pieces of any length.
    Kept(Vec<Vec<f32>>),
    Counted(Cells),
}

impl Default for Form {
    fn default() -> Form {
        Form::Kept(Vec::new())
    }
}

/// How many values are kept, and in how many cells on each side of 0 more are counted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Capacity {
    pub(super) keep: u64,
    pub(super) half: usize,
}

impl Values {
    /// Adds values; `magnitude` is the largest ever seen, including these.
    pub(super) fn add(&mut self, values: &[f32], magnitude: f32, capacity: Capacity) {
        self.make_room(values.len(), magnitude, capacity);
        self.note(values.len(), least_magnitude(values));
        match &mut self.form {
            Form::Kept(pieces) => keep(pieces, values),
            Form::Counted(cells) => cells.count(exponent(magnitude), values),
        }
    }

    /// Notes `n` values of at least this magnitude.
    pub(super) fn note(&mut self, n: usize, least: f32) {
        if n > 0 {
            self.least = match self.count {
                0 => least,
                _ => self.least.min(least),
            };
        }
        self.count += n as u64;
    }

    /// The cells, where `more` values are too many to be kept; those kept are counted then.
    pub(super) fn make_room(
        &mut self,
        more: usize,
        magnitude: f32,
        capacity: Capacity,
    ) -> Option<&mut Cells> {
        if let Form::Kept(_) = self.form {
            if self.count + more as u64 <= capacity.keep {
                return None;
            }
            let cells = std::mem::take(&mut self.form).into_cells(magnitude, capacity);
            self.form = Form::Counted(cells);
        }
        match &mut self.form {
            Form::Counted(cells) => Some(cells),
            Form::Kept(_) => None,
        }
    }

    /// Adds what another has; `magnitude` is the largest that either has seen.
    pub(super) fn merge(&mut self, other: Values, magnitude: f32, capacity: Capacity) {
        if other.count == 0 {
            return;
        }
        let together = self.count.saturating_add(other.count);
        self.least = match self.count {
            0 => other.least,
            _ => self.least.min(other.least),
        };
        self.count = together;
        self.form = match (std::mem::take(&mut self.form), other.form) {
            (Form::Kept(mut pieces), Form::Kept(more)) if together <= capacity.keep => {
                for piece in more {
                    keep(&mut pieces, &piece);
                }
                Form::Kept(pieces)
            }
            (own, other) => {
                let mut cells = own.into_cells(magnitude, capacity);
                cells.merge(&other.into_cells(magnitude, capacity));
                Form::Counted(cells)
            }
        };
    }
}

impl Form {
    /// The counts of values up to `magnitude`.
    fn into_cells(self, magnitude: f32, capacity: Capacity) -> Cells {
        match self {
            Form::Counted(cells) => cells,
            Form::Kept(pieces) => {
                let mut cells = Cells::new(capacity.half, exponent(magnitude));
                for piece in pieces {
                    cells.count(cells.exponent(), &piece);
                }
                cells
            }
        }
    }
}

/// Appends to the last piece while it has room; pieces double up to a limit, so that little is
/// reserved in vain and nothing large is copied.
fn keep(pieces: &mut Vec<Vec<f32>>, mut values: &[f32]) {
    const LARGEST: usize = 1 << 16;
    while !values.is_empty() {
        let last = pieces.last().map_or(0, Vec::len);
        if pieces.last().is_none_or(|p| p.len() == p.capacity()) {
            let capacity = (2 * last).clamp(values.len().min(LARGEST), LARGEST);
            pieces.push(Vec::with_capacity(capacity));
        }
        let Some(piece) = pieces.last_mut() else {
            return;
        };
        let n = values.len().min(piece.capacity() - piece.len());
        piece.extend_from_slice(&values[..n]);
        values = &values[n..];
    }
}

/// The smallest magnitude, infinity without values.
pub(super) fn least_magnitude(values: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut least = [f32::INFINITY; LANES];
    for block in blocks {
        for (l, v) in least.iter_mut().zip(block) {
            let a = v.abs();
            *l = if a < *l { a } else { *l };
        }
    }
    rest.iter()
        .map(|v| v.abs())
        .chain(least)
        .fold(f32::INFINITY, f32::min)
}
