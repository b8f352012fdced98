//! The messages of the load: WhatsApp text messages as Meta's Cloud API delivers them, each signed.
//!
//! Whole requests are built once with places left open; per message only digits are written into them and the body is
//! signed. Two messages never share an id, and a message's id tells its number and the moment of its sending, so that the
//! sink needs no memory of what was sent.

use memchr::memmem;
use ring::hmac;

use crate::Result;

/// How many people write.
pub(crate) const SENDERS: u64 = 50_000;
/// The id of the telephone number that is written to.
pub(crate) const PHONE_NUMBER_ID: &str = "106540352242922";
/// What every message id begins with.
const ID: &[u8] = b"wamid.HBgNU2VndWVCZW5jaBUCABIYFDNB";

/// What people write. The mixture is meant to be ordinary: mostly short, some long, umlauts and emoji escaped as Meta
/// does it, some words that the policy looks for.
const TEXTS: [&str; 8] = [
    "Hi, is anybody there?",
    "My order #ORDER# has not arrived yet, can you tell me where it is?",
    "Thanks, that was quick! \\ud83d\\ude4f",
    "I was charged twice for invoice #ORDER#. Please check that and tell me when I get the money back. I have written \
     about it before and nobody answered, so I would like to speak to somebody who can really decide about it.",
    "Guten Tag, die Gr\\u00f6\\u00dfe von Bestellung #ORDER# passt leider nicht. Kann ich sie umtauschen?",
    "ok",
    "The router shows a red light since this morning. I restarted it twice, the light stays red and the line is dead. \
     Customer number #ORDER#.",
    "Could somebody call me back today after 5 pm? It is about #ORDER#.",
];

/// Writes signed requests, one after another, into one buffer each.
pub(crate) struct Requests {
    key: hmac::Key,
    forms: Vec<Form>,
}

/// One request with places left open.
struct Form {
    bytes: Vec<u8>,
    body: usize,
    signature: usize,
    fields: Vec<(Field, usize)>,
}

/// What is written into an open place.
#[derive(Clone, Copy)]
enum Field {
    Phone,
    Sender,
    Number,
    Millis,
    Seconds,
    Order,
}

impl Field {
    const ALL: [Field; 6] = [Field::Phone, Field::Sender, Field::Number, Field::Millis, Field::Seconds, Field::Order];

    /// How the place is marked in a form: as wide as what will stand there.
    fn mark(self) -> &'static str {
        match self {
            Field::Phone => "#PHONE-DIGIT#",
            Field::Sender => "#NAM#",
            Field::Number => "#NUMBER-TWE#",
            Field::Millis => "#MILLISECOND#",
            Field::Seconds => "#SECONDSS#",
            Field::Order => "#ORDER#",
        }
    }
}

impl Requests {
    /// Requests to `/in/whatsapp` of the gateway at `host`, signed with the app secret.
    pub(crate) fn new(host: &str, secret: &str) -> Result<Self> {
        let forms = TEXTS.iter().map(|text| Form::new(host, text)).collect::<Result<_>>()?;
        Ok(Requests { key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), forms })
    }

    /// The request of message `number`, sent at `millis` of the Unix epoch.
    pub(crate) fn write(&mut self, number: u64, millis: u64) -> &[u8] {
        let random = scatter(number);
        let sender = random % SENDERS;
        let form = usize::try_from((random >> 32) % TEXTS.len() as u64).unwrap_or_default();
        let Some(form) = self.forms.get_mut(form) else { return &[] };
        for (field, at) in &form.fields {
            let (value, width) = match field {
                Field::Phone => (4_915_110_000_000 + sender, 13),
                Field::Sender => (sender, 5),
                Field::Number => (number, 12),
                Field::Millis => (millis, 13),
                Field::Seconds => (millis / 1000, 10),
                Field::Order => (random % 10_000_000, 7),
            };
            put_digits(form.bytes.get_mut(*at..*at + width), value);
        }
        let tag = hmac::sign(&self.key, form.bytes.get(form.body..).unwrap_or_default());
        if let Some(place) = form.bytes.get_mut(form.signature..form.signature + 64) {
            data_encoding::HEXLOWER.encode_mut(tag.as_ref(), place);
        }
        &form.bytes
    }
}

impl Form {
    fn new(host: &str, text: &str) -> Result<Self> {
        let [phone, name, number, millis, seconds] =
            [Field::Phone, Field::Sender, Field::Number, Field::Millis, Field::Seconds].map(Field::mark);
        let id = String::from_utf8_lossy(ID);
        let body = format!(
            r#"{{"object":"whatsapp_business_account","entry":[{{"id":"102290129340398","changes":[{{"value":{{"messaging_product":"whatsapp","metadata":{{"display_phone_number":"15550783881","phone_number_id":"{PHONE_NUMBER_ID}"}},"contacts":[{{"profile":{{"name":"Customer {name}"}},"wa_id":"{phone}"}}],"messages":[{{"from":"{phone}","id":"{id}{number}T{millis}AA==","timestamp":"{seconds}","text":{{"body":"{text}"}},"type":"text"}}]}},"field":"messages"}}]}}]}}"#
        );
        let head = format!(
            "POST /in/whatsapp HTTP/1.1\r\nHost: {host}\r\nUser-Agent: facebookexternalua\r\nAccept: */*\r\n\
             Content-Type: application/json\r\nX-Hub-Signature-256: sha256={}\r\nContent-Length: {}\r\n\r\n",
            "0".repeat(64),
            body.len()
        );
        let signature = head.find("sha256=").ok_or("the form has no place for the signature")? + "sha256=".len();
        let bytes = [head.as_bytes(), body.as_bytes()].concat();
        let places = |field: Field| memmem::find_iter(&bytes, field.mark()).map(move |at| (field, at));
        let fields = Field::ALL.into_iter().flat_map(places).collect();
        Ok(Form { fields, body: head.len(), signature, bytes })
    }
}

/// The number of a message and the moment of its sending, from an event that holds it.
pub(crate) fn find(event: &[u8]) -> Option<(u64, u64)> {
    let at = memmem::find(event, ID)? + ID.len();
    let number = event.get(at..at + 12)?;
    let millis = event.get(at + 13..at + 26)?;
    Some((digits(number)?, digits(millis)?))
}

fn digits(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn put_digits(place: Option<&mut [u8]>, mut value: u64) {
    for digit in place.into_iter().flatten().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Spreads successive numbers over 64 bits, the same on every run (the finalizer of SplitMix64).
fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
