//! Tables for TensorRT, byte for byte as `onnxruntime.quantization` 1.31 writes them.
//!
//! Both hold the largest value of each tensor, in the order of names, as text in Python's form.
//! The binary one is a FlatBuffer of the schema
//!
//! ```text
//! table KeyValue { key: string; value: string; }
//! table TrtTable { dict: [KeyValue]; }
//! root_type TrtTable;
//! ```
//!
//! <https://flatbuffers.dev/internals/>

use crate::Ranges;

/// `calibration.cache`: a line for each tensor, its name and its largest value.
pub fn tensorrt_text(ranges: &Ranges) -> String {
    let line = |(name, value): (&str, String)| format!("{name} {value}\n");
    entries(ranges).into_iter().map(line).collect()
}

/// `calibration.flatbuffers`.
pub fn tensorrt_flatbuffers(ranges: &Ranges) -> Vec<u8> {
    let mut to = Builder::default();
    let mut key_values = Vec::with_capacity(ranges.len());
    for (name, value) in entries(ranges) {
        let (key, value) = (to.string(name), to.string(&value));
        key_values.push(to.table(&[key, value]));
    }
    let dict = to.vector(&key_values);
    let root = to.table(&[dict]);
    to.finish(root)
}

fn entries(ranges: &Ranges) -> Vec<(&str, String)> {
    let mut all: Vec<_> = ranges
        .iter()
        .map(|(name, range)| (name, python(f64::from(range.whole().hi))))
        .collect();
    all.sort_by_key(|(name, _)| *name);
    all
}

/// A number as Python prints it: the shortest digits that read back, with an exponent where the
/// first of them is below 1e-4 or from 1e16 on.
fn python(v: f64) -> String {
    let scientific = format!("{v:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    match exponent.parse::<i32>() {
        Ok(-4..=15) if v.fract() == 0.0 => format!("{v:.1}"),
        Ok(-4..=15) => format!("{v}"),
        Ok(e) => format!("{digits}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs()),
        Err(_) => scientific,
    }
}

/// Writes from the end, as FlatBuffers are: what is pointed at comes before what points at it.
#[derive(Default)]
struct Builder {
    /// The last byte first.
    reversed: Vec<u8>,
    /// Those written so far, and where.
    vtables: Vec<(Vec<u16>, usize)>,
}

/// A place, counted from the end.
#[derive(Clone, Copy)]
struct Place(usize);

impl Builder {
    fn place(&self) -> Place {
        Place(self.reversed.len())
    }

    /// Pads so that, after `more` bytes, a multiple of `size` is reached.
    fn align(&mut self, size: usize, more: usize) {
        let end = (self.reversed.len() + more).next_multiple_of(size) - more;
        self.reversed.resize(end, 0);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.reversed.extend(bytes.iter().rev());
    }

    fn put_u32(&mut self, v: usize) {
        self.align(4, 0);
        self.put(&(v as u32).to_le_bytes());
    }

    /// A pointer to something written before.
    fn put_offset(&mut self, to: Place) {
        self.align(4, 0);
        self.put_u32(self.reversed.len() + 4 - to.0);
    }

    fn string(&mut self, text: &str) -> Place {
        self.align(4, text.len() + 1);
        self.put(&[0]);
        self.put(text.as_bytes());
        self.put_u32(text.len());
        self.place()
    }

    /// The elements in reverse, as the tool has them.
    fn vector(&mut self, elements: &[Place]) -> Place {
        self.align(4, 4 * elements.len());
        for &element in elements {
            self.put_offset(element);
        }
        self.put_u32(elements.len());
        self.place()
    }

    /// A table of pointers. Tables of the same form share one description of it.
    fn table(&mut self, fields: &[Place]) -> Place {
        let end = self.reversed.len();
        let places: Vec<usize> = fields
            .iter()
            .map(|&field| {
                self.put_offset(field);
                self.reversed.len()
            })
            .collect();
        self.put_u32(0);
        let table = self.place();
        let mut vtable = vec![4 + 2 * fields.len() as u16, (table.0 - end) as u16];
        vtable.extend(places.iter().map(|p| (table.0 - p) as u16));
        let known = self.vtables.iter().find(|(form, _)| *form == vtable);
        let at = match known {
            Some((_, at)) => *at,
            None => {
                for word in vtable.iter().rev() {
                    self.put(&word.to_le_bytes());
                }
                let at = self.reversed.len();
                self.vtables.push((vtable, at));
                at
            }
        };
        // A signed distance from the description to the table.
        let distance = (at as i64 - table.0 as i64) as i32;
        for (to, byte) in self.reversed[table.0 - 4..table.0]
            .iter_mut()
            .rev()
            .zip(distance.to_le_bytes())
        {
            *to = byte;
        }
        table
    }

    fn finish(mut self, root: Place) -> Vec<u8> {
        self.align(4, 4);
        self.put_offset(root);
        self.reversed.reverse();
        self.reversed
    }
}

#[cfg(test)]
mod tests {
    use super::python;

    #[test]
    fn numbers_as_python_prints_them() {
        for (v, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (3.0, "3.0"),
            (0.1, "0.1"),
            (f64::from(0.1f32), "0.10000000149011612"),
            (1e-4, "0.0001"),
            (1.5e-5, "1.5e-05"),
            (1e-7, "1e-07"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-2.5e-300, "-2.5e-300"),
        ] {
            assert_eq!(python(v), text);
        }
    }
}
