//! Reads durations as texts, for the configuration and for flags: `500ms`, `1.5s`, `1h30m`.
//! Reads no clock.

use std::time::Duration;

/// The longest duration, in seconds: it can be added to every point in time.
pub(super) const LONGEST: u32 = u32::MAX;

/// The form of a duration, for messages.
pub const DURATION_FORM: &str = "write it like `500ms`, `30s` or `1h30m`";

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// The units and their nanoseconds.
const UNITS: &[(&str, u128)] = &[
    ("ms", 1_000_000),
    ("s", NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("h", 3600 * NANOS_PER_SECOND),
    ("d", 86400 * NANOS_PER_SECOND),
];

/// Reads numbers with units, one after the other. A single number without a unit is seconds.
///
/// # Errors
/// The text is not a duration, or the duration is longer than 4294967295 seconds. The message begins with a verb and
/// does not contain the text.
pub fn duration(text: &str) -> Result<Duration, String> {
    let no_duration = || format!("is not a duration: {DURATION_FORM}");
    if text.is_empty() {
        return Err(no_duration());
    }
    let mut nanos: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let scale = match UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, scale)) => *scale,
            None if unit.is_empty() && number.len() == text.len() => NANOS_PER_SECOND,
            None if unit.is_empty() || number.is_empty() => return Err(no_duration()),
            None => return Err("has an unknown unit: known are `ms`, `s`, `m`, `h` and `d`".to_owned()),
        };
        nanos = nanos.saturating_add(scaled(number, scale).ok_or_else(no_duration)?);
        rest = behind;
    }
    let seconds = u32::try_from(nanos / NANOS_PER_SECOND).map_err(|_| format!("is longer than {LONGEST} seconds"))?;
    let fraction = u32::try_from(nanos % NANOS_PER_SECOND).expect("it is less than a second");
    Ok(Duration::new(seconds.into(), fraction))
}

/// A decimal number times a scale; `None`: the text is not a number. A number that is too large becomes the largest
/// one. Digits below the scale are dropped.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = whole.len() + fraction.len() > 0 && !fraction.contains('.');
    if !is_number {
        return None;
    }
    let mut value: u128 = 0;
    for digit in whole.bytes() {
        value = value.saturating_mul(10).saturating_add(u128::from(digit - b'0'));
    }
    value = value.saturating_mul(scale);
    let mut place = scale;
    for digit in fraction.bytes() {
        place /= 10;
        value = value.saturating_add(place * u128::from(digit - b'0'));
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_with_units_are_durations() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("30", 30_000),
            ("1.5", 1500),
            (".5s", 500),
            ("2.s", 2000),
            ("500ms", 500),
            ("0.25ms", 0),
            ("30s", 30_000),
            ("1m", 60_000),
            ("1h30m", 5_400_000),
            ("1h0m0.5s", 3_600_500),
            ("1d", 86_400_000),
            ("1m1m", 120_000),
            ("4294967295s", 4_294_967_295_000),
        ] {
            let read = duration(text).unwrap_or_else(|e| panic!("{text} {e}"));
            assert_eq!(read.as_millis(), millis, "{text}");
        }
        assert_eq!(duration("0.25ms"), Ok(Duration::from_micros(250)));
        assert_eq!(duration("0.0000000019s"), Ok(Duration::from_nanos(1)));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in
            ["", " ", "s", "soon", "-1s", "+1s", "1 s", " 1s", "1s ", "1..5s", ".s", ".", "1m30", "1e3s", "٣s", "30s,"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["1x", "1S", "1min", "1sec", "3us", "1s2w"] {
            assert!(duration(text).unwrap_err().starts_with("has an unknown unit"), "{text}");
        }
        for text in ["4294967296", "4294967295.1s1000ms", "49711d", &"9".repeat(60), &format!("{}h", "9".repeat(60))] {
            assert_eq!(duration(text), Err("is longer than 4294967295 seconds".to_owned()), "{text}");
        }
    }
}
