//! What persons are told, and when.

use super::*;

/// The state after a token was got at `NOW` with what `more` adds to the answer.
async fn state_after(own: Settings, more: Value) -> (Arc<World>, TokenSource) {
    let world = World::new();
    let source = world.source(own);
    let mut body = json!({ "access_token": "one", "expires_in": 3600 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.answers(200, body);
    got(&source, NOW).await;
    (world, source)
}

#[tokio::test]
async fn alarms_for_ends_that_are_known() {
    let plain = settings();
    let with_secret = |days: u64| Settings { secret_expires: Some(NOW + days * DAY), ..settings() };
    let ends = |days: u64| json!({ "refresh_token_expires_in": days * DAY });
    let own = Settings {
        grant: Grant::ClientCredentials,
        client_secret: Some(Zeroizing::new("x".to_owned())),
        ..with_secret(1)
    };
    type Row = (Settings, Value, Option<(u64, &'static str)>);
    let table: Vec<Row> = vec![
        (plain.clone(), json!({}), None),
        (plain.clone(), ends(8), None),
        (plain.clone(), ends(7), Some((7, "refresh token ends at 2026-03-09 10:00 UTC"))),
        (with_secret(8), ends(8), None),
        (with_secret(5), ends(8), Some((5, "client secret ends at 2026-03-07 10:00 UTC"))),
        (with_secret(5), ends(4), Some((4, "refresh token ends"))),
        (with_secret(3), ends(4), Some((3, "client secret ends"))),
        (with_secret(0), json!({}), Some((0, "client secret was to end at 2026-03-02 10:00 UTC"))),
        (own, ends(2), Some((1, "client secret ends"))),
    ];
    for (own, more, want) in table {
        let (_, source) = state_after(own, more.clone()).await;
        let alarm = source.alarm(NOW);
        match (&alarm, want) {
            (None, None) => {}
            (Some(alarm), Some((days, words))) => {
                assert_eq!((alarm.what, alarm.until), (What::EndsSoon, Some(NOW + days * DAY)));
                assert!(alarm.words.contains(words), "{}", alarm.words);
            }
            _ => panic!("{more}: {alarm:?}, not {want:?}"),
        }
    }
    // It comes as the time goes by.
    let (_, source) = state_after(settings(), ends(8)).await;
    assert_eq!(source.alarm(NOW + DAY - 1), None);
    assert_eq!(source.alarm(NOW + DAY).unwrap().what, What::EndsSoon);
}

#[tokio::test]
async fn an_end_that_each_renewal_moves_on_is_no_alarm() {
    let (world, source) = state_after(settings(), json!({ "refresh_expires_in": 7200, "refresh_token": "b" })).await;
    // One answer does not tell whether it moves.
    assert_eq!(source.alarm(NOW).unwrap().what, What::EndsSoon);
    let slid = json!({ "access_token": "two", "expires_in": 3600, "refresh_expires_in": 7200, "refresh_token": "c" });
    world.answers(200, slid);
    got(&source, NOW + 3400).await;
    assert_eq!(source.alarm(NOW + 3400), None);
    // It is still known after a restart.
    let kept = world.kept.lock().clone().unwrap();
    assert_eq!((kept.slides, kept.refresh.as_str()), (true, "c"));
    let source = world.source(settings());
    world.answers(200, json!({ "access_token": "three", "expires_in": 3600, "refresh_expires_in": 7200 }));
    got(&source, NOW + 3410).await;
    assert_eq!(source.alarm(NOW + 3410), None);
    // Google's end stays where it is.
    let (world, source) = state_after(settings(), json!({ "refresh_token_expires_in": 2 * DAY })).await;
    let left = 2 * DAY - 3398;
    world.answers(200, json!({ "access_token": "two", "expires_in": 3600, "refresh_token_expires_in": left }));
    got(&source, NOW + 3400).await;
    assert_eq!(source.alarm(NOW + 3400).unwrap().until, Some(NOW + 2 * DAY + 2));
    assert_eq!(world.log(), ["asked with first", "kept first", "asked with first"]);
}

#[tokio::test]
async fn alarms_for_failures_say_until_when_mail_comes() {
    let world = World::new();
    let source = world.source(Settings { secret_expires: Some(NOW), ..settings() });
    got_first(&world, &source).await;
    assert_eq!(source.alarm(NOW).unwrap().what, What::EndsSoon);
    world.is_away();
    assert_eq!(got(&source, NOW + 3300).await, "one");
    assert_eq!(source.alarm(NOW + 3300).unwrap().what, What::EndsSoon, "one failure is no matter");
    world.is_away();
    assert_eq!(got(&source, NOW + 3301).await, "one");
    let alarm = source.alarm(NOW + 3301).unwrap();
    assert_eq!((alarm.what, alarm.until), (What::Failing, Some(NOW + 3600)));
    assert!(alarm.words.contains("mail comes and goes until 2026-03-02 11:00 UTC"), "{}", alarm.words);
    world.refuses();
    assert_eq!(got(&source, NOW + 3310).await, "one");
    let alarm = source.alarm(NOW + 3310).unwrap();
    assert_eq!((alarm.what, alarm.until), (What::Refused, Some(NOW + 3600)));
    assert!(alarm.words.contains("sign in again"), "{}", alarm.words);
    let alarm = source.alarm(NOW + 3600).unwrap();
    assert!(alarm.words.contains("no mail comes or goes since 2026-03-02 11:00 UTC"), "{}", alarm.words);
    // Without any token, the first failure counts.
    let source = world.source(settings());
    world.is_away();
    failed(&source, NOW).await;
    let alarm = source.alarm(NOW).unwrap();
    assert_eq!((alarm.what, alarm.until), (What::Failing, None));
    assert!(alarm.words.ends_with("no mail comes or goes."), "{}", alarm.words);
}
