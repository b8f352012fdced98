//! The time in a Date field (RFC 5322, section 3.3, with the obsolete forms) as seconds since 1970.
//!
//! Words are taken for what they look like, wherever they stand: real mail has the year last, dashes, `9:00 AM`, the zone
//! in words. A date that is not in the calendar is none.

use jiff::civil::DateTime;

/// What is looked at, in bytes: longer ones are no dates.
const LONGEST: usize = 200;
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// Names of zones and their hours from Greenwich. RFC 5322 knows the American ones; the others come in mail.
const ZONES: [(&str, i64); 22] = [
    ("gmt", 0),
    ("ut", 0),
    ("utc", 0),
    ("z", 0),
    ("wet", 0),
    ("est", -5),
    ("edt", -4),
    ("cst", -6),
    ("cdt", -5),
    ("mst", -7),
    ("mdt", -6),
    ("pst", -8),
    ("pdt", -7),
    ("bst", 1),
    ("cet", 1),
    ("met", 1),
    ("west", 1),
    ("cest", 2),
    ("mest", 2),
    ("eet", 2),
    ("eest", 3),
    ("jst", 9),
];

#[derive(Default)]
struct Seen {
    day: Option<i8>,
    month: Option<i8>,
    year: Option<i16>,
    time: Option<(i8, i8, i8)>,
    /// Seconds east of Greenwich.
    offset: Option<i64>,
}

/// Seconds since 1970-01-01 UTC of the date in `value`. Without a zone it is taken for UTC; without a time there is none.
pub fn parse(value: &str) -> Option<i64> {
    let value = without_comments(value.get(..LONGEST.min(value.len())).or(value.get(..value.len().min(LONGEST - 3)))?);
    let mut seen = Seen::default();
    for word in value.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()) {
        seen.word(word);
    }
    let (hour, minute, second) = seen.time?;
    let date = DateTime::new(seen.year?, seen.month?, seen.day?, hour, minute, second.min(59), 0).ok()?;
    let local = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
    Some(local - seen.offset.unwrap_or(0) + i64::from(second == 60))
}

impl Seen {
    fn word(&mut self, word: &str) {
        let first = word.chars().next().unwrap_or(' ');
        if matches!(first, '+' | '-') && self.time.is_some() {
            self.offset = self.offset.or_else(|| numeric_zone(word));
        } else if word.contains(':') {
            self.clock(word);
        } else if first.is_ascii_digit() && word.contains('-') {
            self.dashed(word);
        } else if first.is_ascii_digit() {
            self.number(word);
        } else {
            self.name(word);
        }
    }

    /// A day or a year. Two and three digits are RFC 5322's obsolete years.
    fn number(&mut self, word: &str) {
        let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
        let Ok(number) = digits.parse::<i16>() else { return };
        match digits.len() {
            1 | 2 if self.day.is_none() => self.day = i8::try_from(number).ok(),
            2 if self.year.is_none() => self.year = Some(if number < 50 { 2000 + number } else { 1900 + number }),
            3 if self.year.is_none() => self.year = Some(1900 + number),
            4 if self.year.is_none() => self.year = Some(number),
            _ => {}
        }
    }

    fn name(&mut self, word: &str) {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphabetic()).to_ascii_lowercase();
        let month = word.get(..3).and_then(|start| MONTHS.iter().position(|month| *month == start));
        if let (Some(month), None) = (month, self.month) {
            self.month = i8::try_from(month + 1).ok();
        } else if let (Some((hour, minute, second)), "am" | "pm") = (self.time, word.as_str()) {
            let hour = hour % 12 + if word == "pm" { 12 } else { 0 };
            self.time = Some((hour, minute, second));
        } else if self.offset.is_none() && self.time.is_some() {
            self.offset = ZONES.iter().find(|(name, _)| *name == word).map(|(_, hours)| hours * 3600);
        }
    }

    /// `1-Jan-2003`, `2003-01-31`, and the latter with `T` and a time behind.
    fn dashed(&mut self, word: &str) {
        let mut parts = word.split('-');
        let (Some(a), Some(b), Some(c)) = (parts.next(), parts.next(), parts.next()) else { return };
        if a.len() == 4 {
            self.year = a.parse().ok();
            self.month = b.parse().ok();
            self.day = c.parse().ok();
        } else {
            self.number(a);
            self.name(b);
            self.number(c);
        }
    }

    /// `9:00`, `09:00:01`, `09:00:01+0200`, `2003-01-31T09:00:01Z`.
    fn clock(&mut self, word: &str) {
        if let Some((date, time)) = word.split_once(['T', 't']).filter(|(date, _)| date.contains('-')) {
            self.dashed(date);
            return self.clock(time);
        }
        let end = word.find(|c: char| !matches!(c, '0'..='9' | ':')).unwrap_or(word.len());
        let (time, zone) = word.split_at_checked(end).unwrap_or((word, ""));
        let mut numbers = time.split(':').map(|number| number.parse::<i8>().ok());
        let (Some(Some(hour)), Some(Some(minute))) = (numbers.next(), numbers.next()) else { return };
        let second = numbers.next().flatten().unwrap_or(0);
        self.time = self.time.or((second <= 60).then_some((hour, minute, second)));
        // Fractions of a second.
        let zone = zone.trim_start_matches(|c: char| matches!(c, '.' | '0'..='9'));
        if !zone.is_empty() && !zone.contains(':') || zone.starts_with(['+', '-']) {
            self.word(zone);
        }
    }
}

/// `+0200`, `-02:30`, `+02`.
fn numeric_zone(word: &str) -> Option<i64> {
    let west = word.starts_with('-');
    let digits: String = word.chars().skip(1).filter(|c| *c != ':').take_while(char::is_ascii_digit).collect();
    let (hours, minutes) = match digits.len() {
        1 | 2 => (digits.parse::<i64>().ok()?, 0),
        3 | 4 => {
            let number = digits.parse::<i64>().ok()?;
            (number / 100, number % 100)
        }
        _ => return None,
    };
    let seconds = (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)?;
    Some(if west { -seconds } else { seconds })
}

/// The text with its comments, which may hold others, as blanks.
fn without_comments(value: &str) -> String {
    let mut depth = 0_usize;
    let keep = |c: char| {
        match c {
            '(' => depth += 1,
            ')' if depth > 0 => {
                depth -= 1;
                return ' ';
            }
            _ => {}
        }
        if depth > 0 { ' ' } else { c }
    };
    value.chars().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_of_the_rfc() {
        assert_eq!(parse("Fri, 21 Nov 1997 09:55:06 -0600"), Some(880_127_706));
        assert_eq!(parse("21 Nov 97 09:55:06 GMT"), Some(880_106_106));
        assert_eq!(parse("Thu, 13 Feb 1969 23:32 -0330"), Some(-27_723_480));
        assert_eq!(parse("Thu,\r\n 13 (x (y) z) Feb (c) 1969 23:32 -0330 (Newfoundland)"), Some(-27_723_480));
        assert_eq!(parse("Sat, 31 Dec 2016 23:59:60 +0000"), Some(1_483_228_800));
    }

    #[test]
    fn the_forms_that_come() {
        let noon = Some(1_049_889_600);
        for text in [
            "Wednesday, April 09, 2003 12:00 PM",
            "Wed Apr  9 12:00:00 2003",
            "Wed Apr  9 12:00:00 UTC 2003",
            "9-Apr-2003 12:00:00 GMT",
            "2003-04-09 12:00:00",
            "2003-04-09T12:00:00Z",
            "2003-04-09T14:00:00.123+02:00",
            "Wed, 9 Apr 103 12:00 UT",
            "9 Apr 2003 21:00:00 JST",
            "Wed, 09 Apr 2003 14:00:00+0200",
        ] {
            assert_eq!(parse(text), noon, "{text}");
        }
    }

    #[test]
    fn what_is_no_date() {
        for text in ["", "Whenever", "31 Feb 2003 09:00 GMT", "1 Jan 2003", "09:00:00", "1 Jan 2003 25:00 GMT", "<HR>"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[-+0-9:,. a-zA-Z()\u{e9}]{0,220}") {
            parse(&text);
        }

        #[test]
        fn what_is_written_well_is_read_back(seconds in 0_i64..4_000_000_000) {
            let zoned = jiff::Timestamp::from_second(seconds).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
            prop_assert_eq!(parse(&jiff::fmt::rfc2822::to_string(&zoned).unwrap()), Some(seconds));
        }
    }
}
