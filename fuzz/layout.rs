//! What any bytes must survive as a Go layout of a date: eight bytes for the moment, four for its fraction, four for
//! the offset, the zone's name up to a zero byte, then the layout. A full layout says the date that another way of
//! counting days comes to.

use remco::template::layout::Time;

pub fn run(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_at_checked(16) else { return };
    let number = |range: std::ops::Range<usize>| {
        head[range].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let unix = number(0..8).cast_signed();
    let nanos = number(8..12) as u32 % 1_000_000_000;
    let offset = (number(12..16) as u32).cast_signed() % 90_000;
    let at = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let zone = String::from_utf8_lossy(&rest[..at]);
    let layout = rest.get(at + 1..).unwrap_or_default();

    let time = Time { unix, nanos, offset, zone: &zone };
    let text = time.format(layout);
    assert_eq!(text, time.format(layout));
    assert!(text.len() <= layout.len() * (zone.len() + 24), "{} bytes of {}", text.len(), layout.len());
    if layout.iter().all(|byte| b" :/,-+abcdefghijklnqrtuvwxyz".contains(byte)) {
        assert_eq!(text, layout, "text is not copied");
    }
    // Years of four digits; the other way takes a step a year.
    let local = unix.saturating_add(i64::from(offset));
    if (-62_135_596_800..253_402_300_800).contains(&local) {
        let want = by_counting(local);
        let full = time.format(b"2006-01-02 15:04:05.000000000 002 Monday");
        assert_eq!(String::from_utf8_lossy(&full), want.replace("NANOS", &format!("{nanos:09}")));
    }
}

fn by_counting(local: i64) -> String {
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = |year| if is_leap(year) { 366 } else { 365 };
    let (mut days, seconds) = (local.div_euclid(86_400) + 719_162, local.rem_euclid(86_400));
    // The first of January of the year 1 was a Monday.
    let weekday = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"][(days % 7) as usize];
    let mut year = 1;
    while days >= length(year) {
        days -= length(year);
        year += 1;
    }
    let of_year = days + 1;
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02}.NANOS {of_year:03} {weekday}", days + 1)
}
