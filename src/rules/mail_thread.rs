//! Which story a mail belongs to.
//!
//! A story is joined only through [`Joined`], and only [`decide`] makes one: linking a mail in another way does not
//! compile. What may join: a reply token made for the sender; a mail that the sender was part of, if the sender is
//! authenticated; their subject, if they have only that one open story. Everybody else opens a story of their own, and
//! the stories they named are shown to the agent (threats T12, T13, T15). A subject with a number (`[#123]`) is a
//! subject.

use super::mail_trust::{Act, may};
use crate::model::MailLevel;

/// Where a story stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is open.
    Open,
    /// It is resolved, and is opened again by an answer.
    Reopens,
    /// It ended too long ago for that.
    Ended,
}

/// Who sent a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// How far they are believed.
    pub level: MailLevel,
    /// Whether a machine wrote it: an auto-reply, a notice of absence, a report.
    pub automatic: bool,
}

/// A story that a mail may belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The story.
    pub conversation: i64,
    /// Where it stands.
    pub standing: Standing,
    /// Whether this is the sender's own: the token was made for them, the mail referred to was from or to them, they
    /// are the story's participant.
    pub of_sender: bool,
}

/// Why a mail joins a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// A reply token made for its sender.
    Token,
    /// It refers to a mail of that story that its sender was part of.
    Graph,
    /// Its subject is that of its sender's only open story.
    Subject,
    /// It is one of a storm of mails of one unproven sender: they are kept together, and apart from all else.
    Storm,
}

/// A story that a mail joins. Made by [`decide`] only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    conversation: i64,
    why: Why,
    reopens: bool,
}

impl Joined {
    /// The story.
    pub fn conversation(&self) -> i64 {
        self.conversation
    }

    /// Why.
    pub fn why(&self) -> Why {
        self.why
    }

    /// Whether the story is opened again by it.
    pub fn reopens(&self) -> bool {
        self.reopens
    }
}

/// Where a mail goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Threading {
    /// Into this story.
    Join(Joined),
    /// Into a story of its own, linked to these for an agent to look at: each once, the likeliest first.
    Mention(Vec<i64>),
    /// Into a story of its own.
    New,
}

/// The most stories that one mail mentions.
pub const MOST_MENTIONED: usize = 5;

/// Decides. `token` is the story of a good reply token, `graph` those of the mails that it refers to, the one it
/// answers first, and `subject` the sender's open stories with its subject. `storm` is the story that the storm it is part
/// of, of mails as little proven as it is, already has.
pub fn decide(
    sender: &Sender,
    token: Option<&Seen>,
    graph: &[Seen],
    subject: &[Seen],
    storm: Option<&Seen>,
) -> Threading {
    let by_token = token.filter(|seen| joins(sender, seen, Act::JoinByToken)).map(|seen| (seen, Why::Token));
    let by_graph = || graph.iter().find(|seen| joins(sender, seen, Act::JoinByGraph)).map(|seen| (seen, Why::Graph));
    let by_subject = || match subject {
        // Words that many write, as a machine does, tell nothing; nor do they open again what is done.
        [seen] if !sender.automatic && seen.standing == Standing::Open && joins(sender, seen, Act::JoinBySubject) => {
            Some((seen, Why::Subject))
        }
        _ => None,
    };
    // A token for another story than the mails it refers to: the token is the stronger word.
    let by_storm = || storm.filter(|seen| seen.standing == Standing::Open).map(|seen| (seen, Why::Storm));
    if let Some((seen, why)) = by_token.or_else(by_graph).or_else(by_subject).or_else(by_storm) {
        let reopens = seen.standing == Standing::Reopens;
        return Threading::Join(Joined { conversation: seen.conversation, why, reopens });
    }
    let mut mentioned = Vec::new();
    for seen in token.into_iter().chain(graph) {
        if mentioned.len() < MOST_MENTIONED && !mentioned.contains(&seen.conversation) {
            mentioned.push(seen.conversation);
        }
    }
    if mentioned.is_empty() { Threading::New } else { Threading::Mention(mentioned) }
}

fn joins(sender: &Sender, seen: &Seen, act: Act) -> bool {
    let stands = match seen.standing {
        Standing::Open => true,
        Standing::Reopens => !sender.automatic,
        Standing::Ended => false,
    };
    seen.of_sender && stands && may(sender.level, act)
}

/// A subject without what mail programs put before it: `Re:`, `AW:`, `Fwd:` and the like.
pub fn bare_subject(subject: &str) -> &str {
    let mut rest = subject.trim();
    while let Some((word, after)) = rest.split_once(':') {
        let word = word.trim();
        let marks = (1..=4).contains(&word.chars().count()) && word.chars().all(char::is_alphanumeric);
        if !marks {
            break;
        }
        rest = after.trim();
    }
    rest
}

/// The subject of an answer.
pub fn answering(subject: &str) -> String {
    format!("Re: {}", bare_subject(subject))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEVELS: [MailLevel; 4] =
        [MailLevel::Failed, MailLevel::Unknown, MailLevel::Authenticated, MailLevel::Verified];
    const STANDINGS: [Standing; 3] = [Standing::Open, Standing::Reopens, Standing::Ended];

    fn seen(conversation: i64, standing: Standing, of_sender: bool) -> Seen {
        Seen { conversation, standing, of_sender }
    }

    /// Every level, kind of sender, standing and owner, for one way of joining alone.
    fn table(
        decide_one: impl Fn(&Sender, Seen) -> Threading,
        wanted: impl Fn(&Sender, Seen) -> bool,
        why: Why,
        mentions: bool,
    ) {
        for level in LEVELS {
            for automatic in [false, true] {
                for standing in STANDINGS {
                    for of_sender in [false, true] {
                        let (sender, story) = (Sender { level, automatic }, seen(7, standing, of_sender));
                        let joined = Joined { conversation: 7, why, reopens: standing == Standing::Reopens };
                        let expected = match wanted(&sender, story) {
                            true => Threading::Join(joined),
                            false if mentions => Threading::Mention(vec![7]),
                            false => Threading::New,
                        };
                        assert_eq!(decide_one(&sender, story), expected, "{sender:?} {story:?}");
                    }
                }
            }
        }
    }

    fn stands(sender: &Sender, story: Seen) -> bool {
        story.standing == Standing::Open || (story.standing == Standing::Reopens && !sender.automatic)
    }

    #[test]
    fn a_token_joins_for_its_recipient_unless_the_sender_failed() {
        table(
            |sender, story| decide(sender, Some(&story), &[], &[], None),
            |sender, story| sender.level != MailLevel::Failed && story.of_sender && stands(sender, story),
            Why::Token,
            true,
        );
    }

    #[test]
    fn a_reference_joins_for_an_authenticated_part_of_it() {
        table(
            |sender, story| decide(sender, None, &[story], &[], None),
            |sender, story| sender.level >= MailLevel::Authenticated && story.of_sender && stands(sender, story),
            Why::Graph,
            true,
        );
    }

    #[test]
    fn a_subject_joins_the_only_open_story_of_an_authenticated_sender() {
        let wanted = |sender: &Sender, story: Seen| {
            sender.level >= MailLevel::Authenticated
                && story.of_sender
                && !sender.automatic
                && story.standing == Standing::Open
        };
        table(|sender, story| decide(sender, None, &[], &[story], None), wanted, Why::Subject, false);
        let sender = Sender { level: MailLevel::Verified, automatic: false };
        let two = [seen(1, Standing::Open, true), seen(2, Standing::Open, true)];
        assert_eq!(decide(&sender, None, &[], &two, None), Threading::New);
    }

    #[test]
    fn the_token_goes_before_references_and_those_before_the_subject() {
        let sender = Sender { level: MailLevel::Authenticated, automatic: false };
        let story = |conversation| seen(conversation, Standing::Open, true);
        let why = |threading| match threading {
            Threading::Join(joined) => Some((joined.conversation(), joined.why())),
            _ => None,
        };
        assert_eq!(why(decide(&sender, Some(&story(1)), &[story(2)], &[story(3)], None)), Some((1, Why::Token)));
        assert_eq!(why(decide(&sender, None, &[story(2), story(4)], &[story(3)], None)), Some((2, Why::Graph)));
        // A common root that others refer to as well does not hide the sender's own.
        assert_eq!(
            why(decide(&sender, None, &[seen(9, Standing::Open, false), story(4)], &[], None)),
            Some((4, Why::Graph))
        );
        // Somebody else's token does not bar the way to the sender's own story.
        assert_eq!(
            why(decide(&sender, Some(&seen(1, Standing::Open, false)), &[story(2)], &[], None)),
            Some((2, Why::Graph))
        );
    }

    #[test]
    fn a_storm_is_kept_together_where_it_began() {
        let sender = Sender { level: MailLevel::Failed, automatic: false };
        for (standing, joins) in [(Standing::Open, true), (Standing::Reopens, false), (Standing::Ended, false)] {
            let decided = decide(&sender, None, &[], &[], Some(&seen(5, standing, true)));
            assert_eq!(matches!(decided, Threading::Join(joined) if joined.why() == Why::Storm), joins, "{standing:?}");
        }
    }

    #[test]
    fn a_subject_stays_the_same_whatever_programs_put_before_it() {
        for subject in [
            "Order 4711 is late",
            "Re: order 4711 is late",
            "AW: Fwd: RE: Order 4711 is late",
            "  Re:Order 4711 is late",
        ] {
            assert_eq!(bare_subject(subject).to_lowercase(), "order 4711 is late");
        }
        assert_eq!(bare_subject("Important: read this"), "Important: read this");
    }

    #[test]
    fn mentions_are_few_and_each_once() {
        let sender = Sender { level: MailLevel::Failed, automatic: false };
        let graph: Vec<Seen> = (0..100).map(|n| seen(n % 50, Standing::Open, true)).collect();
        let mentioned = decide(&sender, Some(&seen(3, Standing::Open, true)), &graph, &[], None);
        assert_eq!(mentioned, Threading::Mention(vec![3, 0, 1, 2, 4]));
    }

    fn any_seen() -> impl Strategy<Value = Seen> {
        (0i64..6, 0usize..3, any::<bool>()).prop_map(|(id, standing, of)| seen(id, STANDINGS[standing], of))
    }

    proptest! {
        #[test]
        fn what_never_happens(
            level in 0usize..4, automatic in any::<bool>(), token in proptest::option::of(any_seen()),
            graph in proptest::collection::vec(any_seen(), 0..5), subject in proptest::collection::vec(any_seen(), 0..3),
        ) {
            let sender = Sender { level: LEVELS[level], automatic };
            let all: Vec<Seen> = token.iter().chain(&graph).chain(&subject).copied().collect();
            if let Threading::Join(joined) = decide(&sender, token.as_ref(), &graph, &subject, None) {
                prop_assert!(sender.level != MailLevel::Failed, "a failed sender joined");
                let own = |one: &Seen| one.conversation == joined.conversation() && one.of_sender && one.standing != Standing::Ended;
                prop_assert!(all.iter().any(own), "a stranger joined");
                prop_assert!(sender.level != MailLevel::Unknown || joined.why() == Why::Token);
                prop_assert!(!(joined.reopens() && automatic), "a machine opened a story again");
            }
            // A stranger never joins, whatever they name.
            let strange = |seen: &Seen| Seen { of_sender: false, ..*seen };
            let (graph, subject): (Vec<_>, Vec<_>) = (graph.iter().map(strange).collect(), subject.iter().map(strange).collect());
            let threading = decide(&sender, token.as_ref().map(strange).as_ref(), &graph, &subject, None);
            prop_assert!(!matches!(threading, Threading::Join(_)));
        }
    }
}
