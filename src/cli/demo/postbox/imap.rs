//! The IMAP server (RFC 3501): as much of it as a client needs that takes mails, with IDLE (RFC 2177) and MOVE (RFC 6851).
//!
//! The invariant: numbers of mails mean what the client was told. A session has its own view of its folder, which changes
//! only in `tell`, with the responses that say so.

use std::fmt::Write;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::command::{self, Set, Words};
use super::folder::{self, INBOX, Mail, SYSTEM};
use super::lines::Lines;
use super::{STRIKES, Shared, plain};

const CAPABILITIES: &str = "CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR IDLE MOVE";
/// Items of a FETCH: each may be the whole mail again.
const ITEMS: usize = 8;
const NOT_A_SET: &str = "BAD not a set of mails of an open folder";
const READ_ONLY: &str = "NO the folder can only be read";

/// A command's end: what stands behind its tag.
type Ended = io::Result<&'static str>;

/// Serves a connection to its end.
///
/// # Errors
///
/// Those of the connection; `InvalidData` if what comes cannot even be refused.
pub(super) async fn serve<S>(lines: &mut Lines<S>, shared: &Shared) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    lines.say(&format!("* OK [{CAPABILITIES}] the postbox of segue demo")).await?;
    let news = shared.news.subscribe();
    let mut session = Session { lines, shared, news, admitted: false, strikes: 0, over: false, open: None };
    while !session.over {
        let (tag, words) = command::read(session.lines).await?;
        session.answer(&tag, &words.unwrap_or_default()).await?;
        if session.strikes >= STRIKES {
            return session.lines.say("* BYE too many wrong passwords").await;
        }
    }
    Ok(())
}

/// The folder at work.
struct Open {
    name: String,
    writable: bool,
    /// The UIDs of the mails, by their numbers, as the client knows them.
    view: Vec<u32>,
}

struct Session<'a, S> {
    lines: &'a mut Lines<S>,
    shared: &'a Shared,
    news: watch::Receiver<u64>,
    admitted: bool,
    strikes: u8,
    over: bool,
    open: Option<Open>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
    async fn answer(&mut self, tag: &str, words: &Words) -> io::Result<()> {
        let words: Vec<&[String]> = words.iter().map(Vec::as_slice).collect();
        let (by_uid, verb, args) = match words.as_slice() {
            [[uid], [verb], args @ ..] if uid.eq_ignore_ascii_case("UID") => (true, verb, args),
            [[verb], args @ ..] => (false, verb, args),
            _ => return self.lines.say(&format!("{tag} BAD this is no command")).await,
        };
        let verb = verb.to_ascii_uppercase();
        let end = self.run(&verb, by_uid, args).await?;
        // Numbers must not change under whoever uses them (section 7.4.1).
        self.tell(by_uid || !matches!(verb.as_str(), "FETCH" | "STORE" | "SEARCH")).await?;
        self.lines.say(&format!("{tag} {end}")).await
    }

    async fn run(&mut self, verb: &str, by_uid: bool, args: &[&[String]]) -> Ended {
        match (verb, by_uid, args) {
            ("CAPABILITY", false, []) => self.lines.say(&format!("* {CAPABILITIES}")).await?,
            ("NOOP", false, []) => {}
            ("LOGOUT", false, []) => {
                self.over = true;
                self.lines.say("* BYE").await?;
            }
            ("LOGIN", false, [[user], [password]]) if !self.admitted => return Ok(self.admit(&plain(user, password))),
            ("AUTHENTICATE", false, [[how], initial @ ..]) if !self.admitted => {
                return self.authenticate(how, initial).await;
            }
            _ if !self.admitted => return Ok("BAD not before the login"),
            ("LIST", false, [[from], [pattern]]) => return self.list(from, &folder_name(pattern)).await,
            ("CREATE", false, [[name]]) if self.shared.folders.lock().create(&folder_name(name)) => {}
            ("CREATE", false, [[_]]) => return Ok("NO the folder exists already, or cannot"),
            ("SELECT" | "EXAMINE", false, [[name]]) => return self.select(verb == "SELECT", folder_name(name)).await,
            ("IDLE", false, []) => return self.idle().await,
            ("FETCH", _, [[set], items]) => return self.fetch(by_uid, set, items).await,
            ("STORE", _, [[set], [how], flags]) => return self.store(by_uid, set, how, flags).await,
            ("SEARCH", _, _) => return self.search(by_uid, args).await,
            ("MOVE", _, [[set], [to]]) => return Ok(self.shift(by_uid, set, &folder_name(to))),
            _ => return Ok("BAD there is no such command, or not now"),
        }
        Ok("OK done")
    }

    fn admit(&mut self, answer: &str) -> &'static str {
        self.admitted = self.shared.admits(answer.as_bytes());
        if self.admitted {
            self.lines.trust();
            return "OK welcome";
        }
        self.strikes = self.strikes.saturating_add(1);
        "NO [AUTHENTICATIONFAILED] wrong user or password"
    }

    async fn authenticate(&mut self, how: &str, initial: &[&[String]]) -> Ended {
        let answer = match initial {
            _ if !how.eq_ignore_ascii_case("PLAIN") => return Ok("NO there is PLAIN only"),
            [] => {
                self.lines.say("+ ").await?;
                self.lines.line().await?
            }
            [[answer]] => answer.clone(),
            _ => return Ok("BAD there are words too many"),
        };
        if answer == "*" { Ok("BAD as you like") } else { Ok(self.admit(&answer)) }
    }

    /// Folders have no hierarchy, so both wildcards are the same; they stand alone.
    async fn list(&mut self, reference: &str, pattern: &str) -> Ended {
        let all = matches!(pattern, "*" | "%");
        if !reference.is_empty() || (pattern.contains(['*', '%']) && !all) {
            return Ok("NO a wildcard stands alone");
        }
        if pattern.is_empty() {
            self.lines.say("* LIST (\\Noselect) NIL \"\"").await?;
        }
        let names = self.shared.folders.lock().names();
        for name in names.iter().filter(|name| all || *name == pattern) {
            self.lines.say(&format!("* LIST () NIL \"{name}\"")).await?;
        }
        Ok("OK that is all")
    }

    async fn select(&mut self, writable: bool, name: String) -> Ended {
        self.open = None;
        let (found, validity) = {
            let folders = self.shared.folders.lock();
            (folders.uids(&name), folders.validity)
        };
        let Some((view, next)) = found else { return Ok("NO [NONEXISTENT] there is no such folder") };
        let (flags, exists) = (SYSTEM.join(" "), view.len());
        let lasting = if writable { format!("{flags} \\*") } else { String::new() };
        let told = format!(
            "* FLAGS ({flags})\r\n* OK [PERMANENTFLAGS ({lasting})] these last\r\n* {exists} EXISTS\r\n* 0 RECENT\r\n\
             * OK [UIDVALIDITY {validity}] of this run\r\n* OK [UIDNEXT {next}] or more"
        );
        self.lines.say(&told).await?;
        self.open = Some(Open { name, writable, view });
        Ok(if writable { "OK [READ-WRITE] open" } else { "OK [READ-ONLY] open" })
    }

    async fn idle(&mut self) -> Ended {
        self.lines.say("+ idling").await?;
        loop {
            self.news.borrow_and_update();
            self.tell(true).await?;
            tokio::select! {
                line = self.lines.line() => {
                    return Ok(if line?.eq_ignore_ascii_case("DONE") { "OK awake" } else { "BAD IDLE ends with DONE" });
                }
                // The sender lives as long as the session.
                _ = self.news.changed() => {}
            }
        }
    }

    async fn fetch(&mut self, by_uid: bool, set: &str, items: &[String]) -> Ended {
        let Some((open, chosen)) = chosen(self.open.as_ref(), by_uid, set) else { return Ok(NOT_A_SET) };
        let mut items: Vec<String> = items.iter().map(|item| item.to_ascii_uppercase()).collect();
        let marks = open.writable && items.iter().any(|item| item.starts_with("BODY["));
        let adds = [("UID", by_uid), ("FLAGS", marks)].into_iter().filter(|(_, adds)| *adds);
        let adds: Vec<_> = adds.map(|(item, _)| item.to_owned()).filter(|item| !items.contains(item)).collect();
        if items.is_empty() || items.len() > ITEMS || Mail::default().show(0, 0, &items).is_none() {
            return Ok("BAD an item is not known");
        }
        items.extend(adds);
        for (number, uid) in chosen {
            let shown = self.shared.folders.lock().mail(&open.name, uid).and_then(|mail| {
                mail.mark(marks.then(|| "\\Seen".to_owned()));
                mail.show(number, uid, &items)
            });
            self.lines.send(&shown.unwrap_or_default()).await?;
        }
        Ok("OK that is all")
    }

    async fn store(&mut self, by_uid: bool, set: &str, how: &str, flags: &[String]) -> Ended {
        let Some((open, chosen)) = chosen(self.open.as_ref(), by_uid, set) else { return Ok(NOT_A_SET) };
        let how = how.to_ascii_uppercase();
        let flags: Option<Vec<String>> = flags.iter().map(|name| folder::flag(name)).collect();
        let (what, silent) = how.strip_suffix(".SILENT").map_or((how.as_str(), false), |what| (what, true));
        let (Some(flags), "FLAGS" | "+FLAGS" | "-FLAGS") = (flags, what) else { return Ok("BAD these are no flags") };
        if !open.writable {
            return Ok(READ_ONLY);
        }
        let items: Vec<String> =
            ["FLAGS", "UID"].iter().take(if by_uid { 2 } else { 1 }).map(|item| item.to_string()).collect();
        for (number, uid) in chosen {
            let shown = self.shared.folders.lock().mail(&open.name, uid).and_then(|mail| {
                match what {
                    "-FLAGS" => mail.unmark(Some(&flags)),
                    "FLAGS" => mail.unmark(None),
                    _ => {}
                }
                mail.mark(flags.iter().filter(|_| what != "-FLAGS").cloned());
                mail.show(number, uid, &items).filter(|_| !silent)
            });
            self.lines.send(&shown.unwrap_or_default()).await?;
        }
        Ok("OK stored")
    }

    /// Searches for all, or for numbers or UIDs of a set.
    async fn search(&mut self, by_uid: bool, args: &[&[String]]) -> Ended {
        let open = self.open.as_ref();
        let found = match args {
            [[all]] if all.eq_ignore_ascii_case("ALL") => chosen(open, true, "1:*"),
            [[uid], [set]] if uid.eq_ignore_ascii_case("UID") => chosen(open, true, set),
            [[set]] => chosen(open, false, set),
            _ => None,
        };
        let Some((_, found)) = found else { return Ok(NOT_A_SET) };
        let found: String =
            found.iter().map(|(number, uid)| format!(" {}", if by_uid { uid } else { number })).collect();
        self.lines.say(&format!("* SEARCH{found}")).await?;
        Ok("OK that is all")
    }

    fn shift(&mut self, by_uid: bool, set: &str, to: &str) -> &'static str {
        let Some((open, chosen)) = chosen(self.open.as_ref(), by_uid, set) else { return NOT_A_SET };
        let uids: Vec<u32> = chosen.iter().map(|(_, uid)| *uid).collect();
        if !open.writable {
            return READ_ONLY;
        }
        let moved = self.shared.change(|folders| folders.shift(&open.name, &uids, to));
        if moved { "OK moved" } else { "NO [TRYCREATE] there is no such folder" }
    }

    /// Tells what came and, if `removals` may be told, what is gone.
    async fn tell(&mut self, removals: bool) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let (now, _) = self.shared.folders.lock().uids(&open.name).unwrap_or_default();
        let mut out = String::new();
        if removals {
            // From the end, so that the numbers before it stay as they are.
            for (place, _) in open.view.iter().enumerate().rev().filter(|(_, uid)| now.binary_search(uid).is_err()) {
                let _ = write!(out, "* {} EXPUNGE\r\n", place.saturating_add(1));
            }
            open.view.retain(|uid| now.binary_search(uid).is_ok());
        }
        let (count, last) = (open.view.len(), open.view.last().copied().unwrap_or(0));
        open.view.extend(now.into_iter().filter(|uid| *uid > last));
        if open.view.len() > count {
            let _ = write!(out, "* {} EXISTS\r\n", open.view.len());
        }
        self.lines.send(out.as_bytes()).await
    }
}

/// A folder and the numbers and UIDs of some of its mails.
type Chosen<'a> = (&'a Open, Vec<(u32, u32)>);

/// The mails that a set chooses. A number without a mail is an error, a UID without one is not (section 6.4.8).
fn chosen<'a>(open: Option<&'a Open>, by_uid: bool, set: &str) -> Option<Chosen<'a>> {
    let open = open?;
    let count = u32::try_from(open.view.len()).ok()?;
    let set = Set::read(set, if by_uid { open.view.last().copied().unwrap_or(0) } else { count })?;
    let chosen = |(number, uid): &(u32, u32)| set.has(if by_uid { *uid } else { *number });
    let mails = (1_u32..).zip(open.view.iter().copied()).filter(chosen).collect();
    (by_uid || set.is_within(count)).then_some((open, mails))
}

/// INBOX is one in any case (section 5.1).
fn folder_name(name: &str) -> String {
    if name.eq_ignore_ascii_case(INBOX) { INBOX.to_owned() } else { name.to_owned() }
}
