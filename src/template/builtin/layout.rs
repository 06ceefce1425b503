//! Formats times by a layout of Go (time.Format): the layout is the reference time, Mon Jan 2 15:04:05 MST 2006, in the
//! required format. Reads no clock and no zones: both are arguments.

use crate::calendar::{Civil, MONTHS};

/// A moment and its zone.
#[derive(Clone, Copy)]
pub struct Time<'a> {
    /// Seconds since 1970 in UTC.
    pub unix: i64,
    /// Nanoseconds of the second, below 10^9.
    pub nanos: u32,
    /// Seconds east of UTC.
    pub offset: i32,
    /// The zone's abbreviation; if it is empty, the offset is shown instead.
    pub zone: &'a str,
}

impl Time<'_> {
    /// The time in the format of a layout (Go's time.Format). Other text in the layout is copied.
    pub fn format(&self, layout: &[u8]) -> Vec<u8> {
        let clock = Civil::of(self.unix.saturating_add(i64::from(self.offset)));
        let mut out = Vec::with_capacity(layout.len() + 8);
        let mut rest = layout;
        while !rest.is_empty() {
            let (part, length) = next(rest);
            match part {
                Part::Text => out.extend_from_slice(&rest[..length]),
                Part::Zone => out.extend_from_slice(self.abbreviation().as_bytes()),
                Part::Offset(style) => out.extend_from_slice(self.offset_as(style).as_bytes()),
                Part::Fraction { digits, trimmed } => self.fraction(rest[0], digits, trimmed, &mut out),
                Part::Clock(write) => out.extend_from_slice(write(&clock).as_bytes()),
            }
            rest = &rest[length..];
        }
        out
    }

    fn abbreviation(&self) -> String {
        if !self.zone.is_empty() {
            return self.zone.to_owned();
        }
        let minutes = self.offset / 60;
        let sign = if minutes < 0 { '-' } else { '+' };
        let (hours, minutes) = (minutes.abs() / 60, minutes.abs() % 60);
        if minutes == 0 { format!("{sign}{hours:02}") } else { format!("{sign}{hours:02}{minutes:02}") }
    }

    fn offset_as(&self, style: Offset) -> String {
        if style.z && self.offset == 0 {
            return "Z".to_owned();
        }
        let sign = if self.offset < 0 { '-' } else { '+' };
        let seconds = self.offset.unsigned_abs();
        let colon = if style.colons { ":" } else { "" };
        let mut text = format!("{sign}{:02}", seconds / 3600);
        if style.parts > 1 {
            text.push_str(&format!("{colon}{:02}", seconds / 60 % 60));
        }
        if style.parts > 2 {
            text.push_str(&format!("{colon}{:02}", seconds % 60));
        }
        text
    }

    fn fraction(&self, separator: u8, digits: usize, trimmed: bool, out: &mut Vec<u8>) {
        let nanos = format!("{:09}", self.nanos % 1_000_000_000);
        let mut shown = &nanos.as_bytes()[..digits.min(9)];
        if trimmed {
            let end = shown.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
            shown = &shown[..end];
            if shown.is_empty() {
                return;
            }
        }
        out.push(separator);
        out.extend_from_slice(shown);
    }
}

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// 1 to 12.
fn hour12(time: &Civil) -> u32 {
    (time.hour + 11) % 12 + 1
}

#[derive(Clone, Copy)]
enum Part {
    /// Text that is copied.
    Text,
    Clock(fn(&Civil) -> String),
    Zone,
    Offset(Offset),
    Fraction {
        digits: usize,
        trimmed: bool,
    },
}

#[derive(Clone, Copy)]
struct Offset {
    /// UTC is written as Z.
    z: bool,
    /// 1: hours, 2: minutes too, 3: seconds too.
    parts: u8,
    colons: bool,
}

/// The parts of Go's layouts. If two match, the longer one is first.
const SPELLINGS: &[(&str, Part)] = &[
    ("January", Part::Clock(|c| MONTHS[c.month - 1].to_owned())),
    ("Jan", Part::Clock(|c| MONTHS[c.month - 1][..3].to_owned())),
    ("Monday", Part::Clock(|c| DAYS[c.weekday].to_owned())),
    ("Mon", Part::Clock(|c| DAYS[c.weekday][..3].to_owned())),
    ("MST", Part::Zone),
    ("002", Part::Clock(|c| format!("{:03}", c.day_of_year))),
    ("01", Part::Clock(|c| format!("{:02}", c.month))),
    ("02", Part::Clock(|c| format!("{:02}", c.day))),
    ("03", Part::Clock(|c| format!("{:02}", hour12(c)))),
    ("04", Part::Clock(|c| format!("{:02}", c.minute))),
    ("05", Part::Clock(|c| format!("{:02}", c.second))),
    ("06", Part::Clock(|c| format!("{:02}", c.year.rem_euclid(100)))),
    ("15", Part::Clock(|c| format!("{:02}", c.hour))),
    ("1", Part::Clock(|c| c.month.to_string())),
    ("2006", Part::Clock(|c| format!("{:04}", c.year))),
    ("2", Part::Clock(|c| c.day.to_string())),
    ("__2", Part::Clock(|c| format!("{:3}", c.day_of_year))),
    ("_2", Part::Clock(|c| format!("{:2}", c.day))),
    ("3", Part::Clock(|c| hour12(c).to_string())),
    ("4", Part::Clock(|c| c.minute.to_string())),
    ("5", Part::Clock(|c| c.second.to_string())),
    ("PM", Part::Clock(|c| if c.hour < 12 { "AM" } else { "PM" }.to_owned())),
    ("pm", Part::Clock(|c| if c.hour < 12 { "am" } else { "pm" }.to_owned())),
    ("-070000", Part::Offset(Offset { z: false, parts: 3, colons: false })),
    ("-07:00:00", Part::Offset(Offset { z: false, parts: 3, colons: true })),
    ("-0700", Part::Offset(Offset { z: false, parts: 2, colons: false })),
    ("-07:00", Part::Offset(Offset { z: false, parts: 2, colons: true })),
    ("-07", Part::Offset(Offset { z: false, parts: 1, colons: false })),
    ("Z070000", Part::Offset(Offset { z: true, parts: 3, colons: false })),
    ("Z07:00:00", Part::Offset(Offset { z: true, parts: 3, colons: true })),
    ("Z0700", Part::Offset(Offset { z: true, parts: 2, colons: false })),
    ("Z07:00", Part::Offset(Offset { z: true, parts: 2, colons: true })),
    ("Z07", Part::Offset(Offset { z: true, parts: 1, colons: false })),
];

/// The first part of a non-empty layout, and its length.
fn next(layout: &[u8]) -> (Part, usize) {
    if let [b'.' | b',', digit @ (b'0' | b'9'), ..] = layout {
        let digits = layout[1..].iter().take_while(|byte| *byte == digit).count();
        // Not a fraction if other digits follow: `.001` is text.
        if !layout.get(1 + digits).is_some_and(u8::is_ascii_digit) {
            return (Part::Fraction { digits, trimmed: *digit == b'9' }, 1 + digits);
        }
    }
    // `_2006` is a year behind an underscore, not a day and `006`.
    if layout.starts_with(b"_2006") {
        return (Part::Text, 1);
    }
    for (spelling, part) in SPELLINGS {
        if let Some(rest) = layout.strip_prefix(spelling.as_bytes()) {
            // `Janet` and `Month` are words.
            let word = matches!(*spelling, "Jan" | "Mon") && rest.first().is_some_and(u8::is_ascii_lowercase);
            if !word {
                return (*part, spelling.len());
            }
        }
    }
    (Part::Text, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2022-02-03 04:05:06.078 in a zone of +05:30.
    const MORNING: Time<'_> = Time { unix: 1_643_841_306, nanos: 78_000_000, offset: 19_800, zone: "IST" };

    fn check(time: Time<'_>, layout: &str, expected: &str) {
        assert_eq!(String::from_utf8_lossy(&time.format(layout.as_bytes())), expected, "{layout}");
    }

    #[test]
    fn every_part_of_the_reference_time() {
        check(MORNING, "2006-01-02T15:04:05Z07:00", "2022-02-03T04:05:06+05:30");
        check(MORNING, "06 1 Jan January 2 _2 02", "22 2 Feb February 3  3 03");
        check(MORNING, "002 __2 Mon Monday", "034  34 Thu Thursday");
        check(MORNING, "15 3 03 4 04 5 05 PM pm", "04 4 04 5 05 6 06 AM am");
        check(MORNING, "MST -0700 -07:00 -07 -070000 -07:00:00", "IST +0530 +05:30 +05 +053000 +05:30:00");
        check(MORNING, "Z0700 Z07:00 Z07 Z070000 Z07:00:00", "+0530 +05:30 +05 +053000 +05:30:00");
        check(MORNING, ".000 ,000 .0 .000000000 .999 .99", ".078 ,078 .0 .078000000 .078 .07");
    }

    #[test]
    fn utc_and_afternoon() {
        let noon = Time { unix: 1_709_208_000, nanos: 0, offset: 0, zone: "UTC" };
        check(noon, "2006-01-02 03:04:05 PM Z0700 -0700 MST .999", "2024-02-29 12:00:00 PM Z +0000 UTC ");
        check(noon, "002", "060");
        let midnight = Time { unix: 0, ..noon };
        check(midnight, "Mon Jan _2 3PM 2006", "Thu Jan  1 12AM 1970");
    }

    #[test]
    fn zones_without_a_name_show_their_offset() {
        let zone = |offset| Time { offset, zone: "", ..MORNING };
        check(zone(-3 * 3600), "MST", "-03");
        check(zone(-(3 * 3600 + 1800)), "MST Z07:00", "-0330 -03:30");
    }

    #[test]
    fn other_text_is_copied() {
        check(MORNING, "Janet Month _2006 .001 x\u{e9}", "Janet Month _2022 .002 x\u{e9}");
        check(MORNING, "", "");
        assert_eq!(MORNING.format(b"\xff2006"), b"\xff2022");
    }

    #[test]
    fn days_of_far_years() {
        let at = |unix| Time { unix, nanos: 0, offset: 0, zone: "UTC" };
        check(at(951_782_400), "2006-01-02 Mon 002", "2000-02-29 Tue 060");
        check(at(4_107_542_400), "2006-01-02 Mon 002", "2100-03-01 Mon 060");
        check(at(-1), "2006-01-02 15:04:05 002", "1969-12-31 23:59:59 365");
        check(at(-62_135_596_800), "2006-01-02 Mon", "0001-01-01 Mon");
    }
}
