//! An agent's answer, from the API to where it leaves: the provider of the customer's channel, or the mail server.

use std::time::{Duration, Instant};

use serde_json::json;

use super::super::screen::{Shown, cut};
use super::super::story::Step;
use super::super::tell::{rows, short};
use super::{PATIENCE, Player, SHOWN_TEXT, millis};
use crate::base::Result;

impl<'a> Player<'a> {
    /// An agent answers through the API; what leaves by the customer's channel is seen where it arrives.
    pub(super) async fn reply(&mut self, step: &'a Step) -> Result<Shown> {
        let mut shown = Shown::new(&step.name, &step.title);
        let story = step.expect.story.as_deref().and_then(|label| self.labels.id(label)).unwrap_or_default().to_owned();
        let target = self.interactions.get(step.to.as_str()).cloned().unwrap_or_default();
        let (mark, sends, begun) = (self.scene.desk.mark(), self.scene.stub.mark(), Instant::now());
        let body = json!({ "agent": step.agent, "text": step.text, "in_reply_to": target });
        let path = format!("/v1/conversations/{story}/replies");
        let heard = self.api(&path, Some((step, &body))).await?;
        let status = heard.status.as_u16();
        let what = format!("{}: \"{}\"", step.agent, step.text);
        let how = format!("POST /v1/conversations/{}/replies: {status} in {}", short(&story), millis(heard.took));
        shown.row("answered", vec![what, how], json!({ "path": path, "status": status }));
        shown.check.same(step.expect.status.unwrap_or(201).to_string(), status.to_string());
        if !heard.status.is_success() {
            shown.row("refused", vec![cut(&heard.body, SHOWN_TEXT)], json!(heard.body));
            return Ok(shown);
        }
        let by_mail = self.signs(step).is_none();
        let carried = match by_mail {
            true => self.mail_left(step, &mut shown).await,
            false => self.request_left(step, &mut shown, sends).await,
        };
        let event = self.event(step, mark).await;
        if let Some(event) = &event {
            rows(&mut shown, event, &self.labels);
        }
        let times = match by_mail {
            true => 1 + u64::from(self.scene.postbox.next_sent(Duration::ZERO).await.is_some()),
            false => self.scene.stub.mark() - sends,
        };
        shown.check.same("sent 1 time", if carried { format!("sent {times} time") } else { "not sent".to_owned() });
        let told = event.as_ref().and_then(|event| event.text("/data/interaction/channel/provider_id"));
        let told = if told.as_ref() == Some(&self.sent) { "under its id" } else { "under another id" };
        shown.check.same("under its id", told);
        self.hold(step, event.as_deref(), &mut shown.check);
        self.received(&mut shown, step, event.as_deref(), mark, begun).await;
        Ok(shown)
    }

    /// What arrives at the provider, and whether it carries the answer.
    async fn request_left(&mut self, step: &Step, shown: &mut Shown, sends: u64) -> bool {
        let Some(sent) = self.scene.stub.wait(sends, PATIENCE).await else { return false };
        self.sent.clone_from(&sent.id);
        let line = format!("{} at the provider, which calls it {}", sent.request, sent.id);
        let facts = json!({ "request": sent.request, "id": sent.id });
        shown.row("leaves", vec![line, cut(&sent.body, SHOWN_TEXT)], facts);
        sent.body.contains(&step.text)
    }
}
