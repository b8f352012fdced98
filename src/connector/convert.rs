//! Reading the notations that providers use for times, durations and telephone numbers. No float touches any of them.

use crate::base::Timestamp;

/// What is this large are milliseconds: as seconds it would be the year 5138.
const FIRST_MILLIS: i64 = 100_000_000_000;

/// Seconds since the Unix epoch, with or without a fraction (`1531420618.000100`). Some providers write milliseconds in the
/// same field now and then, which are told by their size.
pub(super) fn unix(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let millis: i64 = fraction.chars().chain("000".chars()).take(3).collect::<String>().parse().ok()?;
    if seconds >= FIRST_MILLIS {
        return Some(Timestamp::from_millis(seconds));
    }
    let millis = if whole.starts_with('-') { -millis } else { millis };
    Some(Timestamp::from_seconds(seconds).plus_millis(millis))
}

/// ISO 8601, with an offset written `Z`, `+01:00` or `+0100`; without one it is UTC.
pub(super) fn iso(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f%z"] {
        if let Ok(time) = jiff::Timestamp::strptime(format, text) {
            return Some(Timestamp::from_millis(time.as_millisecond()));
        }
    }
    let local: jiff::civil::DateTime = text.parse().ok()?;
    let zoned = local.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp::from_millis(zoned.timestamp().as_millisecond()))
}

/// RFC 2822, as in `Tue, 31 Aug 2010 20:36:28 +0000`.
pub(super) fn rfc2822(text: &str) -> Option<Timestamp> {
    let zoned = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()?;
    Some(Timestamp::from_millis(zoned.as_millisecond()))
}

/// A duration such as `90s`, `5m`, `24h`, `7d`, in milliseconds.
pub(super) fn duration_millis(text: &str) -> Option<i64> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (amount, unit) = text.split_at_checked(unit)?;
    let scale = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    amount.parse::<i64>().ok()?.checked_mul(scale)
}

/// A telephone number in E.164 with its plus sign. A number without country code is read as one of `country`
/// (ISO 3166-1 alpha-2). Short codes, names and whatever else is no number give nothing.
pub fn e164(text: &str, country: Option<&str>) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix("tel:").unwrap_or(text);
    // Providers nearly always give E.164 already, and the full parser costs more than the rest of an interaction.
    if let Some(digits) = text.strip_prefix('+')
        && (7..=15).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|b| b.is_ascii_digit())
    {
        return Some(text.to_owned());
    }
    let country = country.and_then(|code| code.parse::<phonenumber::country::Id>().ok());
    let number = phonenumber::parse(country, text).ok().filter(phonenumber::is_valid)?;
    Some(number.format().mode(phonenumber::Mode::E164).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_time_format() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(unix("1531420618"), Some(at("2018-07-12T18:36:58.000Z")));
        assert_eq!(unix("1531420618.000100"), Some(at("2018-07-12T18:36:58.000Z")));
        assert_eq!(unix("1531420618.5"), Some(at("2018-07-12T18:36:58.500Z")));
        assert_eq!(unix("1531420618500"), Some(at("2018-07-12T18:36:58.500Z")));
        assert_eq!(unix("soon"), None);
        assert_eq!(unix("1.2.3"), None);
        assert_eq!(iso("2026-03-02T10:00:00+0000"), Some(at("2026-03-02T10:00:00.000Z")));
        assert_eq!(iso("2026-03-02T12:00:00+02:00"), Some(at("2026-03-02T10:00:00.000Z")));
        assert_eq!(iso("2026-03-02T10:00:00"), Some(at("2026-03-02T10:00:00.000Z")));
        assert_eq!(rfc2822("Tue, 31 Aug 2010 20:36:28 +0000"), Some(at("2010-08-31T20:36:28.000Z")));
        assert_eq!(rfc2822("yesterday"), None);
    }

    #[test]
    fn reads_durations() {
        assert_eq!(duration_millis("24h"), Some(86_400_000));
        assert_eq!(duration_millis("7d"), Some(604_800_000));
        assert_eq!(duration_millis("fast"), None);
        assert_eq!(duration_millis("5"), None);
    }

    #[test]
    fn reads_telephone_numbers() {
        assert_eq!(e164("+14155550100", None).as_deref(), Some("+14155550100"));
        assert_eq!(e164("(415) 555-2671", Some("US")).as_deref(), Some("+14155552671"));
        assert_eq!(e164("030 901820", Some("DE")).as_deref(), Some("+4930901820"));
        assert_eq!(e164("anonymous", Some("US")), None);
        assert_eq!(e164("030 901820", None), None);
    }
}
