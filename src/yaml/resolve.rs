//! The type and value of a plain scalar, by its form (null, boolean, number, or else text) and its tag, as in Go's
//! yaml.v2. Knows neither quotes nor the document.

use base64::prelude::{BASE64_STANDARD, Engine};

use super::Scalar;

/// The value of a plain scalar without a tag. Timestamps and numbers of base 60 are texts.
pub fn plain(text: &str) -> Scalar {
    known(text).unwrap_or_else(|| Scalar::text(text.as_bytes()))
}

/// Whether readers of YAML 1.1 and 1.2 read a plainly written text as this text.
pub fn is_text(text: &str) -> bool {
    known(text).is_none() && !is_timestamp(text) && !is_base_60(text)
}

/// A scalar with one of YAML's own tags, such as `!!int`.
pub fn tagged(text: &str, tag: &str) -> Result<Scalar, String> {
    let scalar = match tag {
        "binary" => {
            // Line breaks are part of the layout.
            let digits: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
            let decoded = BASE64_STANDARD.decode(digits);
            return Ok(Scalar::text(&decoded.map_err(|error| format!("not base64: {error}"))?));
        }
        "bool" | "float" | "int" | "null" => known(text),
        "timestamp" if !is_timestamp(text) => None,
        _ => return Ok(Scalar::text(text.as_bytes())),
    };
    match (tag, scalar) {
        ("null", Some(Scalar::Null)) => Ok(Scalar::Null),
        ("bool", Some(Scalar::Bool(value))) => Ok(Scalar::Bool(value)),
        ("int", Some(number @ (Scalar::Int(_) | Scalar::Uint(_)))) => Ok(number),
        ("float", Some(Scalar::Float(number))) => Ok(Scalar::Float(number)),
        ("float", Some(Scalar::Int(number))) => Ok(Scalar::Float(number as f64)),
        _ => Err(format!("cannot read the value as a !!{tag}")),
    }
}

/// The value of a scalar that is not a text; `None`: it is a text.
fn known(text: &str) -> Option<Scalar> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        _ => match text.as_bytes()[0] {
            b'.' => Scalar::Float(float(&without_underscores(text)?)?),
            b'+' | b'-' | b'0'..=b'9' => number(&text.replace('_', ""))?,
            _ => return None,
        },
    })
}

fn number(text: &str) -> Option<Scalar> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (base, digits) = match unsigned.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &unsigned[2..]),
        [b'0', b'o' | b'O', ..] => (8, &unsigned[2..]),
        [b'0', b'b' | b'B', ..] => (2, &unsigned[2..]),
        [b'0', _, ..] => (8, &unsigned[1..]),
        _ => (10, unsigned),
    };
    let magnitude = match digits.as_bytes().first() {
        // Rust accepts a second sign here.
        Some(b'+' | b'-') => None,
        _ => u64::from_str_radix(digits, base).ok(),
    };
    match magnitude {
        Some(n) if text.starts_with('-') && n <= i64::MIN.unsigned_abs() => Some(Scalar::Int(n.wrapping_neg() as i64)),
        Some(n) if n <= i64::MAX as u64 && !text.starts_with('-') => Some(Scalar::Int(n as i64)),
        Some(n) if unsigned == text => Some(Scalar::Uint(n)),
        // 08 is not octal, and some integers are too large.
        _ => float(text).map(Scalar::Float),
    }
}

/// A decimal number with digits. A number that is too large for a float is a text.
fn float(text: &str) -> Option<f64> {
    let is_part = |byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    if !text.bytes().all(is_part) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Underscores may stand between digits, one at a time.
fn without_underscores(text: &str) -> Option<String> {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let bytes = text.as_bytes();
    let fits = |(at, _): (usize, &str)| at > 0 && is_digit(bytes.get(at - 1)) && is_digit(bytes.get(at + 1));
    text.match_indices('_').all(fits).then(|| text.replace('_', ""))
}

/// A date, alone or with a time, in one of the four layouts of yaml.v3.
fn is_timestamp(text: &str) -> bool {
    fn date_and_time(text: &str) -> Option<()> {
        let (year, rest) = text.split_at_checked(4).filter(|(year, _)| year.bytes().all(|b| b.is_ascii_digit()))?;
        let (month, rest) = one_or_two_digits(rest.strip_prefix('-')?, 1, 12)?;
        let year: u32 = year.parse().ok()?;
        let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match month {
            2 if is_leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let (_, rest) = one_or_two_digits(rest.strip_prefix('-')?, 1, days)?;
        match rest.chars().next() {
            None => Some(()),
            Some(' ') => time(&rest[1..])?.is_empty().then_some(()),
            Some('T' | 't') => zone(time(&rest[1..])?),
            Some(_) => None,
        }
    }

    fn time(text: &str) -> Option<&str> {
        let (_, rest) = one_or_two_digits(text, 0, 23)?;
        let (_, rest) = one_or_two_digits(rest.strip_prefix(':')?, 0, 59)?;
        let (_, rest) = one_or_two_digits(rest.strip_prefix(':')?, 0, 59)?;
        let Some(fraction) = rest.strip_prefix(['.', ',']) else {
            return Some(rest);
        };
        let end = fraction.trim_start_matches(|char: char| char.is_ascii_digit());
        (end.len() < fraction.len()).then_some(end)
    }

    fn zone(text: &str) -> Option<()> {
        let is_offset = |text: &[u8]| matches!(text, [b'+' | b'-', a, b, b':', c, d] if [a, b, c, d].iter().all(|b| b.is_ascii_digit()));
        (text == "Z" || is_offset(text.as_bytes())).then_some(())
    }

    date_and_time(text).is_some()
}

fn one_or_two_digits(text: &str, least: u32, most: u32) -> Option<(u32, &str)> {
    let length = text.bytes().take(2).take_while(u8::is_ascii_digit).count();
    let number = text[..length].parse().ok().filter(|number| (least..=most).contains(number))?;
    Some((number, &text[length..]))
}

/// Hours, minutes and seconds as one number of YAML 1.1: 12:30:45.5.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    let is_sixtieth = |part: &str| matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']);
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    whole.contains(':')
        && first.starts_with(|char: char| char.is_ascii_digit())
        && are_digits(first)
        && are_digits(fraction)
        && parts.all(is_sixtieth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let shown = match plain(text) {
            Scalar::Text(text) => format!("'{}'", String::from_utf8_lossy(&text)),
            Scalar::Float(number) => format!("{number:?}f"),
            Scalar::Uint(number) => format!("{number}u"),
            other => String::from_utf8_lossy(&other.print()).into_owned(),
        };
        assert_eq!(shown, want, "{text}");
    }

    #[test]
    fn words() {
        for text in ["", "~", "null", "Null", "NULL"] {
            check(text, "<nil>");
        }
        for text in ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"] {
            check(text, "true");
        }
        for text in ["n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"] {
            check(text, "false");
        }
        for text in ["nULL", "yEs", "tRUE", "yes sir", "nil", "none", "<<", "=", "nan", "inf", "é"] {
            check(text, &format!("'{text}'"));
        }
    }

    #[test]
    fn integers() {
        check("0", "0");
        check("-0", "0");
        check("7", "7");
        check("+7", "7");
        check("-7", "-7");
        check("010", "8");
        check("-010", "-8");
        check("017", "15");
        check("0o17", "15");
        check("0x1F", "31");
        check("0X1f", "31");
        check("-0x10", "-16");
        check("0b101", "5");
        check("-0b11", "-3");
        check("1_000", "1000");
        check("1__0_", "10");
        check("0x_ff", "255");
        check("9223372036854775807", "9223372036854775807");
        check("-9223372036854775808", "-9223372036854775808");
        check("9223372036854775808", "9223372036854775808u");
        check("18446744073709551615", "18446744073709551615u");
        check("0xffffffffffffffff", "18446744073709551615u");
        for text in
            ["0x", "0b2", "0xg", "0o8", "+", "-", "--1", "+-1", "0x-1", "0b+1", "1 2", "1,5", "0x1ffffffffffffffff"]
        {
            check(text, &format!("'{text}'"));
        }
    }

    #[test]
    fn floats() {
        check("1.5", "1.5f");
        check("08", "8.0f");
        check("0.", "0.0f");
        check("1.", "1.0f");
        check(".5", "0.5f");
        check("-.5", "-0.5f");
        check("+1.5", "1.5f");
        check("1e3", "1000.0f");
        check("1E-3", "0.001f");
        check("-0.0", "-0.0f");
        check("1_0.5", "10.5f");
        check(".5_0", "0.5f");
        check("+18446744073709551615", "1.8446744073709552e19f");
        check("18446744073709551616", "1.8446744073709552e19f");
        check("-9223372036854775809", "-9.223372036854776e18f");
        check(".inf", "inff");
        check("-.Inf", "-inff");
        check(".NaN", "NaNf");
        for text in
            ["1e400", "1.2.3", ".", "..", "1e", ".e1", "5%", "._5", ".5_", "12:30", "infinity", "0x1p-2", "1.5f"]
        {
            check(text, &format!("'{text}'"));
        }
    }

    #[test]
    fn tags() {
        let read = |text: &str, tag: &str| tagged(text, tag).map(|scalar| scalar.print().to_vec());
        let check = |text: &str, tag: &str, want: &str| assert_eq!(read(text, tag), Ok(want.as_bytes().to_vec()));
        check("12", "str", "12");
        check("", "str", "");
        check("010", "int", "8");
        check("5", "float", "5");
        check("", "null", "<nil>");
        check("yes", "bool", "true");
        check("2024-01-02", "timestamp", "2024-01-02");
        check("aGk=", "binary", "hi");
        check("aG\nk=\n", "binary", "hi");
        check("1", "made-up", "1");
        assert_eq!(read("gA==", "binary"), Ok(vec![0x80]));
        assert_eq!(read("x", "int").unwrap_err(), "cannot read the value as a !!int");
        assert_eq!(read("1.5", "int").unwrap_err(), "cannot read the value as a !!int");
        assert_eq!(read("1", "bool").unwrap_err(), "cannot read the value as a !!bool");
        assert_eq!(read("today", "timestamp").unwrap_err(), "cannot read the value as a !!timestamp");
        assert!(read("%", "binary").unwrap_err().starts_with("not base64: "));
    }

    #[test]
    fn what_may_be_written_plain() {
        let texts = [
            "a",
            "yes sir",
            "1.2.3",
            "1e400",
            "<<",
            "=",
            "nan",
            "12:60",
            "12:345",
            ":30",
            "12:",
            "1_0:a",
            "2024-13-01",
        ];
        for text in texts.iter().chain(&["2023-02-29", "2024-1-2 3:4", "2024-1-2T3:4:5", "2024-1-2T3:4:5z", "24-1-2"]) {
            assert!(is_text(text), "{text}");
        }
        let others = ["", "yes", "on", "y", "5", ".5", "1e3", "0o17", "~", ".nan", "12:30", "+1_0:5:59.5_", "1:2."];
        for text in others.iter().chain(&[
            "2024-01-02",
            "2024-2-29",
            "2024-1-2 3:4:5.5",
            "2024-1-2T3:4:5Z",
            "2024-1-2t3:4:5+01:00",
        ]) {
            assert!(!is_text(text), "{text}");
        }
    }
}
