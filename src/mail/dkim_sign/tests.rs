use super::super::dkim::{DkimOutcome, TxtAnswer, signatures};
use super::*;

/// Keys made for these tests only.
const RSA: &str = include_str!("test-rsa-2048.pem");
const RSA_PKCS1: &str = include_str!("test-rsa-2048-pkcs1.pem");
const RSA_SHORT: &str = include_str!("test-rsa-1024.pem");
const RSA_PUBLIC: &str = "v=DKIM1; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA8raRUWmyq20QuvxFU0CFkrt3ShjaRf0TFODHZmdaFCJy400iuWXuqLmVLD8bcY2oFsMBUD5425Gp43LtZlnmcDqD4VELRh0l6zpBRJMV052GBKr+LCaToFAiozoStap5054p0RvAcEGo3ixi81qDRaoqSwEt1o5yAo10Q53QTt1lGZMwrBxWmbR/Sk03OYK6pHn7NAtAqfmjPfryMOC+gL+OrSf06Bhk0vffklgiWo/4AX0coqL/w3NNJfTH8oCxibF4of77jCxW7azYPr6A0jstCli84JIWM3Rrvvr6IFy7+03vO+mQnsXpha1js+Wxsl19P452VPPwBcFKKeAGxQIDAQAB";
/// The key of RFC 8463, appendix A.
const ED25519: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
const ED25519_PUBLIC: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

const MAIL: &str = "From: Desk <desk@example.org>\r\nTo: one@example.com\r\nSubject: Re: the\r\n  lamp\r\n\
    Date: Mon, 2 Nov 2026 10:00:00 +0000\r\nMessage-ID: <a@example.org>\r\nMIME-Version: 1.0\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\r\nIt is on its way.  \r\n\r\n\r\n";

fn outcome(mail: &str, record: &str) -> DkimOutcome {
    signatures(mail.as_bytes())[0].verify(&TxtAnswer::Found(vec![record.to_owned()]), 1_800_000_000).result
}

fn signed(pem: &str) -> String {
    let key = SigningKey::from_pem(pem).unwrap();
    format!("{}{MAIL}", sign(MAIL.as_bytes(), &key, "example.org", "s1", 1_790_000_000).unwrap())
}

#[test]
fn what_is_signed_verifies() {
    for (pem, record) in [(RSA, RSA_PUBLIC), (RSA_PKCS1, RSA_PUBLIC), (ED25519, ED25519_PUBLIC)] {
        let mail = signed(pem);
        assert_eq!(outcome(&mail, record), DkimOutcome::Pass);
        assert!(mail.lines().all(|line| line.len() <= 78), "{mail}");
        let relayed = format!("Received: from a by b\r\n{}", mail.replace("the\r\n  lamp", "the lamp"));
        assert_eq!(outcome(&relayed, record), DkimOutcome::Pass, "folds may change");
        for (from, to) in [
            ("Desk <", "Boss <"),
            ("way.", "way!"),
            ("\r\nTo:", "\r\nCc: b@c.de\r\nTo:"),
            ("t=1790", "t=1791"),
            ("\r\nTo:", "\r\nFrom: x@y.zz\r\nTo:"),
            ("\r\nFrom:", "\r\nFrom: x@y.zz\r\nFrom:"),
        ] {
            let changed = mail.replacen(from, to, 1);
            assert_ne!(changed, mail);
            assert_eq!(outcome(&changed, record), DkimOutcome::Fail, "{to}");
        }
    }
}

#[test]
fn the_same_mail_has_the_same_signature() {
    assert_eq!(signed(RSA), signed(RSA_PKCS1));
    assert_eq!(signed(ED25519), signed(ED25519));
}

#[test]
fn keys_that_cannot_sign() {
    let fault = |pem: &str| SigningKey::from_pem(pem).err();
    assert_eq!(fault(RSA_SHORT), Some(SignFault::BadKey));
    assert_eq!(fault(""), Some(SignFault::NoPem));
    assert_eq!(fault("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"), Some(SignFault::BadKey));
    assert_eq!(fault(&RSA.replace("PRIVATE", "ENCRYPTED PRIVATE")), Some(SignFault::NoPem));
}

#[test]
fn names_that_cannot_be() {
    let key = SigningKey::from_pem(ED25519).unwrap();
    for (domain, selector) in [("example.org;x", "s"), ("example.org", "a\r\nX: y"), ("", "s"), ("example.org", "")] {
        assert_eq!(sign(MAIL.as_bytes(), &key, domain, selector, 1), Err(SignFault::BadName), "{domain} {selector}");
    }
    assert_eq!(format!("{key:?}"), "SigningKey(ed25519-sha256)");
}
