//! Numbers as Prometheus' own programs write them.

use std::fmt::Write;

/// The shortest digits that give this number again, in Go's `%g`: an exponent from a million on and below 0.0001.
///
/// Servers take other forms as well, but a bound is a label: `le="1000000"` and `le="1e+06"` are two series.
pub(super) fn push_float(out: &mut String, value: f64) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    if value == 0.0 || (1e-4..1e6).contains(&value.abs()) {
        let _ = write!(out, "{value}");
        return;
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("`{:e}` writes an exponent");
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    let _ = write!(out, "{digits}e{sign}{exponent:0>2}");
}

/// As [`push_float`], for OpenMetrics, where a float shows that it is one: `1.0`.
pub(super) fn push_point_float(out: &mut String, value: f64) {
    let start = out.len();
    push_float(out, value);
    if value.is_finite() && !out[start..].contains(['.', 'e']) {
        out.push_str(".0");
    }
}

/// As `write!` does it, only faster: a page has tens of thousands of them.
pub(super) fn push_int(out: &mut String, number: u64) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    let mut rest = number;
    while rest > 0 {
        start -= 1;
        digits[start] += (rest % 10) as u8;
        rest /= 10;
    }
    let shown = &digits[start.min(digits.len() - 1)..];
    out.push_str(std::str::from_utf8(shown).expect("digits are ASCII"));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn float(value: f64) -> String {
        let mut out = String::new();
        push_float(&mut out, value);
        out
    }

    fn point_float(value: f64) -> String {
        let mut out = String::new();
        push_point_float(&mut out, value);
        out
    }

    #[test]
    fn floats_look_as_go_writes_them() {
        let values = [0.005, 10.0, 0.0, -0.5, 123_456.0, 1e6, 1_048_576.0, 0.0001, 0.000_099, 1e21, 1e-100];
        let go = "0.005 10 0 -0.5 123456 1e+06 1.048576e+06 0.0001 9.9e-05 1e+21 1e-100";
        assert_eq!(values.map(float).join(" "), go);
        assert_eq!([f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(float).join(" "), "NaN +Inf -Inf");
        assert_eq!([10.0, 0.005, 1e6, f64::INFINITY].map(point_float).join(" "), "10.0 0.005 1e+06 +Inf");
    }

    proptest! {
        #[test]
        fn whole_numbers_look_as_ever(number in prop_oneof![Just(0), Just(u64::MAX), 0..200_u64, any::<u64>()]) {
            let mut out = String::new();
            push_int(&mut out, number);
            prop_assert_eq!(out, number.to_string());
        }

        #[test]
        fn every_float_is_read_back_as_itself(value in any::<f64>()) {
            prop_assert_eq!(float(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
            prop_assert_eq!(point_float(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
    }
}
