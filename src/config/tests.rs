use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::base::Secret;
use crate::model::EventType;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A machine with these variables and files only.
#[derive(Default)]
struct Stage(BTreeMap<&'static str, &'static str>);

impl Host for Stage {
    fn variable(&self, name: &str) -> Option<Secret> {
        self.0.get(name).map(|value| Secret::new(*value))
    }

    fn file(&self, path: &Path) -> Result<Secret, String> {
        let found = path.to_str().and_then(|path| self.0.get(path));
        found.map(|value| Secret::new(*value)).ok_or_else(|| "no such file".into())
    }
}

fn on(text: &str, stage: &Stage) -> Result<Config, Vec<String>> {
    parse(Path::new("/p/segue.toml"), text.as_bytes(), stage)
        .map_err(|problems| problems.iter().map(Problem::to_string).collect())
}

fn good(text: &str) -> Config {
    on(text, &Stage::default()).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn bad(text: &str) -> Vec<String> {
    on(text, &Stage::default()).expect_err("the configuration should be refused")
}

#[test]
fn an_empty_file_gives_the_documented_defaults() {
    let config = good("");
    assert_eq!(config.root, Path::new("/p"));
    assert_eq!(config.public_url, None);
    assert_eq!(config.data, Path::new("/p/data"));
    assert_eq!(config.store, Store::Sqlite);
    assert_eq!(config.scripts, Path::new("/p/scripts"));
    assert_eq!(config.connectors, Path::new("/p/connectors"));
    assert_eq!(config.channels_dir, Path::new("/p/channels"));
    assert_eq!(config.default_country, None);
    assert_eq!(config.log, "info");
    assert_eq!(config.listen, vec![Listen::default()]);
    assert_eq!(config.listen[0].address.to_string(), "127.0.0.1:8080");
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.policy, Policy::default());
    assert_eq!(config.retention, Retention::default());
    assert_eq!(config.blobs.place, BlobPlace::Folder("/p/data/blobs".into()));
    assert_eq!(units::show_duration(config.blobs.unused), "1d");
    assert_eq!(config.outbound, Outbound::default());
    assert_eq!(config.retry, Retry::default());
    assert_eq!(units::show_duration(config.retry.schedule[9]), "1d");
    assert!(config.channels.is_empty() && config.helpdesks.is_empty() && config.warnings.is_empty());
}

/// Every field of a table with settings documents its default; the text is what the reader and the docs go by.
#[test]
fn every_setting_documents_its_default() {
    let files = [
        ("mod.rs", include_str!("mod.rs")),
        ("limits.rs", include_str!("limits.rs")),
        ("listen.rs", include_str!("listen.rs")),
        ("lmtp.rs", include_str!("lmtp.rs")),
        ("helpdesk.rs", include_str!("helpdesk.rs")),
        ("channel.rs", include_str!("channel.rs")),
        ("policy.rs", include_str!("policy.rs")),
        ("blobs.rs", include_str!("blobs.rs")),
    ];
    let needed =
        ["name", "connector", "options", "url", "secrets", "cert", "key", "limits", "policy", "retention", "blobs"];
    let tables = ["channel", "helpdesk", "outbound", "retry", "breaker", "budget"];
    let mut seen = 0;
    for (file, source) in files {
        let mut doc = String::new();
        for line in source.lines().map(str::trim) {
            if let Some(text) = line.strip_prefix("///") {
                doc.push_str(text);
            } else {
                let key = doc.trim().strip_prefix('`').and_then(|text| text.split_once("`:"));
                if let Some((key, rest)) = key.filter(|_| line.starts_with("pub ")) {
                    let key = key.trim_matches(['[', ']']);
                    let exempt = needed.contains(&key) || tables.contains(&key);
                    assert!(exempt || rest.contains("Default:"), "{file}: `{key}` does not say its default");
                    seen += 1;
                }
                doc.clear();
            }
        }
    }
    assert!(seen > 45, "only {seen} settings were found");
}

#[test]
fn reads_a_whole_configuration() {
    let stage = Stage(BTreeMap::from([
        ("APP_SECRET", "from the environment\n"),
        ("/p/secrets/desk", SECRET),
        ("/p/cert.pem", "cert"),
        ("/p/key.pem", "key"),
    ]));
    let config = on(
        r#"
public_url = "https://segue.example.org/gate/"
data = "/var/lib/segue"
default_country = "DE"
log = "info,segue::flow=debug"

[[listen]]
address = "[::]:443"
tls = { cert = "cert.pem", key = "key.pem" }
trusted_proxies = ["10.1.2.3/8", "192.0.2.7"]
forwarded_header = "forwarded"

[limits]
body = "5MiB"
in_flight = 64
per_peer_per_second = 1_000
header_timeout = "2s"

[[channel]]
name = "support-wa"
connector = "whatsapp"
queue = "vip"
options = { app_secret = "env:APP_SECRET", phone_number_id = "106540352242922", retries = 3, strict = true }

[[channel]]
name = "desk"
connector = "slack"
paused = true

[[helpdesk]]
name = "main"
url = "https://desk.example.org/hook"
secrets = ["file:secrets/desk", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDoJeNNiVQ8Ow="]
events = ["interaction.received", "conversation.opened"]
channels = ["desk"]
timeout = "15s"
concurrency = 4

[policy]
queues = ["general", "vip"]
default_queue = "general"
skills = ["billing"]
templates = { closed = "We are closed until {opens}." }
params = { max_wait = 300, share = 0.5, nested = { list = [1, "two", true] } }
budget = { memory = "32MiB", time = "20ms" }

[retention]
raw = "7d"

[outbound]
allow = ["127.0.0.0/8"]

[retry]
schedule = ["0", "1s", "1m"]
jitter = 0
breaker = { failures = 3, pause = "10s" }
"#,
        &stage,
    )
    .unwrap();
    assert_eq!(config.public_url.as_deref(), Some("https://segue.example.org/gate"));
    assert_eq!(config.data, Path::new("/var/lib/segue"));
    assert_eq!(config.listen[0].tls.as_ref().unwrap().cert, Path::new("/p/cert.pem"));
    assert_eq!(config.listen[0].trusted_proxies[0].to_string(), "10.0.0.0/8");
    assert_eq!(config.listen[0].trusted_proxies[1].to_string(), "192.0.2.7/32");
    assert_eq!(config.listen[0].forwarded_header, ForwardedHeader::Forwarded);
    assert_eq!(config.limits.body, 5 << 20);
    assert_eq!(config.limits.per_peer_per_second, 1000);
    let channel = config.channel("support-wa").unwrap();
    assert_eq!(channel.queue.as_deref(), Some("vip"));
    assert_eq!(channel.options["app_secret"].origins, [Origin::Environment("APP_SECRET".into())]);
    let options = channel.options_json();
    assert_eq!(options["app_secret"], "from the environment");
    assert_eq!(options["phone_number_id"], "106540352242922");
    assert_eq!(options["retries"], 3);
    assert_eq!(options["strict"], true);
    assert!(config.channel("desk").unwrap().paused);
    let desk = config.helpdesk("main").unwrap();
    assert_eq!(desk.secrets.iter().map(|secret| secret.key().len()).collect::<Vec<_>>(), [24, 32]);
    assert!(desk.wants(EventType::ConversationOpened, Some("desk")));
    assert!(!desk.wants(EventType::ConversationOpened, Some("support-wa")));
    assert!(!desk.wants(EventType::InteractionSent, Some("desk")));
    assert_eq!(config.policy.params["nested"]["list"][1], "two");
    assert_eq!(config.policy.budget.time, Duration::from_millis(20));
    assert_eq!(config.retention.raw, Duration::from_secs(7 * 86_400));
    assert_eq!(config.retention.dedupe, Retention::default().dedupe);
    assert_eq!(config.retry.schedule.len(), 3);
    assert_eq!(config.retry.jitter, 0.0);
    let watched: Vec<_> = config.watched().iter().map(|path| path.display().to_string()).collect();
    let expected = ["cert.pem", "channels", "connectors", "key.pem", "scripts", "secrets/desk", "segue.toml"];
    assert_eq!(watched, expected.map(|name| format!("/p/{name}")));
    let shown = format!("{config:?}");
    assert!(!shown.contains("from the environment") && !shown.contains("MfKQ9r8"), "a secret is shown");
}

#[test]
fn reports_every_problem_with_its_place_and_the_nearest_name() {
    let problems = bad(r#"
storage = "sqlite"
default_country = "XX"

[[listne]]
address = "127.0.0.1:8080"

[limits]
body = 5
boddy = "5MiB"
in_flight = 0
header_timeout = "2 weeks"

[[channel]]
name = "Support"
conector = "slack"

[[channel]]
name = "sms"
connector = "twilio-sms"
queue = "vipp"
options = { since = 2026-01-01 }

[[helpdesk]]
name = "main"
url = "https://user:hunter2@desk.example.org"
secrets = ["whsec_c2hvcnQ=", "env:NOT_SET"]
events = ["interaction.recieved"]
channels = ["smss"]

[policy]
queues = ["general", "vip"]
default_queue = "generall"
"#);
    let expected = [
        "/p/segue.toml:2:1: unknown key `storage`; did you mean `store`?",
        "/p/segue.toml:3:19: `XX` is not valid; expected a country code of ISO 3166-1 such as \"DE\"",
        "/p/segue.toml:5:3: unknown key `listne`; did you mean `listen`?",
        "/p/segue.toml:9:8: this is an integer; expected a size from 1KiB to 256MiB, such as \"2MiB\"",
        "/p/segue.toml:10:1: unknown key `boddy`; did you mean `body`?",
        "/p/segue.toml:11:13: 0 is out of range; expected a whole number from 1 to 1000000",
        "/p/segue.toml:12:18: `2 weeks` is no duration; expected a duration from 100ms to 10m, such as \"90s\" or \"2h\"",
        "/p/segue.toml:14:1: key `connector` is missing; expected the name of a connector",
        "/p/segue.toml:15:8: `Support` is not valid; expected a name of lower-case letters, digits and `-`, at most 64 long",
        "/p/segue.toml:16:1: unknown key `conector`; did you mean `connector`?",
        "/p/segue.toml:21:9: queue `vipp` does not exist; did you mean `vip`?",
        "/p/segue.toml:22:21: this is a datetime; expected a string, a list of strings, a whole number, true or false",
        "/p/segue.toml:26:7: a URL here must not hold a user name or password",
        "/p/segue.toml:27:12: not a webhook secret; expected `whsec_` and the base64 of 24 to 64 random bytes",
        "/p/segue.toml:27:30: environment variable `NOT_SET` is not set",
        "/p/segue.toml:28:11: event type `interaction.recieved` does not exist; did you mean `interaction.received`?",
        "/p/segue.toml:29:13: channel `smss` does not exist; did you mean `sms`?",
        "/p/segue.toml:33:17: queue `generall` does not exist; did you mean `general`?",
    ];
    assert_eq!(problems, expected, "{problems:#?}");
}

#[test]
fn a_forwarding_header_that_is_not_read_is_told_with_those_that_are() {
    let problems = bad("[[listen]]\nforwarded_header = \"forwardd\"\n");
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].starts_with("/p/segue.toml:2:20: no forwarding header `forwardd` is read"), "{problems:#?}");
    assert!(problems[0].contains("did you mean `forwarded`?"), "{problems:#?}");
}

#[test]
fn syntax_errors_do_not_hide_the_others() {
    let problems = bad("log = \n[limits]\nbody = \"x\"\n");
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].starts_with("/p/segue.toml:1:"), "{problems:#?}");
    assert!(problems[1].starts_with("/p/segue.toml:3:8: `x` is no size"), "{problems:#?}");
}

#[test]
fn repeated_names_and_doors_are_refused() {
    let problems = bad(r#"
[[listen]]
[[listen]]
[[channel]]
name = "a"
connector = "slack"
[[channel]]
name = "a"
connector = "slack"
"#);
    assert_eq!(problems[0], "/p/segue.toml:3:1: two doors at `127.0.0.1:8080`");
    assert_eq!(problems[1], "/p/segue.toml:8:8: a channel named `a` stands already at /p/segue.toml:4:1");
}

#[test]
fn usual_slips_are_explained() {
    assert_eq!(
        bad("[listen]\naddress = \"127.0.0.1:80\""),
        ["/p/segue.toml:1:1: this is a table; expected an array of tables: `[[listen]]` with two brackets"]
    );
    let desk =
        format!("[[helpdesk]]\nname = \"d\"\nurl = \"https://d.example\"\nsecrets = [\"{SECRET}\"]\nevents = []");
    assert_eq!(bad(&desk), ["/p/segue.toml:5:10: at least one event type is needed"]);
    assert_eq!(bad("log = \"info\"\nlog = \"warn\""), ["/p/segue.toml:2:1: duplicate key"]);
}

#[test]
fn plain_http_goes_to_listed_networks_only() {
    let desk = |url: &str, allow: &str| {
        format!(
            "[outbound]\nallow = [{allow}]\n[[helpdesk]]\nname = \"d\"\nurl = \"{url}\"\nsecrets = [\"{SECRET}\"]\n"
        )
    };
    good(&desk("https://desk.example.org", ""));
    good(&desk("http://127.0.0.1:9000/hook", "\"127.0.0.0/8\""));
    good(&desk("http://desk.internal/hook", "\"10.0.0.0/8\""));
    for (url, allow) in [("http://desk.example.org", ""), ("http://10.0.0.1/", "\"127.0.0.0/8\""), ("ftp://x/", "")] {
        assert_eq!(bad(&desk(url, allow)).len(), 1, "{url}");
    }
}

#[test]
fn a_door_to_the_network_without_encryption_is_a_warning() {
    let warned = |text: &str| good(text).warnings.len();
    assert_eq!(warned("[[listen]]\naddress = \"0.0.0.0:80\"\n"), 1);
    assert_eq!(warned("[[listen]]\naddress = \"0.0.0.0:80\"\ntrusted_proxies = [\"10.0.0.0/8\"]\n"), 0);
    assert_eq!(warned("[[listen]]\naddress = \"127.0.0.1:80\"\n"), 0);
}

#[test]
fn loads_the_channels_folder_and_warns_of_secrets_that_all_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    let main = write(
        "segue.toml",
        &format!(
            "[[helpdesk]]\nname = \"d\"\nurl = \"https://desk.example.org\"\nsecrets = [\"{SECRET}\"]\nchannels = [\"b\"]\n"
        ),
    );
    write("channels/b.toml", "[[channel]]\nname = \"b\"\nconnector = \"slack\"\noptions = { bot_token = \"xoxb\" }\n");
    write("channels/a.toml", "[[channel]]\nname = \"a\"\nconnector = \"slack\"\n");
    write("channels/.#b.toml", "broken");
    write("channels/notes.txt", "broken");
    use std::os::unix::fs::PermissionsExt;
    let mode = |bits| std::fs::set_permissions(&main, std::fs::Permissions::from_mode(bits)).unwrap();
    mode(0o644);
    let config = load(folder.path()).unwrap();
    assert_eq!(config.channels.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(config.warnings.len(), 1, "{:#?}", config.warnings);
    let option = &config.channel("b").unwrap().options["bot_token"];
    assert_eq!((option.place.line, option.place.column), (4, 25));
    mode(0o600);
    assert!(load(&main).unwrap().warnings.is_empty());
    write("channels/c.toml", "[[channel]]\nname = \"b\"\nconnector = \"slack\"\n[limits]\n");
    let problems = load(&main).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems.iter().all(|problem| problem.file.ends_with("channels/c.toml")), "{problems:#?}");
    let missing = load(&folder.path().join("none.toml")).unwrap_err();
    assert!(missing[0].to_string().ends_with("none.toml: cannot be read: no such file"), "{missing:?}");
}

#[test]
fn a_diff_tells_what_needs_a_restart_and_no_value() {
    let old = good("log = \"info\"\n[[channel]]\nname = \"a\"\nconnector = \"slack\"\noptions = { t = \"hunter2\" }\n");
    let moved =
        good("\n\nlog = \"info\"\n[[channel]]\nname = \"a\"\nconnector = \"slack\"\noptions = { t = \"hunter2\" }\n");
    assert_eq!(diff(&old, &moved), []);
    let new = good("data = \"d\"\n[retention]\nraw = \"7d\"\n[[channel]]\nname = \"b\"\nconnector = \"slack\"\n");
    let change = |key: &str, what, effect| Change { key: key.into(), what, effect };
    assert_eq!(
        diff(&old, &new),
        [
            change("data", "changed", Effect::Restart),
            change("retention", "changed", Effect::Restart),
            // They are in the data folder unless told otherwise.
            change("blobs", "changed", Effect::Restart),
            change("channel.b", "added", Effect::Live),
            change("channel.a", "removed", Effect::Live),
        ]
    );
    let other = good("[[channel]]\nname = \"a\"\nconnector = \"slack\"\noptions = { t = \"hunter3\" }\n");
    assert_eq!(diff(&old, &other), [change("channel.a", "changed", Effect::Live)]);
}

#[test]
fn places_count_characters_and_survive_a_byte_order_mark() {
    let problems = bad("\u{feff}log = \"ünknøwn=\" # é\n\"schlüssel\" = 1\n");
    assert!(
        problems.iter().any(|problem| problem.starts_with("/p/segue.toml:2:1: unknown key `schlüssel`")),
        "{problems:?}"
    );
    let problems = parse(Path::new("s.toml"), b"a = 1\nb = \"\xff\"", &Stage::default()).unwrap_err();
    assert_eq!(problems[0].to_string(), "s.toml:2:6: not UTF-8 text");
}

#[test]
fn deep_nesting_and_long_names_are_reported_and_cost_little() {
    let deep = format!("policy.params.x = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(!bad(&deep).is_empty());
    let keys = format!("{} = 1", vec!["a"; 50_000].join("."));
    assert!(!bad(&keys).is_empty());
    let long = format!("{} = 1", "k".repeat(1_000_000));
    assert_eq!(bad(&long).len(), 1);
}

#[test]
fn a_file_full_of_faults_costs_its_length() {
    let text: String = (0..100_000).map(|n| format!("key{n} = 1\n")).collect();
    let problems = bad(&text);
    assert_eq!(problems.len(), 100_000);
    assert!(problems[99_999].starts_with("/p/segue.toml:100000:1: unknown key `key99999`"));
}

#[test]
fn endless_files_are_refused() {
    let devices = ["/dev/zero"].map(Path::new).into_iter().filter(|path| path.exists());
    for device in devices {
        assert_eq!(Machine.file(device).unwrap_err(), "larger than 1 MiB");
        assert!(load(device).unwrap_err()[0].reason.contains("larger than 4 MiB"));
    }
}

/// Lines that a configuration may hold, some of them wrong, in any order.
fn lines() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("[[channel]]".to_owned()),
        Just("[[helpdesk]]".to_owned()),
        Just("[[listen]]".to_owned()),
        Just("[limits]".to_owned()),
        Just("[policy]".to_owned()),
        Just("[policy.params]".to_owned()),
        Just("[retry]".to_owned()),
        ("(name|url|secrets|events|queue|queues|schedule|jitter|body|address|tls|log|data|store|options|breaker)",
         "(\"[a-z0-9:/.]{0,12}\"|-?[0-9]{1,22}|[0-9]\\.[0-9]|true|\\[\\]|\\[\"a\", 1\\]|\\{\\}|\\{ a = 1 \\}|inf|nan|\"env:A\")")
            .prop_map(|(key, value)| format!("{key} = {value}")),
    ];
    prop::collection::vec(line, 0..24).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = parse(Path::new("segue.toml"), &bytes, &Stage::default());
    }

    #[test]
    fn no_text_makes_it_panic(text in "[\\[\\]{}=\"'.,# \na-c0-9é\\\\-]{0,200}") {
        let _ = parse(Path::new("segue.toml"), text.as_bytes(), &Stage::default());
    }

    #[test]
    fn every_problem_of_odd_files_has_a_place_within_the_file(text in lines()) {
        if let Err(problems) = parse(Path::new("segue.toml"), text.as_bytes(), &Stage::default()) {
            prop_assert!(problems.iter().any(Problem::is_error));
            let count = text.split('\n').count() as u32;
            for problem in problems {
                prop_assert!((1..=count).contains(&problem.line), "{}", problem);
                let line = text.split('\n').nth(problem.line as usize - 1).unwrap_or_default();
                prop_assert!(problem.column as usize <= line.chars().count() + 1, "{}", problem);
            }
        }
    }
}

#[test]
fn blobs_are_in_a_folder_or_in_a_bucket() {
    let folder = |text: &str| good(text).blobs.place;
    assert_eq!(folder("data = \"d\""), BlobPlace::Folder("/p/d/blobs".into()));
    assert_eq!(folder("[blobs]\nurl = \"file:f/g\""), BlobPlace::Folder("/p/f/g".into()));
    assert_eq!(folder("[blobs]\nurl = \"file:///f\""), BlobPlace::Folder("/f".into()));
    let stage = Stage(BTreeMap::from([("ID", "the id"), ("/p/s3", "the secret\n")]));
    let keys = "access_key_id = \"env:ID\"\nsecret_access_key = \"file:s3\"\n";
    let config = on(&format!("[blobs]\nurl = \"s3://files/a/b/\"\n{keys}"), &stage).unwrap();
    let bucket = Bucket {
        name: "files".to_owned(),
        prefix: "a/b".to_owned(),
        endpoint: None,
        region: "us-east-1".to_owned(),
        access_key_id: Secret::new("the id"),
        secret_access_key: Secret::new("the secret"),
    };
    assert_eq!(config.blobs.place, BlobPlace::Bucket(bucket.clone()));
    assert!(!format!("{config:?}").contains("the secret"));
    let local =
        format!("[outbound]\nallow = [\"127.0.0.0/8\"]\n[blobs]\nurl = \"s3://files\"\nunused = \"2h\"\n{keys}");
    let config = on(&format!("{local}endpoint = \"http://127.0.0.1:9000/\"\nregion = \"r\""), &stage).unwrap();
    let local = Bucket {
        prefix: String::new(),
        endpoint: Some("http://127.0.0.1:9000".to_owned()),
        region: "r".to_owned(),
        ..bucket
    };
    assert_eq!((config.blobs.place, config.blobs.unused), (BlobPlace::Bucket(local), Duration::from_secs(7200)));
}

#[test]
fn blobs_that_cannot_be_kept_are_refused() {
    let keys = "access_key_id = \"a\"\nsecret_access_key = \"b\"\n";
    for (text, reason) in [
        ("url = \"ftp://x\"", "s3://BUCKET/PREFIX"),
        ("url = \"s3://X\"", "s3://BUCKET/PREFIX"),
        ("url = \"file:\"", "file:PATH"),
        ("url = \"s3://files\"\naccess_key_id = \"a\"", "secret_access_key"),
        ("url = \"file:x\"\nregion = \"r\"", "only a bucket has this"),
        ("unused = \"1s\"", "out of range"),
        ("url = \"s3://files\"\nregion = \"a/b\"", "eu-central-1"),
    ] {
        let problems = bad(&format!("[blobs]\n{text}")).join("\n");
        assert!(problems.contains(reason), "{text}: {problems}");
    }
    let plain = format!("[blobs]\nurl = \"s3://files\"\nendpoint = \"http://10.0.0.1:9000\"\n{keys}");
    assert!(bad(&plain).join("\n").contains("plain http is sent only to networks listed in `outbound.allow`"));
}
