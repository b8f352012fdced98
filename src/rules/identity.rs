//! Which customer somebody is.
//!
//! First form: identifiers are matched exactly, in their canonical form. One hit is that customer, no hit is a new one.
//! Several hits are a conflict that a person must solve: the best proven identifier decides for now, nothing is merged,
//! and the conflict is told.

use crate::base::Timestamp;
use crate::model::{CustomerIdentifier, Identifier, IdentifierType, Trust};

/// What was found out about a sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The customer, by its place among the candidates; none means a new one.
    pub customer: Option<usize>,
    /// Whether identifiers pointed at several customers.
    pub conflict: bool,
}

/// Decides between candidates. `hits` pairs the place of an identifier with the place of the customer it belongs to.
///
/// The identifier with the highest trust wins; among equals the one named first, which is the channel's own.
pub fn decide(identifiers: &[Identifier], hits: &[(usize, usize)]) -> Match {
    let trust_of = |place: usize| identifiers.get(place).and_then(|i| i.trust).unwrap_or_default();
    let best = hits.iter().max_by(|(a, _), (b, _)| trust_of(*a).cmp(&trust_of(*b)).then(b.cmp(a)));
    let customer = best.map(|(_, customer)| *customer);
    let conflict = hits.iter().any(|(_, other)| Some(*other) != customer);
    Match { customer, conflict }
}

/// Adds what a delivery told to what is known of a customer: new identifiers, better trust. Gives whether it changed.
///
/// `free` says for each identifier whether nobody else holds it; those that somebody else holds stay there.
pub fn learn(known: &mut Vec<CustomerIdentifier>, told: &[(Identifier, bool)], at: Timestamp) -> bool {
    let mut changed = false;
    for (identifier, free) in told {
        let trust = identifier.trust.unwrap_or_default();
        let found = known.iter_mut().find(|k| k.kind == identifier.kind && k.value == identifier.value);
        match found {
            Some(known) if known.trust < trust => {
                known.trust = trust;
                changed = true;
            }
            Some(_) => {}
            None if *free => {
                known.push(CustomerIdentifier {
                    kind: identifier.kind.clone(),
                    value: identifier.value.clone(),
                    trust,
                    first_seen: at,
                });
                changed = true;
            }
            None => {}
        }
    }
    changed
}

/// Whether a sender of this trust may be taken for the holder of an identifier at all.
///
/// A failed proof (`anonymous`) and a mere sighting open a story of their own and join none.
pub fn may_match(trust: Trust) -> bool {
    trust >= Trust::Claimed
}

/// What an address that was only seen is known as: it groups what was sent under it, and never meets the customer who has
/// proven to hold it.
pub fn sighting(identifier: &Identifier) -> Option<Identifier> {
    let seen = identifier.kind.0 == IdentifierType::MAILTO;
    seen.then(|| Identifier { kind: IdentifierType(format!("seen:{}", identifier.kind.0)), ..identifier.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(kind: &str, trust: Trust) -> Identifier {
        Identifier::new(kind, "x").trusted(trust)
    }

    #[test]
    fn the_best_proven_identifier_decides_and_the_conflict_is_told() {
        let told = [id("tel", Trust::Claimed), id("wa_id", Trust::Verified)];
        assert_eq!(decide(&told, &[]), Match { customer: None, conflict: false });
        assert_eq!(decide(&told, &[(0, 7)]), Match { customer: Some(7), conflict: false });
        assert_eq!(decide(&told, &[(0, 1), (1, 2)]), Match { customer: Some(2), conflict: true });
        assert_eq!(decide(&told, &[(0, 4), (1, 4)]), Match { customer: Some(4), conflict: false });
    }

    #[test]
    fn among_equals_the_first_named_decides() {
        let told = [id("tel", Trust::Verified), id("wa_id", Trust::Verified)];
        assert_eq!(decide(&told, &[(1, 2), (0, 1)]).customer, Some(1));
    }

    proptest! {
        #[test]
        fn learning_twice_changes_nothing_and_trust_never_falls(
            told in prop::collection::vec((0usize..4, 0usize..5), 0..12),
            taken in prop::collection::vec(any::<bool>(), 4),
        ) {
            let levels = [Trust::Anonymous, Trust::Observed, Trust::Claimed, Trust::Verified, Trust::Asserted];
            let told: Vec<_> = told.into_iter()
                .map(|(kind, trust)| (id(["tel", "wa_id", "psid", "mailto"][kind], levels[trust]), !taken[kind]))
                .collect();
            let mut known = Vec::new();
            learn(&mut known, &told, Timestamp::from_millis(1));
            let once: Vec<_> = known.iter().map(|k| (k.kind.clone(), k.trust)).collect();
            prop_assert!(!learn(&mut known, &told, Timestamp::from_millis(2)));
            let twice: Vec<_> = known.iter().map(|k| (k.kind.clone(), k.trust)).collect();
            prop_assert_eq!(once, twice);
            for k in &known {
                let best = told.iter().filter(|(i, _)| i.kind == k.kind).filter_map(|(i, _)| i.trust).max();
                prop_assert_eq!(Some(k.trust), best);
            }
        }
    }
}
