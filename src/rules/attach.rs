//! Which story an interaction belongs to.
//!
//! The provider's thread comes first, then the customer's open story. Public and private sides of a matter are linked and
//! never joined, because what is said in private must not come to light by an answer given in public.

use crate::base::Timestamp;
use crate::model::{ConversationState, LinkKind, Trust};

/// How long after its end a story is taken up again by its own thread, in milliseconds: 7 days.
pub const REOPEN_WITHIN: i64 = 7 * 24 * 3600 * 1000;

/// A story that an interaction might belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Where it stands.
    pub state: ConversationState,
    /// Whether it is the public side.
    pub public: bool,
    /// When something last happened in it.
    pub updated_at: Timestamp,
}

/// Where an interaction goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// Into the story of its thread.
    Thread {
        /// Whether the story is opened again by it.
        reopen: bool,
    },
    /// Into the customer's open story at this place of the list.
    Story(usize),
    /// Into a new story, linked to those at these places of the list.
    New {
        /// Links to be made, each with what the other story is to this one.
        links: Vec<(usize, LinkKind)>,
    },
}

/// Decides. `open` is the customer's open stories, the latest first.
///
/// A sender who is not at least `claimed` to be the customer joins nothing but their own thread.
pub fn decide(thread: Option<Candidate>, open: &[Candidate], public: bool, trust: Trust, at: Timestamp) -> Attachment {
    if let Some(story) = thread.filter(|story| story.public == public) {
        match story.state {
            ConversationState::Open => return Attachment::Thread { reopen: false },
            ConversationState::Resolved if at.since(story.updated_at) <= REOPEN_WITHIN => {
                return Attachment::Thread { reopen: true };
            }
            ConversationState::Resolved => {}
        }
    }
    if trust < Trust::Claimed {
        return Attachment::New { links: Vec::new() };
    }
    if !public && let Some(place) = open.iter().position(|story| !story.public) {
        return Attachment::Story(place);
    }
    let side = if public { LinkKind::Private } else { LinkKind::Public };
    let links = open.iter().enumerate().filter(|(_, story)| story.public != public);
    Attachment::New { links: links.map(|(place, _)| (place, side)).take(5).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn story(open: bool, public: bool) -> Candidate {
        let state = if open { ConversationState::Open } else { ConversationState::Resolved };
        Candidate { state, public, updated_at: Timestamp::from_millis(0) }
    }

    #[test]
    fn the_thread_comes_before_the_story() {
        let now = Timestamp::from_millis(1000);
        let open = [story(true, false)];
        assert_eq!(
            decide(Some(story(true, false)), &open, false, Trust::Verified, now),
            Attachment::Thread { reopen: false }
        );
        assert_eq!(decide(None, &open, false, Trust::Claimed, now), Attachment::Story(0));
        assert_eq!(decide(None, &[], false, Trust::Claimed, now), Attachment::New { links: vec![] });
    }

    #[test]
    fn a_story_that_ended_long_ago_stays_ended() {
        let soon = Timestamp::from_millis(REOPEN_WITHIN);
        let late = Timestamp::from_millis(REOPEN_WITHIN + 1);
        let ended = Some(story(false, false));
        assert_eq!(decide(ended, &[], false, Trust::Verified, soon), Attachment::Thread { reopen: true });
        assert_eq!(decide(ended, &[], false, Trust::Verified, late), Attachment::New { links: vec![] });
    }

    #[test]
    fn somebody_unproven_joins_no_story() {
        let now = Timestamp::from_millis(1);
        for trust in [Trust::Anonymous, Trust::Observed] {
            assert_eq!(decide(None, &[story(true, false)], false, trust, now), Attachment::New { links: vec![] });
        }
    }

    proptest! {
        #[test]
        fn public_and_private_are_never_joined(
            thread in prop::option::of((any::<bool>(), any::<bool>())),
            open in prop::collection::vec(any::<bool>(), 0..6),
            public: bool,
        ) {
            let thread = thread.map(|(open, public)| story(open, public));
            let open: Vec<_> = open.into_iter().map(|public| story(true, public)).collect();
            match decide(thread, &open, public, Trust::Verified, Timestamp::from_millis(5)) {
                Attachment::Thread { .. } => prop_assert_eq!(thread.unwrap().public, public),
                Attachment::Story(place) => prop_assert!(!public && !open[place].public),
                Attachment::New { links } => {
                    prop_assert!(links.iter().all(|(place, _)| open[*place].public != public));
                }
            }
        }
    }
}
