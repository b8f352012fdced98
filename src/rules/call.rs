//! Folding the callbacks of a call into one interaction.
//!
//! Telephony providers tell of a call in pieces that come late, twice and out of order. Folding is commutative and
//! idempotent: whatever the order, the same pieces give the same call.

use crate::base::Timestamp;
use crate::model::Call;
use crate::model::CallLeg;

/// Adds what one callback told to what is known of the call. Gives whether it changed anything.
///
/// The menu path is left alone: the same key may be pressed twice, so only who knows which callbacks were counted already
/// can add to it.
pub fn fold(known: &mut Call, told: &Call) -> bool {
    let before = known.clone();
    further_state(&mut known.state, &told.state);
    keep(&mut known.started_at, &told.started_at, earlier);
    keep(&mut known.answered_at, &told.answered_at, earlier);
    keep(&mut known.ended_at, &told.ended_at, later);
    keep(&mut known.duration_seconds, &told.duration_seconds, |a, b| b > a);
    keep(&mut known.disposition, &told.disposition, |a, b| disposition_rank(b) > disposition_rank(a));
    keep(&mut known.transcript, &told.transcript, |a, b| b.expose().len() > a.expose().len());
    keep(&mut known.transfer_of, &told.transfer_of, |a, b| b > a);
    keep(&mut known.answer, &told.answer, |_, _| false);
    match (&mut known.recording, &told.recording) {
        (Some(known), Some(told)) if known.provider_id == told.provider_id => {
            keep(&mut known.url, &told.url, |a, b| b > a);
            keep(&mut known.duration_seconds, &told.duration_seconds, |a, b| b > a);
            keep(&mut known.state, &told.state, |a, b| recording_rank(b) > recording_rank(a));
        }
        (known, Some(told)) if known.as_ref().is_none_or(|k| told.provider_id > k.provider_id) => {
            *known = Some(told.clone());
        }
        _ => {}
    }
    for leg in &told.legs {
        fold_leg(&mut known.legs, leg);
    }
    *known != before
}

fn fold_leg(legs: &mut Vec<CallLeg>, told: &CallLeg) {
    match legs.iter_mut().find(|leg| leg.provider_id == told.provider_id) {
        Some(leg) => {
            further_state(&mut leg.state, &told.state);
            keep(&mut leg.to, &told.to, |a, b| b > a);
            keep(&mut leg.duration_seconds, &told.duration_seconds, |a, b| b > a);
        }
        None => {
            let place = legs.iter().position(|leg| leg.provider_id > told.provider_id).unwrap_or(legs.len());
            legs.insert(place, told.clone());
        }
    }
}

fn keep<T: Clone>(known: &mut Option<T>, told: &Option<T>, better: impl Fn(&T, &T) -> bool) {
    if let Some(told) = told
        && known.as_ref().is_none_or(|known| better(known, told))
    {
        *known = Some(told.clone());
    }
}

fn earlier(known: &Timestamp, told: &Timestamp) -> bool {
    told < known
}

fn later(known: &Timestamp, told: &Timestamp) -> bool {
    told > known
}

fn further_state(known: &mut Option<String>, told: &Option<String>) {
    // A total order, so that two ends of one call (which only a faulty provider tells) still fold alike in any order.
    keep(known, told, |a, b| (state_rank(b), b) > (state_rank(a), a));
}

fn state_rank(state: &str) -> u8 {
    match state {
        "queued" => 1,
        "initiated" => 2,
        "ringing" => 3,
        "in_progress" => 4,
        "canceled" | "failed" | "no_answer" | "busy" => 5,
        "completed" => 6,
        _ => 0,
    }
}

fn disposition_rank(disposition: &str) -> (u8, &str) {
    let rank = match disposition {
        "answered" => 2,
        "voicemail-no-message" => 3,
        _ => 1,
    };
    (rank, disposition)
}

fn recording_rank(state: &str) -> (u8, &str) {
    let rank = match state {
        "in_progress" => 1,
        "absent" | "failed" => 2,
        "completed" => 3,
        _ => 0,
    };
    (rank, state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Recording;
    use proptest::prelude::*;

    /// A piece of a call, printable where a test fails.
    #[derive(Clone)]
    struct Piece(Call);

    impl std::fmt::Debug for Piece {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&serde_json::to_string(&self.0).unwrap())
        }
    }

    fn any_piece() -> impl Strategy<Value = Piece> {
        let states = ["queued", "initiated", "ringing", "in_progress", "completed", "busy", "no_answer", "failed"];
        (
            prop::option::of(prop::sample::select(states.to_vec())),
            prop::option::of(0i64..5),
            prop::option::of(0i64..5),
            prop::option::of(0u64..90),
            prop::option::of((0u8..3, prop::option::of(0u64..9))),
            prop::collection::vec((0u8..3, prop::option::of(prop::sample::select(states.to_vec()))), 0..3),
            prop::option::of(prop::sample::select(vec!["answered", "busy", "no-answer"])),
        )
            .prop_map(|(state, started, ended, duration, recording, legs, disposition)| {
                let mut call = Call {
                    state: state.map(str::to_owned),
                    started_at: started.map(Timestamp::from_millis),
                    ended_at: ended.map(Timestamp::from_millis),
                    duration_seconds: duration,
                    disposition: disposition.map(str::to_owned),
                    recording: recording.map(|(id, duration_seconds)| Recording {
                        provider_id: format!("RE{id}"),
                        url: None,
                        duration_seconds,
                        state: None,
                    }),
                    ..Call::default()
                };
                for (id, state) in legs {
                    let leg = CallLeg {
                        provider_id: format!("CA{id}"),
                        state: state.map(str::to_owned),
                        to: None,
                        duration_seconds: None,
                    };
                    fold_leg(&mut call.legs, &leg);
                }
                Piece(call)
            })
    }

    proptest! {
        #[test]
        fn any_order_of_callbacks_gives_the_same_call(
            pieces in prop::collection::vec(any_piece(), 0..6),
            seed: u64,
        ) {
            let all = |pieces: &[Piece]| {
                let mut call = Call::default();
                for piece in pieces {
                    fold(&mut call, &piece.0);
                }
                // Which recording's details are kept depends on nothing but the highest id: compare those alone.
                serde_json::to_value(&call).unwrap()
            };
            let mut turned = pieces.clone();
            let mut state = seed;
            for i in (1..turned.len()).rev() {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                turned.swap(i, (state >> 33) as usize % (i + 1));
            }
            prop_assert_eq!(all(&pieces), all(&turned));
        }

        #[test]
        fn telling_it_again_changes_nothing(piece in any_piece(), other in any_piece()) {
            let mut call = other.0;
            fold(&mut call, &piece.0);
            prop_assert!(!fold(&mut call, &piece.0));
        }
    }
}
