//! How mailboxes and sending do, for whoever watches.

use super::*;
use crate::flow::mailbox::State;
use crate::flow::sending::Cause;
use crate::net::imap::Fault;

/// The setup of the trials, with mailboxes beside the channel that is there.
fn with_mailboxes(names: [&str; 2], paused: &str) -> Setup {
    let mut setup = setup("msg.poison");
    let folder = Folder::embedded().into_iter().find(|folder| folder.name == "email").unwrap();
    let connector = Arc::new(Connector::load(Arc::new(folder), None).unwrap_or_else(|wrong| panic!("{wrong:?}")));
    let options = json!({
        "address": "box@example.test", "imap_host": "imap.example.test", "user": "box", "password": "word-of-secret",
    });
    for name in names {
        let account = connector.account(name, options.as_object().unwrap(), None).unwrap();
        let channel = ChannelSetup { connector: connector.clone(), account, queue: None, paused: name == paused };
        setup.channels.insert(name.to_owned(), channel);
    }
    setup
}

/// The states that the metrics tell of a mailbox.
fn measured(metrics: &Reply, name: &str) -> Vec<String> {
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    let of = |state: State| {
        let line = |value: u8| format!("segue_mailboxes{{name=\"{name}\",result=\"{}\"}} {value}\n", state.word());
        assert_eq!(text.contains(&line(1)), !text.contains(&line(0)), "{text}");
        text.contains(&line(1)).then(|| state.word().to_owned())
    };
    State::ALL.into_iter().filter_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_tells_of_mailboxes_and_hangs_on_none() {
    let gateway = Gateway::idle(Timing::default(), 4).await;
    gateway.context.setup.store(Arc::new(with_mailboxes(["broken", "rests"], "rests")));
    let now = gateway.context.clock.now();
    let one = gateway.context.mailboxes.begin("broken", now);
    one.went_wrong("the server says no; check `user` and `password`".to_owned(), Fault::Auth);
    let states = |ready: &Value| (ready["mailboxes"]["broken"].clone(), ready["mailboxes"]["rests"].clone());
    let said = |state: &str| json!({ "state": state, "behind": 0 });
    let ready = gateway.get("/readyz").await.ok(200);
    fits("Readiness", &ready);
    assert_eq!((ready["ready"].clone(), states(&ready)), (json!(true), (said("broken"), said("paused"))));
    assert!(!ready.to_string().contains("check"), "the words are not for everybody: {ready}");
    let status = gateway.get("/v1/status").await.ok(200);
    fits("Status", &status);
    let mailbox = |status: &Value, name: &str| {
        let mut channels = status["channels"].as_array().unwrap().iter();
        channels.find(|channel| channel["name"] == name).unwrap()["mailbox"].clone()
    };
    assert_eq!(mailbox(&status, "broken")["error"], "the server says no; check `user` and `password`");
    assert_eq!(mailbox(&status, "rests"), said("paused"));
    let metrics = gateway.get("/metrics").await;
    assert_eq!(
        (measured(&metrics, "broken"), measured(&metrics, "rests")),
        (vec!["broken".to_owned()], vec!["paused".to_owned()])
    );
    // A node that does not read it does not say that all is well.
    one.elsewhere();
    let ready = gateway.get("/readyz").await.ok(200);
    assert_eq!(states(&ready), (said("elsewhere"), said("paused")));
    assert_eq!(measured(&gateway.get("/metrics").await, "broken"), ["elsewhere"]);
    // Another task for it, as after its options were changed: no trouble of before is forgotten, and none is made up.
    let next = gateway.context.mailboxes.begin("broken", now.plus_millis(-700_000));
    assert_eq!(states(&gateway.get("/readyz").await.ok(200)).0, said("stalled"));
    next.went_wrong("nobody answers there; it is tried again".to_owned(), Fault::Auth);
    assert_eq!(states(&gateway.get("/readyz").await.ok(200)).0, said("broken"));
    // Where none is read any more, nothing is told of any.
    assert!(gateway.context.mailboxes.end("broken", &next));
    gateway.context.setup.store(Arc::new(setup("msg.poison")));
    gateway.context.metrics.forget_mailbox("broken", State::ALL.map(State::word));
    let text = String::from_utf8(gateway.get("/metrics").await.body.to_vec()).unwrap();
    assert!(!text.contains("name=\"broken\""), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_where_nothing_gets_out() {
    let gateway = Gateway::idle(Timing::default(), 4).await;
    let mut setup = with_mailboxes(["reads", "both"], "");
    let both = setup.channels.get_mut("both").unwrap();
    let options = json!({
        "address": "box@example.test", "smtp_host": "smtp.example.test", "smtp_user": "box", "smtp_password": "word",
    });
    both.account = both.connector.account("both", options.as_object().unwrap(), None).unwrap();
    gateway.context.setup.store(Arc::new(setup));
    let sending = async |name: &str| {
        let status = gateway.get("/v1/status").await.ok(200);
        fits("Status", &status);
        let mut channels = status["channels"].as_array().unwrap().iter();
        channels.find(|channel| channel["name"] == name).unwrap()["sending"].clone()
    };
    assert_eq!((sending("reads").await, sending("both").await), (Value::Null, json!({ "state": "ok" })));
    let (begun, later) = (gateway.context.clock.now(), gateway.context.clock.now().plus_millis(1000));
    gateway.context.sending.put_off("both", begun, Cause::of_answer(503));
    gateway.context.sending.put_off("both", later, Cause::of_answer(429));
    let told = sending("both").await;
    assert_eq!((&told["state"], &told["put_off"]), (&json!("held_up"), &json!(2)), "{told}");
    assert_eq!((&told["since"], &told["tried_at"]), (&json!(begun), &json!(later)), "{told}");
    assert_eq!(told["reason"], "the provider answered 429");
    assert!(told["help"].as_str().unwrap().contains("limits"), "{told}");
    gateway.context.sending.came_through("both");
    assert_eq!(sending("both").await, json!({ "state": "ok" }));
}
