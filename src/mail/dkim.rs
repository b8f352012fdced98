//! DKIM: whether a domain signed this mail (RFC 6376, RFC 8301, RFC 8463).
//!
//! Two steps, because the keys lie in the DNS and nothing here asks it: [`signatures`] reads and hashes a mail, each
//! signature then says which name must be asked, and [`Signature::verify`] judges by the answer. What counts: RSA of
//! 1024 bits or more with SHA-256, and Ed25519. A signature over a part of the body (`l=`) is never a pass, because
//! what stands behind that part can be anybody's. Linear in the mail's size; the body is hashed once for each form and
//! limit.

use std::fmt;

use super::dkim_canon::{self, Canon, Header};
use super::dkim_key::{Algorithm, Key};
use super::fields::{Field, Fields};
use super::tags::{Tags, base64, is_below, is_domain};

/// How many signatures of a mail are looked at, from the top.
pub const MOST_SIGNATURES: usize = 10;

/// The longest signature field that is read, in bytes.
const LONGEST_SIGNATURE: usize = 16 * 1024;

/// How far the signer's clock may be ahead, in seconds.
const CLOCK_SKEW: u64 = 300;

/// What the DNS said about a key, or about any TXT record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxtAnswer {
    /// The records there are, each with its strings put together.
    Found(Vec<String>),
    /// There is none.
    None,
    /// It could not be learned now.
    Temporary,
}

/// What a signature is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DkimOutcome {
    /// The domain signed this mail.
    Pass,
    /// It did not sign this one, or the signature's time is over.
    Fail,
    /// The signature or the key cannot be used, now or later.
    PermError,
    /// The key could not be learned now.
    TempError,
    /// It signed a part of this mail: this counts for nothing.
    Neutral,
}

/// A judged signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DkimResult {
    /// The signing domain (`d=`) in lower case; empty if the signature names none that can be.
    pub domain: String,
    /// The selector (`s=`); empty as above.
    pub selector: String,
    /// What it is worth.
    pub result: DkimOutcome,
    /// Why, in words for the operator.
    pub why: &'static str,
    /// The bits of the RSA key that was used.
    pub rsa_bits: Option<usize>,
}

/// A signature as it was found in a mail, with the mail's hashes.
#[derive(Clone)]
pub struct Signature {
    domain: String,
    selector: String,
    claim: Result<Claim, Fault>,
}

/// Why a signature is no pass.
type Fault = (DkimOutcome, &'static str);

#[derive(Clone)]
struct Claim {
    algorithm: Algorithm,
    /// `b=`.
    value: Vec<u8>,
    /// What `b=` is over.
    signed: Vec<u8>,
    /// Whether `bh=` is that of this body.
    same_body: bool,
    /// `t=` and `x=`, unix seconds.
    signed_at: Option<u64>,
    expires_at: Option<u64>,
    /// Whether `i=` is of the very domain `d=`.
    same_domain: bool,
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = self.claim.as_ref().map_or(0, |claim| claim.signed.len());
        f.debug_struct("Signature").field("signed", &signed).field("fault", &self.claim.as_ref().err()).finish()
    }
}

/// Reads and hashes the signatures of a mail: at most [`MOST_SIGNATURES`], in their order. `raw` is the mail as it
/// came.
pub fn signatures(raw: &[u8]) -> Vec<Signature> {
    let (fields, body) = Fields::of_mail(raw);
    let found: Vec<&Field<'_>> = fields.all("DKIM-Signature").take(MOST_SIGNATURES).collect();
    if found.is_empty() {
        return Vec::new();
    }
    // A mail without any CRLF was stored by a system whose lines end at LF; it was signed with CRLF.
    let lf = memchr::memmem::find(raw, b"\r\n").is_none();
    let (header, whole) = (Header::new(&fields), fields.whole());
    let mut mail = Hashed { header, whole, body, lf, simple: None, relaxed: None };
    found.into_iter().map(|field| read(field, &mut mail)).collect()
}

/// A mail and the hashes of its body that were made already.
struct Hashed<'a> {
    header: Header<'a>,
    /// Whether all of the header is there.
    whole: bool,
    body: &'a [u8],
    lf: bool,
    simple: Option<[u8; 32]>,
    relaxed: Option<[u8; 32]>,
}

impl Hashed<'_> {
    fn body(&mut self, canon: Canon) -> [u8; 32] {
        let made = match canon {
            Canon::Simple => &mut self.simple,
            Canon::Relaxed => &mut self.relaxed,
        };
        *made.get_or_insert_with(|| dkim_canon::body_hash(canon, self.body, self.lf))
    }
}

fn read(field: &Field<'_>, mail: &mut Hashed<'_>) -> Signature {
    let text = (field.whole.len() <= LONGEST_SIGNATURE).then(|| std::str::from_utf8(field.value).ok()).flatten();
    let Some(tags) = text.and_then(Tags::read) else {
        let claim = Err((DkimOutcome::PermError, "the signature cannot be read"));
        return Signature { domain: String::new(), selector: String::new(), claim };
    };
    let name =
        |tag: &str| tags.get(tag).filter(|name| is_domain(name)).map(str::to_ascii_lowercase).unwrap_or_default();
    let (domain, selector) = (name("d"), tags.get("s").filter(|name| is_selector(name)).unwrap_or_default().to_owned());
    let claim = match tags.get("l") {
        // Not even computed: nothing depends on it, and each limit would cost another pass over the body.
        Some(_) => Err((DkimOutcome::Neutral, "only a part of the body is signed")),
        // The field that it is over may be one that was passed over.
        None if !mail.whole => Err((DkimOutcome::PermError, "the header is too long, or read in different ways")),
        None => claim(field, &tags, &domain, &selector, mail).map_err(|why| (DkimOutcome::PermError, why)),
    };
    Signature { domain, selector, claim }
}

/// A selector may be a number alone, which a domain may not.
fn is_selector(name: &str) -> bool {
    is_domain(&format!("{name}.x"))
}

fn claim(
    field: &Field<'_>,
    tags: &Tags<'_>,
    domain: &str,
    selector: &str,
    mail: &mut Hashed<'_>,
) -> Result<Claim, &'static str> {
    if tags.get("v") != Some("1") {
        return Err("the signature has another version");
    }
    if domain.is_empty() || selector.is_empty() || format!("{selector}._domainkey.{domain}").len() > 253 {
        return Err("the signature names no domain or selector");
    }
    let algorithm = match tags.get("a").map(str::to_ascii_lowercase).as_deref() {
        Some("rsa-sha256") => Algorithm::RsaSha256,
        Some("ed25519-sha256") => Algorithm::Ed25519Sha256,
        Some("rsa-sha1") => return Err("SHA-1 is not safe"),
        _ => return Err("the signature's algorithm is unknown"),
    };
    if tags.get("q").is_some_and(|list| !list.split(':').any(|method| method.trim().eq_ignore_ascii_case("dns/txt"))) {
        return Err("the key is kept in an unknown way");
    }
    let (header_canon, body_canon) = forms(tags.get("c").unwrap_or("simple"))?;
    let number = |tag| tags.get(tag).map(|text| text.parse::<u64>().map_err(|_| "a number cannot be read")).transpose();
    let (signed_at, expires_at) = (number("t")?, number("x")?);
    let same_domain = agent_domain(tags.get("i"), domain)?;
    let given_hash = tags.get("bh").and_then(base64).ok_or("the signature has no hash of the body")?;
    let value = tags.get("b").and_then(base64).filter(|value| !value.is_empty()).ok_or("the signature is empty")?;

    let signed = signed_header(field, tags, header_canon, mail)?;
    let same_body = given_hash == mail.body(body_canon);
    Ok(Claim { algorithm, value, signed, same_body, signed_at, expires_at, same_domain })
}

/// What `b=` is over: the fields in `h=`, and the signature's own field with nothing in `b=`.
fn signed_header(field: &Field<'_>, tags: &Tags<'_>, canon: Canon, mail: &Hashed<'_>) -> Result<Vec<u8>, &'static str> {
    let names = tags.get("h").unwrap_or_default().to_ascii_lowercase();
    let names = || names.split(':').map(str::trim);
    if !names().any(|name| name == "from") {
        return Err("From is not signed");
    }
    let mut signed = mail.header.covered(canon, names()).ok_or("the signed header is too long")?;
    dkim_canon::field(canon, field, &without_signature(field.value), &mut signed);
    Ok(signed)
}

/// The forms of header and body in `c=`.
fn forms(text: &str) -> Result<(Canon, Canon), &'static str> {
    let form = |text: &str| match text {
        text if text.eq_ignore_ascii_case("simple") => Ok(Canon::Simple),
        text if text.eq_ignore_ascii_case("relaxed") => Ok(Canon::Relaxed),
        _ => Err("the signature's form is unknown"),
    };
    let (header, body) = text.split_once('/').unwrap_or((text, "simple"));
    Ok((form(header.trim())?, form(body.trim())?))
}

/// Whether `i=` names the very domain `d=`, where it may name one below.
fn agent_domain(agent: Option<&str>, domain: &str) -> Result<bool, &'static str> {
    let Some(agent) = agent else { return Ok(true) };
    let (_, of) = agent.rsplit_once('@').ok_or("the agent has no domain")?;
    if !is_below(of.trim(), domain) {
        return Err("the agent is of another domain");
    }
    Ok(of.trim().eq_ignore_ascii_case(domain))
}

/// A signature field's value with nothing in `b=`, as it was when it was signed.
fn without_signature(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for (place, piece) in value.split(|byte| *byte == b';').enumerate() {
        if place > 0 {
            out.push(b';');
        }
        let equals = memchr::memchr(b'=', piece).unwrap_or_default();
        let name = piece.get(..equals).unwrap_or_default();
        let kept = if name.trim_ascii() == b"b" { equals + 1 } else { piece.len() };
        out.extend(piece.iter().take(kept));
    }
    out
}

/// When a mail arrived, in unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    /// As the server says that took it. A signature must not have ended by then.
    pub at: u64,
    /// When it was here at the latest, by our own clock. No signature is made later: the server's clock may be behind, and
    /// of a mail that was copied from elsewhere it may tell any time.
    pub by: u64,
}

impl From<u64> for Came {
    fn from(now: u64) -> Came {
        Came { at: now, by: now }
    }
}

impl Signature {
    /// The signing domain, in lower case; empty if the signature names none that can be.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The DNS name whose TXT records have the key. None if no key can save this signature.
    pub fn key_name(&self) -> Option<String> {
        self.claim.is_ok().then(|| format!("{}._domainkey.{}", self.selector, self.domain))
    }

    /// Judges. `key` is what the DNS said about [`Signature::key_name`], `came` when the mail arrived: that, and not the
    /// time at which it is read, is what `x=` is about.
    pub fn verify(&self, key: &TxtAnswer, came: impl Into<Came>) -> DkimResult {
        let (result, why, rsa_bits) = match self.judge(key, came.into()) {
            Ok(rsa_bits) => (DkimOutcome::Pass, "the signature is good", rsa_bits),
            Err((result, why)) => (result, why, None),
        };
        DkimResult { domain: self.domain.clone(), selector: self.selector.clone(), result, why, rsa_bits }
    }

    fn judge(&self, key: &TxtAnswer, came: Came) -> Result<Option<usize>, Fault> {
        let permanent = |why| (DkimOutcome::PermError, why);
        let fail = |why| Err((DkimOutcome::Fail, why));
        let claim = self.claim.as_ref().map_err(|fault| *fault)?;
        let records = match key {
            TxtAnswer::Found(records) => records,
            TxtAnswer::None => return Err(permanent("there is no key")),
            TxtAnswer::Temporary => return Err((DkimOutcome::TempError, "the key could not be learned")),
        };
        // A name may have other TXT records beside its key: the first that is a key counts.
        let mut read = records.iter().map(|record| Key::read(record));
        let first = read.next().unwrap_or(Err("there is no key"));
        let key = first.or_else(|fault| read.find_map(Result::ok).ok_or(fault)).map_err(permanent)?;
        if key.strict && !claim.same_domain {
            return Err(permanent("the key is not for domains below"));
        }
        if claim.signed_at.is_some_and(|at| at > came.by.saturating_add(CLOCK_SKEW)) {
            return fail("the signature is from the future");
        }
        if claim.expires_at.is_some_and(|at| at < came.at || claim.signed_at.is_some_and(|signed| at < signed)) {
            return fail("the signature's time is over");
        }
        if !claim.same_body {
            return fail("the body was changed");
        }
        if !key.verifies(claim.algorithm, &claim.signed, &claim.value) {
            return fail("the signature is not good");
        }
        Ok(key.rsa_bits())
    }
}

#[cfg(test)]
mod tests;
