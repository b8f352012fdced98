use proptest::prelude::*;

use super::*;

/// A calendar with one event of these lines.
fn event(method: &str, lines: &str) -> Event {
    let text = format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:{method}\r\nBEGIN:VTIMEZONE\r\nTZID:Here\r\nBEGIN:STANDARD\r\n\
         DTSTART:19700101T000000\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\nBEGIN:VEVENT\r\n{}\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\n\
         SUMMARY:Another\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
        lines.replace('\n', "\r\n")
    );
    read(&text).unwrap()
}

#[test]
fn an_invitation_is_read_and_said() {
    let event = event(
        "Request",
        "UID:1@x.example\nSEQUENCE:0\nSUMMARY:Budget\\, part 2\\; \"long\nDTSTART;TZID=Europe/Berlin:20260303T100000\n\
         DTEND;TZID=Europe/Berlin:20260303T113000\nLOCATION:Room 4\\nHouse B\nORGANIZER;CN=\"Berg; Ann\":mailto:ann@x.example\n\
         ATTENDEE;PARTSTAT=NEEDS-ACTION;CN=Bob:MAILTO:bob@x.example\nRRULE:FREQ=WEEKLY;COUNT=3\nSTATUS:confirmed\n\
         BEGIN:VALARM\nSUMMARY:not this\nEND:VALARM\nDESCRIPTION:a fol\n ded\n\t line",
    );
    assert_eq!((event.method.as_deref(), event.status.as_deref()), (Some("REQUEST"), Some("CONFIRMED")));
    assert_eq!((event.uid.as_deref(), event.description.as_deref()), (Some("1@x.example"), Some("a folded line")));
    assert_eq!(event.attendees[0].answer.as_deref(), Some("NEEDS-ACTION"));
    assert_eq!(event.attendees[0].address, "bob@x.example");
    let Some(When::Time { instant: Some(instant), .. }) = event.start else { panic!("{event:?}") };
    assert_eq!(instant.to_string(), "2026-03-03T09:00:00Z");
    assert_eq!(
        describe(&event),
        "Berg; Ann invites to \"Budget, part 2; \"long\" on Tuesday, 3 March 2026, 10:00 to 11:30 (Europe/Berlin), at Room 4 \
         House B, repeating (FREQ=WEEKLY;COUNT=3)."
    );
    assert!(!format!("{event:?}").contains("Budget") && !format!("{:?}", event.attendees).contains("bob"));
}

#[test]
fn answers_changes_and_cancellations_are_said() {
    let times = "SUMMARY:Budget\nDTSTART:20260303T090000Z\nDTEND:20260304T100000Z";
    let at = "\"Budget\" from Tuesday, 3 March 2026, 09:00 to Wednesday, 4 March 2026, 10:00 (UTC).";
    let attendee = |answer: &str| format!("{times}\nATTENDEE;PARTSTAT={answer}:mailto:bob@x.example");
    let organizer = format!("{times}\nSEQUENCE:2\nORGANIZER;CN=Ann:mailto:ann@x.example");
    let cases = [
        ("REPLY", attendee("ACCEPTED"), "bob@x.example accepts "),
        ("REPLY", attendee("DECLINED"), "bob@x.example declines "),
        ("REPLY", attendee("TENTATIVE"), "bob@x.example tentatively accepts "),
        ("REPLY", times.to_owned(), "Answer to the invitation to "),
        ("COUNTER", attendee("DECLINED"), "bob@x.example proposes another time for "),
        ("REQUEST", organizer.clone(), "Ann updates the invitation to "),
        ("CANCEL", organizer.clone(), "Ann cancels "),
        ("CANCEL", times.to_owned(), "Cancellation of "),
        ("PUBLISH", organizer, "Event "),
    ];
    for (method, lines, start) in cases {
        assert_eq!(describe(&event(method, &lines)), format!("{start}{at}"));
    }
}

#[test]
fn days_durations_and_odd_zones() {
    let said = |lines: &str| describe(&event("REQUEST", lines));
    assert_eq!(said("DTSTART;VALUE=DATE:20260303"), "Invitation to an event without a title on Tuesday, 3 March 2026.");
    assert_eq!(
        said("SUMMARY:X\nDTSTART;VALUE=DATE:20260303\nDTEND;VALUE=DATE:20260306"),
        "Invitation to \"X\" from Tuesday, 3 March 2026 to Thursday, 5 March 2026."
    );
    assert_eq!(
        said("SUMMARY:X\nDTSTART;TZID=\"W. Europe: Standard Time\":20260303T090000\nDURATION:PT1H30M"),
        "Invitation to \"X\" on Tuesday, 3 March 2026, 09:00 to 10:30 (W. Europe: Standard Time)."
    );
    assert_eq!(said("SUMMARY:X\nDTSTART:next week"), "Invitation to \"X\" on next week.");
    let start = |lines: &str| match event("REQUEST", lines).start {
        Some(When::Time { instant, .. }) => instant.map(|instant| instant.to_string()),
        _ => None,
    };
    let berlin = Some("2026-07-03T07:00:00Z".to_owned());
    assert_eq!(start("DTSTART;TZID=/vendor.example/2005_1/Europe/Berlin:20260703T090000"), berlin);
    assert_eq!(start("DTSTART;TZID=Nowhere/City:20260703T090000"), None);
    assert_eq!(start("DTSTART:20260703T090000"), None);
    // Over the change of clocks an hour stays an hour.
    let night = event("REQUEST", "DTSTART;TZID=Europe/Berlin:20260329T013000\nDURATION:PT1H");
    assert!(describe(&night).contains("01:30 to 03:30"), "{}", describe(&night));
}

#[test]
fn a_task_is_one() {
    let text = "BEGIN:VCALENDAR\nMETHOD:REQUEST\nBEGIN:VTODO\nSUMMARY:Send it\nDUE:20260303T090000Z\nORGANIZER:mailto:a@x.example\nEND:VTODO\n";
    let task = read(text).unwrap();
    assert_eq!(task.component, Component::Task);
    assert_eq!(describe(&task), "a@x.example assigns the task \"Send it\", due Tuesday, 3 March 2026, 09:00 (UTC).");
}

#[test]
fn what_is_no_event_is_none_and_what_breaks_off_is_read() {
    assert!(read("").is_none() && read("BEGIN:VCALENDAR\nBEGIN:VFREEBUSY\nEND:VFREEBUSY\n").is_none());
    assert_eq!(read("BEGIN:VEVENT\nSUMMARY:X").unwrap().summary.as_deref(), Some("X"));
    let bad = "DTSTART:20261303T090000Z\nDTEND:2026030\nSEQUENCE:-1\nATTENDEE:\nORGANIZER;CN=:mailto:";
    let bad = event("REQUEST", bad);
    assert_eq!((bad.start, bad.end), (Some(When::Text("20261303T090000Z".into())), Some(When::Text("2026030".into()))));
    assert!(bad.attendees.is_empty() && bad.organizer.is_none());
}

#[test]
fn long_parts_are_bounded() {
    let long =
        format!("BEGIN:VEVENT\nSUMMARY:{}\n{}", "ö".repeat(100_000), "ATTENDEE:mailto:a@x.example\n".repeat(2000));
    let event = read(&long).unwrap();
    assert!(event.summary.as_ref().unwrap().len() <= MOST_VALUE && event.attendees.len() == MOST_ATTENDEES);
    assert!(describe(&event).len() < 1000);
    let folded = format!("BEGIN:VEVENT\nSUMMARY:x\n{}", " y\n".repeat(200_000));
    assert!(read(&folded).unwrap().summary.unwrap().len() <= MOST_VALUE);
}

proptest! {
    #[test]
    fn no_text_makes_it_stop(lines in "((DTSTART|DTEND|DURATION|ATTENDEE|SUMMARY|BEGIN|END|RRULE)[;:\\PC\n]{0,30}\n){0,8}") {
        let _ = read(&format!("BEGIN:VEVENT\n{lines}")).map(|event| describe(&event));
        let _ = read(&lines);
    }

    #[test]
    fn no_moment_makes_it_stop(value in "[0-9TZ]{0,18}", zone in "[/A-Za-z]{0,20}", duration in "-?P?T?[0-9WDHMS]{0,12}") {
        let text = format!("BEGIN:VEVENT\nDTSTART;TZID={zone}:{value}\nDURATION:{duration}");
        let _ = read(&text).map(|event| describe(&event));
    }

    #[test]
    fn texts_come_back(summary in "[a-z,;\\\\\"öß]{1,40}") {
        let escaped = summary.replace('\\', "\\\\").replace(',', "\\,").replace(';', "\\;");
        let event = read(&format!("BEGIN:VEVENT\r\nSUMMARY:{escaped}\r\n")).unwrap();
        prop_assert_eq!(event.summary, Some(summary));
    }
}
