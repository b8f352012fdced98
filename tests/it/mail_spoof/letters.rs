//! What they write who pretend, and who do not.

use crate::support::answering::SUPPORT;

/// A customer, and all that somebody who read along knows of them.
#[derive(Clone)]
pub(super) struct Victim {
    pub(super) number: usize,
    pub(super) address: String,
    pub(super) customer: String,
    pub(super) story: String,
    /// The Message-ID of what an agent answered them.
    pub(super) answered: String,
    /// The address with a token that they were asked to answer to.
    pub(super) reply_to: String,
}

impl Victim {
    pub(super) fn first(number: usize) -> String {
        format!("first{number}@signed.example")
    }

    /// The fields of a mail that goes on with their story.
    fn references(&self) -> String {
        let (first, answered) = (Victim::first(self.number), &self.answered);
        format!("In-Reply-To: {answered}\r\nReferences: <{first}> {answered}\r\n")
    }
}

/// Who signs a mail.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Signs {
    Nobody,
    /// The domain of the victims.
    Theirs,
    /// Another domain, which vouches for its own addresses.
    Another,
}

/// A mail of somebody, before it is signed.
pub(super) struct Letter {
    from: String,
    pub(super) to: String,
    pub(super) fields: String,
    /// Its words, if they are not those that every mail has.
    pub(super) body: Option<String>,
    pub(super) signs: Signs,
    /// What is done to it after it was signed.
    pub(super) then: fn(Vec<u8>, &Victim) -> Vec<u8>,
}

impl Letter {
    pub(super) fn new(from: impl Into<String>, signs: Signs) -> Letter {
        Letter {
            from: from.into(),
            to: SUPPORT.to_owned(),
            fields: String::new(),
            body: None,
            signs,
            then: |mail, _| mail,
        }
    }

    /// With further fields.
    pub(super) fn with(mut self, fields: impl AsRef<str>) -> Letter {
        self.fields.push_str(fields.as_ref());
        self
    }

    /// With words of its own.
    pub(super) fn saying(mut self, words: String) -> Letter {
        self.body = Some(words);
        self
    }

    /// To the address with the victim's token.
    fn by_token(mut self, victim: &Victim) -> Letter {
        self.to.clone_from(&victim.reply_to);
        self
    }

    fn then(mut self, then: fn(Vec<u8>, &Victim) -> Vec<u8>) -> Letter {
        self.then = then;
        self
    }

    pub(super) fn raw(&self, id: &str, subject: usize) -> Vec<u8> {
        let (from, to, fields) = (&self.from, &self.to, &self.fields);
        let head =
            format!("Message-ID: <{id}>\r\nDate: Mon, 2 Mar 2026 09:58:00 +0000\r\nFrom: {from}\r\nTo: {to}\r\n");
        let subject =
            if fields.contains("Subject: ") { String::new() } else { format!("Subject: Re: Kettle {subject}\r\n") };
        let body = self.body.clone().unwrap_or_else(|| format!("This is what {id} says."));
        format!("{head}{fields}{subject}\r\n{body}\r\n").into_bytes()
    }
}

const EVE: &str = "eve@another.example";

/// The ways to pretend: what the mail is, and how far its sender is to be believed.
pub(super) fn ways(of: &Victim, other: &Victim) -> Vec<(&'static str, &'static str, Letter)> {
    let (ada, token) = (of.address.as_str(), of.reply_to.as_str());
    let local = ada.split('@').next().unwrap();
    let refers = of.references();
    let theirs = |signs| Letter::new(ada, signs).with(&refers);
    let eve = |from: String| Letter::new(from, Signs::Another).with(&refers);
    let mut altered = token.to_owned();
    let place = altered.find('+').unwrap() + 3;
    let letter = if altered[place..].starts_with('a') { "b" } else { "a" };
    altered.replace_range(place..=place, letter);
    let results = |by: &str| format!("Authentication-Results: {by}; dmarc=pass header.from=signed.example\r\n");
    let received = "Received: from a by mx.example.test with ESMTPS; Mon, 2 Mar 2026 09:58:00 +0000\r\n";
    vec![
        ("their address, unsigned", "failed", theirs(Signs::Nobody)),
        ("their address and token, unsigned", "failed", theirs(Signs::Nobody).by_token(of)),
        ("their address, signed by another domain", "failed", theirs(Signs::Another).by_token(of)),
        (
            "their mail with other words",
            "failed",
            theirs(Signs::Theirs)
                .then(|mail, _| String::from_utf8(mail).unwrap().replace("This is what", "That is what").into_bytes()),
        ),
        (
            "their mail with more words",
            "failed",
            theirs(Signs::Theirs).then(|mail, _| [&mail, &b"Call me.\r\n"[..]].concat()),
        ),
        (
            "their mail below another sender",
            "failed",
            theirs(Signs::Theirs).then(|mail, _| [format!("From: {EVE}\r\n").as_bytes(), &mail].concat()),
        ),
        (
            "their mail above another sender",
            "failed",
            theirs(Signs::Theirs).then(|mail, _| {
                String::from_utf8(mail)
                    .unwrap()
                    .replacen("\r\n\r\n", &format!("\r\nfrom: {EVE}\r\n\r\n"), 1)
                    .into_bytes()
            }),
        ),
        (
            "a sender whose field has a space",
            "failed",
            Letter::new(EVE, Signs::Another)
                .then(|mail, of| [format!("From : {}\r\n", of.address).as_bytes(), &mail].concat()),
        ),
        ("their address as the name", "authenticated", eve(format!("\"{ada}\" <{EVE}>"))),
        (
            "their address as the encoded name",
            "authenticated",
            eve(format!("=?utf-8?q?{local}=40signed=2Eexample?= <{EVE}>")),
        ),
        ("their address as a comment", "authenticated", eve(format!("{EVE} ({ada})"))),
        ("their address within quotes", "authenticated", eve(format!("\"{ada}\"@another.example"))),
        (
            "their address to answer to",
            "authenticated",
            eve(EVE.into())
                .with(format!("Reply-To: {ada}\r\nSender: {ada}\r\nReturn-Path: <{ada}>\r\nResent-From: {ada}\r\n")),
        ),
        ("their token in another's hands", "authenticated", eve(EVE.into()).by_token(of)),
        (
            "their token in another customer's hands",
            "authenticated",
            Letter::new(other.address.as_str(), Signs::Theirs).with(&refers).by_token(of),
        ),
        ("their token, altered", "authenticated", Letter { to: altered, ..eve(EVE.into()) }),
        (
            "the number of their story",
            "authenticated",
            Letter::new(EVE, Signs::Another).with(format!("Subject: Re: [#{0}] Kettle\r\nX-Ticket: {0}\r\n", of.story)),
        ),
        (
            "a copy to them, so that both are answered",
            "authenticated",
            eve(EVE.into()).with(format!("Cc: {ada}, {token}\r\n")),
        ),
        (
            "results that only look like our server's",
            "failed",
            theirs(Signs::Nobody).with(format!("{received}{}", results("mx.example.test"))),
        ),
        (
            "results of another server",
            "failed",
            Letter::new(ada, Signs::Nobody).with(format!("{}{received}{refers}", results("mx.another.example"))),
        ),
        (
            "a name below theirs",
            "failed",
            Letter::new(format!("{local}@sub.signed.example"), Signs::Nobody).with(&refers),
        ),
        ("a name that begins with theirs", "authenticated", eve(format!("{ada}.another.example"))),
        (
            "letters that look like theirs",
            "unknown",
            Letter::new(ada.replace('i', "\u{456}"), Signs::Nobody).with(&refers),
        ),
        (
            "a zero byte behind their address",
            "failed",
            Letter::new(format!("{ada}\0@another.example"), Signs::Nobody).with(&refers),
        ),
        ("two addresses", "failed", eve(format!("{ada}, {EVE}"))),
        ("two addresses, one of them bare", "failed", eve(format!("<{ada}> <{EVE}>"))),
        (
            "a route through another server",
            "failed",
            Letter::new(format!("<@another.example:{ada}>"), Signs::Nobody).with(&refers),
        ),
        (
            "their mail inside one's own",
            "authenticated",
            eve(EVE.into())
                .with("Content-Type: message/rfc822\r\n")
                .saying(format!("From: {ada}\r\n{refers}Subject: Kettle\r\n\r\nMine.")),
        ),
    ]
}

/// What an honest customer sends. Whoever answers what only they were sent is known best.
pub(super) fn good(of: &Victim) -> [(&'static str, Letter); 3] {
    let signed = || Letter::new(of.address.as_str(), Signs::Theirs);
    [("verified", signed().by_token(of)), ("verified", signed().with(of.references())), ("authenticated", signed())]
}
