//! The messages of Amazon SNS: <https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html>.
//!
//! A message names the certificate that it is signed by. Anybody can have one, so what counts is where it lies: at the host of
//! SNS in the very region of a topic that the operator configured, under the one kind of name that SNS gives its certificates.
//! It is fetched over TLS from there, by whoever takes the request; nothing is fetched for a message of another topic.
//! All that a message says is signed, and it is known again by its id.

use data_encoding::BASE64;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ParsedCertificate;

use super::{Refusal, VerifiedBy, key};
use crate::base::json::Value;
use crate::connector::options::Account;
use crate::connector::request::Request;
use crate::connector::tree::{Notes, Table};
use crate::mail::dkim_key::pkcs1;

/// The longest certificate that is read, in bytes of PEM.
const LONGEST: usize = 64 << 10;

/// `kind = "sns"`.
#[derive(Debug, Clone)]
pub(in crate::connector) struct Sns {
    /// The option that holds the topics.
    topics: String,
    /// The option that says where SNS is, if it is not where Amazon has it.
    base: Option<String>,
}

impl Sns {
    pub(super) fn read(table: &mut Table, options: &[String], notes: &mut Notes<'_>) -> Option<Sns> {
        let topics = key(table, "topics", options, notes);
        let base = if table.has("base") { key(table, "base", options, notes) } else { None };
        Some(Sns { topics: topics?, base })
    }

    /// Where SNS is in the region of the message's topic, which must be one of ours.
    fn home(&self, message: &Value<'_>, account: &Account) -> Result<String, Refusal> {
        let topic = member(message, "TopicArn").ok_or_else(|| Refusal::new("this is no message of SNS"))?;
        if !account.options.list(&self.topics).any(|known| known == topic) {
            return Err(Refusal::new("the message is of a topic that is not configured"));
        }
        if let Some(base) = self.base.as_ref().and_then(|option| account.options.text(option)) {
            return Ok(base.to_owned());
        }
        let mut pieces = topic.split(':');
        let (Some("arn"), Some(partition), Some("sns"), Some(region)) =
            (pieces.next(), pieces.next(), pieces.next(), pieces.next())
        else {
            return Err(Refusal::new("the configured topic is no ARN of SNS"));
        };
        let end = if partition == "aws-cn" { ".cn" } else { "" };
        Ok(format!("https://sns.{region}.amazonaws.com{end}"))
    }

    /// Where the certificate of a message lies.
    pub(super) fn signer(&self, request: &Request, account: &Account) -> Result<String, Refusal> {
        let message = read(request)?;
        let home = self.home(&message, account)?;
        let stated = member(&message, "SigningCertURL").unwrap_or_default();
        let name = stated.strip_prefix(home.as_str()).and_then(|rest| rest.strip_prefix("/SimpleNotificationService-"));
        let name = name.and_then(|rest| rest.strip_suffix(".pem")).unwrap_or_default();
        match (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            true => Ok(stated.to_owned()),
            false => Err(Refusal::new("the certificate does not lie where those of SNS do")),
        }
    }

    pub(super) fn check(&self, request: &Request, account: &Account) -> Result<VerifiedBy, Refusal> {
        // Also here, so that nothing depends on who fetched what.
        self.signer(request, account)?;
        let message = read(request)?;
        let pem = request.signer.as_ref().ok_or_else(|| Refusal::new("the certificate of SNS was not fetched"))?;
        let key = public_key(pem).ok_or_else(|| Refusal::new("what was fetched is no certificate with an RSA key"))?;
        let algorithm: &dyn VerificationAlgorithm = match member(&message, "SignatureVersion") {
            Some("1") => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            Some("2") => &RSA_PKCS1_2048_8192_SHA256,
            _ => return Err(Refusal::new("the signature is of an unknown version")),
        };
        let signature = member(&message, "Signature").and_then(|text| BASE64.decode(text.as_bytes()).ok());
        let signature = signature.ok_or_else(|| Refusal::new("the signature is missing or malformed"))?;
        let signed = signed(&message).ok_or_else(|| Refusal::new("this is no message of SNS"))?;
        match UnparsedPublicKey::new(algorithm, key).verify(signed.as_bytes(), &signature) {
            Ok(()) => Ok(VerifiedBy("sns".to_owned())),
            Err(_) => Err(Refusal::new("signature does not match")),
        }
    }

    /// What is to be fetched to begin a subscription that was asked for.
    pub(super) fn confirmation(&self, request: &Request, account: &Account) -> Option<String> {
        let message = read(request).ok()?;
        let asked = member(&message, "Type") == Some("SubscriptionConfirmation");
        let home = self.home(&message, account).ok()?;
        let url = member(&message, "SubscribeURL").filter(|_| asked)?;
        url.strip_prefix(home.as_str()).is_some_and(|rest| rest.starts_with("/?")).then(|| url.to_owned())
    }
}

/// The message, whatever its content type says: SNS calls it `text/plain`.
fn read(request: &Request) -> Result<Value<'_>, Refusal> {
    Value::parse(&request.body).map_err(|_| Refusal::new("this is no message of SNS"))
}

fn member<'v>(message: &'v Value<'_>, name: &str) -> Option<&'v str> {
    message.get(name).and_then(Value::as_str)
}

/// What is signed of a message: names and values, each on lines of its own, in the order of the names.
fn signed(message: &Value<'_>) -> Option<String> {
    let names: &[&str] = match member(message, "Type")? {
        "Notification" => &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"],
        "SubscriptionConfirmation" | "UnsubscribeConfirmation" => {
            &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        }
        _ => return None,
    };
    let mut text = String::new();
    for name in names {
        match member(message, name) {
            Some(value) => text.extend([name, "\n", value, "\n"]),
            // A message need not have a subject.
            None if *name == "Subject" => {}
            None => return None,
        }
    }
    Some(text)
}

/// The `RSAPublicKey` of the first certificate in a PEM text.
fn public_key(pem: &[u8]) -> Option<Vec<u8>> {
    let certificate = (pem.len() <= LONGEST).then(|| CertificateDer::from_pem_slice(pem).ok()).flatten()?;
    let parsed = ParsedCertificate::try_from(&certificate).ok()?;
    pkcs1(parsed.subject_public_key_info().as_ref()).map(<[u8]>::to_vec)
}
