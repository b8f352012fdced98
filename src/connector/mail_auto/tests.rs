use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::app::setup::build_map;
use crate::base::Timestamp;
use crate::connector::{Account, Connector, Folder};
use crate::mail::auth_results::TrustedServers;
use crate::model::entry::{MailHead, SenderFound};
use crate::model::{Flag, Interaction, MailLevel, Outcome};

/// The connector of mail, with an account of these options.
pub(crate) fn account(options: serde_json::Value) -> (Connector, Account) {
    let folder = Folder::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors/email")).unwrap();
    let connector = Connector::load(Arc::new(folder), Some(&build_map)).unwrap_or_else(|found| panic!("{found:?}"));
    let account = connector.account("mail", options.as_object().unwrap(), None).unwrap();
    (connector, account)
}

/// A proven sender's mail as a mailbox takes it, with what stands in its body and the fields before that.
pub(crate) fn taken(to: &str, rest: &str) -> Interaction {
    let (connector, account) = account(json!({
        "address": "support@shop.example", "aliases": ["help@shop.example"], "reply_base": "re@shop.example"
    }));
    let head = MailHead {
        envelope_from: Some("ada@customer.example".to_owned()),
        sender: SenderFound { level: MailLevel::Authenticated, ..SenderFound::default() },
        ..MailHead::unchecked()
    };
    let raw = format!("Message-ID: <1@customer.example>\r\nFrom: ada@customer.example\r\nTo: {to}\r\n{rest}");
    let outcomes = connector.normalize_mail(raw.as_bytes(), &head, &account, Timestamp::from_seconds(1_790_000_000));
    match outcomes.into_iter().next() {
        Some(Outcome::Interaction(normalized)) => normalized.interaction,
        _ => panic!("not an interaction"),
    }
}

fn silence(interaction: &Interaction) -> Option<&str> {
    interaction.mail.as_ref().unwrap().no_auto_answer.as_deref()
}

#[test]
fn answers_to_our_reply_address_are_addressed_to_us() {
    let plain = "Subject: Kettle\r\n\r\nIt is broken.\r\n";
    for own in ["support@shop.example", "HELP@shop.example", "re+token@shop.example", "support+x@shop.example"] {
        assert_eq!(silence(&taken(own, plain)), None, "{own}");
    }
    let other = taken("someone@shop.example", plain);
    assert_eq!(silence(&other), Some("none of our addresses is in To or Cc"));
}

#[test]
fn a_calendar_s_answer_gets_no_automatic_one() {
    let mail = |parameter: &str, method: &str| {
        format!(
            "Subject: Accepted: Repair\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n\
             --c\r\nContent-Type: text/plain\r\n\r\nAda has accepted.\r\n\
             --c\r\nContent-Type: text/calendar; charset=utf-8{parameter}\r\n\r\n\
             BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{method}BEGIN:VEVENT\r\nUID:1@shop.example\r\nSUMMARY:Repair\r\n\
             ATTENDEE;PARTSTAT=ACCEPTED:mailto:ada@customer.example\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n--c--\r\n"
        )
    };
    let (told, inside) = ("; method=\"Reply\"", "METHOD:REPLY\r\n");
    for (parameter, method) in [(told, inside), (told, ""), ("", inside)] {
        let answer = taken("support@shop.example", &mail(parameter, method));
        assert_eq!(silence(&answer), Some("it is a calendar's answer to an invitation"), "{parameter} {method}");
        assert!(answer.flags.contains(&Flag::Automated));
    }
    let whole = "Subject: x\r\nContent-Type: text/calendar; method=REPLY\r\n\r\nBEGIN:VCALENDAR\r\nMETHOD:REPLY\r\n\
                 BEGIN:VEVENT\r\nUID:1@shop.example\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
    assert!(silence(&taken("support@shop.example", whole)).is_some(), "without another part");
    let invitation = taken("support@shop.example", &mail("; method=REQUEST", "METHOD:REQUEST\r\n"));
    assert_eq!(silence(&invitation), None);
    assert!(!invitation.flags.contains(&Flag::Automated));
}

#[test]
fn whose_word_counts_is_as_the_options_say() {
    let mut options = json!({"address": "support@shop.example", "authserv_ids": ["mx.shop.example"]});
    let (_, plain) = account(options.clone());
    assert_eq!(
        plain.trusted_servers(),
        TrustedServers { ids: vec!["mx.shop.example".to_owned()], remove_forged: false }
    );
    options["authserv_removes_forged"] = json!(true);
    assert!(account(options).1.trusted_servers().remove_forged);
    let (_, nobody) = account(json!({"address": "support@shop.example"}));
    assert_eq!(nobody.trusted_servers(), TrustedServers::default());
}
