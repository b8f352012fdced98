//! Stage 5: which customer an interaction belongs to.
//!
//! Takes a normalized item, gives it with its customer. Identifiers are matched as [`crate::rules::identity`] says; what
//! the delivery told of the customer is learned on the way.

use super::draft::{CustomerAt, Draft};
use super::normalize::Item;
use crate::base::Result;
use crate::model::{Direction, Identifier, Trust};
use crate::rules::identity;

/// An item with its customer.
pub(crate) struct Identified {
    pub(crate) item: Item,
    pub(crate) customer: CustomerAt,
    /// Whether identifiers pointed at several customers.
    pub(crate) conflict: bool,
}

/// How many names of a customer are kept.
const NAMES: usize = 5;

/// Finds or makes the customer.
pub(crate) async fn step(draft: &mut Draft<'_>, item: Item) -> Result<Identified> {
    let told = person(&item);
    let (matchable, known_as) = matchable(told);
    let holders = draft.holders(&known_as).await?;
    let hits: Vec<(usize, usize)> = holders.iter().map(|(place, at)| (*place, at.0)).collect();
    let found = identity::decide(&matchable, &hits);
    let customer = match found.customer {
        Some(at) => CustomerAt(at),
        None => draft.new_customer()?,
    };
    let held = |place: usize| holders.iter().any(|(known, _)| *known == place);
    let learned: Vec<(Identifier, bool)> =
        matchable.iter().enumerate().map(|(place, identifier)| (identifier.clone(), !held(place))).collect();
    let (at, inbound) = (draft.now(), item.interaction.direction == Direction::Inbound);
    let name = item.interaction.author.display_name.clone().filter(|name| inbound && !name.expose().is_empty());
    draft.change_profile(customer, |profile| {
        let mut changed = identity::learn(&mut profile.identifiers, &learned, at);
        if let Some(name) = name
            && !profile.names.contains(&name)
        {
            profile.names.insert(0, name);
            profile.names.truncate(NAMES);
            changed = true;
        }
        changed
    });
    let free = known_as.iter().zip(&learned).filter(|(_, (_, free))| *free);
    draft.give_identifiers(customer, free.map(|(known_as, _)| known_as));
    Ok(Identified { item, customer, conflict: found.conflict })
}

/// What may be matched of what was told, and what each of it is known as.
fn matchable(told: Vec<Identifier>) -> (Vec<Identifier>, Vec<Identifier>) {
    let trust = told.iter().filter_map(|i| i.trust).max().unwrap_or_default();
    if identity::may_match(trust) {
        return (told.clone(), told);
    }
    let seen = told.into_iter().filter(|_| trust == Trust::Observed);
    seen.filter_map(|identifier| identity::sighting(&identifier).map(|known_as| (identifier, known_as))).unzip()
}

/// The identifiers of the customer's side: the author's, or for our own words those of whom they are for.
fn person(item: &Item) -> Vec<Identifier> {
    let interaction = &item.interaction;
    if interaction.direction == Direction::Inbound {
        let author = &interaction.author;
        let own = author.identifier.iter().map(|i| match i.trust {
            Some(_) => i.clone(),
            None => i.clone().trusted(author.trust),
        });
        let also = author.also.iter().map(|i| match i.trust {
            Some(_) => i.clone(),
            None => i.clone().trusted(author.trust.min(Trust::Claimed)),
        });
        return own.chain(also).collect();
    }
    // A customer whom we addressed is who we say: the identifier is at least claimed, by us.
    let first = interaction.addressed();
    first.map(|r| r.identifier.clone().trusted(r.identifier.trust.unwrap_or(Trust::Claimed))).into_iter().collect()
}
