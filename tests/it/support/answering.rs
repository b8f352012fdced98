//! A gateway that answers every mail by a machine, handed to it by LMTP, and a server that keeps what it says.

use super::gateway::{ANSWERING_POLICY, Gateway, Project};
use super::helpdesk::{Delivery, HelpDesk};
use super::mailserver::hand_over;
use super::scripted_smtp::{Act, ScriptSmtp};
use super::signer::Signer;

/// What the help desk is told of.
pub(crate) const TOLD: [&str; 3] = ["interaction.received", "interaction.sent", "delivery.updated"];

/// Its address.
pub(crate) const SUPPORT: &str = "support@example.test";

/// A gateway that answers everything, to which mails are handed over, and whose own go to a server that keeps them.
pub(crate) struct Answering {
    pub(crate) desk: HelpDesk,
    pub(crate) server: ScriptSmtp,
    pub(crate) signer: Signer,
    pub(crate) gateway: Gateway,
    pub(crate) token: String,
    pub(crate) lmtp: u16,
    /// Removed last.
    pub(crate) project: Project,
}

impl Answering {
    /// Starts it, with further lines as the options of its channel.
    pub(crate) async fn start(options: &str) -> Answering {
        let (desk, server) = (HelpDesk::start().await, ScriptSmtp::start(true, |_, _| Act::Go).await);
        let project = Project::new()
            .helpdesk("desk", &desk, &TOLD)
            .handed_over()
            .answering_by("mail", SUPPORT, &server, options)
            .script(ANSWERING_POLICY);
        let signer = Signer::new(&project);
        project.write_config();
        let token = project.token();
        let gateway = Gateway::start(&project).await;
        let lmtp = gateway.lmtp().await;
        Answering { desk, server, signer, gateway, token, lmtp, project }
    }

    /// Hands a mail over, and waits until the help desk has heard of it and nothing waits any more.
    pub(crate) async fn take(&self, id: &str, mail: &[u8]) -> Delivery {
        hand_over(self.lmtp, SUPPORT, mail).unwrap();
        let told = self.desk.wait_until(id, |one| one.provider_id() == id).await;
        self.gateway.settled(&self.project).await;
        told
    }
}
