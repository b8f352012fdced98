//! Ids: [TypeIDs](https://github.com/jetify-com/typeid) over UUIDv7 (RFC 9562), such as `ix_01jn4...`.
//!
//! Only an entry's id is drawn at random. Every other id is derived from the entry that caused it, so that applying the
//! same entry again, after a crash or in a replay, gives the same ids. No id is a credential.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hash::sha256_parts;
use super::{Error, Timestamp};

/// What an id names; gives the prefix that people see.
pub trait Named {
    /// The prefix before the underscore.
    const PREFIX: &'static str;
}

/// Declares the kinds of id.
macro_rules! ids {
    ($($(#[$doc:meta])* $alias:ident, $tag:ident, $prefix:literal;)*) => {$(
        #[doc = concat!("Tag of ids that begin with `", $prefix, "_`.")]
        #[derive(Clone, Copy)]
        pub enum $tag {}
        impl Named for $tag {
            const PREFIX: &'static str = $prefix;
        }
        $(#[$doc])*
        pub type $alias = Id<$tag>;
    )*};
}

ids! {
    /// An entry of the journal; the only id that is random.
    EntryId, EntryTag, "en";
    /// An interaction.
    InteractionId, InteractionTag, "ix";
    /// A customer.
    CustomerId, CustomerTag, "cu";
    /// A conversation: one story.
    ConversationId, ConversationTag, "cv";
    /// An event, as delivered to help desks and read from the feed.
    EventId, EventTag, "ev";
    /// A send to a customer: its intent and its outcome.
    SendId, SendTag, "sd";
    /// An API token (the public half; never the secret).
    TokenId, TokenTag, "tk";
    /// A process that works on a store.
    NodeId, NodeTag, "nd";
    /// A part of an interaction that lies in a file.
    BlobId, BlobTag, "bl";
}

/// A 128-bit UUIDv7 with a type.
pub struct Id<T>([u8; 16], PhantomData<fn() -> T>);

impl<T> Id<T> {
    /// From the 16 bytes of a UUID.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Id(bytes, PhantomData)
    }

    /// The 16 bytes of the UUID.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// A new random id at the time `at`.
    pub fn random(at: Timestamp) -> Self {
        let mut random = [0u8; 10];
        let source = ring::rand::SystemRandom::new();
        if ring::rand::SecureRandom::fill(&source, &mut random).is_err() {
            // The operating system has no randomness to give: fall back to the process' own hasher keys.
            use std::hash::{BuildHasher, Hasher};
            let drawn = std::collections::hash_map::RandomState::new().build_hasher().finish().to_be_bytes();
            random.iter_mut().zip(drawn).for_each(|(to, from)| *to = from);
        }
        Id::compose(at, random)
    }

    /// The id that `entry`, received at `at`, gives to its `ordinal`-th thing of `kind`.
    pub fn derive(entry: EntryId, at: Timestamp, kind: &str, ordinal: u32) -> Self {
        let digest = sha256_parts(&[entry.as_bytes(), kind.as_bytes(), &ordinal.to_be_bytes()]);
        let mut tail = [0u8; 10];
        tail.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Id::compose(at, tail)
    }

    /// Lays milliseconds and 74 free bits out as UUIDv7.
    fn compose(at: Timestamp, tail: [u8; 10]) -> Self {
        let [_, _, m0, m1, m2, m3, m4, m5] = at.millis().max(0).to_be_bytes();
        let [a, b, c, d, e, f, g, h, i, j] = tail;
        Id::from_bytes([m0, m1, m2, m3, m4, m5, 0x70 | (a & 0x0f), b, 0x80 | (c & 0x3f), d, e, f, g, h, i, j])
    }

    /// The time inside the id.
    pub fn time(&self) -> Timestamp {
        let [m0, m1, m2, m3, m4, m5, ..] = self.0;
        Timestamp::from_millis(i64::from_be_bytes([0, 0, m0, m1, m2, m3, m4, m5]))
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Id<T> {}
impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
impl<T> std::hash::Hash for Id<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// Crockford's base32 in lower case, as TypeID uses it.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl<T: Named> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'0'; 26];
        let mut value = u128::from_be_bytes(self.0);
        for slot in text.iter_mut().rev() {
            *slot = ALPHABET.get((value & 31) as usize).copied().unwrap_or(b'0');
            value >>= 5;
        }
        f.write_str(T::PREFIX)?;
        f.write_str("_")?;
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl<T: Named> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<T: Named> FromStr for Id<T> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::invalid(format!("not an id of the form `{}_` and 26 characters", T::PREFIX));
        let digits = text.strip_prefix(T::PREFIX).and_then(|rest| rest.strip_prefix('_')).ok_or_else(wrong)?;
        if digits.len() != 26 || !digits.starts_with(|c: char| ('0'..='7').contains(&c)) {
            return Err(wrong());
        }
        let mut value: u128 = 0;
        for byte in digits.bytes() {
            let digit = ALPHABET.iter().position(|letter| *letter == byte).ok_or_else(wrong)?;
            value = (value << 5) | digit as u128;
        }
        Ok(Id::from_bytes(value.to_be_bytes()))
    }
}

impl<T: Named> Serialize for Id<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: Named> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl<T: Named> JsonSchema for Id<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Id_{}", T::PREFIX).into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": format!("^{}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$", T::PREFIX),
        })
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn follows_the_published_typeid_vector() {
        // From the TypeID specification's `valid.yml`: uuid 0110c853-1d09-52d8-d73e-1194e95b5f19.
        let bytes = 0x0110c853_1d09_52d8_d73e_1194e95b5f19_u128.to_be_bytes();
        let id = InteractionId::from_bytes(bytes);
        assert_eq!(id.to_string(), "ix_0123456789abcdefghjkmnpqrs");
        assert_eq!("ix_0123456789abcdefghjkmnpqrs".parse::<InteractionId>().unwrap(), id);
    }

    #[test]
    fn refuses_what_is_no_id() {
        for text in [
            "",
            "ix_",
            "cv_0123456789abcdefghjkmnpqrs",
            "ix_8zzzzzzzzzzzzzzzzzzzzzzzzz",
            "ix_0123456789abcdefghjkmnpqrI",
        ] {
            assert!(text.parse::<InteractionId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn derived_ids_are_uuid_v7_and_keep_the_time(millis in 0i64..4_000_000_000_000, ordinal: u32) {
            let at = Timestamp::from_millis(millis);
            let entry = EntryId::random(at);
            let id = InteractionId::derive(entry, at, "ix", ordinal);
            prop_assert_eq!(id, InteractionId::derive(entry, at, "ix", ordinal));
            prop_assert_eq!(id.time(), at);
            prop_assert_eq!(id.as_bytes()[6] >> 4, 7);
            prop_assert_eq!(id.as_bytes()[8] >> 6, 0b10);
            prop_assert_eq!(id.to_string().parse::<InteractionId>().unwrap(), id);
        }
    }
}
