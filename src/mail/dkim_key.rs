//! The public keys that domains publish for DKIM (RFC 6376, section 3.6.1; RFC 8463, section 4).

use ring::signature::{ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};

use super::tags::{Tags, base64};

/// The longest key record that is read, in bytes. One of RSA with 8192 bits has under 1,500.
const LONGEST_RECORD: usize = 8192;

/// The kinds of signatures that count. SHA-1 must not be used (RFC 8301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// RSA with SHA-256, 1024 bits or more.
    RsaSha256,
    /// Ed25519 over the SHA-256 of what is signed.
    Ed25519Sha256,
}

/// A domain's key.
pub(super) struct Key {
    algorithm: Algorithm,
    /// PKCS#1 `RSAPublicKey`, or the 32 bytes of Ed25519.
    bytes: Vec<u8>,
    /// Whether `i=` must be in the very domain of `d=`.
    pub(super) strict: bool,
}

impl Key {
    /// Reads a key record, its strings put together. The error says what is wrong with it.
    ///
    /// `t=y`, "this domain is testing DKIM", does not make a signature worth less: the flag is forgotten in many
    /// records, and no large receiver heeds it.
    pub(super) fn read(record: &str) -> Result<Key, &'static str> {
        let tags = (record.len() <= LONGEST_RECORD).then(|| Tags::read(record)).flatten();
        let tags = tags.ok_or("the key record cannot be read")?;
        if tags.get("v").is_some_and(|version| version != "DKIM1" || tags.first() != Some("v")) {
            return Err("the key record has another version");
        }
        let listed = |name: &str, wanted: &[&str]| {
            tags.get(name).is_none_or(|list| list.split(':').any(|held| wanted.contains(&held.trim())))
        };
        if !listed("h", &["sha256"]) || !listed("s", &["*", "email"]) {
            return Err("the key is for other use");
        }
        let algorithm = match tags.get("k").unwrap_or("rsa") {
            "rsa" => Algorithm::RsaSha256,
            "ed25519" => Algorithm::Ed25519Sha256,
            _ => return Err("the key is of an unknown kind"),
        };
        let bytes = match tags.get("p") {
            None => return Err("the key record has no key"),
            Some("") => return Err("the key is revoked"),
            Some(text) => base64(text).ok_or("the key is no base64")?,
        };
        let bytes = match algorithm {
            Algorithm::RsaSha256 => pkcs1(&bytes).ok_or("the key is no RSA key")?.to_vec(),
            Algorithm::Ed25519Sha256 if bytes.len() == 32 => bytes,
            Algorithm::Ed25519Sha256 => return Err("the key is no Ed25519 key"),
        };
        let strict = tags.get("t").is_some_and(|flags| flags.split(':').any(|flag| flag.trim() == "s"));
        Ok(Key { algorithm, bytes, strict })
    }

    /// Whether `signature` over `message` is this key's, and of this kind.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if algorithm != self.algorithm {
            return false;
        }
        match algorithm {
            Algorithm::RsaSha256 => {
                UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, &self.bytes)
                    .verify(message, signature)
                    .is_ok()
            }
            Algorithm::Ed25519Sha256 => {
                let digest = ring::digest::digest(&ring::digest::SHA256, message);
                UnparsedPublicKey::new(&ED25519, &self.bytes).verify(digest.as_ref(), signature).is_ok()
            }
        }
    }

    /// The length of an RSA key's modulus in bits.
    pub(super) fn rsa_bits(&self) -> Option<usize> {
        let (_, modulus, _) = matches!(self.algorithm, Algorithm::RsaSha256)
            .then(|| der(&self.bytes))
            .flatten()
            .and_then(|(_, sequence, _)| der(sequence))?;
        let leading = modulus.iter().take_while(|byte| **byte == 0).count();
        let first = modulus.get(leading)?;
        Some((modulus.len() - leading) * 8 - first.leading_zeros() as usize)
    }
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// The `RSAPublicKey` (RFC 8017) in a key, which is one or, mostly, a `SubjectPublicKeyInfo` around one.
pub(crate) fn pkcs1(key: &[u8]) -> Option<&[u8]> {
    let (SEQUENCE, inner, _) = der(key)? else { return None };
    match der(inner)? {
        (INTEGER, ..) => Some(key),
        (SEQUENCE, _, rest) => {
            let (BIT_STRING, bits, _) = der(rest)? else { return None };
            // The first byte says how many bits of the last are not used.
            bits.strip_prefix(&[0])
        }
        _ => None,
    }
}

/// The first DER value: its tag, what it holds, and what follows it.
fn der(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(*short), rest),
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(short & 0x0f))?;
            (length.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((*tag, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RSA_1024: &str = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB";
    const ED: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    fn fault(record: &str) -> &'static str {
        Key::read(record).err().unwrap_or("")
    }

    #[test]
    fn keys_are_read() {
        let key = Key::read(&format!("v=DKIM1; n=; t=y:s; h=sha1:sha256; s=email; p={RSA_1024}")).unwrap();
        assert!(key.strict && key.algorithm == Algorithm::RsaSha256);
        assert_eq!(key.rsa_bits(), Some(1024));
        let bare = data_encoding::BASE64.encode(&key.bytes);
        assert_eq!(Key::read(&format!("p={bare}")).unwrap().bytes, key.bytes);
        assert_eq!(Key::read(&format!("k=ed25519; p={ED}")).unwrap().bytes.len(), 32);
    }

    #[test]
    fn what_is_no_key_is_named() {
        assert_eq!(fault("v=spf1 -all"), "the key record has another version");
        assert_eq!(fault("k=rsa; v=DKIM1; p=AA"), "the key record has another version");
        assert_eq!(fault("v=DKIM1; p="), "the key is revoked");
        assert_eq!(fault("v=DKIM1"), "the key record has no key");
        assert_eq!(fault(&format!("h=sha1; p={ED}")), "the key is for other use");
        assert_eq!(fault(&format!("s=tlsrpt; p={ED}")), "the key is for other use");
        assert_eq!(fault(&format!("k=x; p={ED}")), "the key is of an unknown kind");
        assert_eq!(fault(&format!("k=rsa; p={ED}")), "the key is no RSA key");
        assert_eq!(fault(&format!("k=ed25519; p={RSA_1024}")), "the key is no Ed25519 key");
        assert_eq!(fault(&"x".repeat(LONGEST_RECORD + 1)), "the key record cannot be read");
    }

    proptest! {
        #[test]
        fn no_record_and_no_der_panics(record in "[a-z=;: ]{0,40}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Key::read(&record);
            let _ = pkcs1(&bytes);
            let text = data_encoding::BASE64.encode(&bytes);
            if let Ok(key) = Key::read(&format!("p={text}")) {
                let _ = key.rsa_bits();
                prop_assert!(!key.verifies(Algorithm::RsaSha256, b"x", &bytes));
            }
        }
    }
}
