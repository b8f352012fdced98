//! An event in one English sentence, for those who have no calendar at hand.

use jiff::civil;

use super::{Component, Event, Person, When, lines};

/// The most bytes of a name, a title or a place in a sentence.
const MOST_WORDS: usize = 300;

/// Says an event in one sentence: who does what, the title, when and where.
pub fn describe(event: &Event) -> String {
    let (who, does) = deed(event);
    let title = event.summary.as_deref().map(quoted);
    let thing = match (title, event.component) {
        (Some(title), _) => title,
        (None, Component::Event) => "an event without a title".to_owned(),
        (None, Component::Task) => "a task without a title".to_owned(),
    };
    let mut out = match who {
        Some(who) => format!("{} {does} {thing}", words(who.called())),
        None => format!("{does} {thing}"),
    };
    if let Some(span) = span(event) {
        out.push_str(&span);
    }
    if let Some(place) = &event.location {
        out.push_str(&format!(", at {}", words(place)));
    }
    if let Some(rule) = &event.rule {
        out.push_str(&format!(", repeating ({})", words(rule)));
    } else if event.of_series.is_some() {
        out.push_str(", one date of a series");
    }
    out.push('.');
    out
}

/// Who does what. Without a person the words stand before the title by themselves.
fn deed(event: &Event) -> (Option<&Person>, &'static str) {
    let cancelled = event.status.as_deref() == Some("CANCELLED");
    let attendee = event.attendees.first();
    match event.method.as_deref().unwrap_or_default() {
        "REPLY" => match attendee {
            Some(one) => (attendee, answer(one)),
            None => (None, "Answer to the invitation to"),
        },
        "COUNTER" => by(attendee, "proposes another time for", "Proposal of another time for"),
        "REFRESH" => by(attendee, "asks for the current form of", "Question for the current form of"),
        "DECLINECOUNTER" => by(event.organizer.as_ref(), "keeps the time of", "No other time for"),
        "CANCEL" => by(event.organizer.as_ref(), "cancels", "Cancellation of"),
        _ if cancelled => by(event.organizer.as_ref(), "cancels", "Cancellation of"),
        "ADD" => by(event.organizer.as_ref(), "adds a date to", "One more date of"),
        "REQUEST" if event.component == Component::Task => by(event.organizer.as_ref(), "assigns the task", "Task"),
        "REQUEST" if event.sequence > 0 => {
            by(event.organizer.as_ref(), "updates the invitation to", "Updated invitation to")
        }
        "REQUEST" => by(event.organizer.as_ref(), "invites to", "Invitation to"),
        _ if event.component == Component::Task => (None, "Task"),
        _ => (None, "Event"),
    }
}

fn by<'a>(who: Option<&'a Person>, does: &'static str, alone: &'static str) -> (Option<&'a Person>, &'static str) {
    (who, if who.is_some() { does } else { alone })
}

/// How an attendee answers.
fn answer(attendee: &Person) -> &'static str {
    match attendee.answer.as_deref().unwrap_or_default() {
        "ACCEPTED" => "accepts",
        "DECLINED" => "declines",
        "TENTATIVE" => "tentatively accepts",
        "DELEGATED" => "passes on",
        "COMPLETED" => "has completed",
        "IN-PROCESS" => "has begun",
        _ => "answers the invitation to",
    }
}

/// From when to when.
fn span(event: &Event) -> Option<String> {
    if event.component == Component::Task {
        let due = event.end.as_ref().map(|end| format!(", due {}", moment(end)));
        return due.or_else(|| event.start.as_ref().map(|start| format!(", from {}", moment(start))));
    }
    let start = event.start.as_ref()?;
    Some(match (start, event.end.as_ref()) {
        (When::Day(first), Some(When::Day(after))) => match after.yesterday() {
            Ok(last) if last > *first => format!(" from {} to {}", day(*first), day(last)),
            _ => format!(" on {}", day(*first)),
        },
        (When::Time { wall, zone, .. }, Some(When::Time { wall: end, zone: end_zone, .. })) => {
            let same_zone = zone == end_zone;
            match (same_zone, wall.date() == end.date()) {
                (true, true) if wall == end => format!(" on {}", moment(start)),
                (true, true) => {
                    format!(" on {}, {} to {}{}", day(wall.date()), clock(*wall), clock(*end), in_zone(zone))
                }
                (true, false) => format!(
                    " from {}, {} to {}, {}{}",
                    day(wall.date()),
                    clock(*wall),
                    day(end.date()),
                    clock(*end),
                    in_zone(zone)
                ),
                (false, _) => format!(" from {} to {}", moment(start), moment(event.end.as_ref().unwrap_or(start))),
            }
        }
        _ => format!(" on {}", moment(start)),
    })
}

fn moment(when: &When) -> String {
    match when {
        When::Day(date) => day(*date),
        When::Time { wall, zone, .. } => format!("{}, {}{}", day(wall.date()), clock(*wall), in_zone(zone)),
        When::Text(text) => words(text),
    }
}

/// Such as `Tuesday, 3 March 2026`.
fn day(date: civil::Date) -> String {
    date.strftime("%A, %-d %B %Y").to_string()
}

fn clock(wall: civil::DateTime) -> String {
    format!("{:02}:{:02}", wall.hour(), wall.minute())
}

fn in_zone(zone: &Option<String>) -> String {
    zone.as_deref().map(|zone| format!(" ({})", words(zone))).unwrap_or_default()
}

/// A text in one line and not too long.
fn words(text: &str) -> String {
    let cut = lines::cut(text, MOST_WORDS);
    let mut out = cut.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).fold(
        String::with_capacity(cut.len()),
        |mut out, word| {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(word);
            out
        },
    );
    if cut.len() < text.len() {
        out.push('…');
    }
    out
}

fn quoted(title: &str) -> String {
    format!("\"{}\"", words(title))
}
