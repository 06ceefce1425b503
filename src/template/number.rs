//! Numbers as Go reads and writes them (strconv's ParseFloat, ParseInt and FormatFloat).
//! Knows nothing of values: text in, number out, and back.

/// Reads a float as Go's strconv.ParseFloat does; `None`: not a number, or too large for one.
/// Hexadecimal floats are not read.
pub fn parse_float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if unsigned.eq_ignore_ascii_case("inf") || unsigned.eq_ignore_ascii_case("infinity") {
        return Some(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    if text.eq_ignore_ascii_case("nan") {
        return Some(f64::NAN);
    }
    // Only digits, a dot and an exponent are left; Rust would read more words.
    if !unsigned
        .bytes()
        .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
    {
        return None;
    }
    text.parse::<f64>().ok().filter(|n| n.is_finite())
}

/// Why a text is no integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAnInteger {
    Syntax,
    Range,
}

/// Reads a decimal integer as Go's strconv.ParseInt(text, 10, 64) does: an optional sign and digits, nothing else.
pub fn parse_int(text: &[u8]) -> Result<i64, NotAnInteger> {
    let digits = match text.first() {
        Some(b'+' | b'-') => &text[1..],
        _ => text,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NotAnInteger::Syntax);
    }
    let text = std::str::from_utf8(text).expect("digits are ASCII");
    text.parse().map_err(|_| NotAnInteger::Range)
}

/// A float's integer part. What does not fit gives the smallest integer, as it does in Go on amd64.
pub fn truncate(number: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&number) {
        number as i64
    } else {
        i64::MIN
    }
}

/// Go's `%f` with six digits: how a template prints a float.
pub fn print_float(number: f64) -> String {
    fixed(number, 6)
}

/// Go's `%.Nf`.
pub fn fixed(number: f64, precision: usize) -> String {
    special(number).unwrap_or_else(|| format!("{number:.precision$}"))
}

/// Infinities and not-a-number, which Go and Rust spell differently.
fn special(number: f64) -> Option<String> {
    let text = match number {
        n if n.is_nan() => "NaN",
        f64::INFINITY => "+Inf",
        f64::NEG_INFINITY => "-Inf",
        _ => return None,
    };
    Some(text.to_owned())
}
