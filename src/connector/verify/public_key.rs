//! Signatures that are checked by a public key: Ed25519 (RFC 8032) and ECDSA over P-256 with SHA-256 (FIPS 186-5).

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};

/// What comes before the point in the `SubjectPublicKeyInfo` of a P-256 key (RFC 5480); it is the same for all of them.
const P256_HEAD: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
/// The length of an uncompressed point.
const POINT: usize = 65;

/// The kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::connector) enum Algorithm {
    /// The key is its 32 bytes.
    Ed25519,
    /// The key is a `SubjectPublicKeyInfo`, or the uncompressed point in it; signatures are DER.
    EcdsaP256,
}

impl Algorithm {
    /// The name, as manifests write it and [`super::VerifiedBy`] gives it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Algorithm::Ed25519 => "ed25519",
            Algorithm::EcdsaP256 => "ecdsa-p256",
        }
    }

    /// Whether `signature` over `message` is by the key written as hex, base64 or PEM. The error says what is wrong with the key.
    pub(super) fn verifies(self, key: &str, message: &[u8], signature: &[u8]) -> Result<bool, &'static str> {
        let bare: String =
            key.lines().filter(|line| !line.starts_with("-----")).flat_map(|line| line.trim().chars()).collect();
        let key = HEXLOWER_PERMISSIVE.decode(bare.as_bytes()).or_else(|_| BASE64.decode(bare.as_bytes()));
        let key = key.map_err(|_| "configured public key is neither hex nor base64")?;
        let (algorithm, key): (&dyn VerificationAlgorithm, &[u8]) = match self {
            Algorithm::Ed25519 => (&ED25519, &key),
            Algorithm::EcdsaP256 => {
                (&ECDSA_P256_SHA256_ASN1, point(&key).ok_or("configured public key is none of P-256")?)
            }
        };
        Ok(UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok())
    }
}

fn point(key: &[u8]) -> Option<&[u8]> {
    if key.len() == POINT {
        return Some(key);
    }
    let head = HEXLOWER_PERMISSIVE.decode(P256_HEAD.as_bytes()).ok()?;
    key.strip_prefix(head.as_slice()).filter(|point| point.len() == POINT)
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

    use super::*;

    #[test]
    fn a_signature_holds_for_its_message_and_key_however_the_key_is_written() {
        let random = SystemRandom::new();
        let pair = || {
            let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, made.as_ref(), &random).unwrap()
        };
        let (own, other) = (pair(), pair());
        let whole = |pair: &EcdsaKeyPair| {
            [HEXLOWER_PERMISSIVE.decode(P256_HEAD.as_bytes()).unwrap(), pair.public_key().as_ref().to_vec()].concat()
        };
        let text = BASE64.encode(&whole(&own));
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n", &text[..64], &text[64..]);
        let point = HEXLOWER_PERMISSIVE.encode(own.public_key().as_ref());
        let signature = own.sign(&random, b"1600112502[]\r\n").unwrap();
        for key in [&text, &pem, &point] {
            let holds = |message: &[u8]| Algorithm::EcdsaP256.verifies(key, message, signature.as_ref());
            assert_eq!(holds(b"1600112502[]\r\n"), Ok(true));
            assert_eq!(holds(b"1600112502[]"), Ok(false), "the last line end is signed");
        }
        let other = BASE64.encode(&whole(&other));
        assert_eq!(Algorithm::EcdsaP256.verifies(&other, b"1600112502[]\r\n", signature.as_ref()), Ok(false));
        for key in ["", "AAAA", "not a key"] {
            assert!(Algorithm::EcdsaP256.verifies(key, b"", signature.as_ref()).is_err());
        }
    }
}
