//! Numbers as Go reads and writes them (strconv's ParseFloat, ParseInt and FormatFloat).
//! Converts between texts and numbers only; the values of templates are in `template/value`.

/// Reads a float as Go's strconv.ParseFloat does; `None`: not a number, or too large for one.
/// Hexadecimal floats like `0x1p4` need their exponent.
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
    if let [b'0', b'x' | b'X', digits @ ..] = unsigned.as_bytes() {
        let number = parse_hex(digits)?;
        return Some(if negative { -number } else { number });
    }
    // Only digits, a dot and an exponent remain; Rust would accept more words.
    let is_part = |byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-' | b'_');
    if !unsigned.bytes().all(is_part) {
        return None;
    }
    let number = if text.contains('_') { without_underscores(text)?.parse() } else { text.parse::<f64>() };
    number.ok().filter(|n| n.is_finite())
}

/// Removes single underscores between digits; `None`: an underscore is at another place.
fn without_underscores(text: &str) -> Option<String> {
    let is_digit = |end: Option<u8>| end.is_some_and(|byte| byte.is_ascii_digit());
    let parts = text.split('_').map(str::as_bytes);
    let after = parts.clone().skip(1).all(|part| is_digit(part.first().copied()));
    let before = parts.rev().skip(1).all(|part| is_digit(part.last().copied()));
    (after && before).then(|| text.replace('_', ""))
}

/// Reads what follows `0x` in a hexadecimal float: digits, perhaps with a point, then `p` and a decimal exponent.
fn parse_hex(text: &[u8]) -> Option<f64> {
    let text = if text.contains(&b'_') { without_hex_underscores(text)? } else { text.to_owned() };
    let split = text.iter().position(|byte| matches!(byte, b'p' | b'P'))?;
    let (mut mantissa, mut exponent, mut lost) = (0_u64, 0_i64, false);
    let (mut digits, mut point) = (0, false);
    for byte in &text[..split] {
        let Some(digit) = char::from(*byte).to_digit(16) else {
            if *byte != b'.' || std::mem::replace(&mut point, true) {
                return None;
            }
            continue;
        };
        digits += 1;
        // A float holds less than sixteen digits; of the other digits only matters whether all are 0.
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | u64::from(digit);
            exponent -= if point { 4 } else { 0 };
        } else {
            lost |= digit != 0;
            exponent += if point { 0 } else { 4 };
        }
    }
    let unsigned = match &text[split + 1..] {
        [b'+' | b'-', rest @ ..] => rest,
        rest => rest,
    };
    if digits == 0 || unsigned.is_empty() || !unsigned.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Such a large exponent decides the result alone, because there are fewer than 2^32 digits.
    const DECISIVE: i64 = 1 << 40;
    let power = unsigned.iter().fold(0_i64, |sum, byte| (sum * 10 + i64::from(byte - b'0')).min(DECISIVE));
    let power = if text[split + 1] == b'-' { -power } else { power };
    scaled(mantissa, lost, exponent + power)
}

/// The rule of underscores behind `0x`, where letters are digits and the prefix counts as one.
fn without_hex_underscores(text: &[u8]) -> Option<Vec<u8>> {
    let mut before = b'0';
    for byte in text {
        let fits = match (before, *byte) {
            (before, b'_') => before.is_ascii_hexdigit(),
            (b'_', byte) => byte.is_ascii_hexdigit(),
            _ => true,
        };
        if !fits {
            return None;
        }
        before = *byte;
    }
    (before != b'_').then(|| text.iter().copied().filter(|byte| *byte != b'_').collect())
}

/// `mantissa * 2^exponent`, rounded half to even; `lost`: the number is a little larger. `None`: too large.
fn scaled(mantissa: u64, lost: bool, exponent: i64) -> Option<f64> {
    if mantissa == 0 {
        return Some(0.0);
    }
    // The leading 1 goes to bit 63.
    let shift = mantissa.leading_zeros();
    let mantissa = mantissa << shift;
    let exponent = exponent - i64::from(shift) + 63;
    if exponent > 1023 {
        return None;
    }
    // The dropped bits: all but 53, and more if the number is too small to have its leading 1.
    let dropped = 11 + (-1022 - exponent).clamp(0, 64);
    let (kept, rest, half) = match dropped {
        ..64 => (mantissa >> dropped, mantissa & ((1 << dropped) - 1), 1 << (dropped - 1)),
        64 => (0, mantissa, 1 << 63),
        _ => return Some(0.0),
    };
    let up = rest > half || rest == half && (lost || kept & 1 == 1);
    let biased = (exponent + 1022).max(0).cast_unsigned();
    // A carry out of the mantissa correctly increments the exponent.
    let bits = (biased << 52) + kept + u64::from(up);
    Some(f64::from_bits(bits)).filter(|number| number.is_finite())
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

/// A float's integer part. A number that does not fit gives the smallest integer, as in Go on amd64.
#[expect(clippy::cast_possible_truncation, reason = "the number is in the range of i64, and its fraction is dropped")]
pub fn truncate(number: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&number) { number as i64 } else { i64::MIN }
}

/// Go's math.Pow. It multiplies powers of two of the base, so large results differ from C's `pow` in their last bits,
/// and templates print all digits.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`whole` is an integer from 0 to below 2^63"
)]
pub fn power(base: f64, exponent: f64) -> f64 {
    let whole = exponent.abs().trunc();
    let special = !base.is_finite() || !exponent.is_finite() || base == 0.0 || base == 1.0 || exponent == 0.0;
    if special || exponent == 1.0 || whole >= 9_223_372_036_854_775_808.0 {
        return base.powf(exponent);
    }
    if exponent.abs() == 0.5 {
        return if exponent < 0.0 { 1.0 / base.sqrt() } else { base.sqrt() };
    }
    let (mut whole, mut part) = (whole as u64, exponent.abs().fract());
    if part != 0.0 && base < 0.0 {
        return f64::NAN;
    }
    let mut product = 1.0;
    if part != 0.0 {
        if part > 0.5 {
            part -= 1.0;
            whole += 1;
        }
        product = (part * base.ln()).exp();
    }
    // The result is product * 2^twos. The present factor is factor * 2^factor_twos, with a factor of at least a half.
    let mut twos = 0;
    let (mut factor, mut factor_twos) = half_to_one(base);
    while whole != 0 {
        if factor_twos.abs() > 4096 {
            // The result is already too large or too small.
            twos += factor_twos;
            break;
        }
        if whole & 1 == 1 {
            product *= factor;
            twos += factor_twos;
        }
        factor *= factor;
        factor_twos *= 2;
        if factor < 0.5 {
            factor += factor;
            factor_twos -= 1;
        }
        whole >>= 1;
    }
    if exponent < 0.0 { times_power_of_two(1.0 / product, -twos) } else { times_power_of_two(product, twos) }
}

/// A number other than 0 as a factor of at least a half and less than 1 and a power of two (C's frexp).
fn half_to_one(number: f64) -> (f64, i32) {
    const SCALE: i32 = 64;
    if number.is_subnormal() {
        let (factor, twos) = half_to_one(number * 2_f64.powi(SCALE));
        return (factor, twos - SCALE);
    }
    let (_, twos) = parts(number);
    let sign_and_mantissa = number.to_bits() & !(0x7ff << 52);
    (f64::from_bits(sign_and_mantissa | 1022 << 52), twos + 1)
}

/// `number * 2^twos`, rounded once (C's ldexp).
fn times_power_of_two(number: f64, twos: i32) -> f64 {
    let (factor, own) = if number == 0.0 || !number.is_finite() { return number } else { half_to_one(number) };
    match own.saturating_add(twos) {
        1025.. => f64::INFINITY.copysign(number),
        twos @ 1000.. => factor * 2_f64.powi(twos - 100) * 2_f64.powi(100),
        twos @ -1000.. => factor * 2_f64.powi(twos),
        twos @ -1075.. => factor * 2_f64.powi(twos + 200) * 2_f64.powi(-200),
        _ => 0_f64.copysign(number),
    }
}

/// The shapes of strconv.FormatFloat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatFormat {
    /// `f`: 12.5
    Fixed,
    /// `e`: 1.25e+01
    Exponent,
    /// `g`: `e` for large and small exponents, `f` without zeros at the end otherwise
    General,
    /// `x`: 0x1.9p+03
    Hex,
    /// `b`: 7036874417766400p-49
    Binary,
}

/// Go's strconv.FormatFloat; without a precision, the fewest digits that give the same number when read.
pub fn format_float(number: f64, format: FloatFormat, precision: Option<usize>) -> String {
    let special = match number {
        n if n.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    };
    if let Some(special) = special {
        return special.to_owned();
    }
    let text = match format {
        FloatFormat::Fixed => fixed(number.abs(), precision),
        FloatFormat::Exponent => Decimal::of(number.abs(), precision).exponent(),
        FloatFormat::General => general(number.abs(), precision),
        FloatFormat::Hex => hex(number.abs(), precision),
        FloatFormat::Binary => {
            let (mantissa, exponent) = parts(number);
            format!("{mantissa}p{:+}", exponent - 52)
        }
    };
    if number.is_sign_negative() { format!("-{text}") } else { text }
}

/// No float has more digits behind its point, and Rust writes no more than 65,535.
const EXACT: usize = 1100;

fn fixed(number: f64, precision: Option<usize>) -> String {
    let Some(precision) = precision else {
        return number.to_string();
    };
    let exact = precision.min(EXACT);
    let mut text = format!("{number:.exact$}");
    text.extend(std::iter::repeat_n('0', precision - exact));
    text
}

fn general(number: f64, precision: Option<usize>) -> String {
    let precision = precision.map(|precision| precision.max(1));
    let mut decimal = Decimal::of(number, precision.map(|precision| precision - 1));
    let significant = decimal.digits.trim_end_matches('0').len().max(1);
    decimal.digits.truncate(significant);
    let whole = i64::from(decimal.exponent) + 1;
    let threshold = match precision {
        None => 6,
        Some(precision) if precision > significant && significant as i64 >= whole => significant,
        Some(precision) => precision,
    };
    if decimal.exponent < -4 || whole > threshold as i64 { decimal.exponent() } else { decimal.plain() }
}

/// Digits with an exponent: d.ddd * 10^exponent.
struct Decimal {
    digits: String,
    exponent: i32,
}

impl Decimal {
    /// The number of digits behind the first one is `precision`.
    fn of(number: f64, precision: Option<usize>) -> Decimal {
        let text = match precision {
            Some(precision) => format!("{number:.*e}", precision.min(EXACT)),
            None => format!("{number:e}"),
        };
        let (mantissa, exponent) = text.split_once('e').expect("Rust writes an exponent with {:e}");
        let mut digits = mantissa.replace('.', "");
        if let Some(precision) = precision {
            digits.extend(std::iter::repeat_n('0', precision - precision.min(EXACT)));
        }
        Decimal { digits, exponent: exponent.parse().expect("Rust writes a decimal exponent") }
    }

    fn exponent(&self) -> String {
        let (first, rest) = self.digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let sign = if self.exponent < 0 { '-' } else { '+' };
        format!("{first}{point}{rest}e{sign}{:02}", self.exponent.unsigned_abs())
    }

    fn plain(&self) -> String {
        let digits = &self.digits;
        match usize::try_from(self.exponent) {
            Ok(exponent) if exponent + 1 < digits.len() => {
                format!("{}.{}", &digits[..=exponent], &digits[exponent + 1..])
            }
            Ok(exponent) => format!("{digits}{}", "0".repeat(exponent + 1 - digits.len())),
            Err(_) => format!("0.{}{digits}", "0".repeat(self.exponent.unsigned_abs() as usize - 1)),
        }
    }
}

/// The mantissa with its hidden bit, and the exponent of that bit.
fn parts(number: f64) -> (u64, i32) {
    let bits = number.to_bits();
    let mantissa = bits & ((1 << 52) - 1);
    match (bits >> 52 & 0x7ff) as i32 {
        0 => (mantissa, -1022),
        exponent => (mantissa | 1 << 52, exponent - 1023),
    }
}

fn hex(number: f64, precision: Option<usize>) -> String {
    let (mantissa, exponent) = parts(number);
    // The leading 1, if there is one, goes to bit 60; fifteen hexadecimal digits follow it.
    let shift = mantissa.leading_zeros().saturating_sub(3).min(60);
    let (mut mantissa, mut exponent) = match mantissa {
        0 => (0, 0),
        _ => (mantissa << shift, exponent + 8 - shift as i32),
    };
    if let Some(digits @ ..15) = precision {
        let dropped = 60 - 4 * digits;
        let kept = mantissa >> dropped;
        let rest = mantissa & ((1 << dropped) - 1);
        // A half is rounded to the even neighbour.
        let up = rest > 1 << (dropped - 1) || rest == 1 << (dropped - 1) && kept & 1 == 1;
        mantissa = (kept + u64::from(up)) << dropped;
        if mantissa >> 61 != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let mut digits = format!("{:015x}", mantissa & ((1 << 60) - 1));
    match precision {
        None => digits.truncate(digits.trim_end_matches('0').len()),
        Some(precision) => {
            digits.truncate(precision);
            digits.extend(std::iter::repeat_n('0', precision - digits.len()));
        }
    }
    let point = if digits.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("0x{}{point}{digits}p{sign}{:02}", mantissa >> 60, exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(number: f64, format: FloatFormat, precision: Option<usize>, expected: &str) {
        assert_eq!(format_float(number, format, precision), expected, "{number} {format:?} {precision:?}");
    }

    #[test]
    fn floats_are_read_as_go_reads_them() {
        let number = |text: &str| parse_float(text.as_bytes());
        for (text, value) in [
            ("1.5", 1.5),
            ("-0.25", -0.25),
            (".5", 0.5),
            ("5.", 5.0),
            ("1E-2", 0.01),
            ("+2.5", 2.5),
            ("1_23.50_0_0e+1_2", 1.235e14),
            ("0x1p4", 16.0),
            ("-0X1.8P-1", -0.75),
            ("0x.8p0", 0.5),
            ("0x_1_0.p1_0", 16384.0),
            ("0x1p-1074", 5e-324),
            ("0x1p-1075", 0.0),
            ("0x1.8p-1075", 5e-324),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.00000000000018p0", 1.0 + 2.0 * f64::EPSILON),
            ("0x1.0000000000000800000000001p0", 1.0 + f64::EPSILON),
            ("0x1.fffffffffffff7p1023", f64::MAX),
            ("0x0p99999999999999999999", 0.0),
            ("0x1p-99999999999999999999", 0.0),
            ("0x0.00000000000000000000001p88", 0.0625),
            ("0x100000000000000000000p-80", 1.0),
            ("0x0.fffffffffffff8p-1022", f64::MIN_POSITIVE),
        ] {
            assert_eq!(number(text), Some(value), "{text}");
        }
        assert_eq!(number("-Inf"), Some(f64::NEG_INFINITY));
        assert_eq!(number("infinity"), Some(f64::INFINITY));
        assert!(number("NaN").is_some_and(f64::is_nan));
        for text in [
            "",
            " 5",
            "5 ",
            "1,5",
            "0x10",
            "x",
            "+nan",
            "1e400",
            ".",
            "e5",
            "1e",
            "--1",
            "+",
            "infinit",
            "1-2",
            "_1",
            "1_",
            "1__2",
            "-_1",
            "0x",
            "0x1",
            "0xp1",
            "0x1p",
            "0x1p+",
            "0x1.1.1p1",
            "0x1_p1",
            "0x1p_1",
            "0x1p1_",
            "0x__1p1",
            "0x1pa",
            "0xgp1",
            "0x1p1024",
            "0x1.fffffffffffff8p1023",
            "0x1p99999999999999999999",
            "1_.5",
            "1._5",
            "1.5_e1",
            "1e_1",
            "1e+_1",
            "_",
        ] {
            assert_eq!(number(text), None, "{text}");
        }
        assert_eq!(parse_float(b"\xff"), None);
    }

    #[test]
    fn integers_are_read_as_go_reads_them() {
        let number = |text: &str| parse_int(text.as_bytes());
        assert_eq!(number("007"), Ok(7));
        assert_eq!(number("+9"), Ok(9));
        assert_eq!(number("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(number("9223372036854775808"), Err(NotAnInteger::Range));
        for text in ["", "+", "12 apples", "12.5", "1_000", "0x1", "--1"] {
            assert_eq!(number(text), Err(NotAnInteger::Syntax), "{text}");
        }
    }

    #[test]
    fn powers_are_those_of_go() {
        for (base, exponent, bits) in [
            (100.0, 100.0, 0x6974_e718_d7d7_625d_u64),
            (3.0, -40.0, 0x3bf8_46d5_50e3_7b50),
            (-3.0, 3.0, (-27_f64).to_bits()),
            (2.0, -1074.0, 1),
            (2.0, 1024.0, f64::INFINITY.to_bits()),
            (-2.0, 1025.0, f64::NEG_INFINITY.to_bits()),
            (0.0, 0.0, 1_f64.to_bits()),
            (2.0, -0.5, (1.0 / 2_f64.sqrt()).to_bits()),
            (5e-324, 0.5, 5e-324_f64.sqrt().to_bits()),
            (-1.0, 1e19, 1_f64.to_bits()),
        ] {
            assert_eq!(power(base, exponent).to_bits(), bits, "{base} ^ {exponent}");
        }
        assert!(power(-8.0, 1.0 / 3.0).is_nan());
    }

    #[test]
    fn what_does_not_fit_is_the_smallest_integer() {
        assert_eq!(truncate(-1.9), -1);
        assert_eq!(truncate(9.3e18), i64::MIN);
        assert_eq!(truncate(f64::NAN), i64::MIN);
        assert_eq!(truncate(-9_223_372_036_854_775_808.0), i64::MIN);
    }

    #[test]
    fn fixed_floats() {
        check(0.5, FloatFormat::Fixed, Some(0), "0");
        check(1.5, FloatFormat::Fixed, Some(0), "2");
        check(2.5, FloatFormat::Fixed, Some(0), "2");
        check(0.125, FloatFormat::Fixed, Some(2), "0.12");
        check(2.675, FloatFormat::Fixed, Some(2), "2.67");
        check(1e20, FloatFormat::Fixed, None, "100000000000000000000");
        check(0.000001, FloatFormat::Fixed, None, "0.000001");
        check(-0.0, FloatFormat::Fixed, Some(1), "-0.0");
        assert_eq!(format_float(1.0, FloatFormat::Fixed, Some(70_000)).len(), 70_002);
    }

    #[test]
    fn floats_with_exponents() {
        check(1234.5678, FloatFormat::Exponent, Some(6), "1.234568e+03");
        check(0.0, FloatFormat::Exponent, Some(2), "0.00e+00");
        check(1e-7, FloatFormat::Exponent, None, "1e-07");
        check(1e-200, FloatFormat::Exponent, Some(0), "1e-200");
        assert_eq!(format_float(1.0, FloatFormat::Exponent, Some(70_000)).len(), 70_006);
    }

    #[test]
    fn general_floats() {
        let cases = [
            (0.0, None, "0"),
            (0.1, None, "0.1"),
            (100000.0, None, "100000"),
            (1e6, None, "1e+06"),
            (12345678.9, None, "1.23456789e+07"),
            (1e21, None, "1e+21"),
            (0.0001, None, "0.0001"),
            (0.00001, None, "1e-05"),
            (1234.5678, Some(3), "1.23e+03"),
            (100.0, Some(3), "100"),
            (2.5, Some(10), "2.5"),
            (1234567.0, Some(10), "1234567"),
            (99.99, Some(2), "1e+02"),
            (0.5, Some(0), "0.5"),
            (-17.0, None, "-17"),
            (f64::INFINITY, None, "+Inf"),
            (f64::NEG_INFINITY, None, "-Inf"),
            (f64::NAN, None, "NaN"),
        ];
        for (number, precision, expected) in cases {
            check(number, FloatFormat::General, precision, expected);
        }
    }

    #[test]
    fn hexadecimal_floats() {
        check(2.5, FloatFormat::Hex, None, "0x1.4p+01");
        check(0.0, FloatFormat::Hex, None, "0x0p+00");
        check(1.0, FloatFormat::Hex, Some(3), "0x1.000p+00");
        check(1.99, FloatFormat::Hex, Some(0), "0x1p+01");
        check(1.5, FloatFormat::Hex, Some(0), "0x1p+01");
        check(f64::MIN_POSITIVE / 2.0, FloatFormat::Hex, None, "0x1p-1023");
        check(-1e100, FloatFormat::Hex, None, "-0x1.249ad2594c37dp+332");
        check(1.0, FloatFormat::Hex, Some(20), "0x1.00000000000000000000p+00");
        check(1.0, FloatFormat::Binary, None, "4503599627370496p-52");
    }
}
