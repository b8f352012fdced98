//! Whatever the order of arrival, the outcome is the same: of a message that we sent, and of a call.

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, Project};
use crate::support::helpdesk::HelpDesk;
use crate::support::http::Call;
use crate::support::{Random, full, provider, seed, wait};

/// Every order of `0..count`.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(count - 1);
    let insert = |order: &Vec<usize>, at: usize| {
        let mut order = order.clone();
        order.insert(at, count - 1);
        order
    };
    shorter.iter().flat_map(|order| (0..count).map(move |at| insert(order, at))).collect()
}

/// All orders in a full run, else some of them.
fn some(mut orders: Vec<Vec<usize>>, random: &mut Random) -> Vec<Vec<usize>> {
    if !full() {
        random.shuffle(&mut orders);
        orders.truncate(12);
    }
    orders
}

/// A signed delivery of what one of our people did in the provider's own app.
fn echo(customer: &str, id: &str, at: u64, content: Value) -> Call {
    let mut message = content;
    message["from"] = json!("15550783881");
    message["to"] = json!(customer);
    message["id"] = json!(id);
    message["timestamp"] = json!(at.to_string());
    provider::meta("whatsapp", provider::whatsapp_change(json!({ "message_echoes": [message] })).to_string())
}

/// What is stored of the message that `customer` was sent: how far it got, and whether it was edited and deleted.
fn outcome(project: &Project, message: &str) -> (Value, bool, bool) {
    let states: Vec<Value> = project.records("message").iter().map(|record| record["state"].clone()).collect();
    let bodies: Vec<String> = project.records("interaction").iter().map(|record| record["body"].to_string()).collect();
    // The state names the interaction of the edit; that interaction names the message.
    let of_message = |state: &&Value| {
        state["edited"][1]
            .as_str()
            .is_some_and(|id| bodies.iter().filter(|body| body.contains(id) && body.contains(message)).count() == 1)
    };
    let state = states.iter().find(of_message).unwrap_or_else(|| panic!("no edit of {message} is known"));
    (state["delivery"]["state"].clone(), !state["edited"].is_null(), !state["deleted"].is_null())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sent_delivered_read_edit_and_delete_come_out_right_in_any_order() {
    let mut random = Random(seed());
    let desk = HelpDesk::start().await;
    let events = ["interaction.received", "interaction.sent", "delivery.updated", "interaction.updated"];
    let project = Project::new().helpdesk("desk", &desk, &events).whatsapp("whatsapp", "http://127.0.0.1:9");
    let gateway = Gateway::start(&project).await;
    let orders = some(permutations(5), &mut random);
    let now = provider::now();
    for (number, order) in orders.iter().enumerate() {
        let (customer, id) = (format!("1555000{number:04}"), format!("wamid.ours.{number}."));
        let status = |state: &str, at: u64| provider::whatsapp_status("whatsapp", &id, state, &customer, at);
        gateway.accept(&echo(&customer, &id, now, json!({ "type": "text", "text": { "body": "see you at 5" } }))).await;
        let edited =
            json!({ "original_message_id": id, "message": { "type": "text", "text": { "body": "see you at 6" } } });
        let calls = [
            status("sent", now + 1),
            status("delivered", now + 2),
            status("read", now + 3),
            echo(&customer, &format!("wamid.edit.{number}."), now + 4, json!({ "type": "edit", "edit": edited })),
            echo(
                &customer,
                &format!("wamid.delete.{number}."),
                now + 5,
                json!({ "type": "revoke", "revoke": { "original_message_id": id } }),
            ),
        ];
        for at in order {
            gateway.accept(&calls[*at]).await;
        }
        // The provider repeats itself, too.
        gateway.accept(&calls[order[0]]).await;
    }
    gateway.settled(&project).await;
    for (number, order) in orders.iter().enumerate() {
        let (delivery, edited, deleted) = outcome(&project, &format!("wamid.ours.{number}."));
        assert_eq!((delivery, edited, deleted), (json!("read"), true, true), "in the order {order:?}");
    }
    // The message, its edit and its deletion; receipts are no interactions.
    assert_eq!(project.number("SELECT count(*) FROM interaction"), 3 * orders.len() as i64);
    assert_eq!(project.number("SELECT count(*) FROM conversation"), orders.len() as i64);
    assert_eq!(project.number("SELECT count(*) FROM quarantine"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callbacks_of_a_call_fold_into_one_in_any_order() {
    let mut random = Random(seed());
    let desk = HelpDesk::start().await;
    let project = Project::new().helpdesk("desk", &desk, &["interaction.received"]).voice("voice");
    let gateway = Gateway::start(&project).await;
    let states = ["initiated", "ringing", "in-progress", "completed"];
    let orders = some(permutations(states.len()), &mut random);
    for (number, order) in orders.iter().enumerate() {
        let (sid, from) = (format!("CA{number:032}"), format!("+1415555{number:04}"));
        for at in order {
            let sequence = at.to_string();
            let mut more = vec![("CallbackSource", "call-progress-events"), ("SequenceNumber", sequence.as_str())];
            if states[*at] == "completed" {
                more.push(("CallDuration", "42"));
            }
            gateway.accept(&provider::twilio_call("voice", &sid, &from, states[*at], &more)).await;
        }
    }
    gateway.settled(&project).await;
    assert_eq!(project.number("SELECT count(*) FROM interaction"), orders.len() as i64, "a call is one interaction");
    for record in project.records("interaction") {
        let call = &record["body"];
        let order = &orders[call["channel"]["provider_id"].as_str().unwrap()[2..].parse::<usize>().unwrap()];
        assert_eq!(call["kind"], "call");
        assert_eq!(call["call"]["state"], "completed", "in the order {order:?}: {}", call["call"]);
        assert_eq!(call["call"]["duration_seconds"], 42, "in the order {order:?}: {}", call["call"]);
    }
    wait::until_true("each call is told once", wait::SOON, async || desk.taken().len() >= orders.len()).await;
    assert_eq!(desk.taken().len(), orders.len());
}

/// A recording as Twilio tells of it: nothing of the caller.
fn recorded(channel: &str, sid: &str, state: &str, more: &[(&str, &str)]) -> Call {
    let account = provider::TWILIO_ACCOUNT;
    let url = format!("https://api.twilio.com/2010-04-01/Accounts/{account}/Recordings/RE{}", &sid[2..]);
    let recording = format!("RE{}", &sid[2..]);
    let mut parameters = vec![
        ("AccountSid", account),
        ("CallSid", sid),
        ("RecordingSid", &recording),
        ("RecordingUrl", &url),
        ("RecordingStatus", state),
        ("RecordingSource", "RecordVerb"),
    ];
    parameters.extend_from_slice(more);
    provider::twilio(channel, &parameters)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn menu_dial_and_recording_of_a_call_fold_in_any_order() {
    let mut random = Random(seed());
    let desk = HelpDesk::start().await;
    let project = Project::new().helpdesk("desk", &desk, &["interaction.received"]).voice("voice");
    let gateway = Gateway::start(&project).await;
    let orders = some(permutations(6), &mut random);
    for (number, order) in orders.iter().enumerate() {
        let (sid, from) = (format!("CA{number:032}"), format!("+1415556{number:04}"));
        let leg = format!("CB{number:032}");
        let call = |state: &str, more: &[(&str, &str)]| provider::twilio_call("voice", &sid, &from, state, more);
        let dial = [("DialCallSid", leg.as_str()), ("DialCallStatus", "completed"), ("DialCallDuration", "17")];
        let over = [("CallbackSource", "call-progress-events"), ("SequenceNumber", "3"), ("CallDuration", "42")];
        let calls = [
            call("ringing", &[]),
            call("in-progress", &[("Digits", "2"), ("FinishedOnKey", ""), ("msg", "Gather End")]),
            call("in-progress", &dial),
            recorded("voice", &sid, "in-progress", &[]),
            recorded("voice", &sid, "completed", &[("RecordingDuration", "12")]),
            call("completed", &over),
        ];
        for at in order {
            gateway.accept(&calls[*at]).await;
        }
        // Twilio repeats itself.
        gateway.accept(&calls[order[0]]).await;
        gateway.accept(&calls[order[5]]).await;
    }
    gateway.settled(&project).await;
    assert_eq!(project.number("SELECT count(*) FROM interaction"), orders.len() as i64, "a call is one interaction");
    assert_eq!(project.number("SELECT count(*) FROM quarantine"), 0);
    for record in project.records("interaction") {
        let interaction = &record["body"];
        let sid = interaction["channel"]["provider_id"].as_str().unwrap();
        let order = &orders[sid[2..].parse::<usize>().unwrap()];
        let call = &interaction["call"];
        let found = json!({
            "state": call["state"], "duration": call["duration_seconds"], "menu": call["ivr_path"],
            "legs": call["legs"].as_array().map(Vec::len), "leg": call["legs"][0]["state"],
            "leg_duration": call["legs"][0]["duration_seconds"],
            "recording": call["recording"]["state"], "recorded": call["recording"]["duration_seconds"],
        });
        let expected = json!({
            "state": "completed", "duration": 42, "menu": ["2"], "legs": 1, "leg": "completed", "leg_duration": 17,
            "recording": "completed", "recorded": 12,
        });
        assert_eq!(found, expected, "in the order {order:?}");
        // The recording is there to be fetched, once, also where it was told before the call was.
        let parts = interaction["parts"].as_array().unwrap();
        let audio: Vec<&Value> = parts.iter().filter(|part| part["type"] == "audio").collect();
        assert_eq!(audio.len(), 1, "in the order {order:?}: {parts:?}");
        assert_eq!(audio[0]["data"]["duration"], "12", "in the order {order:?}");
        assert!(audio[0]["blob"]["provider_ref"].is_string(), "in the order {order:?}: {parts:?}");
    }
    wait::until_true("each call is told once", wait::SOON, async || desk.taken().len() >= orders.len()).await;
    assert_eq!(desk.taken().len(), orders.len());
}

#[test]
fn there_are_as_many_orders_as_there_should_be() {
    let orders: std::collections::BTreeSet<Vec<usize>> = permutations(5).into_iter().collect();
    assert_eq!(orders.len(), 120);
}
