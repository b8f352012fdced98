//! One group in one transaction.
//!
//! Two rounds of pipelined statements: the first appends and locks what the changesets assert and change, in order of
//! keys, so that two nodes never wait for each other; the second writes all changesets that hold, table by table, and
//! commits. In between the asserts are checked here, against the locked rows and against what the changesets before them
//! in the group write. Apply numbers are taken in the second round, when everything is locked.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::judge::{Seen, bytes16};
use super::lease::{FENCE, Fence};
use super::session::{Fate, PgError, Session, failed, fate};
use super::statements::{
    APPEND, BEFORE, BUNDLE, CONVERSATION, CUSTOMER, DELIVERED, IDENTIFIER, ITEM, MESSAGE, NEW_BUNDLE, ORIGINAL,
    PENDING, SETTLED, THREAD, XID,
};
use super::writer::{Append, Done, Job, Reply};
use super::written;
use crate::base::Result;
use crate::base::id::EntryId;
use crate::store::seal::SealedSet;
use crate::store::subscribers::Marks;
use crate::store::{Appended, Assert, Committed};

/// What goes into one transaction. It is kept until its outcome is certain.
#[derive(Default)]
pub(super) struct Group {
    pub(super) appends: Vec<Append>,
    pub(super) commits: Vec<(Vec<SealedSet>, Reply<Vec<Committed>>)>,
    pub(super) jobs: Vec<(Job, Reply<()>)>,
    pub(super) marks: HashMap<String, Marks>,
}

/// What became of a group that is on disk; each list in the order of the group's.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) appended: Vec<Option<Appended>>,
    pub(super) committed: Vec<Result<Vec<Committed>>>,
    pub(super) jobs: Vec<Result<Done>>,
    pub(super) bundles: HashMap<String, i64>,
    /// The highest feed number written.
    pub(super) feed: Option<i64>,
    /// Whether there is something new to send or to fetch.
    pub(super) wake: bool,
}

type Answer = std::result::Result<Vec<Row>, PgError>;
pub(super) type Param<'p> = Box<dyn ToSql + Sync + Send + 'p>;

/// One column of a batch: an array parameter for `unnest`.
pub(super) fn column<'p, T: ToSql + Sync + Send + 'p>(values: impl IntoIterator<Item = T>) -> Param<'p> {
    Box::new(values.into_iter().collect::<Vec<T>>())
}

/// Statements that are sent together, in order, before any is answered.
pub(super) struct Pipeline<'p> {
    session: &'p Session,
    asked: Vec<BoxFuture<'p, Answer>>,
}

impl<'p> Pipeline<'p> {
    pub(super) fn new(session: &'p Session) -> Self {
        Pipeline { session, asked: Vec::new() }
    }

    /// Adds one of [`super::statements::STATEMENTS`].
    pub(super) fn ask(&mut self, sql: &'static str, parameters: Vec<Param<'p>>) {
        let session = self.session;
        self.asked.push(
            async move {
                let parameters: Vec<&(dyn ToSql + Sync)> =
                    parameters.iter().map(|p| p.as_ref() as &(dyn ToSql + Sync)).collect();
                session.rows(sql, &parameters).await
            }
            .boxed(),
        );
    }

    pub(super) fn plain(&mut self, sql: &'static str) {
        let session = self.session;
        self.asked.push(async move { session.plain(sql).await.map(|()| Vec::new()) }.boxed());
    }

    /// Sends all. Gives the answers in order, or the first error.
    pub(super) async fn answers(self) -> std::result::Result<std::vec::IntoIter<Vec<Row>>, PgError> {
        // `join_all` polls so few futures in order, and the first poll of each sends it.
        let answers: std::result::Result<Vec<_>, _> = join_all(self.asked).await.into_iter().collect();
        answers.map(Vec::into_iter)
    }
}

/// Writes a group. In a careful run each changeset and each job is taken back alone if it fails; without, the first
/// failure takes the whole group back.
pub(super) async fn write(
    session: &Session,
    group: &mut Group,
    known: &HashMap<String, i64>,
    fence: Fence,
    careful: bool,
    early: bool,
) -> std::result::Result<Outcome, PgError> {
    let mut outcome = Outcome::default();
    let (mut seen, appended) = begin(session, group, fence).await?;
    outcome.appended = places(session, &group.appends, appended).await?;
    if early {
        for (append, place) in group.appends.iter_mut().zip(&outcome.appended) {
            if let (Some(reply), Some(place)) = (append.reply.take(), place) {
                let _ = reply.send(Ok(*place));
            }
        }
    }
    run_jobs(session, group, &mut outcome, careful).await?;
    outcome.bundles = bundles(session, group, known).await?;
    let bundle = |set: &SealedSet| known.get(&set.bundle).or_else(|| outcome.bundles.get(&set.bundle)).copied();
    if careful {
        for (batch, _) in &group.commits {
            let result = write_carefully(session, batch, &bundle, &mut seen).await?;
            outcome.committed.push(result);
        }
        let mut pipeline = Pipeline::new(session);
        write_marks(&mut pipeline, &group.marks);
        pipeline.plain("COMMIT");
        pipeline.answers().await?;
    } else {
        let mut accepted = Vec::new();
        let mut verdicts: Vec<Vec<Committed>> = Vec::new();
        for (batch, _) in &group.commits {
            let verdict = batch.iter().map(|set| match seen.judge(set) {
                None => {
                    seen.take(set);
                    accepted.push(set);
                    Committed::Done(0)
                }
                Some(verdict) => verdict,
            });
            verdicts.push(verdict.collect());
        }
        let mut pipeline = Pipeline::new(session);
        let applies = !accepted.is_empty();
        if applies {
            written::write(&mut pipeline, &accepted, &bundle, &mut seen);
        }
        write_marks(&mut pipeline, &group.marks);
        pipeline.plain("COMMIT");
        let mut answers = pipeline.answers().await?;
        let numbers = if applies { apply_numbers(answers.next().unwrap_or_default())? } else { HashMap::new() };
        for ((batch, _), verdict) in group.commits.iter().zip(verdicts) {
            let numbered = verdict.into_iter().zip(batch).map(|(verdict, set)| match verdict {
                Committed::Done(_) => Committed::Done(numbers.get(&set.position).copied().unwrap_or_default()),
                other => other,
            });
            outcome.committed.push(Ok(numbered.collect()));
        }
    }
    outcome.feed = seen.last_event();
    let news = |set: &SealedSet| !set.sends.is_empty() || !set.media.is_empty();
    outcome.wake = group.commits.iter().flat_map(|(batch, _)| batch).any(news);
    Ok(outcome)
}

/// The first round: appends and locks. The lock on this node's membership comes first, and holds to the end, so that nobody
/// else takes what this group still writes for.
async fn begin(session: &Session, group: &Group, fence: Fence) -> std::result::Result<(Seen, Vec<Row>), PgError> {
    let mut pipeline = Pipeline::new(session);
    pipeline.plain("BEGIN");
    let appends = !group.appends.is_empty();
    if appends {
        pipeline.ask(APPEND, columns(&group.appends));
    }
    let changesets = || group.commits.iter().flat_map(|(batch, _)| batch);
    let commits = changesets().next().is_some();
    let member = fence.member.filter(|_| commits);
    if let Some(member) = member {
        pipeline.ask(FENCE, vec![Box::new(member)]);
    }
    if commits {
        pipeline.ask(XID, Vec::new());
        let asserts = || changesets().flat_map(|set| &set.asserts);
        let positions: BTreeSet<i64> = changesets().map(|set| set.position).collect();
        pipeline.ask(BEFORE, vec![column(positions.iter().copied())]);
        pipeline.ask(PENDING, vec![column(positions)]);
        let asserted = asserts().filter_map(|a| if let Assert::Customer(no, _) = a { Some(*no) } else { None });
        let changed = changesets().flat_map(|set| &set.customers).filter(|c| !c.new).map(|c| c.no);
        pipeline.ask(CUSTOMER, vec![column(asserted.chain(changed).collect::<BTreeSet<i64>>())]);
        let asserted = asserts().filter_map(|a| if let Assert::Conversation { no, .. } = a { Some(*no) } else { None });
        let changed = changesets().flat_map(|set| &set.conversations).filter(|c| !c.new).map(|c| c.row.no);
        pipeline.ask(CONVERSATION, vec![column(asserted.chain(changed).collect::<BTreeSet<i64>>())]);
        let asserted = |pick: fn(&Assert) -> Option<&[u8; 16]>| asserts().filter_map(pick);
        let threads = asserted(|a| if let Assert::Thread(key, _) = a { Some(&key.0) } else { None });
        let written = changesets().flat_map(|set| &set.threads).map(|(key, _)| &key.0);
        pipeline.ask(THREAD, keys(threads.chain(written)));
        let identifiers = asserted(|a| if let Assert::IdentifierFree(key) = a { Some(&key.0) } else { None });
        pipeline.ask(IDENTIFIER, keys(identifiers));
        pipeline.ask(ITEM, keys(asserted(|a| if let Assert::ItemFree(item) = a { Some(&item.0) } else { None })));
        let messages = asserted(|a| if let Assert::Message(key, _) = a { Some(&key.0) } else { None });
        let written = changesets().flat_map(|set| &set.messages).map(|message| &message.key.0);
        pipeline.ask(MESSAGE, keys(messages.chain(written)));
    }
    let mut answers = pipeline.answers().await?;
    let mut next = || answers.next().unwrap_or_default();
    next();
    let appended = if appends { next() } else { Vec::new() };
    let stands = member.is_some() && !next().is_empty();
    let seen = match commits {
        true => {
            let (transaction, before) = (next(), next());
            let mut seen = Seen::read([transaction, next(), next(), next(), next(), next(), next(), next()])?;
            seen.keep_order(before)?;
            seen.keep_out(fence, stands);
            seen
        }
        false => Seen::default(),
    };
    Ok((seen, appended))
}

/// The parameters of [`APPEND`].
fn columns(appends: &[Append]) -> Vec<Param<'_>> {
    let entries = || appends.iter().map(|append| &append.entry);
    let sealed = || appends.iter().map(|append| &append.sealed);
    vec![
        column(entries().map(|e| e.id.as_bytes().as_slice())),
        column(entries().map(|e| e.kind as i16)),
        column(entries().map(|e| e.channel.as_str())),
        column(entries().map(|e| e.at.millis())),
        column(entries().map(|e| i16::from(e.interactive))),
        column(sealed().map(|s| s.key.as_ref().map(|key| key.as_slice()))),
        column(sealed().map(|s| s.head.as_slice())),
        column(sealed().map(|s| s.raw.as_slice())),
        column(sealed().map(|s| s.wrap.as_slice())),
        column(appends.iter().map(|append| append.order.key)),
        column(appends.iter().map(|append| append.order.more_text())),
    ]
}

/// Appends in a transaction that is open. Gives where each is, as [`places`] does.
pub(super) async fn append(
    session: &Session,
    appends: &[Append],
) -> std::result::Result<Vec<Option<Appended>>, PgError> {
    let mut pipeline = Pipeline::new(session);
    pipeline.ask(APPEND, columns(appends));
    let appended = pipeline.answers().await?.next().unwrap_or_default();
    places(session, appends, appended).await
}

/// Keys in their order, each once, as the parameter of a statement.
fn keys<'p>(keys: impl Iterator<Item = &'p [u8; 16]>) -> Vec<Param<'p>> {
    vec![column(keys.map(|key| key.as_slice()).collect::<BTreeSet<&[u8]>>())]
}

/// Where each append is. What was not appended was there before: under its own id, if an earlier try was committed after
/// all; else under its delivery key, and it is a repeat.
async fn places(
    session: &Session,
    appends: &[Append],
    appended: Vec<Row>,
) -> std::result::Result<Vec<Option<Appended>>, PgError> {
    let mut new: HashMap<[u8; 16], i64> = HashMap::new();
    for row in appended {
        new.insert(bytes16(&row, 1)?, row.try_get(0)?);
    }
    let missing: Vec<&Append> = appends.iter().filter(|append| !new.contains_key(append.entry.id.as_bytes())).collect();
    let mut by_key: HashMap<[u8; 16], (i64, [u8; 16])> = HashMap::new();
    if !missing.is_empty() {
        let ids: Vec<&[u8]> = missing.iter().map(|append| append.entry.id.as_bytes().as_slice()).collect();
        let keys = missing.iter().filter_map(|append| append.sealed.key.as_ref());
        let keys: Vec<&[u8]> = keys.map(|key| key.as_slice()).collect();
        for row in session.rows(ORIGINAL, &[&ids, &keys]).await? {
            let (position, id): (i64, [u8; 16]) = (row.try_get(0)?, bytes16(&row, 1)?);
            if row.try_get::<_, Option<&[u8]>>(2)?.is_some() {
                by_key.insert(bytes16(&row, 2)?, (position, id));
            }
            new.insert(id, position);
        }
    }
    let place = |append: &Append| {
        if let Some(position) = new.get(append.entry.id.as_bytes()) {
            return Some(Appended { position: *position, id: append.entry.id, repeat: false, here: false });
        }
        let (position, id) = by_key.get(append.sealed.key.as_ref()?)?;
        Some(Appended { position: *position, id: EntryId::from_bytes(*id), repeat: true, here: false })
    };
    Ok(appends.iter().map(place).collect())
}

async fn run_jobs(
    session: &Session,
    group: &Group,
    outcome: &mut Outcome,
    careful: bool,
) -> std::result::Result<(), PgError> {
    for (job, _) in &group.jobs {
        if !careful {
            outcome.jobs.push(Ok(job(session).await?));
            continue;
        }
        session.plain("SAVEPOINT job").await?;
        match job(session).await {
            Ok(done) => outcome.jobs.push(Ok(done)),
            Err(error) if matches!(fate(&error), Fate::Unique | Fate::Refused) => {
                session.plain("ROLLBACK TO job").await?;
                outcome.jobs.push(Err(failed(&error)));
            }
            Err(error) => return Err(error),
        }
        session.plain("RELEASE job").await?;
    }
    Ok(())
}

/// The numbers of those bundles that are not known yet.
async fn bundles(
    session: &Session,
    group: &Group,
    known: &HashMap<String, i64>,
) -> std::result::Result<HashMap<String, i64>, PgError> {
    let hashes = group.commits.iter().flat_map(|(batch, _)| batch).map(|set| set.bundle.as_str());
    let new: BTreeSet<&str> = hashes.filter(|hash| !known.contains_key(*hash)).collect();
    let mut found = HashMap::new();
    if !new.is_empty() {
        let mut pipeline = Pipeline::new(session);
        pipeline.ask(NEW_BUNDLE, vec![column(new.iter().copied())]);
        pipeline.ask(BUNDLE, vec![column(new.iter().copied())]);
        for row in pipeline.answers().await?.next_back().unwrap_or_default() {
            found.insert(row.try_get(0)?, row.try_get(1)?);
        }
    }
    Ok(found)
}

/// One batch, each changeset with a savepoint of its own. An error that is no conflict leaves none of the batch.
async fn write_carefully(
    session: &Session,
    batch: &[SealedSet],
    bundle: &(dyn Fn(&SealedSet) -> Option<i64> + Sync),
    seen: &mut Seen,
) -> std::result::Result<Result<Vec<Committed>>, PgError> {
    let before = seen.clone();
    let mut outcomes = Vec::with_capacity(batch.len());
    session.plain("SAVEPOINT batch").await?;
    for set in batch {
        if let Some(verdict) = seen.judge(set) {
            outcomes.push(verdict);
            continue;
        }
        let spared = seen.clone();
        seen.take(set);
        let mut pipeline = Pipeline::new(session);
        pipeline.plain("SAVEPOINT changeset");
        written::write(&mut pipeline, &[set], bundle, seen);
        match pipeline.answers().await.map(|mut answers| answers.nth(1).unwrap_or_default()) {
            Ok(rows) => {
                let no = apply_numbers(rows)?.get(&set.position).copied().unwrap_or_default();
                outcomes.push(Committed::Done(no));
                session.plain("RELEASE changeset").await?;
            }
            Err(error) if fate(&error) == Fate::Unique => {
                tracing::warn!(target: "segue::commit", error = %failed(&error).full(), "a changeset met a unique key it did not assert");
                session.plain("ROLLBACK TO changeset; RELEASE changeset").await?;
                *seen = spared.after(seen);
                outcomes.push(Committed::Conflict);
            }
            Err(error) if fate(&error) == Fate::Refused => {
                session.plain("ROLLBACK TO batch; RELEASE batch").await?;
                *seen = before.after(seen);
                return Ok(Err(failed(&error)));
            }
            Err(error) => return Err(error),
        }
    }
    session.plain("RELEASE batch").await?;
    Ok(Ok(outcomes))
}

/// Apply numbers by position.
fn apply_numbers(rows: Vec<Row>) -> std::result::Result<HashMap<i64, i64>, PgError> {
    rows.iter().map(|row| Ok((row.try_get(1)?, row.try_get(0)?))).collect()
}

fn write_marks<'p>(pipeline: &mut Pipeline<'p>, marks: &'p HashMap<String, Marks>) {
    let delivered = || marks.iter().flat_map(|(desk, marks)| marks.delivered.iter().map(|no| (desk.as_str(), *no)));
    if delivered().next().is_some() {
        pipeline.ask(DELIVERED, vec![column(delivered().map(|d| d.0)), column(delivered().map(|d| d.1))]);
    }
    let through: BTreeMap<&str, i64> =
        marks.iter().filter_map(|(desk, marks)| Some((desk.as_str(), marks.through?))).collect();
    if !through.is_empty() {
        pipeline.ask(SETTLED, vec![column(through.keys().copied()), column(through.values().copied())]);
    }
}
