//! What applying an entry found out that neither the entry nor the state says: kept in the applied record, and honored
//! when the entry is applied again in another store.
//!
//! Everything else that applying reads is the entry, the state and the bundle. Whoever adds a look at a clock, at the
//! journal or at a budget adds a fact here, or replay is no longer equal.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::CommandResult;
use super::normalize::Normalized;
use crate::base::{Error, Result};
use crate::model::decision::CallAnswer;
use crate::script::{self, Breach, BreachKind};

/// The facts of one applied entry.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// What a command was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<CommandResult>,
    /// What a caller who waited was to hear. Another node than the one that applied the entry may have to tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<CallAnswer>,
    /// Whether identifiers of one sender belonged to several customers.
    #[serde(default, skip_serializing_if = "is_not")]
    pub identity_conflict: bool,
    /// Whether a caller who waited had been answered when this was applied.
    #[serde(default, skip_serializing_if = "is_not")]
    pub heard: bool,
    /// The questions to the policy that it failed to answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breaches: Vec<PastBreach>,
    /// Items that could not be read within the budget of a connector's script.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<Unread>,
}

/// A question that the policy failed to answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PastBreach {
    /// Which question of this entry, from 0.
    pub ask: u32,
    /// What happened.
    pub what: BreachKind,
    /// The rule that was running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Its file.
    pub file: String,
    /// The line, from 1; 0 if it is not known.
    pub line: u32,
    /// Why, without anything that a person said.
    pub reason: String,
}

/// An item that could not be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unread {
    /// Which outcome of the entry, from 0.
    pub outcome: usize,
    /// How many there were.
    pub of: usize,
    /// Why.
    pub reason: String,
}

fn is_not(truth: &bool) -> bool {
    !truth
}

impl Facts {
    /// Reads what an applied record keeps. Earlier versions kept a command's result alone.
    ///
    /// # Errors
    ///
    /// `Internal` if it is none of this.
    pub fn read(kept: Option<&str>) -> Result<Facts> {
        #[derive(Deserialize)]
        struct Kept {
            #[serde(flatten)]
            facts: Facts,
            status: Option<u16>,
            body: Option<Value>,
        }
        let Some(kept) = kept else { return Ok(Facts::default()) };
        let kept: Kept = serde_json::from_str(kept)
            .map_err(|e| Error::internal("the facts of an applied record cannot be read back").because(e))?;
        let earlier = kept.status.map(|status| CommandResult { status, body: kept.body.unwrap_or_default() });
        Ok(Facts { result: kept.facts.result.or(earlier), ..kept.facts })
    }

    /// What an applied record keeps: nothing, as a rule.
    pub(crate) fn written(&self) -> Option<String> {
        if *self == Facts::default() { None } else { serde_json::to_string(self).ok() }
    }

    /// How the policy failed at a question, if it did.
    pub(crate) fn breach(&self, ask: u32) -> Option<Breach> {
        let found = self.breaches.iter().find(|breach| breach.ask == ask)?.clone();
        let PastBreach { what, rule, file, line, reason, .. } = found;
        Some(Breach { what, rule, file, line, reason })
    }

    /// Notes that the policy failed at a question.
    pub(crate) fn note_breach(&mut self, ask: u32, breach: &Breach) {
        let Breach { what, rule, file, line, reason } = breach.clone();
        self.breaches.push(PastBreach { ask, what, rule, file, line, reason });
    }
}

/// The outcomes of which a script's budget decided.
pub(crate) fn unread(outcomes: &[Normalized]) -> Vec<Unread> {
    let of = outcomes.len();
    let found = outcomes.iter().enumerate().filter_map(|(outcome, normalized)| match normalized {
        Normalized::Quarantined(reason) if script::is_over_budget(reason) => {
            Some(Unread { outcome, of, reason: reason.clone() })
        }
        _ => None,
    });
    found.collect()
}

/// Makes the outcomes those of the first time.
pub(crate) fn unread_again(mut outcomes: Vec<Normalized>, unread: &[Unread]) -> Vec<Normalized> {
    let Some(first) = unread.first() else { return outcomes };
    if first.of != outcomes.len() {
        // The script could not even tell the items apart.
        return unread.iter().map(|unread| Normalized::Quarantined(unread.reason.clone())).collect();
    }
    for unread in unread {
        if let Some(outcome) = outcomes.get_mut(unread.outcome) {
            *outcome = Normalized::Quarantined(unread.reason.clone());
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_earlier_versions_kept_is_a_result() {
        let read = |kept: Value| Facts::read(Some(&kept.to_string())).unwrap();
        let result = CommandResult { status: 404, body: json!({ "detail": "x" }) };
        assert!(read(json!({ "status": 404, "body": { "detail": "x" } })).result == Some(result.clone()));
        assert!(read(json!({ "identity_conflict": true })).identity_conflict);
        let facts = Facts { result: Some(result), heard: true, ..Facts::default() };
        assert!(Facts::read(facts.written().as_deref()).unwrap() == facts);
        assert_eq!(Facts::default().written(), None);
        assert!(Facts::read(Some("{")).is_err());
    }

    #[test]
    fn a_breach_and_an_unread_item_come_back_as_they_were() {
        let mut facts = Facts::default();
        let breach = Breach {
            what: BreachKind::Time,
            rule: Some("r".into()),
            file: "a.lua".into(),
            line: 3,
            reason: "x".into(),
        };
        facts.note_breach(2, &breach);
        let facts = Facts::read(facts.written().as_deref()).unwrap();
        assert_eq!((facts.breach(1), facts.breach(2)), (None, Some(breach)));
        let ignored = || Normalized::Ignored(String::new());
        let late = Normalized::Quarantined("map.lua: took longer than its time budget".to_owned());
        let known = unread(&[ignored(), late]);
        assert_eq!(known.len(), 1);
        let again = unread_again(vec![ignored(), ignored()], &known);
        assert!(
            matches!(&again[..], [Normalized::Ignored(_), Normalized::Quarantined(reason)] if reason.contains("time"))
        );
        assert_eq!(unread_again(vec![ignored()], &known).len(), 1);
        assert!(unread(&[Normalized::Quarantined("payload has no `x`".to_owned())]).is_empty());
    }
}
