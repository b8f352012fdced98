//! How far something we sent got: receipts come late, twice and in any order, and never move it backwards.

use crate::base::Timestamp;
use crate::model::DeliveryState;
use crate::model::{Delivery, DeliveryError};

/// Adds a receipt to what is known. Gives whether it changed anything.
///
/// The furthest state stands. `failed` outranks what is on its way, but not what has arrived: a message that was
/// delivered did not fail, whatever a late report says of another attempt.
pub fn advance(
    known: &mut Option<Delivery>,
    state: DeliveryState,
    at: Timestamp,
    error: Option<DeliveryError>,
) -> bool {
    let further = known.as_ref().is_none_or(|before| rank(state) > rank(before.state));
    if further {
        *known = Some(Delivery { state, at, error });
    }
    further
}

fn rank(state: DeliveryState) -> u8 {
    match state {
        DeliveryState::Planned => 0,
        DeliveryState::Queued => 1,
        DeliveryState::Uncertain => 2,
        DeliveryState::Sent => 3,
        DeliveryState::Failed => 4,
        DeliveryState::Delivered => 5,
        DeliveryState::Read => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_state() -> impl Strategy<Value = DeliveryState> {
        prop::sample::select(vec![
            DeliveryState::Planned,
            DeliveryState::Queued,
            DeliveryState::Uncertain,
            DeliveryState::Sent,
            DeliveryState::Delivered,
            DeliveryState::Read,
            DeliveryState::Failed,
        ])
    }

    proptest! {
        #[test]
        fn any_order_and_any_repetition_end_alike(
            states in prop::collection::vec(any_state(), 1..8),
            order in any::<prop::sample::Index>(),
        ) {
            let end = |states: &[DeliveryState]| {
                let mut known = None;
                for state in states {
                    advance(&mut known, *state, Timestamp::from_millis(0), None);
                }
                known.unwrap().state
            };
            let mut turned = states.clone();
            turned.rotate_left(order.index(states.len()));
            turned.extend_from_slice(&states);
            prop_assert_eq!(end(&states), end(&turned));
            turned.reverse();
            prop_assert_eq!(end(&states), end(&turned));
        }
    }

    #[test]
    fn a_late_failure_does_not_undo_an_arrival() {
        let mut known = None;
        for state in [DeliveryState::Read, DeliveryState::Failed, DeliveryState::Sent] {
            advance(&mut known, state, Timestamp::from_millis(0), None);
        }
        assert!(known.unwrap().state == DeliveryState::Read);
    }
}
