//! Stage 9: events to help desks.
//!
//! Takes events that are due, gives outcomes. One dispatcher for each help desk: events of one conversation go strictly
//! in order, all others side by side. The body is the event's own bytes; an attempt adds only timestamp and signature
//! (Standard Webhooks 1.0.0).
//!
//! What a help desk was sent is one number: up to where its events are settled. An event that fails is set aside on the
//! disk with all that follows it in its conversation, so that the others go on and the number moves past them. A
//! first-try success therefore writes nothing of its own.

use std::sync::Arc;
use std::time::Duration;

use super::attempt::Destination;
use super::dispatch::Dispatcher;
use super::{Context, stopped};
use crate::net::Client;
use crate::store::lease;

/// How often it is looked at whether the lease is still held, whatever was told.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs one help desk's deliveries whenever this node holds their lease, until `stop` is true.
pub async fn run(
    context: Arc<Context>,
    client: Client,
    destination: Destination,
    mut stop: tokio::sync::watch::Receiver<bool>,
) {
    let (leases, name) = (context.store.leases.clone(), lease::helpdesk(&destination.name));
    let mut changed = leases.changed();
    while !*stop.borrow() && stop.has_changed().is_ok() {
        if !leases.named(&name).may_begin() {
            tokio::select! {
                _ = stop.changed() => {}
                _ = changed.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            continue;
        }
        let term = leases.term();
        // What others delivered meanwhile is on the disk.
        context.store.outbox.due_tail(&destination.name).fall_behind();
        let (end, ending) = tokio::sync::watch::channel(false);
        let mut deliveries = std::pin::pin!(serve(context.clone(), client.clone(), destination.clone(), ending));
        loop {
            tokio::select! {
                () = &mut deliveries => break,
                _ = stop.changed(), if !*end.borrow() => {}
                _ = changed.changed(), if !*end.borrow() => {}
                () = tokio::time::sleep(LOOK_EVERY), if !*end.borrow() => {}
            }
            let held = leases.named(&name).may_begin() && leases.term() == term;
            if !held || *stop.borrow() || stop.has_changed().is_err() {
                end.send_replace(true);
            }
        }
        // The answer comes after the marks that were given before: whoever is next begins where this one ended.
        let _ = context.store.outbox.settled(destination.name.clone()).await;
        leases.let_go(&name);
    }
}

/// Runs one help desk's deliveries until `stop` is true; then waits for the attempts that are under way.
async fn serve(
    context: Arc<Context>,
    client: Client,
    destination: Destination,
    mut stop: tokio::sync::watch::Receiver<bool>,
) {
    let tail = context.store.outbox.due_tail(&destination.name);
    let mut dispatcher = Dispatcher::new(context, client, destination);
    while !dispatcher.begin().await {
        if stopped(&mut stop, Duration::from_secs(1)).await {
            return;
        }
    }
    loop {
        dispatcher.unpark().await;
        let more = dispatcher.fill(&tail).await;
        dispatcher.put_aside().await;
        dispatcher.start();
        dispatcher.mark();
        let (pause, room) = (dispatcher.pause(), dispatcher.room() > 0);
        tokio::select! {
            biased;
            changed = stop.changed() => {
                if changed.is_err() || *stop.borrow() {
                    break;
                }
            }
            Some(ended) = dispatcher.attempts.join_next() => {
                dispatcher.ended(ended).await;
                while let Some(ended) = dispatcher.attempts.try_join_next() {
                    dispatcher.ended(ended).await;
                }
            }
            () = tail.changed(), if room => {}
            () = tokio::time::sleep(pause) => {}
            () = std::future::ready(()), if more && room => {}
        }
    }
    while let Some(ended) = dispatcher.attempts.join_next().await {
        dispatcher.ended(ended).await;
    }
    dispatcher.put_aside().await;
    dispatcher.mark();
}
