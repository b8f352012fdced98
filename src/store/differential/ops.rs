//! What is done to both backends: operations with the oddest content, drawn at random.

use proptest::prelude::*;

/// What is done to both. Numbers choose among what there is.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Append { key: Option<u8>, head: Vec<u8>, raw: Vec<u8> },
    Contact { seed: u8, text: String, event: Vec<u8> },
    Further { story: u8, stale: bool, resolve: bool, owner: Option<String>, text: String },
    Clash { seed: u8 },
    Update { interaction: u8, text: String },
    Message { key: u8, right: bool },
    Quarantine { reason: String },
    Release { which: u8 },
    Note { key: u8 },
    Send { text: String },
    Intend { which: u8 },
    Withdraw { which: u8, error: String },
    Sent { which: u8 },
    File { part: u8 },
    FileFailed,
    FileFetched,
    Deliver { through: u8 },
    SetAside { count: u8 },
    Failed { error: String },
    GiveUp { error: String },
    Revive,
    Delivered,
    Token { id: u8 },
    Revoke { id: u8 },
    Prune { age: u8 },
    Restart,
}

/// What people and machines write: NUL, half of an emoji as an escape, texts of any language.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => any::<String>(),
        1 => Just("nul \0 and \u{fffd}".to_owned()),
        1 => Just(r#"{"half":"\ud83d","large":18446744073709551615,"b":1.0,"a":[1e400]}"#.to_owned()),
        2 => "[a-z]{0,8}".prop_map(|value| format!("{{\"z\":1,\"\u{e9}\":\"{value}\",\"a\":{{\"n\":0.1}}}}")),
    ]
}

/// Bytes that may be no text at all.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![any::<Vec<u8>>(), Just(b"\xff\0\xed\xa0\x80".to_vec()), text().prop_map(String::into_bytes),]
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let any8 = any::<u8>;
    prop_oneof![
        6 => (proptest::option::of(0_u8..40), bytes(), bytes()).prop_map(|(key, head, raw)| Op::Append { key, head, raw }),
        5 => (any8(), text(), bytes()).prop_map(|(seed, text, event)| Op::Contact { seed, text, event }),
        8 => (any8(), proptest::bool::weighted(0.2), any::<bool>(), proptest::option::of(text()), text())
            .prop_map(|(story, stale, resolve, owner, text)| Op::Further { story, stale, resolve, owner, text }),
        1 => any8().prop_map(|seed| Op::Clash { seed }),
        2 => (any8(), text()).prop_map(|(interaction, text)| Op::Update { interaction, text }),
        3 => (0_u8..20, proptest::bool::weighted(0.8)).prop_map(|(key, right)| Op::Message { key, right }),
        2 => text().prop_map(|reason| Op::Quarantine { reason }),
        1 => any8().prop_map(|which| Op::Release { which }),
        1 => (0_u8..20).prop_map(|key| Op::Note { key }),
        2 => text().prop_map(|text| Op::Send { text }),
        2 => any8().prop_map(|which| Op::Intend { which }),
        1 => (any8(), text()).prop_map(|(which, error)| Op::Withdraw { which, error }),
        1 => any8().prop_map(|which| Op::Sent { which }),
        1 => (0_u8..4).prop_map(|part| Op::File { part }),
        1 => Just(Op::FileFailed),
        1 => Just(Op::FileFetched),
        2 => any8().prop_map(|through| Op::Deliver { through }),
        1 => (1_u8..4).prop_map(|count| Op::SetAside { count }),
        1 => text().prop_map(|error| Op::Failed { error }),
        1 => text().prop_map(|error| Op::GiveUp { error }),
        1 => Just(Op::Revive),
        1 => Just(Op::Delivered),
        1 => (0_u8..5).prop_map(|id| Op::Token { id }),
        1 => (0_u8..5).prop_map(|id| Op::Revoke { id }),
        1 => any8().prop_map(|age| Op::Prune { age }),
        1 => Just(Op::Restart),
    ]
}
