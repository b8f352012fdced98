//! Verification: whether a request really comes from the provider.
//!
//! Always over the raw bytes, always in constant time, and never optional: a manifest that checks nothing must say
//! `kind = "none"`. Several schemes in one manifest are alternatives; one that holds is enough.

mod fields;
mod public_key;
mod sns;
mod twilio;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use ring::hmac;

use self::fields::Fields;
use self::public_key::Algorithm;
use self::sns::Sns;
use super::compile::Compiler;
use super::eval::Tables;
use super::options::Account;
use super::request::Request;
use super::tree::{Notes, Table};
use crate::base::Timestamp;
use crate::base::hash::same_secret;

/// How a request was shown to be authentic: a word for the interaction's `raw.verified_by`, such as `hmac-sha256`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBy(pub String);

/// Why a request is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In plain words, without any part of the request.
    pub reason: String,
    /// The HTTP status to answer.
    pub status: u16,
}

impl Refusal {
    fn new(reason: impl Into<String>) -> Self {
        Refusal { reason: reason.into(), status: 401 }
    }
}

/// One scheme of a manifest.
#[derive(Debug, Clone)]
pub(super) enum Scheme {
    /// A keyed hash in a header over declared pieces.
    Hmac { algorithm: hmac::Algorithm, name: &'static str, signature: Where, window: Option<Window>, key: String },
    /// Twilio's: URL and sorted parameters, or URL and the hash of the body.
    Twilio { header: String, key: String },
    /// A shared secret handed over as it is.
    Token { header: Option<String>, query: Option<String>, prefix: String, key: String },
    /// HTTP Basic (RFC 7617).
    Basic { user: String, password: String },
    /// A signature in a header over declared pieces, whose public key is known.
    PublicKey { algorithm: Algorithm, signature: Where, window: Option<Window>, key: String },
    /// A keyed hash over fields of the request.
    Fields(Box<Fields>),
    /// Amazon SNS's: RSA over fields of the message, by a certificate that it names.
    Sns(Sns),
    /// Nothing is checked.
    None,
}

/// How a body is read, for schemes whose pieces stand in it.
pub(super) struct Reading<'c> {
    /// `[tables]` of the manifest.
    pub(super) tables: &'c Tables,
    /// The form field that holds JSON, if there is one.
    pub(super) json_in: Option<&'c str>,
}

/// Where a signature stands, how it is written and what it covers.
#[derive(Debug, Clone)]
pub(super) struct Where {
    header: String,
    prefix: String,
    base64: bool,
    signs: Vec<Signed>,
}

/// A piece of what is signed.
#[derive(Debug, Clone)]
enum Signed {
    Body,
    Url,
    Method,
    Header(String),
    Literal(String),
}

/// How old a request may be by its own timestamp.
#[derive(Debug, Clone)]
pub(super) struct Window {
    header: String,
    seconds: i64,
}

impl Window {
    fn check(&self, request: &Request, now: Timestamp) -> Result<(), Refusal> {
        let stated =
            request.header(&self.header).ok_or_else(|| Refusal::new(format!("no `{}` header", self.header)))?;
        let stated = super::convert::unix(stated)
            .ok_or_else(|| Refusal::new(format!("`{}` header is not a Unix time", self.header)))?;
        // Both ways: a timestamp from the future would stay valid for as long as its forger likes.
        if now.since(stated).abs() > self.seconds * 1000 {
            return Err(Refusal::new(format!("timestamp is more than {} s away from now", self.seconds)));
        }
        Ok(())
    }
}

impl Where {
    fn stated(&self, request: &Request) -> Result<Vec<u8>, Refusal> {
        let header = &self.header;
        let text = request.header(header).ok_or_else(|| Refusal::new(format!("no `{header}` header")))?;
        let text = text.strip_prefix(self.prefix.as_str());
        let text =
            text.ok_or_else(|| Refusal::new(format!("`{header}` header does not start with `{}`", self.prefix)))?;
        let bytes =
            if self.base64 { BASE64.decode(text.as_bytes()) } else { HEXLOWER_PERMISSIVE.decode(text.as_bytes()) };
        bytes.map_err(|_| {
            Refusal::new(format!("`{header}` header is not {}", if self.base64 { "base64" } else { "hex" }))
        })
    }

    /// Hands each signed piece to `take`, in order.
    fn pieces(&self, request: &Request, mut take: impl FnMut(&[u8])) -> Result<(), Refusal> {
        for piece in &self.signs {
            match piece {
                Signed::Body => take(&request.body),
                Signed::Url => take(request.url.as_bytes()),
                Signed::Method => take(request.method.as_bytes()),
                Signed::Literal(text) => take(text.as_bytes()),
                Signed::Header(name) => {
                    let value = request.header(name).ok_or_else(|| Refusal::new(format!("no `{name}` header")))?;
                    take(value.as_bytes());
                }
            }
        }
        Ok(())
    }
}

impl Scheme {
    /// The name, as [`VerifiedBy`] gives it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Scheme::Hmac { name, .. } => name,
            Scheme::Twilio { .. } => "twilio-hmac-sha1",
            Scheme::Token { .. } => "token",
            Scheme::Basic { .. } => "basic",
            Scheme::PublicKey { algorithm, .. } => algorithm.name(),
            Scheme::Fields(fields) => fields.name,
            Scheme::Sns(_) => "sns",
            Scheme::None => "none",
        }
    }

    /// Reads one `[[verify]]` table. `delivery_key` is what the manifest says makes a request known again.
    pub(super) fn read(
        mut table: Table,
        options: &[String],
        delivery_key: Option<&str>,
        c: &mut Compiler<'_, '_>,
    ) -> Option<Scheme> {
        const KINDS: [&str; 9] =
            ["hmac", "hmac-fields", "twilio", "token", "basic", "ed25519", "ecdsa-p256", "sns", "none"];
        let (kind, at) = table.need("kind", c.notes)?;
        let scheme = match kind.as_str() {
            "hmac" => read_hmac(&mut table, options, c.notes),
            "hmac-fields" => {
                let fields = Fields::read(&mut table, options, delivery_key, c);
                fields.map(|fields| Scheme::Fields(Box::new(fields)))
            }
            "twilio" => {
                let header = lower(table.text("header", c.notes)).unwrap_or_else(|| "x-twilio-signature".to_owned());
                key(&mut table, "key", options, c.notes).map(|key| Scheme::Twilio { header, key })
            }
            "token" => {
                let header = lower(table.text("header", c.notes));
                let query = table.text("query", c.notes).map(|(text, _)| text);
                let prefix = table.text("prefix", c.notes).map(|(text, _)| text).unwrap_or_default();
                if header.is_some() == query.is_some() {
                    c.notes.wrong(table.at, "a token stands in a `header` or in a `query` parameter; name one of them");
                }
                key(&mut table, "key", options, c.notes).map(|key| Scheme::Token { header, query, prefix, key })
            }
            "basic" => {
                let user = key(&mut table, "user", options, c.notes);
                let password = key(&mut table, "password", options, c.notes);
                user.zip(password).map(|(user, password)| Scheme::Basic { user, password })
            }
            "ed25519" | "ecdsa-p256" => {
                let algorithm = if kind == "ed25519" { Algorithm::Ed25519 } else { Algorithm::EcdsaP256 };
                let signature = read_where(&mut table, c.notes);
                let window = read_window(&mut table, c.notes);
                let key = key(&mut table, "key", options, c.notes);
                signature.zip(key).map(|(signature, key)| Scheme::PublicKey { algorithm, signature, window, key })
            }
            "sns" => Sns::read(&mut table, options, c.notes).map(Scheme::Sns),
            "none" => Some(Scheme::None),
            _ => {
                c.notes.wrong_name(at, format!("unknown verification scheme `{kind}`"), &kind, KINDS);
                return None;
            }
        };
        table.finish(c.notes);
        scheme
    }

    /// Whether it looks at nothing but the request's head.
    pub(super) fn needs_no_body(&self) -> bool {
        matches!(self, Scheme::Token { .. } | Scheme::Basic { .. } | Scheme::None)
    }

    /// Where the certificate lies that a request is checked by, if this scheme needs one.
    pub(super) fn signer(&self, request: &Request, account: &Account) -> Option<Result<String, Refusal>> {
        match self {
            Scheme::Sns(sns) => Some(sns.signer(request, account)),
            _ => None,
        }
    }

    /// What is to be fetched to confirm a request, if it asks for that.
    pub(super) fn confirmation(&self, request: &Request, account: &Account) -> Option<String> {
        match self {
            Scheme::Sns(sns) => sns.confirmation(request, account),
            _ => None,
        }
    }

    /// Checks a request.
    pub(super) fn check(
        &self,
        request: &Request,
        account: &Account,
        now: Timestamp,
        reading: &Reading<'_>,
    ) -> Result<VerifiedBy, Refusal> {
        let verified = |by: &str| Ok(VerifiedBy(by.to_owned()));
        match self {
            Scheme::Hmac { algorithm, name, signature, window, key } => {
                let stated = signature.stated(request)?;
                if let Some(window) = window {
                    window.check(request, now)?;
                }
                for secret in keys(account, key)? {
                    let mut context = hmac::Context::with_key(&hmac::Key::new(*algorithm, secret.as_bytes()));
                    signature.pieces(request, |piece| context.update(piece))?;
                    if same_secret(context.sign().as_ref(), &stated) {
                        return verified(name);
                    }
                }
                Err(Refusal::new("signature does not match"))
            }
            Scheme::Twilio { header, key } => twilio::check(request, header, &keys(account, key)?),
            Scheme::Token { header, query, prefix, key } => {
                let stated = match (header, query) {
                    (Some(name), _) => request.header(name).map(str::to_owned),
                    (None, name) => {
                        let name = name.as_deref().unwrap_or_default();
                        let mut pairs = url::form_urlencoded::parse(request.query().as_bytes());
                        pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
                    }
                };
                let stated = stated.ok_or_else(|| Refusal::new("no token in the request"))?;
                let stated = stated.strip_prefix(prefix.as_str()).ok_or_else(|| Refusal::new("token is malformed"))?;
                match keys(account, key)?.iter().any(|secret| same_secret(secret.as_bytes(), stated.as_bytes())) {
                    true => verified("token"),
                    false => Err(Refusal::new("token does not match")),
                }
            }
            Scheme::Basic { user, password } => basic(request, &keys(account, user)?, &keys(account, password)?),
            Scheme::PublicKey { algorithm, signature, window, key } => {
                let stated = signature.stated(request)?;
                if let Some(window) = window {
                    window.check(request, now)?;
                }
                let mut message = Vec::with_capacity(request.body.len() + 64);
                signature.pieces(request, |piece| message.extend_from_slice(piece))?;
                for text in keys(account, key)? {
                    if algorithm.verifies(text, &message, &stated).map_err(Refusal::new)? {
                        return verified(algorithm.name());
                    }
                }
                Err(Refusal::new("signature does not match"))
            }
            Scheme::Fields(fields) => fields.check(request, account, now, reading),
            Scheme::Sns(sns) => sns.check(request, account),
            Scheme::None => verified("none"),
        }
    }

    /// The headers by which the provider would sign this request: what the sample runner sends.
    pub(super) fn sign(&self, request: &mut Request, account: &Account, now: Timestamp) {
        let secret = |key: &str| account.options.values(key).first().copied().unwrap_or_default().to_owned();
        match self {
            Scheme::Hmac { algorithm, signature, window, key, .. } => {
                if let Some(window) = window {
                    set_default(request, &window.header, now.seconds().to_string());
                }
                let mut context = hmac::Context::with_key(&hmac::Key::new(*algorithm, secret(key).as_bytes()));
                if signature.pieces(request, |piece| context.update(piece)).is_ok() {
                    let tag = context.sign();
                    let text = if signature.base64 {
                        BASE64.encode(tag.as_ref())
                    } else {
                        HEXLOWER_PERMISSIVE.encode(tag.as_ref())
                    };
                    set_default(request, &signature.header, format!("{}{text}", signature.prefix));
                }
            }
            Scheme::Twilio { header, key } => {
                let text = BASE64.encode(&twilio::tag(&request.url, &twilio::fields(request), &secret(key)));
                set_default(request, header, text);
            }
            Scheme::Token { header, query, prefix, key } => {
                let token = format!("{prefix}{}", secret(key));
                if let Some(header) = header {
                    set_default(request, header, token);
                } else if let Some(query) = query {
                    let pair = url::form_urlencoded::Serializer::new(String::new()).append_pair(query, &token).finish();
                    let separator = if request.url.contains('?') { '&' } else { '?' };
                    request.url = format!("{}{separator}{pair}", request.url);
                }
            }
            Scheme::Basic { user, password } => {
                let text = BASE64.encode(format!("{}:{}", secret(user), secret(password)).as_bytes());
                set_default(request, "authorization", format!("Basic {text}"));
            }
            // The private half is the provider's, or the signature stands in the body: samples have it written out.
            Scheme::PublicKey { .. } | Scheme::Fields(_) | Scheme::Sns(_) | Scheme::None => {}
        }
    }
}

fn set_default(request: &mut Request, name: &str, value: String) {
    if request.header(name).is_none() {
        request.headers.push((name.to_owned(), value));
    }
}

fn keys<'a>(account: &'a Account, option: &str) -> Result<Vec<&'a str>, Refusal> {
    let values = account.options.values(option);
    if values.is_empty() {
        // Never "no key, no check": an account without its key accepts nothing.
        return Err(Refusal::new(format!("option `{option}` is not set, so nothing can be verified")));
    }
    Ok(values)
}

fn basic(request: &Request, users: &[&str], passwords: &[&str]) -> Result<VerifiedBy, Refusal> {
    let header = request.header("authorization").ok_or_else(|| Refusal::new("no `authorization` header"))?;
    let (scheme, text) = header.split_once(' ').unwrap_or_default();
    let pair = BASE64.decode(text.trim().as_bytes()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"));
    let pair = pair.ok_or_else(|| Refusal::new("`authorization` header is not HTTP Basic"))?;
    let split = pair.iter().position(|b| *b == b':').unwrap_or(pair.len());
    let (user, password) = pair.split_at_checked(split).unwrap_or_default();
    let password = password.get(1..).unwrap_or_default();
    let user = users.iter().any(|known| same_secret(known.as_bytes(), user));
    let password = passwords.iter().any(|known| same_secret(known.as_bytes(), password));
    if user & password {
        Ok(VerifiedBy("basic".to_owned()))
    } else {
        Err(Refusal::new("user or password does not match"))
    }
}

fn read_hmac(table: &mut Table, options: &[String], notes: &mut Notes<'_>) -> Option<Scheme> {
    let algorithm = read_algorithm(table, notes);
    let signature = read_where(table, notes);
    let window = read_window(table, notes);
    let key = key(table, "key", options, notes);
    let (_, name, algorithm) = algorithm?;
    Some(Scheme::Hmac { algorithm, name, signature: signature?, window, key: key? })
}

/// What a manifest calls a keyed hash, what [`VerifiedBy`] calls it, and which it is.
type Hash = (&'static str, &'static str, hmac::Algorithm);

fn read_algorithm(table: &mut Table, notes: &mut Notes<'_>) -> Option<Hash> {
    const ALGORITHMS: [Hash; 3] = [
        ("sha1", "hmac-sha1", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        ("sha256", "hmac-sha256", hmac::HMAC_SHA256),
        ("sha512", "hmac-sha512", hmac::HMAC_SHA512),
    ];
    let (wanted, at) = table.need("algorithm", notes)?;
    let found = ALGORITHMS.into_iter().find(|(known, ..)| *known == wanted);
    if found.is_none() {
        let known = ALGORITHMS.iter().map(|(known, ..)| *known);
        notes.wrong_name(at, format!("unknown algorithm `{wanted}`"), &wanted, known);
    }
    found
}

/// Whether a signature is written in base64; else it is hex.
fn read_encoding(table: &mut Table, notes: &mut Notes<'_>) -> bool {
    match table.text("encoding", notes) {
        None => false,
        Some((encoding, _)) if encoding == "hex" => false,
        Some((encoding, _)) if encoding == "base64" => true,
        Some((encoding, at)) => {
            notes.wrong_name(at, format!("unknown encoding `{encoding}`"), &encoding, ["hex", "base64"]);
            false
        }
    }
}

fn read_where(table: &mut Table, notes: &mut Notes<'_>) -> Option<Where> {
    let header = lower(table.need("header", notes));
    let prefix = table.text("prefix", notes).map(|(text, _)| text).unwrap_or_default();
    let base64 = read_encoding(table, notes);
    let texts = table.texts("signs", notes);
    let mut signs: Vec<Signed> = texts
        .into_iter()
        .map(|(text, _)| match text.as_str() {
            "body" => Signed::Body,
            "url" => Signed::Url,
            "method" => Signed::Method,
            _ => match text.strip_prefix("header:") {
                Some(name) => Signed::Header(name.to_ascii_lowercase()),
                None => Signed::Literal(text),
            },
        })
        .collect();
    if signs.is_empty() {
        signs.push(Signed::Body);
    }
    if !signs.iter().any(|piece| matches!(piece, Signed::Body)) {
        notes.wrong(table.at, "`signs` must cover the `body`, or anybody can change it");
    }
    Some(Where { header: header?, prefix, base64, signs })
}

fn read_window(table: &mut Table, notes: &mut Notes<'_>) -> Option<Window> {
    let mut window = table.table("window", notes)?;
    let header = lower(window.need("header", notes));
    let seconds = window.integer("seconds", 1, 86_400, notes).unwrap_or(300);
    window.finish(notes);
    header.map(|header| Window { header, seconds })
}

fn key(table: &mut Table, name: &'static str, options: &[String], notes: &mut Notes<'_>) -> Option<String> {
    let (option, at) = table.need(name, notes)?;
    if !options.contains(&option) {
        let reason = format!("`{name}` names option `{option}`, which is not declared");
        notes.wrong_name(at, reason, &option, options.iter().map(String::as_str));
        return None;
    }
    Some(option)
}

fn lower(text: Option<(String, usize)>) -> Option<String> {
    text.map(|(text, _)| text.to_ascii_lowercase())
}
