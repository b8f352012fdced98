//! Stage 4 as it is run: what an entry says, and which keys order it, before it is journaled or when it is taken up.
//!
//! The invariants: an entry is read once wherever that can be; one that takes long to read holds up nothing else that its
//! thread serves; and one that this program fails on is set aside like one that nobody can read, so that those behind it
//! come through.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::facts::{self, Facts};
use super::journal::Journaled;
use super::normalize::{self, Normalized};
use super::{Context, Prepared, Setup, ahead};
use crate::base::id::EntryId;
use crate::base::telemetry::{By, thread_cpu};
use crate::model::EntryKind;

/// From how many bytes on reading an entry may take long.
const LONG: usize = 64 << 10;

/// Reads what an entry says and which keys order it, unless that was done before it was appended.
pub(crate) fn prepare(context: &Context, journaled: Journaled) -> Prepared {
    let entry = journaled.entry();
    let read = context.ahead.take(entry.id).unwrap_or_else(|| read(context, &journaled));
    count(context, &read.setup, &entry.channel, &read.items);
    Prepared::new(journaled, read, None)
}

/// The same under a setup of choice, for an entry that was applied before in another store.
pub(crate) fn prepare_under(context: &Context, setup: Arc<Setup>, journaled: Journaled, recorded: Facts) -> Prepared {
    let read = read_under(context, setup, &journaled, Some(&recorded));
    Prepared::new(journaled, read, Some(recorded))
}

/// Reads what an entry says under the setup of now.
pub(crate) fn read(context: &Context, journaled: &Journaled) -> ahead::Read {
    read_under(context, context.setup.load_full(), journaled, None)
}

fn read_under(context: &Context, setup: Arc<Setup>, journaled: &Journaled, recorded: Option<&Facts>) -> ahead::Read {
    let entry = journaled.entry();
    let (items, keys) = match entry.kind {
        EntryKind::Webhook | EntryKind::Mail => {
            let begun = thread_cpu();
            let step = || understood(&setup, journaled, recorded);
            let items = if entry.body.weight() < LONG { step() } else { long(step) };
            context.stage_seconds("normalize", begun);
            let keys = normalize::lanes(&items, journaled);
            (items, keys)
        }
        // These meet others only in the rows they change, which the commit asserts.
        _ => (Vec::new(), vec![*entry.id.as_bytes()]),
    };
    ahead::Read { setup, items, keys }
}

/// What an entry says, as it was understood the first time.
pub(crate) fn understood(setup: &Setup, journaled: &Journaled, recorded: Option<&Facts>) -> Vec<Normalized> {
    let outcomes = caught(journaled.entry().id, || normalize::step(setup, journaled));
    match recorded {
        Some(facts) => facts::unread_again(outcomes, &facts.unread),
        None => outcomes,
    }
}

fn count(context: &Context, setup: &Setup, channel: &str, items: &[Normalized]) {
    let connector = setup.channels.get(channel).map_or("", |c| c.connector.name());
    for item in items {
        let result = match item {
            Normalized::Item(_) => "interaction",
            Normalized::Receipt(_) => "receipt",
            Normalized::Ignored(_) => "ignored",
            Normalized::Quarantined(_) => "quarantined",
        };
        context.metrics.normalized.get_or_create(&By::new(connector, result)).inc();
    }
}

/// What `step` gives of an entry; that it is set aside, where the program fails.
fn caught(entry: EntryId, step: impl FnOnce() -> Vec<Normalized>) -> Vec<Normalized> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|_| {
        tracing::error!(target: "segue::normalize", %entry, "reading an entry failed, which is a fault of this program; it is quarantined");
        vec![Normalized::Quarantined("this program failed on it; its log says where".to_owned())]
    })
}

/// Runs what may take long. The thread's other tasks are left to others meanwhile.
fn long<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;

    #[test]
    fn what_the_program_fails_on_is_set_aside() {
        let id = EntryId::random(Timestamp::from_seconds(1_790_000_000));
        let outcomes = caught(id, || panic!("of no matter"));
        assert!(matches!(outcomes.as_slice(), [Normalized::Quarantined(why)] if why.contains("this program")));
        assert!(caught(id, Vec::new).is_empty());
    }
}
