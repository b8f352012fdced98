use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::app::setup::build_map;
use crate::connector::{Connector, Folder};
use crate::model::{ChannelKind, Identifier, IdentifierType};

fn channel(name: &str, options: serde_json::Value) -> (String, ChannelSetup) {
    let folder = Folder::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors/email")).unwrap();
    let connector = Connector::load(Arc::new(folder), Some(&build_map)).unwrap_or_else(|found| panic!("{found:?}"));
    let account = connector.account(name, options.as_object().unwrap(), None).unwrap();
    (name.to_owned(), ChannelSetup { connector: Arc::new(connector), account, queue: None, paused: false })
}

fn from(address: &str) -> Interaction {
    let mut mail = Interaction::blank(ChannelKind::Email, "email", "support@shop.example");
    mail.author.identifier = Some(Identifier::new(IdentifierType::MAILTO, address.to_owned()));
    mail
}

#[test]
fn a_mail_from_any_channel_of_ours_is_known_as_such() {
    let channels = HashMap::from([
        channel("support", json!({ "address": "support@shop.example" })),
        channel("sales", json!({ "address": "Sales@shop.example", "reply_base": "re@shop.example" })),
    ]);
    for own in ["support@shop.example", "sales@shop.example", "sales+x@shop.example", "re+abc@shop.example"] {
        assert!(comes_from_us(&channels, &from(own)), "{own}");
    }
    for other in ["sales@customer.example", "ressort@shop.example", "ada@customer.example"] {
        assert!(!comes_from_us(&channels, &from(other)), "{other}");
    }
}
