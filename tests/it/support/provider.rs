//! Providers: requests as they send them, signed as their documentation says, with ring and nothing of the gateway.

use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::{BASE64, HEXLOWER};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use serde_json::{Value, json};

use super::http::Call;

/// App secret of the Meta app of the tests.
pub(crate) const META_APP_SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Verify token of the Meta webhook of the tests.
pub(crate) const META_VERIFY_TOKEN: &str = "verify-me";
/// The WhatsApp number of the tests.
pub(crate) const PHONE_NUMBER_ID: &str = "106540352242922";
/// Auth token of the Twilio account of the tests.
pub(crate) const TWILIO_AUTH_TOKEN: &str = "fedcba9876543210fedcba9876543210";
/// The Twilio account of the tests.
pub(crate) const TWILIO_ACCOUNT: &str = "AC00000000000000000000000000000000";
/// Signing secret of the Slack app of the tests.
pub(crate) const SLACK_SIGNING_SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
/// What the gateway believes to be its public URL: URL signatures are made over it.
pub(crate) const PUBLIC_URL: &str = "https://segue.example.org";

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

// === Meta ===

/// A POST with Meta's signature: HMAC-SHA256 over the raw body, keyed with the app secret.
pub(crate) fn meta(channel: &str, body: impl Into<Vec<u8>>) -> Call {
    let body = body.into();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, META_APP_SECRET.as_bytes()), &body);
    Call::post(format!("/in/{channel}"), "application/json", body)
        .header("x-hub-signature-256", format!("sha256={}", HEXLOWER.encode(tag.as_ref())))
}

/// One change of a WhatsApp account as Meta wraps it.
pub(crate) fn whatsapp_change(value: Value) -> Value {
    let mut value = value;
    value["messaging_product"] = json!("whatsapp");
    value["metadata"] = json!({ "display_phone_number": "15550783881", "phone_number_id": PHONE_NUMBER_ID });
    json!({
        "object": "whatsapp_business_account",
        "entry": [{ "id": "102290129340398", "changes": [{ "value": value, "field": "messages" }] }],
    })
}

/// A text message as it stands in `messages`.
pub(crate) fn whatsapp_message(from: &str, id: &str, text: &str) -> Value {
    json!({ "from": from, "id": id, "timestamp": now().to_string(), "type": "text", "text": { "body": text } })
}

/// A signed delivery of messages.
pub(crate) fn whatsapp(channel: &str, messages: &[Value]) -> Call {
    let contact = |message: &Value| json!({ "profile": { "name": "Ada" }, "wa_id": message["from"] });
    let contacts: Vec<Value> = messages.iter().map(contact).collect();
    let body = whatsapp_change(json!({ "contacts": contacts, "messages": messages }));
    meta(channel, body.to_string())
}

/// A signed delivery of one text message.
pub(crate) fn whatsapp_text(channel: &str, from: &str, id: &str, text: &str) -> Call {
    whatsapp(channel, &[whatsapp_message(from, id, text)])
}

/// A signed receipt of a message that we sent.
pub(crate) fn whatsapp_status(channel: &str, id: &str, status: &str, to: &str, at: u64) -> Call {
    let status = json!({ "id": id, "status": status, "timestamp": at.to_string(), "recipient_id": to });
    meta(channel, whatsapp_change(json!({ "statuses": [status] })).to_string())
}

// === Twilio ===

/// Percent-encodes as forms do.
fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// A form POST with Twilio's signature: HMAC-SHA1 over the public URL and the sorted parameters.
pub(crate) fn twilio(channel: &str, parameters: &[(&str, &str)]) -> Call {
    let target = format!("/in/{channel}");
    let mut sorted = parameters.to_vec();
    sorted.sort_unstable();
    let signed = sorted.iter().fold(format!("{PUBLIC_URL}{target}"), |all, (name, value)| all + name + value);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, TWILIO_AUTH_TOKEN.as_bytes());
    let tag = hmac::sign(&key, signed.as_bytes());
    let pairs: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    Call::post(target, "application/x-www-form-urlencoded", pairs.join("&"))
        .header("x-twilio-signature", BASE64.encode(tag.as_ref()))
}

/// A call as Twilio tells of it, in one of its states.
pub(crate) fn twilio_call(channel: &str, sid: &str, from: &str, status: &str, more: &[(&str, &str)]) -> Call {
    let mut parameters = vec![
        ("CallSid", sid),
        ("AccountSid", TWILIO_ACCOUNT),
        ("From", from),
        ("To", "+15005550006"),
        ("CallStatus", status),
        ("ApiVersion", "2010-04-01"),
        ("Direction", "inbound"),
    ];
    parameters.extend_from_slice(more);
    twilio(channel, &parameters)
}

// === Slack ===

/// A POST with Slack's signature: HMAC-SHA256 over `v0:timestamp:body`.
pub(crate) fn slack(channel: &str, body: &str, at: u64) -> Call {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SLACK_SIGNING_SECRET.as_bytes());
    let tag = hmac::sign(&key, format!("v0:{at}:{body}").as_bytes());
    Call::post(format!("/in/{channel}"), "application/json", body.to_owned())
        .header("x-slack-request-timestamp", at.to_string())
        .header("x-slack-signature", format!("v0={}", HEXLOWER.encode(tag.as_ref())))
}

/// A message event of Slack.
pub(crate) fn slack_message(user: &str, event: &str, text: &str, at: u64) -> Value {
    json!({
        "token": "unused", "team_id": "T0001", "api_app_id": "A0001", "type": "event_callback",
        "event_id": event, "event_time": at,
        "event": {
            "type": "message", "channel": "D024BE91L", "channel_type": "im", "user": user, "text": text,
            "ts": format!("{at}.000100"), "event_ts": format!("{at}.000100"),
        },
    })
}
