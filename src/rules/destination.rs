//! The host's guarantee: every interaction has a destination, whatever the rules did.

use crate::model::Decision;
use crate::model::decision::{CallAnswer, PolicyReply};

/// What the rules said. Whatever is absent, they had no opinion on.
#[derive(Clone, Default, PartialEq)]
pub struct Opinion {
    /// The queue.
    pub queue: Option<String>,
    /// The priority.
    pub priority: Option<i64>,
    /// Labels.
    pub tags: Vec<String>,
    /// Skills needed.
    pub needs: std::collections::BTreeMap<String, i64>,
    /// Answers to send.
    pub replies: Vec<PolicyReply>,
    /// Who is to be told.
    pub notify: Vec<String>,
    /// Why.
    pub because: Vec<crate::base::Pii<String>>,
    /// Rules that had an opinion.
    pub rules: Vec<String>,
    /// What a caller hears.
    pub answer: Option<CallAnswer>,
}

/// The priority of what no rule gave one.
pub const USUAL_PRIORITY: i64 = 50;

/// Makes a decision of an opinion: the rules' queue, else the channel's own, else the default one.
pub fn guarantee(opinion: Opinion, channel_queue: Option<&str>, default_queue: &str, bundle: &str) -> Decision {
    Decision {
        queue: opinion.queue.unwrap_or_else(|| channel_queue.unwrap_or(default_queue).to_owned()),
        priority: opinion.priority.unwrap_or(USUAL_PRIORITY).clamp(0, 100),
        tags: opinion.tags,
        needs: opinion.needs,
        replies: opinion.replies,
        notify: opinion.notify,
        because: opinion.because,
        rules: opinion.rules,
        answer: opinion.answer,
        bundle: named(bundle).to_owned(),
        breach: None,
    }
}

/// A bundle's hash as decisions name it: its first 12 hex digits.
pub fn named(bundle: &str) -> &str {
    bundle.get(..12).unwrap_or(bundle)
}

/// The documented fallback where the policy failed: the default queue, the usual priority, nothing sent, and the reason.
pub fn fallback(default_queue: &str, bundle: &str, breach: String) -> Decision {
    let mut decision = guarantee(Opinion::default(), None, default_queue, bundle);
    decision.tags.push("policy-failed".to_owned());
    decision.breach = Some(breach);
    decision
}
