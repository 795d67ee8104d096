//! Cells of codes as source text.

use onnxq_kernels::{Activation, Geometry, Line};

use super::{Codes, Direction, Matrices, Recurrent};
use crate::program::{
    source::{Code, Expr, Written, unwritten},
    steps::product::{write_columns, write_floats, write_product, write_run},
};

impl Codes {
    /// [`product`](Codes::product): `x` of so many rows to `y`, with memory in `scratch`.
    fn write(&self, code: &mut Code<'_>, x: &str, rows: usize, bias: Expr) {
        let (depth, width) = (self.weights.column_len(), self.weights.columns);
        let len = rows * depth;
        let lines = Line::count(len);
        code.line(&format!(
            "let (codes, scratch) = scratch.split_at_mut({lines});"
        ));
        code.bind("codes", format!("&mut bytes_mut(codes)[..{len}]"));
        let arguments = vec![code.cpu(), x.into(), "codes".into()];
        code.bind("by", Expr::Call("dynamic_quantize".to_owned(), arguments));
        let zeros = code.integers(&self.zeros);
        let (zero, scale) = ("by.zero", "&[by.scale]");
        write_columns(code, &self.weights, zeros.clone(), &self.scale, zero, scale);
        let right = self.weights.write(code);
        let geometry = Geometry::matrix(rows, depth, depth);
        let strides = [0, width];
        write_product(
            code, "codes", false, &geometry, right, strides, "offset", zeros,
        );
        write_floats(code, "scales", bias, Activation::Identity);
        write_run(code, "output");
    }
}

impl Recurrent {
    /// The steps of all directions, of codes.
    pub(super) fn write_steps(&self, code: &mut Code<'_>) -> Written {
        let s = &self.sizes;
        let coded = |d: &Direction| matches!(d.matrices, Matrices::Codes(_));
        if !self.directions.iter().all(coded) {
            return unwritten("its products are of floats");
        }
        code.operand(0, "x", "f32");
        for (name, operand) in ["first_h", "first_c"].into_iter().zip(self.first) {
            if let Some(i) = operand {
                code.operand(i, name, "f32");
            }
        }
        for (name, result) in ["y", "last_h", "last_c"].into_iter().zip(self.results) {
            if let Some(i) = result {
                code.result(i, name, "f32");
            }
        }
        code.scratch();
        let [gates, recurrent, h, c, reset] = s.parts();
        for (name, len) in [
            ("gates", gates),
            ("recurrent", recurrent),
            ("h", h),
            ("c", c),
        ] {
            let lines = Line::count(4 * len);
            code.line(&format!(
                "let ({name}, scratch) = scratch.split_at_mut({lines});"
            ));
            code.bind(name, format!("&mut elements_mut::<f32>({name})[..{len}]"));
        }
        let unused = Line::count(4 * reset);
        code.bind("scratch", format!("&mut scratch[{unused}..]"));
        for d in 0..self.directions.len() {
            self.write_direction(code, d);
        }
        Ok(())
    }

    /// A direction of codes as source text.
    fn write_direction(&self, code: &mut Code<'_>, d: usize) {
        let (s, direction) = (&self.sizes, &self.directions[d]);
        let Matrices::Codes(codes) = &direction.matrices else {
            return;
        };
        let (state, size) = (s.state(), s.batch * s.width);
        let at = format!("{}..{}", d * state, (d + 1) * state);
        let names = [("h", "first_h"), ("c", "first_c")];
        for ((to, from), operand) in names.into_iter().zip(self.first) {
            match operand {
                None => code.line(&format!("{to}.fill(0.0);")),
                Some(_) => code.line(&format!("{to}.copy_from_slice(&{from}[{at}]);")),
            }
        }
        code.open("");
        code.bind("y", "&mut *gates");
        let bias = code.floats(&direction.bias);
        let rows = s.steps * s.batch;
        codes[0].write(code, &format!("&x[..{}]", rows * s.input), rows, bias);
        code.close();
        match direction.backwards {
            true => code.open(&format!("for time in (0..{}).rev()", s.steps)),
            false => code.open(&format!("for time in 0..{}", s.steps)),
        }
        code.open("");
        code.bind("y", "&mut *recurrent");
        codes[1].write(code, "h", s.batch, "&[]".into());
        code.close();
        code.bind("gates", format!("&mut gates[time * {size}..][..{size}]"));
        code.open("for (gate, more) in gates.iter_mut().zip(&*recurrent)");
        code.line("*gate += more;");
        code.close();
        let (clip, hidden) = (self.clip.into(), s.hidden.into());
        let arguments = vec![
            code.cpu(),
            "gates".into(),
            hidden,
            clip,
            "c".into(),
            "h".into(),
        ];
        code.call("lstm_cell", arguments);
        if self.results[0].is_some() {
            let (all, before) = (self.directions.len() * state, d * state);
            let mut place = format!("time * {all}");
            if before > 0 {
                place.push_str(&format!(" + {before}"));
            }
            code.line(&format!("y[{place}..][..{state}].copy_from_slice(h);"));
        }
        code.close();
        let last = [("last_h", "h"), ("last_c", "c")];
        for ((to, from), result) in last.into_iter().zip(&self.results[1..]) {
            if result.is_some() {
                code.line(&format!("{to}[{at}].copy_from_slice({from});"));
            }
        }
    }
}
