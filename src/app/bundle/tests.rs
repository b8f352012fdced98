//! What is published holds everything that decides and nothing that is secret.

use super::*;
use crate::app::setup;
use crate::config;
use crate::connector::Registry;

const CHANNEL: &str = "[[channel]]\nname = \"support\"\nconnector = \"whatsapp\"\n\
    options = { app_secret = \"geheim\", verify_token = \"t-geheim\", access_token = \"a-geheim\", phone_number_id = \"1\" }\n";

fn loaded(text: &str) -> (tempfile::TempDir, Config, setup::Loaded) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("segue.toml"), text).unwrap();
    std::fs::create_dir_all(folder.path().join("scripts/data")).unwrap();
    std::fs::write(folder.path().join("scripts/a.lua"), "rule(\"r\", function(e, d) d:tag(\"x\") end)").unwrap();
    std::fs::write(folder.path().join("scripts/data/vip.csv"), "id,name\n1,Müller\n").unwrap();
    let config = config::load(folder.path()).unwrap_or_else(|found| panic!("{found:?}"));
    let loaded = setup::load(&config).unwrap_or_else(|found| panic!("{found:?}"));
    (folder, config, loaded)
}

fn reasons(content: &Content, own: &Own) -> Vec<String> {
    let built = build(content, own, &Registry::default(), Trial::Tested);
    built.err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn a_bundle_read_back_is_the_same_and_holds_no_secret() {
    let (_folder, config, loaded) = loaded(&format!(
        "public_url = \"https://a.example\"\n[policy]\nparams = {{ z = 1, a = {{ y = 1.5, b = [\"x\"] }} }}\n{CHANNEL}"
    ));
    let bytes = loaded.content.checked_bytes().unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("geheim"));
    let content = Content::read(&loaded.setup.hash, &bytes).unwrap();
    assert_eq!((&content, content.bytes()), (loaded.content.as_ref(), bytes.clone()));
    assert!(matches!(content.policy.files["data/vip.csv"], Text::Plain(_)));
    let latin = Text::of(b"M\xfcller");
    assert!(matches!(latin, Text::Encoded { .. }));
    assert_eq!(latin.bytes().unwrap().as_ref(), b"M\xfcller");
    let built = build(&content, &Own::of(&config), &Registry::default(), Trial::Tested);
    let built = built.unwrap_or_else(|found| panic!("{found:?}"));
    assert_eq!((built.setup.hash, built.setup.source), (loaded.setup.hash, "https://a.example".to_owned()));
    assert_eq!(built.setup.policy.rules(), loaded.setup.policy.rules());
}

#[test]
fn a_node_without_a_secret_refuses_the_bundle_and_replay_does_not_need_it() {
    let (_folder, _, loaded) = loaded(CHANNEL);
    let told = reasons(&loaded.content, &Own::default());
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("channel `support`") && told[0].contains("`app_secret`"), "{told:?}");
    let again = build(&loaded.content, &Own::default(), &Registry::default(), Trial::Replayed);
    assert_eq!(again.unwrap_or_else(|found| panic!("{found:?}")).setup.hash, loaded.setup.hash);
}

#[test]
fn what_is_damaged_or_newer_is_refused() {
    let (_folder, config, loaded) = loaded(CHANNEL);
    let kind = |hash: &str, bytes: &[u8]| Content::read(hash, bytes).err().map(|error| error.kind());
    assert_eq!(kind("00", &loaded.content.bytes()), Some(Kind::Internal));
    let newer = serde_json::to_vec(&serde_json::json!({ "form": FORM + 1 })).unwrap();
    assert_eq!(kind(&hash_of(&newer), &newer), Some(Kind::Config));
    let mut unknown: Json = serde_json::from_slice(&loaded.content.bytes()).unwrap();
    unknown["calendars"] = serde_json::json!([]);
    let unknown = serde_json::to_vec(&unknown).unwrap();
    assert_eq!(kind(&hash_of(&unknown), &unknown), Some(Kind::Config));
    let mut broken = Content::clone(&loaded.content);
    broken.policy.files.insert("b.lua".to_owned(), Text::Plain("rule(".to_owned()));
    assert!(reasons(&broken, &Own::of(&config))[0].starts_with("b.lua:1:"));
}
