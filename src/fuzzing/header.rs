//! Header fields, and what is told from them: who wrote, who vouches for it, whether a program did.
//!
//! The invariants: what is given out fits on one line of a field, and a token or a domain is believed only if it is proven.

use std::sync::LazyLock;

use zeroize::Zeroizing;

use super::NOW;
use crate::mail::auth_results::{self, TrustedServers};
use crate::mail::auto::{self, Around};
use crate::mail::dkim::{DkimOutcome, TxtAnswer, signatures};
use crate::mail::dmarc::{self, Dmarc, Identity, Method};
use crate::mail::fields::{Field, Fields};
use crate::mail::params::Params;
use crate::mail::token::{self, TokenKey};
use crate::mail::{address, date, ids, read, words, write};

/// Fields of which each value is read in every way.
const FIELDS: usize = 40;

static KEY: LazyLock<TokenKey> = LazyLock::new(|| TokenKey::new(Zeroizing::new([7; 32])));

/// A header block, with a body that may be signed. Fields named `Txt` stand for what the DNS says.
pub fn header(bytes: &[u8]) {
    let (fields, body) = Fields::read(bytes);
    let read: usize = fields.iter().map(|field| field.whole.len()).sum();
    assert!(bytes.ends_with(body) && read + body.len() <= bytes.len());
    fields.iter().take(FIELDS).for_each(value);
    let values = || fields.iter().map(|field| field.value);
    let listed = ids::list(values());
    assert!(listed.len() <= 21);
    listed.iter().for_each(|id| check_id(id));
    for remove_forged in [false, true] {
        let servers = TrustedServers { ids: vec!["mx.shop.example".to_owned()], remove_forged };
        if let Some(results) = auth_results::trusted(&fields, &servers) {
            let _ = (results.dmarc("customer.example"), results.has_spf(), results.spf_passes(), results.dkim_passes());
        }
    }
    dns(bytes, &fields);
    look(&fields);
}

/// The value of one field, read in every way that a value is read in.
fn value(field: &Field<'_>) {
    let text = field.text();
    assert!(!text.contains(['\r', '\n']));
    for hint in [None, Some("iso-2022-jp")] {
        let decoded = words::decode(field.value, hint);
        check_line(&decoded);
        assert!(decoded.len() <= 4 * field.value.len(), "{} bytes of {}", decoded.len(), field.value.len());
        let params = Params::parse(field.value);
        params.text("filename", hint).iter().for_each(|name| check_line(name));
        let _ = (params.charset(), params.bytes("boundary"), params.is("format", "flowed"));
        for address in address::parse(field.value, hint).list {
            assert!(address.email.len() <= 320 && address.email.contains('@'));
            check_line(&address.email);
            assert!(address.name.as_ref().is_none_or(|name| !name.is_empty() && name.chars().count() <= 256));
            address.name.iter().for_each(|name| check_line(name));
            if let Ok(ours) = write::address(&address.email) {
                assert!(ours.is_ascii() && !ours.contains(['<', '>', '\r', '\n']));
            }
        }
    }
    ids::one(field.value).iter().for_each(|id| check_id(id));
    let _ = (date::parse(&text), auth_results::read(&text), token::read(&KEY, &text, NOW));
}

fn check_line(text: &str) {
    assert!(!text.chars().any(char::is_control), "a control character");
}

/// Such as may be written into a field again.
fn check_id(id: &str) {
    let harmful = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>');
    assert!(!id.is_empty() && id.len() <= 250 && !id.chars().any(harmful), "an identifier that cannot be written");
}

/// What needs answers of the DNS: signatures, and whether the sender's domain stands behind them.
fn dns(bytes: &[u8], fields: &Fields<'_>) {
    let records: Vec<String> = fields.all("Txt").take(10).map(|field| field.text().into_owned()).collect();
    let found = TxtAnswer::Found(records.clone());
    let mut passed = Vec::new();
    for signature in signatures(bytes) {
        assert_eq!(signature.domain(), signature.domain().to_ascii_lowercase());
        let _ = signature.key_name();
        for answer in [&found, &TxtAnswer::None, &TxtAnswer::Temporary] {
            let result = signature.verify(answer, NOW);
            passed.extend((result.result == DkimOutcome::Pass).then_some(result.domain));
        }
    }
    let from = read::from_of(fields);
    let domain = from.list.first().and_then(|from| from.email.rsplit_once('@')).map_or("", |(_, domain)| domain);
    let questions = dmarc::questions(domain);
    assert!(questions.len() <= 8, "{} questions", questions.len());
    let answers: Vec<TxtAnswer> = records.into_iter().map(|record| TxtAnswer::Found(vec![record])).collect();
    let walk = dmarc::organization(domain, &answers);
    let organization = walk.as_ref().map(|walk| walk.domain.as_str());
    let by = |domain| Identity { method: Method::Dkim, domain, organization, certain: true };
    let identities: Vec<Identity<'_>> = passed.iter().map(|domain| by(domain)).collect();
    let judged = dmarc::judge(domain, walk.as_ref(), &identities);
    assert!(judged != Dmarc::Pass || !passed.is_empty(), "nobody stands behind it");
}

/// Whether a program wrote it.
fn look(fields: &Fields<'_>) {
    let text = |name| fields.text(name).unwrap_or_default();
    let around = Around {
        subject: &text("Subject"),
        from: &text("From"),
        envelope_sender: None,
        recipients: &["support@shop.example"],
        calendar_reply: false,
        trusted: true,
        is_ours: &|address| address.ends_with("@shop.example"),
        gateway: "gateway1",
    };
    let auto = auto::look(fields, &around);
    assert!(auto.received_count <= fields.iter().count());
    assert!(auto.own_loops <= auto.loops);
}
