//! Reply tokens: how a mail shows that it answers one of ours (threat T15, T16).
//!
//! A token stands in the address a customer answers to, in the Message-ID of what we sent, or in the address to which
//! its bounce goes. It names the story or the sent mail, a day after which it is void, and is sealed with HMAC-SHA256
//! under a key of this installation. [`read`] is the one way to a [`VerifiedToken`], and nothing else may link a mail
//! to a story.
//!
//! A token proves that somebody saw our mail, not that they are its recipient: mail is forwarded. The recipient is
//! sealed in as well, and [`VerifiedToken::is_of`] tells whether a token was made for them.
//!
//! Base32 in lower case, because relays change the case. In an address everything must fit into 64 characters with the
//! address's own name, so there the 128 bits of the seal are shared: 64 over the story and the day, 64 over these and
//! the recipient. A joining mail must have both. A Message-ID has room for 128 bits of each.

use std::fmt;

use ring::hmac;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The version of the form, in the upper half of the first byte.
const VERSION: u8 = 1;

/// The longest local part of an address (RFC 5321, section 4.5.3.1.1).
const LONGEST_LOCAL_PART: usize = 64;

/// The most bytes of a text that are searched for a token, and the most seals that are computed for one text.
const LONGEST_TEXT: usize = 64 * 1024;
const MOST_TRIED: usize = 32;

const SECONDS_A_DAY: u64 = 86_400;

/// The key of this installation's tokens. It is wiped when dropped, and its `Debug` shows nothing.
pub struct TokenKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}

impl TokenKey {
    /// A key from 32 secret bytes that are used for nothing else.
    pub fn new(secret: Zeroizing<[u8; 32]>) -> TokenKey {
        TokenKey(secret)
    }

    /// HMAC-SHA256 over parts of fixed size, told apart by `purpose`.
    fn seal(&self, purpose: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.0.as_ref()));
        context.update(purpose);
        parts.iter().for_each(|part| context.update(part));
        let mut seal = [0; 32];
        seal.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        seal
    }
}

/// Where a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In the address to answer to.
    ReplyAddress,
    /// In the Message-ID of a mail that we sent.
    MessageId,
    /// In the address to which the bounce of a mail goes.
    BounceAddress,
}

const KINDS: [Kind; 3] = [Kind::ReplyAddress, Kind::MessageId, Kind::BounceAddress];

impl Kind {
    fn head(self) -> u8 {
        let kind = match self {
            Kind::ReplyAddress => 1,
            Kind::MessageId => 2,
            Kind::BounceAddress => 3,
        };
        (VERSION << 4) | kind
    }

    /// The bytes of the ids, and of each of the two seals.
    fn sizes(self) -> (usize, usize, usize) {
        match self {
            Kind::ReplyAddress => (16, 8, 8),
            Kind::MessageId => (32, 16, 16),
            Kind::BounceAddress => (16, 16, 0),
        }
    }

    /// The length of a token in characters: a byte of version and kind, two of the day, the ids and seals.
    fn characters(self) -> usize {
        let (ids, first, second) = self.sizes();
        ((3 + ids + first + second) * 8).div_ceil(5)
    }
}

/// What a token for a customer says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The story, as its UUID.
    pub conversation: [u8; 16],
    /// The recipient, as [`participant`] gives it.
    pub participant: [u8; 16],
    /// The last day on which the token is good, in days since 1970.
    pub last_day: u16,
}

/// A token of this installation that has not run out. Made by [`read`] only.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    kind: Kind,
    last_day: u16,
    ids: Vec<u8>,
    recipient_seal: Vec<u8>,
}

impl fmt::Debug for VerifiedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedToken")
            .field("kind", &self.kind)
            .field("last_day", &self.last_day)
            .finish_non_exhaustive()
    }
}

impl VerifiedToken {
    /// Where it stood.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The story it is about, as its UUID. None for a bounce, which is about a sent mail.
    pub fn conversation(&self) -> Option<[u8; 16]> {
        (self.kind != Kind::BounceAddress).then(|| self.id(0)).flatten()
    }

    /// The sent mail it is about. None for an address to answer to.
    pub fn send(&self) -> Option<[u8; 16]> {
        match self.kind {
            Kind::ReplyAddress => None,
            Kind::MessageId => self.id(1),
            Kind::BounceAddress => self.id(0),
        }
    }

    /// The last day on which it is good, in days since 1970.
    pub fn last_day(&self) -> u16 {
        self.last_day
    }

    /// Whether it was made for this recipient, as [`participant`] gives them. Never for a bounce.
    pub fn is_of(&self, key: &TokenKey, participant: &[u8; 16]) -> bool {
        let seal = recipient_seal(key, self.kind, &self.last_day.to_be_bytes(), &self.ids, participant);
        !self.recipient_seal.is_empty() && same(&seal, &self.recipient_seal)
    }

    fn id(&self, place: usize) -> Option<[u8; 16]> {
        self.ids.get(place * 16..(place + 1) * 16).and_then(|id| id.try_into().ok())
    }
}

/// A recipient as tokens hold them: the first 16 bytes of the SHA-256 of the address in lower case.
pub fn participant(address: &str) -> [u8; 16] {
    let digest = ring::digest::digest(&ring::digest::SHA256, address.trim().to_lowercase().as_bytes());
    let mut out = [0; 16];
    out.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    out
}

/// The most characters before the `@` of an address that is to bear a token: the token of an address to answer to is the
/// longest of those that stand in one.
pub fn longest_base() -> usize {
    LONGEST_LOCAL_PART - "+".len() - Kind::ReplyAddress.characters()
}

/// The address to answer to: `base` with a token behind a `+`. None if that would be longer than a local part may be
/// (the own one of `base` is longer than [`longest_base`]) or `base` is no address.
pub fn reply_address(key: &TokenKey, base: &str, link: &Link) -> Option<String> {
    with_token(base, &write(key, Kind::ReplyAddress, link.last_day, &link.conversation, &link.participant))
}

/// The Message-ID of a mail: `<token@domain>`. `send` is another for each mail, and makes the id one of its own.
pub fn message_id(key: &TokenKey, domain: &str, link: &Link, send: &[u8; 16]) -> String {
    let ids: Vec<u8> = link.conversation.iter().chain(send).copied().collect();
    format!("<{}@{domain}>", write(key, Kind::MessageId, link.last_day, &ids, &link.participant))
}

/// The address to which a mail's bounce goes, likewise. None as with [`reply_address`].
pub fn bounce_address(key: &TokenKey, base: &str, send: &[u8; 16], last_day: u16) -> Option<String> {
    with_token(base, &write(key, Kind::BounceAddress, last_day, send, &[0; 16]))
}

fn with_token(base: &str, token: &str) -> Option<String> {
    let (local, domain) = base.rsplit_once('@')?;
    let fits = !local.is_empty() && local.len() + 1 + token.len() <= LONGEST_LOCAL_PART;
    fits.then(|| format!("{local}+{token}@{domain}"))
}

fn write(key: &TokenKey, kind: Kind, last_day: u16, ids: &[u8], participant: &[u8; 16]) -> String {
    let day = last_day.to_be_bytes();
    let (_, first, second) = kind.sizes();
    let mut bytes = vec![kind.head()];
    bytes.extend_from_slice(&day);
    bytes.extend_from_slice(ids);
    bytes.extend(story_seal(key, kind, &day, ids).iter().take(first));
    bytes.extend(recipient_seal(key, kind, &day, ids, participant).iter().take(second));
    data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()
}

fn story_seal(key: &TokenKey, kind: Kind, day: &[u8], ids: &[u8]) -> [u8; 32] {
    key.seal(b"segue mail token, story\0", &[&[kind.head()], day, ids])
}

fn recipient_seal(key: &TokenKey, kind: Kind, day: &[u8], ids: &[u8], participant: &[u8; 16]) -> [u8; 32] {
    key.seal(b"segue mail token, recipient\0", &[&[kind.head()], day, ids, participant])
}

/// Whether `held`, the whole of a shortened seal, is the beginning of `seal`; in the same time whatever differs.
fn same(seal: &[u8; 32], held: &[u8]) -> bool {
    seal.get(..held.len()).is_some_and(|seal| seal.ct_eq(held).into())
}

/// Finds the first good token in `text`: an address, a Message-ID, or any text around one. `now` is unix seconds.
///
/// Relays change the case, put other characters for `+`, fold lines, encode, and put things before the address. A token
/// is therefore looked for in every run of letters and digits, at its end: what is glued to a token by an encoding
/// (`=2B`) stands before it.
pub fn read(key: &TokenKey, text: &str, now: u64) -> Option<VerifiedToken> {
    let text = text.get(..text.floor_char_boundary(LONGEST_TEXT)).unwrap_or(text);
    let text = without_folds(text);
    let runs = text.split(|byte: &u8| !byte.is_ascii_alphanumeric());
    let candidates = runs.flat_map(|run| {
        KINDS.into_iter().filter_map(move |kind| {
            let start = run.len().checked_sub(kind.characters())?;
            parts(kind, run.get(start..)?)
        })
    });
    let today = now / SECONDS_A_DAY;
    candidates
        .take(MOST_TRIED)
        .find(|token| {
            let (day, seal) = (token.token.last_day, &token.story_seal);
            same(&story_seal(key, token.token.kind, &day.to_be_bytes(), &token.token.ids), seal)
                && today <= u64::from(day)
        })
        .map(|found| found.token)
}

/// A token that was read and not verified yet.
struct Candidate {
    token: VerifiedToken,
    story_seal: Vec<u8>,
}

/// Cuts a token of that kind into its parts, if the text has its form.
fn parts(kind: Kind, text: &[u8]) -> Option<Candidate> {
    let bytes = data_encoding::BASE32_NOPAD.decode(&text.to_ascii_uppercase()).ok()?;
    let (ids_size, first, _) = kind.sizes();
    let (head, rest) = bytes.split_first()?;
    let (day, rest) = rest.split_first_chunk::<2>()?;
    let (ids, rest) = rest.split_at_checked(ids_size)?;
    let (story_seal, recipient_seal) = rest.split_at_checked(first)?;
    let token = VerifiedToken {
        kind,
        last_day: u16::from_be_bytes(*day),
        ids: ids.to_vec(),
        recipient_seal: recipient_seal.to_vec(),
    };
    (*head == kind.head()).then(|| Candidate { token, story_seal: story_seal.to_vec() })
}

/// The text without folds (a line's end and the blanks behind it) and without the soft line ends of quoted-printable.
fn without_folds(text: &str) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let mut folded = false;
    for byte in text.bytes() {
        match byte {
            b'\r' => {}
            b'\n' => {
                folded = true;
                if out.last() == Some(&b'=') {
                    out.pop();
                }
            }
            b' ' | b'\t' if folded => {}
            _ => {
                folded = false;
                out.push(byte);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
