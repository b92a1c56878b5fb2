//! Periods of time as people write them: `250ms`, `1.5s`.

use syn::{Error, LitStr, Result};

/// Nanoseconds of each unit.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Nanoseconds of the period that the literal tells.
pub(crate) fn parse(literal: &LitStr) -> Result<u64> {
    let text = literal.value();
    nanos(text.trim()).map_err(|why| Error::new(literal.span(), format!("`{text}` is no period of time: {why}")))
}

fn nanos(text: &str) -> std::result::Result<u64, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..unit_at], text[unit_at..].trim_start());
    let of_unit = match UNITS.iter().find(|(known, _)| *known == unit) {
        Some((_, nanos)) => *nanos,
        None if unit.is_empty() => return Err("it has no unit, as in `250ms`".to_owned()),
        None => return Err(format!("the unit is one of ns, us, ms, s, m, h, and not `{unit}`")),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let (Ok(whole), true) = (whole.parse::<u64>(), is_fraction(fraction)) else {
        return Err("it begins with a number, as in `250ms` or `1.5s`".to_owned());
    };
    let fraction = of_unit as f64 * format!("0.{fraction}").parse::<f64>().unwrap_or_default();
    let nanos = whole.checked_mul(of_unit).and_then(|nanos| nanos.checked_add(fraction.round() as u64));
    match nanos {
        Some(0) => Err("it has to be longer than nothing".to_owned()),
        Some(nanos) => Ok(nanos),
        None => Err("it is too long".to_owned()),
    }
}

fn is_fraction(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::nanos;

    #[test]
    fn every_unit_is_understood_whole_and_in_parts() {
        let told = ["7ns", "250us", "250µs", "250ms", "1.5s", "0.25 s", "2m", "1h"].map(|text| nanos(text).unwrap());
        let meant = [7, 250_000, 250_000, 250_000_000, 1_500_000_000, 250_000_000, 120_000_000_000, 3_600_000_000_000];
        assert_eq!(told, meant);
    }

    #[test]
    fn what_is_no_period_says_why() {
        let why = |text| nanos(text).unwrap_err();
        assert!(why("250").contains("no unit"));
        assert!(why("").contains("no unit"));
        assert!(why("2 parsecs").contains("not `parsecs`"));
        assert!(why("1,5s").contains("not `,5s`"));
        for text in ["ms", "-3ms", "1.2.3s", "1.s", ".5s"] {
            assert!(why(text).contains("number") || why(text).contains("unit"), "{text}: {}", why(text));
        }
        assert!(why("0s").contains("longer than nothing"));
        assert!(why("99999999999h").contains("too long"));
    }
}
