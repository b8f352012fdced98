//! Joining the nodes that share a database, and dividing the work among them.
//!
//! A node is a row with a time until which it lives; it moves that time on three times in each lease, one statement for all
//! that it holds. A node whose time has passed is taken out by the others, and so is one whose process has ended, which
//! the server shows by freeing the lock that its connection held. Whatever has no living holder is free.
//!
//! Every node reckons the division from the same rows and so comes to the same: names go to one of those who want them by
//! a hash, buckets are divided evenly, and the deliveries to a help desk weigh as much as [`DESK`] of them. A node takes
//! what is free and its own, and lets go what is more than its own as soon as nothing of it is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::lease::{Nodes, bucket_name, bucket_of, now};
use super::place::{Place, Told};
use super::session::{PgError, Role, Session};
use crate::base::hash::key16;
use crate::store::lease::{BUCKETS, Hold, UPKEEP};

/// How many buckets the deliveries to one help desk weigh as much as: delivering costs about a quarter of all.
const DESK: usize = 64;
/// The advisory lock under which the division changes: "lease" in ASCII.
const LOCK: i64 = 0x006c_6561_7365;
/// How soon a node that ended is tried again whose last transaction still runs.
const SOON: Duration = Duration::from_millis(50);

/// Everything that the division is reckoned from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct View {
    /// Living nodes and what each wants.
    nodes: BTreeMap<i32, Vec<String>>,
    /// Leases and their living holders.
    leases: BTreeMap<String, Option<i32>>,
}

/// What a node is to do.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    take: Vec<String>,
    leave: Vec<String>,
}

impl View {
    /// Whose a name is to be: the same for all, and as rarely as can be another's when somebody comes or goes.
    fn owner(&self, name: &str) -> Option<i32> {
        let wanting = self.nodes.iter().filter(|(_, wants)| wants.iter().any(|wanted| wanted == name));
        wanting.map(|(no, _)| *no).max_by_key(|no| key16(&[name.as_bytes(), &no.to_be_bytes()]))
    }

    /// How many buckets a node is to have.
    fn share(&self, me: i32) -> usize {
        let names: BTreeSet<&String> =
            self.nodes.values().flatten().filter(|name| name.starts_with("helpdesk/")).collect();
        let own = names.iter().filter(|name| self.owner(name) == Some(me)).count();
        let all = BUCKETS + DESK * names.len();
        all.div_ceil(self.nodes.len().max(1)).saturating_sub(DESK * own).min(BUCKETS)
    }

    /// What `me` is to take and to leave.
    fn plan(&self, me: i32) -> Plan {
        let mut plan = Plan::default();
        let of = |holder: Option<i32>| {
            let names = self.leases.iter().filter(move |(_, by)| **by == holder).map(|(name, _)| name);
            names.partition::<Vec<&String>, _>(|name| bucket_of(name).is_some())
        };
        let ((free, free_names), (held, held_names)) = (of(None), of(Some(me)));
        plan.take.extend(free_names.into_iter().filter(|name| self.owner(name) == Some(me)).cloned());
        plan.leave.extend(held_names.into_iter().filter(|name| self.owner(name) != Some(me)).cloned());
        let share = self.share(me);
        plan.take.extend(free.into_iter().take(share.saturating_sub(held.len())).cloned());
        plan.leave.extend(held.into_iter().skip(share).cloned());
        plan
    }
}

/// The task.
pub(super) struct Members {
    pub(super) place: Place,
    pub(super) nodes: Arc<Nodes>,
}

impl Members {
    /// Keeps this node a member for as long as the runtime runs, once it has joined.
    pub(super) async fn run(self) {
        while !self.nodes.state.lock().joined {
            self.nodes.poke.notified().await;
        }
        while !self.nodes.state.lock().closing {
            match Session::connect(&self.place, Role::Helper, None).await {
                Ok(session) => {
                    let ended = self.keep(&session).await;
                    // Others may take this node for one that ended: nothing is believed until it has joined anew.
                    self.lose();
                    if let Err(error) = ended {
                        tracing::warn!(target: "segue::journal", error = %Told::of(&error), "the leases cannot be kept now");
                    }
                }
                Err(error) => {
                    tracing::warn!(target: "segue::journal", error = %error.full(), "the leases are not connected");
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn lose(&self) {
        self.nodes.state.lock().lose();
        self.nodes.tell();
    }

    /// Until the connection fails or hangs.
    async fn keep(&self, session: &Session) -> std::result::Result<(), PgError> {
        // Should this process be stopped while it divides, the others wait for it no longer than for its leases.
        let most = self.nodes.time.as_millis().max(1);
        session.plain(&format!("SET idle_in_transaction_session_timeout TO {most}")).await?;
        while !self.nodes.state.lock().closing {
            let turn = tokio::time::timeout(self.nodes.time, self.turn(session)).await;
            let Ok(turn) = turn else {
                tracing::warn!(target: "segue::journal", "the leases were not renewed in time");
                return Ok(());
            };
            let pause = if turn? { SOON } else { self.nodes.time / 3 };
            tokio::select! {
                () = self.nodes.poke.notified() => {}
                () = tokio::time::sleep(pause) => {}
                () = session.ended() => return Ok(()),
            }
        }
        Ok(())
    }

    /// Renews, and takes and leaves what is to be. Gives whether it is to be tried again soon: somebody else is dividing, or
    /// a node that ended cannot be taken out yet.
    async fn turn(&self, session: &Session) -> std::result::Result<bool, PgError> {
        let (wanted, known) = {
            let state = self.nodes.state.lock();
            (state.wanted.clone(), state.member)
        };
        let begun = now();
        let renewed = match known {
            Some(me) => self.renew(session, me, &wanted).await?.then_some(me),
            None => None,
        };
        let me = match renewed {
            Some(me) => me,
            None => {
                self.lose();
                self.enter(session, &wanted).await?
            }
        };
        {
            let mut state = self.nodes.state.lock();
            (state.member, state.until) = (Some(me), begun + self.nodes.time);
        }
        session.plain("BEGIN").await?;
        let divided = self.divide(session, me).await;
        session.plain(if divided.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
        let Some(divided) = divided? else {
            if renewed.is_none() {
                self.nodes.tell();
            }
            return Ok(true);
        };
        self.take_in(divided.taken, divided.plan, renewed.is_none());
        if divided.freed || renewed.is_none() {
            session.run("SELECT pg_notify('segue', 'leases')", &[]).await?;
        }
        Ok(divided.lingering)
    }

    async fn renew(&self, session: &Session, me: i32, wanted: &[String]) -> std::result::Result<bool, PgError> {
        let sql = "UPDATE node SET until = clock_timestamp() + make_interval(secs => $2), wants = $3
                    WHERE no = $1 AND until > clock_timestamp()";
        Ok(session.run(sql, &[&me, &self.nodes.time.as_secs_f64(), &wanted]).await? == 1)
    }

    /// Joins under a new number. The lock comes before the row, so that nobody takes this node for one that ended.
    async fn enter(&self, session: &Session, wanted: &[String]) -> std::result::Result<i32, PgError> {
        let class = format!("segue/{}", self.place.schema);
        let me = loop {
            let sql = "SELECT no, pg_try_advisory_lock(hashtext($1), no)
                         FROM (SELECT nextval('node_no')::int4 AS no OFFSET 0) AS drawn";
            let Some(row) = session.row(sql, &[&class]).await? else { continue };
            if row.try_get(1)? {
                break row.try_get::<_, i32>(0)?;
            }
        };
        let sql = "INSERT INTO node (no, id, until, wants)
                   VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3), $4)";
        let id = self.nodes.id.as_bytes().as_slice();
        session.run(sql, &[&me, &id, &self.nodes.time.as_secs_f64(), &wanted]).await?;
        // What this node was before.
        session.run("DELETE FROM node WHERE id = $1 AND no <> $2", &[&id, &me]).await?;
        tracing::info!(target: "segue::journal", node = %self.nodes.id, number = me, "joined the nodes of this database");
        Ok(me)
    }

    /// Reckons the division and writes it, within a transaction. Gives nothing if somebody else does it just now: nobody
    /// waits for another here, since that one may be stopped.
    async fn divide(&self, session: &Session, me: i32) -> std::result::Result<Option<Divided>, PgError> {
        let alone = session.row("SELECT pg_try_advisory_xact_lock($1)", &[&LOCK]).await?;
        if !alone.map_or(Ok(false), |row| row.try_get(0))? {
            return Ok(None);
        }
        let lingering = self.bury(session, me).await?;
        let gone = self.nodes.state.lock().let_go.clone();
        let sql = "UPDATE lease SET node = NULL WHERE node = $1 AND name = ANY($2)";
        let freed = !gone.is_empty() && session.run(sql, &[&me, &gone]).await? > 0;
        let wanted = self.nodes.state.lock().wanted.clone();
        let sql = "INSERT INTO lease (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING";
        session.run(sql, &[&wanted]).await?;
        let view = view(session).await?;
        let plan = view.plan(me);
        let sql = "UPDATE lease SET node = $1 WHERE name = ANY($2)
                      AND (node IS NULL OR node NOT IN (SELECT no FROM node))
                      AND EXISTS (SELECT FROM node WHERE no = $1 AND until > clock_timestamp()) RETURNING name";
        let mut taken = Vec::new();
        if !plan.take.is_empty() {
            for row in session.rows(sql, &[&me, &plan.take]).await? {
                taken.push(row.try_get(0)?);
            }
        }
        self.nodes.state.lock().let_go.retain(|name| !gone.contains(name));
        self.nodes.alive(view.nodes.len());
        Ok(Some(Divided { taken, plan, freed, lingering }))
    }

    /// Takes out nodes that ended. Gives whether one could not be, because its last transaction still runs.
    async fn bury(&self, session: &Session, me: i32) -> std::result::Result<bool, PgError> {
        let class = format!("segue/{}", self.place.schema);
        let dead = "no <> $1 AND (until < clock_timestamp() OR pg_try_advisory_xact_lock(hashtext($2), no))";
        let sql = format!("SELECT count(*) FROM node WHERE {dead}");
        let ended = session.row(&sql, &[&me, &class]).await?.map_or(Ok(0), |row| row.try_get::<_, i64>(0))?;
        if ended == 0 {
            return Ok(false);
        }
        let sql = format!("DELETE FROM node WHERE no IN (SELECT no FROM node WHERE {dead} FOR UPDATE SKIP LOCKED)");
        let gone = session.run(&sql, &[&me, &class]).await?;
        tracing::info!(target: "segue::journal", nodes = gone, "nodes have ended; their work is divided anew");
        Ok(i64::try_from(gone).unwrap_or_default() < ended)
    }

    /// Takes in what the database gave and what is to be left.
    fn take_in(&self, taken: Vec<String>, plan: Plan, joined: bool) {
        let changed = joined || !taken.is_empty() || !plan.leave.is_empty();
        let mut again = false;
        {
            let mut guard = self.nodes.state.lock();
            let state = &mut *guard;
            // What was to be left and is not any more.
            let keeps = |name: &str| !plan.leave.iter().any(|left| left == name);
            for (bucket, hold) in (0..=u8::MAX).zip(state.buckets.iter_mut()) {
                if *hold == Hold::Leaving && keeps(&bucket_name(bucket)) {
                    *hold = Hold::Yes;
                }
            }
            state.named.iter_mut().filter(|(name, _)| keeps(name)).for_each(|(_, hold)| *hold = Hold::Yes);
            for name in taken {
                match bucket_of(&name).and_then(|bucket| state.buckets.get_mut(usize::from(bucket))) {
                    Some(hold) => *hold = Hold::Yes,
                    None => drop(state.named.insert(name, Hold::Yes)),
                }
            }
            for name in plan.leave {
                let hold = match bucket_of(&name) {
                    Some(bucket) => state.buckets.get_mut(usize::from(bucket)),
                    None => state.named.get_mut(&name),
                };
                match hold {
                    // Each of its writes is whole by itself: there is nothing to wait for.
                    Some(_) if name == UPKEEP => {
                        state.named.remove(&name);
                        state.let_go.push(name);
                        again = true;
                    }
                    Some(hold @ Hold::Yes) => *hold = Hold::Leaving,
                    _ => {}
                }
            }
        }
        if again {
            self.nodes.poke.notify_one();
        }
        if changed {
            self.nodes.tell();
        }
    }

    /// Ends the membership, so that others need not wait.
    pub(super) async fn leave(place: &Place, nodes: &Nodes) {
        let member = {
            let mut state = nodes.state.lock();
            let member = state.member;
            state.closing = true;
            state.lose();
            member
        };
        let Some(me) = member else { return };
        let leave = async {
            let Ok(session) = Session::connect(place, Role::Helper, None).await else { return };
            let _ = session.run("DELETE FROM node WHERE no = $1", &[&me]).await;
            let _ = session.run("SELECT pg_notify('segue', 'leases')", &[]).await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(3), leave).await;
    }
}

/// What came of dividing.
struct Divided {
    taken: Vec<String>,
    plan: Plan,
    freed: bool,
    lingering: bool,
}

async fn view(session: &Session) -> std::result::Result<View, PgError> {
    let mut view = View::default();
    for row in session.rows("SELECT no, wants FROM node", &[]).await? {
        view.nodes.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let sql = "SELECT l.name, n.no FROM lease l LEFT JOIN node n ON n.no = l.node";
    for row in session.rows(sql, &[]).await? {
        view.leases.insert(row.try_get(0)?, row.try_get(1)?);
    }
    Ok(view)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start(nodes: &[(i32, Vec<&str>)]) -> View {
        let nodes: BTreeMap<i32, Vec<String>> =
            nodes.iter().map(|(no, wants)| (*no, wants.iter().map(ToString::to_string).collect())).collect();
        let names = nodes.values().flatten().cloned().collect::<BTreeSet<_>>();
        let leases = (0..=u8::MAX).map(bucket_name).chain(names).map(|name| (name, None)).collect();
        View { nodes, leases }
    }

    /// Every node does at once what it plans. Gives whether anybody did anything.
    fn round(view: &mut View) -> bool {
        let mut some = false;
        for me in view.nodes.keys().copied().collect::<Vec<_>>() {
            let plan = view.plan(me);
            some |= plan != Plan::default();
            for name in plan.take {
                assert_eq!(view.leases.insert(name, Some(me)), Some(None), "only what is free is taken");
            }
            for name in plan.leave {
                assert_eq!(view.leases.insert(name, None), Some(Some(me)), "only what is held is left");
            }
        }
        some
    }

    proptest! {
        #[test]
        fn whoever_comes_and_goes_everything_has_one_holder_and_shares_are_even(
            changes in prop::collection::vec((0i32..6, prop::collection::vec(0usize..4, 0..4)), 1..12),
        ) {
            const NAMES: [&str; 4] = ["helpdesk/a", "helpdesk/b", "sends", "media"];
            let mut view = start(&[(100, vec!["sends"])]);
            for (no, wants) in changes {
                let mut wants: Vec<String> = wants.into_iter().map(|at| NAMES[at].to_owned()).collect();
                wants.dedup();
                if view.nodes.remove(&no).is_none() {
                    view.leases.extend(wants.iter().filter(|name| !view.leases.contains_key(*name)).map(|name| (name.clone(), None)).collect::<Vec<_>>());
                    view.nodes.insert(no, wants);
                }
                let living = view.nodes.clone();
                view.leases.values_mut().for_each(|holder| *holder = holder.filter(|no| living.contains_key(no)));
                let mut rounds = 0;
                while round(&mut view) {
                    rounds += 1;
                    prop_assert!(rounds < 5, "the division does not come to rest");
                }
                let mut counts: BTreeMap<i32, usize> = BTreeMap::new();
                for (name, holder) in &view.leases {
                    match bucket_of(name) {
                        Some(_) => *counts.entry(holder.unwrap()).or_default() += 1,
                        None => prop_assert_eq!(*holder, view.owner(name)),
                    }
                }
                for (no, count) in counts {
                    prop_assert!(count <= view.share(no));
                }
            }
        }
    }

    #[test]
    fn the_deliveries_of_a_help_desk_weigh() {
        let view = start(&[(1, vec!["helpdesk/a"]), (2, vec!["helpdesk/a"])]);
        let shares = [view.share(1), view.share(2)];
        assert_eq!((shares.iter().min(), shares.iter().max()), (Some(&96), Some(&160)));
        assert_eq!(start(&[(1, vec!["helpdesk/a", "helpdesk/b"])]).share(1), 256);
    }
}
