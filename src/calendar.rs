//! The Gregorian calendar: the date and the time of day of a moment.
//! Knows no clock, no time zone and no format.

/// The names of the months. Logs and layouts also use their first three letters.
pub const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The date and the time of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: i64,
    /// From 1.
    pub month: usize,
    /// From 1.
    pub day: u32,
    /// From 1.
    pub day_of_year: u32,
    /// From 0, a Sunday.
    pub weekday: usize,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
}

impl Civil {
    /// Converts seconds since 1970; local seconds give local time. Uses the proleptic calendar, in eras of 400 years
    /// that begin in March, so that the leap day is the last day of a year.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a second of a day, a day of a year and a day of a week are small and not negative"
    )]
    pub fn of(seconds: i64) -> Civil {
        let days = seconds.div_euclid(86_400);
        let of_day = seconds.rem_euclid(86_400) as u32;
        let since_march_0000 = days + 719_468;
        let era = since_march_0000.div_euclid(146_097);
        let day_of_era = since_march_0000.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_march_year = (day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100)) as u32;
        let march_month = (5 * day_of_march_year + 2) / 153;
        let month = (march_month + 2) % 12 + 1;
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        Civil {
            year,
            month: month as usize,
            day: day_of_march_year - (153 * march_month + 2) / 5 + 1,
            day_of_year: if month <= 2 { day_of_march_year - 305 } else { day_of_march_year + 60 + u32::from(leap) },
            weekday: (days + 4).rem_euclid(7) as usize,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_leap_years_and_times_before_1970() {
        let check = |seconds, date, time, day_of_year, weekday| {
            let c = Civil::of(seconds);
            assert_eq!(((c.year, c.month, c.day), (c.hour, c.minute, c.second)), (date, time), "{seconds}");
            assert_eq!((c.day_of_year, c.weekday), (day_of_year, weekday), "{seconds}");
        };
        check(0, (1970, 1, 1), (0, 0, 0), 1, 4);
        check(-1, (1969, 12, 31), (23, 59, 59), 365, 3);
        check(951_868_799, (2000, 2, 29), (23, 59, 59), 60, 2);
        check(951_868_800, (2000, 3, 1), (0, 0, 0), 61, 3);
        check(4_107_542_400, (2100, 3, 1), (0, 0, 0), 60, 1);
        check(253_402_300_799, (9999, 12, 31), (23, 59, 59), 365, 5);
        check(-62_135_596_800, (1, 1, 1), (0, 0, 0), 1, 1);
        // The first and the last moment of a clock overflow nothing.
        Civil::of(i64::MIN);
        Civil::of(i64::MAX);
    }

    #[test]
    fn days_follow_each_other() {
        let mut last = Civil::of(-400 * 366 * 86_400);
        for day in -400 * 366 + 1..400 * 366 {
            let next = Civil::of(day * 86_400);
            assert_eq!(next.weekday, (last.weekday + 1) % 7);
            let expected = if next.day > 1 {
                (last.year, last.month, last.day + 1, last.day_of_year + 1)
            } else if next.month > 1 {
                (last.year, last.month + 1, 1, last.day_of_year + 1)
            } else {
                (last.year + 1, 1, 1, 1)
            };
            assert_eq!((next.year, next.month, next.day, next.day_of_year), expected);
            last = next;
        }
    }
}
