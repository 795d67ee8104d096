//! Methods as text.

use onnxq_pass::{Pipeline, Value};
use onnxq_quant::{CalibrationSpec, Method};

/// Reads a method and its numbers, in the words of pipeline text and of the options of `quantize`:
/// `minmax`, `percentile{percentile=99.9 num-bins=4096}`.
///
/// # Errors
/// Says what is expected instead.
pub fn parse_method(text: &str) -> Result<CalibrationSpec, String> {
    let pipeline = Pipeline::parse(text).map_err(|e| e.to_string())?;
    let [step] = pipeline.steps.as_slice() else {
        return Err("expected one method".to_owned());
    };
    let method = Method::from_name(&step.name).ok_or_else(|| {
        "expected `minmax`, `entropy`, `percentile`, `distribution` or `mse`".to_owned()
    })?;
    let mut spec = CalibrationSpec {
        method,
        symmetric: false,
    };
    for setting in &step.settings {
        let key = setting.key.as_str();
        let value = match &setting.value {
            None => "true",
            Some(Value::Text(text)) => text,
            Some(Value::List(_)) => return Err(format!("`{key}` takes no list")),
        };
        set(&mut spec, key, value)?;
    }
    spec.method.check().map_err(|e| e.to_string())?;
    Ok(spec)
}

fn set(spec: &mut CalibrationSpec, key: &str, value: &str) -> Result<(), String> {
    let name = spec.method.name();
    match (key, &mut spec.method) {
        ("symmetric-ranges", method) => {
            spec.symmetric = read(key, value)?;
            if let Method::Percentile { magnitudes, .. } = method {
                *magnitudes = spec.symmetric;
            }
        }
        ("moving-average", Method::MinMax { moving_average, .. }) => {
            *moving_average = read(key, value)?;
        }
        (
            "averaging-constant",
            Method::MinMax {
                averaging_constant, ..
            },
        ) => *averaging_constant = read(key, value)?,
        ("percentile", Method::Percentile { percentile, .. }) => *percentile = read(key, value)?,
        ("num-quantized-bins", Method::Entropy { quantized_bins, .. }) => {
            *quantized_bins = read(key, value)?;
        }
        (
            "num-bins",
            Method::Entropy { bins, .. }
            | Method::Percentile { bins, .. }
            | Method::Distribution { bins }
            | Method::Mse { bins, .. },
        ) => *bins = read(key, value)?,
        _ => return Err(format!("`{name}` has no option `{key}`")),
    }
    Ok(())
}

fn read<T: std::str::FromStr>(key: &str, value: &str) -> Result<T, String> {
    let expected = std::any::type_name::<T>();
    let expected = match expected {
        "bool" => "`true` or `false`",
        "f64" => "a number",
        _ => "a whole number",
    };
    value
        .parse()
        .map_err(|_| format!("`{key}={value}`: expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_the_options_of_quantize() {
        let spec = parse_method("percentile{percentile=99.9 num-bins=4096}").unwrap();
        let expected = Method::Percentile {
            percentile: 99.9,
            bins: 4096,
            magnitudes: true,
        };
        assert_eq!((spec.method, spec.symmetric), (expected, false));
        let spec = parse_method("minmax{moving-average symmetric-ranges}").unwrap();
        assert!(spec.symmetric);
        assert!(matches!(
            spec.method,
            Method::MinMax {
                moving_average: true,
                ..
            }
        ));
        assert_eq!(parse_method("minmax").unwrap(), CalibrationSpec::MINMAX);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in [
            "",
            "minmax,entropy",
            "maxmin",
            "minmax{num-bins=3}",
            "entropy{num-bins=many}",
            "entropy{num-bins=[1]}",
            "percentile{percentile=101}",
            "minmax{moving-average=perhaps}",
            "minmax{",
        ] {
            assert!(parse_method(text).is_err(), "{text}");
        }
    }
}
