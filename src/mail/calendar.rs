//! Calendar parts: invitations, their answers and cancellations (iCalendar, RFC 5545; iTIP, RFC 5546).
//!
//! Reads the first event or task of a `text/calendar` part and says it in one sentence. Nothing is computed that the
//! part does not say: a repeating event keeps its rule as text, and a time in an unknown zone keeps the zone's name and
//! has no instant. Every text is bounded.

mod lines;
mod sentence;
#[cfg(test)]
mod tests;

use std::fmt;

use jiff::{Span, Timestamp, civil, tz::TimeZone};

use lines::Line;
pub use sentence::describe;

/// The most attendees kept.
pub const MOST_ATTENDEES: usize = 500;
/// The most bytes kept of one value.
pub const MOST_VALUE: usize = 4096;

/// What a component is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Component {
    /// An event (`VEVENT`).
    #[default]
    Event,
    /// A task (`VTODO`).
    Task,
}

/// A day or a time.
#[derive(Clone, PartialEq, Eq)]
pub enum When {
    /// A whole day.
    Day(civil::Date),
    /// A time as the clocks show it.
    Time {
        /// What the clocks show.
        wall: civil::DateTime,
        /// The zone's name as written, `UTC`, or none: then it is meant wherever one is.
        zone: Option<String>,
        /// The instant, where the zone is known.
        instant: Option<Timestamp>,
    },
    /// What could not be read.
    Text(String),
}

impl fmt::Debug for When {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            When::Day(_) => "Day(..)",
            When::Time { instant: Some(_), .. } => "Time(..)",
            When::Time { .. } => "Time(.., no instant)",
            When::Text(_) => "Text(..)",
        })
    }
}

/// Who called or who comes.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Person {
    /// The name, where it is told.
    pub name: Option<String>,
    /// The address, without `mailto:`.
    pub address: String,
    /// How an attendee answered: `ACCEPTED`, `DECLINED`, `TENTATIVE`, `NEEDS-ACTION`, .. (RFC 5545, section 3.2.12).
    pub answer: Option<String>,
}

impl Person {
    /// The name, or the address where there is none.
    pub fn called(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.address)
    }
}

impl fmt::Debug for Person {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Person").field("answer", &self.answer).finish_non_exhaustive()
    }
}

/// The first event or task of a calendar part.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// What it is.
    pub component: Component,
    /// What is to be done with it, in upper case: `REQUEST`, `REPLY`, `CANCEL`, .. (RFC 5546, section 1.4).
    pub method: Option<String>,
    /// What stays the same through all changes.
    pub uid: Option<String>,
    /// How often it was changed.
    pub sequence: u32,
    /// The title.
    pub summary: Option<String>,
    /// When it begins.
    pub start: Option<When>,
    /// When it ends; whole days end before this day. Of a task, when it is due.
    pub end: Option<When>,
    /// Where.
    pub location: Option<String>,
    /// Who called.
    pub organizer: Option<Person>,
    /// Who is called; in a `REPLY` who answers.
    pub attendees: Vec<Person>,
    /// `CONFIRMED`, `TENTATIVE`, `CANCELLED`, .. in upper case.
    pub status: Option<String>,
    /// The rule by which it repeats, as written.
    pub rule: Option<String>,
    /// Which date of a series is meant, where it is one.
    pub of_series: Option<When>,
    /// What is written below the title.
    pub description: Option<String>,
}

impl fmt::Debug for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Event")
            .field("component", &self.component)
            .field("method", &self.method)
            .field("sequence", &self.sequence)
            .field("start", &self.start)
            .field("attendees", &self.attendees.len())
            .finish_non_exhaustive()
    }
}

/// Reads a calendar part. `None` if it holds neither event nor task.
pub fn read(text: &str) -> Option<Event> {
    let mut reader = Reader::default();
    for line in lines::unfolded(text) {
        let Some(line) = lines::read(&line) else { continue };
        if reader.line(&line) {
            break;
        }
    }
    reader.found.then(|| reader.finish())
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    event: Event,
    /// Whether the event or task has begun.
    found: bool,
    /// How many components are open within it, such as alarms, whose lines are not its own.
    within: usize,
    duration: Option<Span>,
}

impl Reader {
    /// Takes a line. True at the end of the event.
    fn line(&mut self, line: &Line<'_>) -> bool {
        let begins = line.name.eq_ignore_ascii_case("BEGIN");
        let ends = line.name.eq_ignore_ascii_case("END");
        match (self.found, begins, ends) {
            (true, true, _) => self.within += 1,
            (true, _, true) if self.within == 0 => return true,
            (true, _, true) => self.within -= 1,
            (true, ..) if self.within == 0 => self.property(line),
            (false, true, _) => self.begin(line.value.trim()),
            (false, false, false) if line.name.eq_ignore_ascii_case("METHOD") => self.event.method = upper(line),
            _ => {}
        }
        false
    }

    fn begin(&mut self, component: &str) {
        self.found = true;
        self.event.component = match component.to_ascii_uppercase().as_str() {
            "VEVENT" => Component::Event,
            "VTODO" => Component::Task,
            _ => {
                self.found = false;
                return;
            }
        };
    }

    fn property(&mut self, line: &Line<'_>) {
        let event = &mut self.event;
        match line.name.to_ascii_uppercase().as_str() {
            "UID" => event.uid = line.text(MOST_VALUE),
            "SEQUENCE" => event.sequence = line.value.trim().parse().unwrap_or(0),
            "SUMMARY" => event.summary = line.text(MOST_VALUE),
            "DESCRIPTION" => event.description = line.text(MOST_VALUE),
            "LOCATION" => event.location = line.text(MOST_VALUE),
            "DTSTART" => event.start = when(line),
            "DTEND" | "DUE" => event.end = when(line),
            "RECURRENCE-ID" => event.of_series = when(line),
            "DURATION" => self.duration = line.value.trim().parse().ok(),
            "STATUS" => event.status = upper(line),
            "RRULE" => event.rule = line.text(MOST_VALUE),
            "ORGANIZER" => event.organizer = person(line),
            "ATTENDEE" if event.attendees.len() < MOST_ATTENDEES => event.attendees.extend(person(line)),
            _ => {}
        }
    }

    fn finish(self) -> Event {
        let mut event = self.event;
        if event.end.is_none()
            && let (Some(start), Some(duration)) = (&event.start, self.duration)
        {
            event.end = later(start, duration);
        }
        event
    }
}

fn upper(line: &Line<'_>) -> Option<String> {
    line.text(64).map(|text| text.to_ascii_uppercase())
}

/// The person of a line `ATTENDEE` or `ORGANIZER`.
fn person(line: &Line<'_>) -> Option<Person> {
    let value = line.value.trim();
    let scheme = value.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("mailto:"));
    let address = lines::cut(if scheme { value.get(7..)? } else { value }, MOST_VALUE).trim().to_owned();
    let name = line.parameter("CN").map(|name| lines::cut(&name, MOST_VALUE).trim().to_owned());
    let answer = line.parameter("PARTSTAT").map(|answer| lines::cut(&answer, 64).to_ascii_uppercase());
    let name = name.filter(|name| !name.is_empty());
    (!address.is_empty() || name.is_some()).then_some(Person { name, address, answer })
}

/// The day or time of a line.
fn when(line: &Line<'_>) -> Option<When> {
    let value = line.value.trim();
    if value.is_empty() {
        return None;
    }
    let read = moment(value, line.parameter("TZID").map(|zone| lines::cut(&zone, 255).to_owned()));
    Some(read.unwrap_or_else(|| When::Text(lines::cut(value, MOST_VALUE).to_owned())))
}

/// `YYYYMMDD`, `YYYYMMDDTHHMMSS` or the latter with `Z`.
fn moment(value: &str, zone: Option<String>) -> Option<When> {
    let (day, time) = value.split_once(['T', 't']).map_or((value, None), |(day, time)| (day, Some(time)));
    let part = |text: &str, from: usize, to: usize| -> Option<i16> {
        text.get(from..to).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
    };
    let small = |text: &str, from: usize| -> Option<i8> { i8::try_from(part(text, from, from + 2)?).ok() };
    let date = civil::Date::new(part(day, 0, 4)?, small(day, 4)?, small(day, 6)?).ok().filter(|_| day.len() == 8)?;
    let Some(time) = time else { return Some(When::Day(date)) };
    let (clock, utc) = time.strip_suffix(['Z', 'z']).map_or((time, false), |clock| (clock, true));
    // A leap second is read as the second before it.
    let clock_time = civil::Time::new(small(clock, 0)?, small(clock, 2)?, small(clock, 4)?.min(59), 0).ok();
    let wall = date.to_datetime(clock_time.filter(|_| clock.len() == 6)?);
    let zone = if utc { Some("UTC".to_owned()) } else { zone };
    let instant = zone.as_deref().and_then(known_zone).and_then(|known| known.to_timestamp(wall).ok());
    Some(When::Time { wall, zone, instant })
}

/// The zone of a name, also behind a prefix as in `/vendor.example/2005/Europe/Berlin`.
fn known_zone(name: &str) -> Option<TimeZone> {
    if name.eq_ignore_ascii_case("UTC") || name.eq_ignore_ascii_case("GMT") {
        return Some(TimeZone::UTC);
    }
    let name = name.trim();
    let Some(path) = name.strip_prefix('/') else { return TimeZone::get(name).ok() };
    let starts = path.match_indices('/').rev().map(|(at, _)| at + 1).take(3);
    starts.filter_map(|at| path.get(at..)).find_map(|rest| TimeZone::get(rest).ok())
}

/// `start` and a duration.
fn later(start: &When, duration: Span) -> Option<When> {
    match start {
        When::Day(day) => day.checked_add(duration).ok().map(When::Day),
        When::Time { wall, zone, instant } => {
            // Hours pass as they are, days by the calendar: both in the zone, where it is known.
            let known = zone.as_deref().and_then(known_zone);
            let ended = instant.zip(known).and_then(|(at, zone)| at.to_zoned(zone).checked_add(duration).ok());
            match ended {
                Some(end) => {
                    Some(When::Time { wall: end.datetime(), zone: zone.clone(), instant: Some(end.timestamp()) })
                }
                None => {
                    let wall = wall.checked_add(duration).ok()?;
                    Some(When::Time { wall, zone: zone.clone(), instant: None })
                }
            }
        }
        When::Text(_) => None,
    }
}
