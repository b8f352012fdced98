//! Stage 6: which story an interaction belongs to.
//!
//! Takes an item with its customer, gives it with its conversation. Threads come first, then the customer's open story;
//! public and private sides are linked, never joined ([`crate::rules::attach`]).

use super::attach_mail;
use super::draft::{ConversationAt, CustomerAt, Draft};
use super::identify::Identified;
use crate::base::Result;
use crate::model::{ConversationState, Interaction, LinkKind, Visibility};
use crate::rules::attach::{self, Attachment, Candidate};

/// An item with its conversation.
pub(crate) struct Attached {
    pub(crate) identified: Identified,
    pub(crate) conversation: ConversationAt,
    /// Whether the story began with it.
    pub(crate) opened: bool,
    /// Whether an ended story was taken up again.
    pub(crate) reopened: bool,
    /// Stories that it was linked to.
    pub(crate) linked: bool,
}

impl Attached {
    pub(crate) fn interaction(&self) -> &Interaction {
        &self.identified.item.interaction
    }

    pub(crate) fn customer(&self) -> CustomerAt {
        self.identified.customer
    }
}

/// Finds or opens the conversation. `in_storm`: it is one of too many mails of one sender.
pub(crate) async fn step(draft: &mut Draft<'_>, identified: Identified, in_storm: bool) -> Result<Attached> {
    let item = &identified.item;
    let public = item.interaction.visibility == Visibility::Public;
    let mut open = draft.open_conversations(identified.customer).await?;
    let placed = attach_mail::place(draft, item, &open, in_storm).await?;
    let thread = match item.thread {
        Some(key) => draft.conversation_by_thread(key).await?,
        None => placed.joins,
    };
    let candidate = |at: ConversationAt| {
        draft.conversation(at).map(|row| Candidate { state: row.state, public: row.public, updated_at: row.updated_at })
    };
    // Which private story a mail joins is decided already, and by nothing else.
    let is_mail = item.interaction.mail.is_some();
    open.retain(|at| candidate(*at).is_some_and(|story| story.public || !is_mail));
    let stories: Vec<Candidate> = open.iter().filter_map(|at| candidate(*at)).collect();
    let trust = item.customer_trust();
    let attachment = attach::decide(thread.and_then(candidate), &stories, public, trust, draft.now());
    let (mut opened, mut reopened, mut linked) = (false, false, false);
    let conversation = match attachment {
        Attachment::Thread { reopen } => {
            let at = thread.unwrap_or(ConversationAt(0));
            if reopen {
                reopened = true;
                draft.change(at, |row| row.state = ConversationState::Open);
            }
            at
        }
        Attachment::Story(place) => open.get(place).copied().unwrap_or(ConversationAt(0)),
        Attachment::New { links } => {
            opened = true;
            let at = draft.new_conversation(identified.customer, public)?;
            let mut wanted: Vec<(ConversationAt, LinkKind)> =
                links.into_iter().filter_map(|(place, kind)| open.get(place).map(|other| (*other, kind))).collect();
            if let Some(parent) = linked_thread(draft, &identified).await? {
                let side = if public { LinkKind::Private } else { LinkKind::Public };
                if !wanted.iter().any(|(other, _)| *other == parent) && is_public(draft, parent) != public {
                    wanted.push((parent, side));
                }
            }
            for (other, kind) in wanted {
                linked |= draft.link(at, other, kind);
            }
            at
        }
    };
    for other in placed.mentions {
        linked |= draft.link(conversation, other, LinkKind::Mentioned);
    }
    if let Some(key) = identified.item.thread
        && thread != Some(conversation)
    {
        draft.give_thread(key, conversation);
    }
    attach_mail::leave_keys(draft, &identified.item.interaction, conversation).await?;
    Ok(Attached { identified, conversation, opened, reopened, linked })
}

fn is_public(draft: &Draft<'_>, at: ConversationAt) -> bool {
    draft.conversation(at).is_some_and(|row| row.public)
}

/// The story of the message that this one answers, where that is another one: a private answer to a public comment.
async fn linked_thread(draft: &mut Draft<'_>, identified: &Identified) -> Result<Option<ConversationAt>> {
    let Some(target) = identified.item.target_item() else { return Ok(None) };
    match draft.interaction_by_item(target).await? {
        Some(row) => draft.conversation_by_no(row.conversation).await,
        None => Ok(None),
    }
}
