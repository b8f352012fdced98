//! Durations and sizes as people write them: `90s`, `5m`, `14d`; `500kB`, `2MiB`.

use std::time::Duration;

use crate::base::Error;

/// Units of time, with their length in milliseconds.
const TIMES: [(&str, u64); 6] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// Units of size, with their length in bytes. `k` and `M` alone are not taken, since half of the readers take them for
/// the other thing.
const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

/// Reads a duration: a whole number and one of `ms`, `s`, `m`, `h`, `d`, `w`; several may follow each other, as in
/// `1h30m`. `0` needs no unit.
///
/// # Errors
///
/// [`Kind::Invalid`](crate::base::Kind) if the text is anything else, or does not fit in 64 bits of milliseconds.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use segue::config::units::duration;
/// assert_eq!(duration("90s").unwrap(), Duration::from_secs(90));
/// assert_eq!(duration("1h30m").unwrap(), Duration::from_secs(5400));
/// assert!(duration("90").is_err());
/// ```
pub fn duration(text: &str) -> Result<Duration, Error> {
    const WRONG: &str = "not a duration such as `90s`, `5m`, `2h` or `14d`";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    loop {
        let (number, unit, after) = split(rest).ok_or_else(|| Error::invalid(WRONG))?;
        let (_, length) = TIMES.iter().find(|(name, _)| *name == unit).ok_or_else(|| Error::invalid(WRONG))?;
        total = number
            .checked_mul(*length)
            .and_then(|millis| total.checked_add(millis))
            .ok_or_else(|| Error::invalid("duration is too long"))?;
        if after.is_empty() {
            return Ok(Duration::from_millis(total));
        }
        rest = after;
    }
}

/// Reads a size in bytes: a whole number and one of `B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`.
///
/// # Errors
///
/// [`Kind::Invalid`](crate::base::Kind) if the text is anything else, or does not fit in 64 bits.
///
/// # Example
///
/// ```
/// use segue::config::units::size;
/// assert_eq!(size("2MiB").unwrap(), 2_097_152);
/// assert_eq!(size("500kB").unwrap(), 500_000);
/// ```
pub fn size(text: &str) -> Result<u64, Error> {
    const WRONG: &str = "not a size such as `500kB` or `2MiB`";
    let (number, unit, after) = split(text).ok_or_else(|| Error::invalid(WRONG))?;
    let (_, length) = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(|| Error::invalid(WRONG))?;
    if !after.is_empty() {
        return Err(Error::invalid(WRONG));
    }
    number.checked_mul(*length).ok_or_else(|| Error::invalid("size is too large"))
}

/// Splits `12ms3s` into 12, `ms` and `3s`.
fn split(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = text.split_at_checked(digits)?;
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, after) = rest.split_at_checked(letters)?;
    Some((number.parse().ok()?, unit, after))
}

/// A duration in the largest units that say it exactly, as [`duration`] reads it.
pub fn show_duration(value: Duration) -> String {
    let mut rest = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, length) in TIMES.iter().rev().filter(|(unit, _)| *unit != "w") {
        if rest >= *length {
            text.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    if text.is_empty() { "0".into() } else { text }
}

/// A size in the largest binary unit that says it exactly, as [`size`] reads it.
pub fn show_size(bytes: u64) -> String {
    let exact = SIZES.iter().rev().find(|(_, length)| bytes >= *length && bytes.is_multiple_of(*length));
    exact.map_or_else(|| format!("{bytes}B"), |(unit, length)| format!("{}{unit}", bytes / length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_no_duration() {
        for text in
            ["", "s", "5", "-5s", "5 s", "5x", "5s ", "1.5h", "5sm", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in ["", "B", "5", "5M", "5kb", "5MiB5kB", "1.5MiB", "-1B", "99999999999999999999GiB"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn reads_back_the_durations_it_shows(millis: u64) {
            let value = Duration::from_millis(millis);
            prop_assert_eq!(duration(&show_duration(value)).unwrap(), value);
        }

        #[test]
        fn reads_back_the_sizes_it_shows(bytes: u64) {
            prop_assert_eq!(size(&show_size(bytes)).unwrap(), bytes);
        }

        #[test]
        fn survives_any_text(text: String) {
            let _ = duration(&text);
            let _ = size(&text);
        }
    }
}
