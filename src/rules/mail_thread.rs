//! Which story a mail belongs to.
//!
//! A mail joins a story only through [`Joined`], and only [`decide`] makes one. What may join: a reply token made for the
//! sender; a mail that the sender was part of, if the sender is authenticated; their subject; and, if the mail names no
//! story at all, the only open one of the customer whose address it proves, whatever the channel that one began on.
//! Everybody else opens a story of their own. What a mail names and does not join is shown to the agent (threats T12,
//! T13, T15), also a story whose number is only quoted.

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
    /// Whether answers are to go to somebody else: a form or a marketplace writes under its own address for many.
    pub for_another: bool,
}

/// What a mail names, and what its sender has.
#[derive(Debug, Clone, Default)]
pub struct Named {
    /// The story of a good reply token.
    pub token: Option<Seen>,
    /// Those of the mails that it refers to, the one it answers first.
    pub graph: Vec<Seen>,
    /// Those whose numbers stand in its words.
    pub quoted: Vec<Seen>,
    /// The sender's open stories with its subject.
    pub subject: Vec<Seen>,
    /// The only open story of the customer who holds the sender's address.
    pub only: Option<Seen>,
    /// The story that the storm already has which it is part of, of mails as little proven as it is.
    pub storm: Option<Seen>,
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
    /// Its subject is that of its sender's only open story with such a subject.
    Subject,
    /// It names none, and its customer has one open story.
    OnlyStory,
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

/// Where a mail goes: into a story, or into one of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Threading {
    /// The story that it joins; else it opens one.
    pub joins: Option<Joined>,
    /// Stories that it names and does not join, for an agent to look at: each once, the likeliest first.
    pub mentions: Vec<i64>,
}

/// The most stories that one mail mentions.
pub const MOST_MENTIONED: usize = 5;

/// Decides.
pub fn decide(sender: &Sender, named: &Named) -> Threading {
    let joins = chosen(sender, named).map(|(seen, why)| Joined {
        conversation: seen.conversation,
        why,
        reopens: seen.standing == Standing::Reopens,
    });
    let mut mentions = Vec::new();
    for seen in named.token.iter().chain(&named.graph).chain(&named.quoted) {
        let joined = joins.is_some_and(|joined| joined.conversation == seen.conversation);
        if !joined && mentions.len() < MOST_MENTIONED && !mentions.contains(&seen.conversation) {
            mentions.push(seen.conversation);
        }
    }
    Threading { joins, mentions }
}

/// The strongest word that joins: a token for another story than the mails referred to goes before them.
fn chosen<'s>(sender: &Sender, named: &'s Named) -> Option<(&'s Seen, Why)> {
    let found = |seen: Option<&'s Seen>, why| seen.map(|seen| (seen, why));
    let is_open = |seen: &&Seen| seen.standing == Standing::Open;
    // Words that many write, as a machine does, tell nothing; nor do they open again what is done.
    let speaks = !sender.automatic && !sender.for_another;
    let own = |seen: &&Seen| speaks && is_open(seen) && joins(sender, seen, Act::JoinBySubject);
    let by_token = || named.token.as_ref().filter(|seen| joins(sender, seen, Act::JoinByToken));
    let by_graph = || named.graph.iter().find(|seen| joins(sender, seen, Act::JoinByGraph));
    let by_subject = || named.subject.first().filter(|_| named.subject.len() == 1).filter(own);
    let names_none = named.token.is_none() && named.graph.is_empty() && named.quoted.is_empty();
    let by_only = || named.only.as_ref().filter(|_| names_none).filter(own);
    let by_storm = || named.storm.as_ref().filter(is_open);
    found(by_token(), Why::Token)
        .or_else(|| found(by_graph(), Why::Graph))
        .or_else(|| found(by_subject(), Why::Subject))
        .or_else(|| found(by_only(), Why::OnlyStory))
        .or_else(|| found(by_storm(), Why::Storm))
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

    fn sender(level: MailLevel) -> Sender {
        Sender { level, automatic: false, for_another: false }
    }

    /// The story and the reason.
    fn joined(sender: &Sender, named: &Named) -> Option<(i64, Why)> {
        decide(sender, named).joins.map(|joined| (joined.conversation(), joined.why()))
    }

    /// Every level, kind of sender, standing and owner, for one way of joining alone.
    fn table(named: impl Fn(Seen) -> Named, wanted: impl Fn(&Sender, Seen) -> bool, why: Why, mentions: bool) {
        for level in LEVELS {
            for (automatic, for_another) in [(false, false), (true, false), (false, true)] {
                for standing in STANDINGS {
                    for of_sender in [false, true] {
                        let (sender, story) = (Sender { level, automatic, for_another }, seen(7, standing, of_sender));
                        let decided = decide(&sender, &named(story));
                        let joined = Joined { conversation: 7, why, reopens: standing == Standing::Reopens };
                        let wanted = wanted(&sender, story);
                        assert_eq!(decided.joins, wanted.then_some(joined), "{sender:?} {story:?}");
                        let mentioned: &[i64] = if mentions && !wanted { &[7] } else { &[] };
                        assert_eq!(decided.mentions, mentioned, "{sender:?} {story:?}");
                    }
                }
            }
        }
    }

    fn stands(sender: &Sender, story: Seen) -> bool {
        story.standing == Standing::Open || (story.standing == Standing::Reopens && !sender.automatic)
    }

    /// Whose words alone may join.
    fn speaks(sender: &Sender, story: Seen) -> bool {
        sender.level >= MailLevel::Authenticated
            && story.of_sender
            && story.standing == Standing::Open
            && !sender.automatic
            && !sender.for_another
    }

    #[test]
    fn a_token_joins_for_its_recipient_unless_the_sender_failed() {
        let wanted = |sender: &Sender, story: Seen| {
            sender.level != MailLevel::Failed && story.of_sender && stands(sender, story)
        };
        table(|story| Named { token: Some(story), ..Named::default() }, wanted, Why::Token, true);
    }

    #[test]
    fn a_reference_joins_for_an_authenticated_part_of_it() {
        let wanted = |sender: &Sender, story: Seen| {
            sender.level >= MailLevel::Authenticated && story.of_sender && stands(sender, story)
        };
        table(|story| Named { graph: vec![story], ..Named::default() }, wanted, Why::Graph, true);
    }

    #[test]
    fn a_subject_joins_the_only_open_story_of_an_authenticated_sender() {
        table(|story| Named { subject: vec![story], ..Named::default() }, speaks, Why::Subject, false);
        let two = vec![seen(1, Standing::Open, true), seen(2, Standing::Open, true)];
        let named = Named { subject: two, ..Named::default() };
        assert_eq!(decide(&sender(MailLevel::Verified), &named), Threading::default());
    }

    #[test]
    fn who_names_nothing_goes_on_with_the_only_story_there_is() {
        table(|story| Named { only: Some(story), ..Named::default() }, speaks, Why::OnlyStory, false);
        // Whoever names a story means that one, and no other.
        let (only, other) = (Some(seen(1, Standing::Open, true)), seen(2, Standing::Open, false));
        for named in [
            Named { token: Some(other), only, ..Named::default() },
            Named { graph: vec![other], only, ..Named::default() },
            Named { quoted: vec![other], only, ..Named::default() },
        ] {
            let decided = decide(&sender(MailLevel::Verified), &named);
            assert_eq!(decided, Threading { joins: None, mentions: vec![2] });
        }
    }

    #[test]
    fn a_quoted_number_joins_nothing() {
        table(|story| Named { quoted: vec![story], ..Named::default() }, |_, _| false, Why::Graph, true);
    }

    #[test]
    fn the_token_goes_before_references_and_those_before_the_subject() {
        let sender = sender(MailLevel::Authenticated);
        let story = |conversation| seen(conversation, Standing::Open, true);
        let strange = |conversation| seen(conversation, Standing::Open, false);
        let mut named = Named {
            token: Some(story(1)),
            graph: vec![story(2)],
            subject: vec![story(3)],
            only: Some(story(4)),
            ..Named::default()
        };
        assert_eq!(joined(&sender, &named), Some((1, Why::Token)));
        assert_eq!(decide(&sender, &named).mentions, [2]);
        named.token = None;
        assert_eq!(joined(&sender, &named), Some((2, Why::Graph)));
        // A common root that others refer to as well does not hide the sender's own, nor does somebody else's token.
        named.graph = vec![strange(9), story(4)];
        assert_eq!(joined(&sender, &named), Some((4, Why::Graph)));
        named.token = Some(strange(1));
        assert_eq!(joined(&sender, &named), Some((4, Why::Graph)));
        (named.token, named.graph) = (None, Vec::new());
        assert_eq!(joined(&sender, &named), Some((3, Why::Subject)));
        named.subject.clear();
        assert_eq!(joined(&sender, &named), Some((4, Why::OnlyStory)));
    }

    #[test]
    fn a_storm_is_kept_together_where_it_began() {
        for (standing, joins) in [(Standing::Open, true), (Standing::Reopens, false), (Standing::Ended, false)] {
            let named = Named { storm: Some(seen(5, standing, true)), ..Named::default() };
            let found = joined(&sender(MailLevel::Failed), &named);
            assert_eq!(found == Some((5, Why::Storm)), joins, "{standing:?}");
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
        let graph: Vec<Seen> = (0..100).map(|n| seen(n % 50, Standing::Open, true)).collect();
        let named = Named { token: Some(seen(3, Standing::Open, true)), graph, ..Named::default() };
        assert_eq!(decide(&sender(MailLevel::Failed), &named).mentions, [3, 0, 1, 2, 4]);
    }

    fn any_seen() -> impl Strategy<Value = Seen> {
        (0i64..6, 0usize..3, any::<bool>()).prop_map(|(id, standing, of)| seen(id, STANDINGS[standing], of))
    }

    fn any_seens(most: usize) -> impl Strategy<Value = Vec<Seen>> {
        proptest::collection::vec(any_seen(), 0..most)
    }

    proptest! {
        #[test]
        fn what_never_happens(
            level in 0usize..4, automatic in any::<bool>(), for_another in any::<bool>(),
            token in proptest::option::of(any_seen()), only in proptest::option::of(any_seen()),
            graph in any_seens(5), quoted in any_seens(3), subject in any_seens(3),
        ) {
            let sender = Sender { level: LEVELS[level], automatic, for_another };
            let named = Named { token, graph, quoted, subject, only, storm: None };
            let all: Vec<Seen> =
                named.token.iter().chain(&named.graph).chain(&named.subject).chain(&named.only).copied().collect();
            let decided = decide(&sender, &named);
            if let Some(joined) = decided.joins {
                prop_assert!(sender.level != MailLevel::Failed, "a failed sender joined");
                let own = |one: &Seen| one.conversation == joined.conversation() && one.of_sender && one.standing != Standing::Ended;
                prop_assert!(all.iter().any(own), "a stranger joined");
                prop_assert!(sender.level != MailLevel::Unknown || joined.why() == Why::Token);
                prop_assert!(!(joined.reopens() && automatic), "a machine opened a story again");
                prop_assert!(!decided.mentions.contains(&joined.conversation()));
            }
            // A stranger never joins, whatever they name.
            let strange = |seen: &Seen| Seen { of_sender: false, ..*seen };
            let stranger = Named {
                token: named.token.as_ref().map(strange),
                graph: named.graph.iter().map(strange).collect(),
                quoted: named.quoted.iter().map(strange).collect(),
                subject: named.subject.iter().map(strange).collect(),
                only: named.only.as_ref().map(strange),
                storm: None,
            };
            prop_assert_eq!(decide(&sender, &stranger).joins, None);
        }
    }
}
