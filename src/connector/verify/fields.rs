//! A keyed hash over fields of the request, by providers that put their signature into the body.
//!
//! Such a signature does not cover the rest of the request: who sees one request could put anything else beside its fields. So
//! one of the signed fields must be new in each request, and must be the delivery key: whatever comes with it once more is a
//! repeat of what came first, and after the window nothing is taken at all.

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use ring::hmac;

use super::{Reading, Refusal, VerifiedBy, key, keys, read_algorithm, read_encoding};
use crate::base::Timestamp;
use crate::base::hash::same_secret;
use crate::connector::compile::Compiler;
use crate::connector::expr::Expr;
use crate::connector::options::Account;
use crate::connector::request::{Opened, Request};
use crate::connector::tree::Table;

/// `kind = "hmac-fields"`.
#[derive(Debug, Clone)]
pub(in crate::connector) struct Fields {
    algorithm: hmac::Algorithm,
    pub(super) name: &'static str,
    base64: bool,
    signature: Expr,
    signs: Vec<Expr>,
    timestamp: Expr,
    seconds: i64,
    key: String,
}

impl Fields {
    pub(super) fn read(
        table: &mut Table,
        options: &[String],
        delivery_key: Option<&str>,
        c: &mut Compiler<'_, '_>,
    ) -> Option<Fields> {
        let algorithm = read_algorithm(table, c.notes);
        let base64 = read_encoding(table, c.notes);
        if !table.has("signature") || !table.has("timestamp") {
            c.notes.wrong(table.at, "`hmac-fields` needs `signature` and `timestamp`: where they stand");
        }
        let signature = c.expr(table, "signature");
        let timestamp = c.expr(table, "timestamp");
        let texts = table.texts("signs", c.notes);
        if delivery_key.is_none_or(|key| !texts.iter().any(|(text, _)| text == key)) {
            let reason =
                "the rest of the body is not signed: one of `signs` must be the `delivery_key` of the connector";
            c.notes.wrong(table.at, reason);
        }
        let signs = texts.into_iter().filter_map(|(text, at)| c.expr_of(&text, at)).collect();
        let seconds = table.integer("seconds", 1, 86_400, c.notes);
        if seconds.is_none() {
            c.notes.wrong(table.at, "`hmac-fields` needs `seconds`: for how long what was signed is taken");
        }
        let key = key(table, "key", options, c.notes)?;
        let (_, name, algorithm) = algorithm?;
        Some(Fields {
            algorithm,
            name,
            base64,
            signature: signature?,
            signs,
            timestamp: timestamp?,
            seconds: seconds?,
            key,
        })
    }

    pub(super) fn check(
        &self,
        request: &Request,
        account: &Account,
        now: Timestamp,
        reading: &Reading<'_>,
    ) -> Result<VerifiedBy, Refusal> {
        let opened = Opened::leniently(request, reading.json_in);
        let env = opened.env(account, reading.tables, false);
        let need = |expr: &Expr, what: &str| {
            expr.string(&env).ok_or_else(|| Refusal::new(format!("the request has no {what}")))
        };
        let stated = need(&self.signature, "signature")?;
        let timestamp = need(&self.timestamp, "timestamp")?;
        // Ten digits and no other number of them: nothing separates the fields where they are signed, so that digits could
        // else be moved from the field after it, which would make another delivery key that is signed as well.
        let digits = timestamp.len() == 10 && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let seconds: Option<i64> = timestamp.parse().ok().filter(|_| digits);
        let seconds = seconds.ok_or_else(|| Refusal::new("the timestamp is not a Unix time of ten digits"))?;
        if now.since(Timestamp::from_seconds(seconds)).abs() > self.seconds * 1000 {
            return Err(Refusal::new(format!("timestamp is more than {} s away from now", self.seconds)));
        }
        let stated = match self.base64 {
            true => BASE64.decode(stated.as_bytes()).ok(),
            false => HEXLOWER_PERMISSIVE.decode(stated.as_bytes()).ok(),
        };
        let stated = stated.ok_or_else(|| Refusal::new("the signature is malformed"))?;
        let signed: Vec<String> = self.signs.iter().map(|expr| need(expr, "signed field")).collect::<Result<_, _>>()?;
        for secret in keys(account, &self.key)? {
            let mut context = hmac::Context::with_key(&hmac::Key::new(self.algorithm, secret.as_bytes()));
            signed.iter().for_each(|piece| context.update(piece.as_bytes()));
            if same_secret(context.sign().as_ref(), &stated) {
                return Ok(VerifiedBy(self.name.to_owned()));
            }
        }
        Err(Refusal::new("signature does not match"))
    }
}
