//! What the options of an account say of the server that its mails leave by, and the letter that a message becomes.
//!
//! A letter is made of what was planned and of the options alone, so every try of one send makes the same. What needs a
//! secret of the installation, its ids and the address to answer to, is put in by the one who sends it.

use super::capabilities::Capabilities;
use super::credentials::{self, Credentials};
use super::options::{self, OptionSpec};
use super::send::push_line;
use super::tree::Notes;
use super::{Account, Connector, Transport};
use crate::base::{Error, Pii, Result, Secret};
use crate::mail::auto::GATEWAY;
use crate::mail::html_text;
use crate::mail::token;
use crate::mail::write::{self, Letter, Mailbox};
use crate::model::{Outbound, OutboundMail, OutboundPart, PartType};
use crate::net::login::Security;

/// The options that go with `answers = "smtp"`, declared as those of a manifest are.
const OPTIONS: &str = include_str!("smtp_options.toml");
/// The most of an HTML part that becomes the text beside it, in bytes.
const MOST_TEXT: usize = 1 << 20;

/// Where the mails of an account leave, and as whose.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// Our own address.
    pub address: String,
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is secured.
    pub security: Security,
    /// Whom we log in as; nothing for a server that knows us by our address.
    pub login: Option<Credentials>,
    /// The address that answers and bounces come to, with a token behind a `+`.
    pub reply_base: Option<String>,
    /// How mails are signed.
    pub dkim: Option<Dkim>,
}

/// How mails are signed (RFC 6376).
#[derive(Debug, Clone, PartialEq)]
pub struct Dkim {
    /// The domain.
    pub domain: String,
    /// The selector.
    pub selector: String,
    /// The private key in PEM.
    pub key: Secret,
}

/// A mail as it is to leave, but for its ids and return addresses.
pub struct Leaving {
    /// What it says.
    pub letter: Letter,
    /// Files that are to be fetched and go along, each with its URL.
    pub files: Vec<OutboundPart>,
}

/// The options of connectors whose answers leave by SMTP.
pub(super) fn options() -> Vec<OptionSpec> {
    let mut notes = Notes::new("smtp_options.toml", OPTIONS);
    let table = notes.parse().and_then(|mut table| table.table("options", &mut notes));
    options::read_specs(table, &mut notes)
}

impl Connector {
    /// Where the mails of an account leave; nothing if it sends none.
    ///
    /// # Errors
    ///
    /// `Config` if an option is missing or does not fit another.
    pub fn submission(&self, account: &Account) -> Result<Option<Submission>> {
        let options = &account.options;
        let Some(host) = options.text("smtp_host").filter(|_| self.sends_mail()) else {
            return Ok(None);
        };
        let missing = |name: &str| Error::config(format!("channel `{}` needs the option `{name}`", account.channel));
        let address = options.text("address").ok_or_else(|| missing("address"))?.to_owned();
        let reply_base = options.text("reply_base").map(str::to_owned);
        if let Some((local, _)) = reply_base.as_deref().and_then(|base| base.rsplit_once('@')) {
            bears_a_token(local, &account.channel)?;
        }
        let port = options.text("smtp_port").unwrap_or("465");
        let login = match (options.text("smtp_login"), options.secret("smtp_password")) {
            (Some("none"), _) => None,
            (_, Some(password)) => {
                // The user of a mailbox; of a webhook it would be somebody else.
                let of_mailbox = options.text("user").filter(|_| self.transport() == Transport::Mail);
                let user = options.text("smtp_user").or(of_mailbox).ok_or_else(|| missing("smtp_user"))?;
                Some(Credentials::Password(user.to_owned(), password.clone()))
            }
            (_, None) if self.transport() == Transport::Mail && options.text("imap_host").is_some() => {
                Some(credentials::of_mailbox(options, &account.channel)?)
            }
            (_, None) => return Err(missing("smtp_password")),
        };
        let dkim = match (options.secret("dkim_key"), options.text("dkim_selector")) {
            (Some(key), Some(selector)) => {
                let own = address.rsplit_once('@').map(|(_, domain)| domain).unwrap_or_default();
                let domain = options.text("dkim_domain").unwrap_or(own).to_owned();
                Some(Dkim { domain, selector: selector.to_owned(), key: key.clone() })
            }
            (Some(_), None) => return Err(missing("dkim_selector")),
            (None, _) => None,
        };
        Ok(Some(Submission {
            host: host.to_owned(),
            port: port.parse().map_err(|e| Error::config("`smtp_port` is no port").because(e))?,
            security: match options.text("smtp_security") {
                Some("starttls") => Security::StartTls,
                _ => Security::Implicit,
            },
            login,
            reply_base,
            dkim,
            address,
        }))
    }
}

/// Whether what stands before the `@` of `reply_base` leaves room for a token.
fn bears_a_token(local: &str, channel: &str) -> Result<()> {
    let (count, most) = (local.len(), token::longest_base());
    if count <= most {
        return Ok(());
    }
    let words = format!("`reply_base` of channel `{channel}` has {count} characters before its `@`");
    Err(Error::config(format!("{words}; at most {most} leave room for the token")))
}

/// The mail that a message becomes.
///
/// # Errors
///
/// `Invalid` if it has no mail's facts or says nothing, or if an address cannot be written to.
pub(super) fn letter(can: &Capabilities, message: &Outbound, account: &Account) -> Result<Leaving> {
    let mail = message.mail.as_deref().ok_or_else(|| Error::invalid("this message was not planned as a mail"))?;
    let to = message.to.as_ref().ok_or_else(|| Error::invalid("a mail needs an address to go to"))?;
    let unsendable = |what: &str, fault: write::BadAddress| Error::invalid(format!("{what} {fault}"));
    let to = write::address(to.value.expose()).map_err(|fault| unsendable("the customer's address", fault))?;
    let from = account.options.text("address").unwrap_or(&message.account);
    let from = write::address(from).map_err(|fault| unsendable("our own address", fault))?;
    let said = said(can, message);
    if said.text.trim().is_empty() && said.html.is_none() && said.files.is_empty() {
        return Err(Error::invalid(format!("send `{}` has neither text nor parts", message.id)));
    }
    let name = account.options.text("name").unwrap_or_default().to_owned();
    let letter = Letter {
        message_id: String::new(),
        date: mail.at.seconds(),
        from: Mailbox { name, address: from },
        to: vec![Mailbox { name: String::new(), address: to }],
        cc: Vec::new(),
        reply_to: Vec::new(),
        subject: subject(mail),
        in_reply_to: mail.in_reply_to.clone(),
        references: mail.references.clone(),
        text: said.text,
        html: said.html,
        attachments: Vec::new(),
        automatic: mail.automatic,
        loop_mark: mail.automatic.then(|| format!("{GATEWAY};{}", mail.loops)),
        seed: *message.id.as_bytes(),
    };
    Ok(Leaving { letter, files: said.files })
}

fn subject(mail: &OutboundMail) -> String {
    mail.subject.as_ref().map(|subject| subject.expose().clone()).unwrap_or_default()
}

/// What a message says, in the ways of a mail.
struct Said {
    text: String,
    html: Option<String>,
    files: Vec<OutboundPart>,
}

fn said(can: &Capabilities, message: &Outbound) -> Said {
    let words = |text: &Option<Pii<String>>| text.as_ref().map(|text| text.expose().clone()).unwrap_or_default();
    let mut said = Said { text: words(&message.text), html: None, files: Vec::new() };
    let mut more = String::new();
    for part in &message.parts {
        if part.kind == PartType::Html && said.html.is_none() {
            said.html = part.text.as_ref().map(|html| html.expose().clone());
            continue;
        }
        push_line(&mut more, &words(&part.text));
        if can.carries_media(part.kind) && part.url.is_some() {
            said.files.push(part.clone());
            continue;
        }
        push_line(&mut more, &words(&part.url));
        for (at, title) in part.choices.values().enumerate() {
            push_line(&mut more, &format!("{}. {}", at + 1, title.expose()));
        }
    }
    if let Some(html) = &mut said.html {
        if said.text.trim().is_empty() {
            said.text = html_text::render(html, MOST_TEXT).text;
        }
        if !more.is_empty() {
            html.push_str(&format!("<p>{}</p>", ammonia::clean_text(&more).replace("&#10;", "<br>")));
        }
    }
    push_line(&mut said.text, &more);
    said
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::connector::mail_auto::tests::account;

    #[test]
    fn a_reply_base_leaves_room_for_the_token() {
        let (connector, _) = account(json!({ "address": "support@shop.example" }));
        let with = |base: &str| {
            let options = json!({
                "address": "support@shop.example", "smtp_host": "smtp.shop.example", "smtp_login": "none",
                "reply_base": base,
            });
            let account = connector.account("mail", options.as_object().unwrap(), None);
            account.map(|account| connector.submission(&account).unwrap().and_then(|found| found.reply_base))
        };
        assert_eq!(with("answers@shop.example"), Ok(Some("answers@shop.example".to_owned())));
        let fault =
            "`reply_base` of channel `mail` has 8 characters before its `@`; at most 7 leave room for the token";
        assert_eq!(with("answers1@shop.example"), Err(vec![fault.to_owned()]));
    }
}
