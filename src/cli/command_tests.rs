//! Every command run as `main` runs it, on small projects of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use data_encoding::BASE64;
use serde_json::Value;

use super::gateway::{Gateway, Reach};
use super::*;

const CHANNEL: &str = "[[channel]]\nname = \"support\"\nconnector = \"whatsapp\"\n\
    options = { app_secret = \"s\", verify_token = \"t\", access_token = \"a\", phone_number_id = \"1\" }\n";
const POLICY: &str = "rule(\"vip\", function(e, d)\n  if e.ix:mentions { \"hello\" } then d:queue(\"vip\") \
    d:priority(90) d:tag(\"greeting\") d:because(\"a greeting\") end\nend)\n";
const TESTS: &str = "test(\"greets\", function(t)\n  local r = t:given { ix = { text = \"hello\" } }\n  \
    t:equal(r.queue, \"vip\")\nend)\n";

/// A project in a folder of its own.
struct Project(tempfile::TempDir);

impl Project {
    fn new(files: &[(&str, &str)]) -> Project {
        let project = Project(tempfile::tempdir().unwrap());
        project.write("segue.toml", &format!("[policy]\nqueues = [\"general\", \"vip\"]\n{CHANNEL}"));
        files.iter().for_each(|(path, text)| drop(project.write(path, text)));
        project
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) -> String {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Runs a command in the project: how it ended, standard output, standard error.
    fn run(&self, args: &[&str]) -> (Exit, String, String) {
        let config = self.0.path().display().to_string();
        segue(&[args, &["--config", &config]].concat())
    }
}

fn segue(args: &[&str]) -> (Exit, String, String) {
    let cli = Cli::try_parse_from(std::iter::once(&"segue").chain(args)).unwrap_or_else(|error| panic!("{error}"));
    report::capture::around(|| finish(run(cli)))
}

fn json(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors/whatsapp/samples")
}

#[test]
fn normalize_prints_a_line_for_each_outcome_and_goes_on_after_what_is_broken() {
    let project = Project::new(&[]);
    let text = samples().join("text.http").display().to_string();
    let receipts = samples().join("receipts.http").display().to_string();
    let (empty, nothing) = (project.write("empty.json", ""), project.path("absent.json").display().to_string());

    let (exit, out, _) = project.run(&["normalize", "--connector", "whatsapp", &text]);
    assert_eq!(exit, Exit::Ok);
    let lines = json(&out);
    assert_eq!(lines[0]["outcome"], "interaction");
    let published: model_of::Outcome = serde_json::from_value(lines[0].clone()).unwrap();
    assert!(matches!(published, model_of::Outcome::Interaction(_)));

    let all = [&empty, &nothing, &text, &receipts].map(String::as_str);
    let (exit, out, err) = project.run(&[&["normalize", "--connector", "whatsapp"][..], &all].concat());
    assert_eq!(exit, Exit::Data);
    let outcomes: Vec<Value> = json(&out).into_iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(outcomes[..2], ["quarantined", "interaction"]);
    assert_eq!(outcomes[2], "receipt");
    assert!(err.contains("absent.json"), "{err}");

    let (exit, out, _) = project.run(&["normalize", "--connector", "whatsapp", "--channel", "support", &text]);
    assert_eq!((exit, json(&out).len()), (Exit::Ok, 1));
    assert_eq!(project.run(&["normalize", "--connector", "whatsapp", &nothing]).0, Exit::NoInput);
    let (exit, _, err) = project.run(&["normalize", "--connector", "watsapp", &text]);
    assert_eq!(exit, Exit::Usage);
    assert!(err.contains("`whatsapp`"), "{err}");
    let (exit, _, err) = project.run(&["normalize", "--connector", "whatsapp", "--channel", "suport", &text]);
    assert!(exit == Exit::Config && err.contains("`support`"), "{err}");
}

#[test]
fn normalize_needs_no_project() {
    let folder = tempfile::tempdir().unwrap();
    let text = samples().join("text.http").display().to_string();
    let nowhere = folder.path().join("segue.toml").display().to_string();
    let (exit, out, err) = segue(&["normalize", "--connector", "whatsapp", &text, "--config", &nowhere]);
    assert_eq!((exit, err.as_str()), (Exit::Ok, ""));
    assert_eq!(json(&out)[0]["interaction"]["channel"]["connector"], "whatsapp");
}

#[test]
fn connectors_are_listed_shown_and_tested() {
    let project = Project::new(&[]);
    let (exit, out, _) = project.run(&["connector", "list", "--json"]);
    assert_eq!(exit, Exit::Ok);
    let whatsapp = json(&out).into_iter().find(|line| line["name"] == "whatsapp").unwrap();
    assert_eq!(whatsapp["from"], "built in");
    let (exit, out, _) = project.run(&["connector", "show", "whatsapp"]);
    assert!(exit == Exit::Ok && out.contains("app_secret") && out.contains("required, secret"), "{out}");
    assert_eq!(project.run(&["connector", "show", "watsapp"]).0, Exit::Usage);
    let (exit, out, _) = project.run(&["connector", "test", "whatsapp", "--json"]);
    assert_eq!(exit, Exit::Ok, "{out}");
    assert!(json(&out).len() >= 10 && json(&out).iter().all(|line| line["passed"] == true));
    assert_eq!(project.run(&["connector", "test", "whatsapp", "--filter", "no such sample"]).0, Exit::Data);
    assert_eq!(project.run(&["connector", "test", "nothing-like-it"]).0, Exit::NoInput);
}

#[test]
fn a_failed_sample_is_shown_and_can_be_written_anew() {
    let project = Project::new(&[]);
    let folder = project.path("connectors/whatsapp");
    fs::create_dir_all(folder.join("samples")).unwrap();
    for file in ["connector.toml", "samples/samples.toml", "samples/text.http", "samples/text.expect.json"] {
        fs::copy(samples().parent().unwrap().join(file), folder.join(file)).unwrap();
    }
    // The settings of samples name samples that are not copied.
    let settings = fs::read_to_string(folder.join("samples/samples.toml")).unwrap();
    let settings = settings.split("[cases").next().unwrap().to_owned();
    project.write("connectors/whatsapp/samples/samples.toml", &settings);
    project.write("connectors/whatsapp/samples/text.expect.json", "[]");
    let target = folder.display().to_string();
    let (exit, out, _) = project.run(&["connector", "test", &target]);
    assert!(exit == Exit::Data && out.contains("text (outcomes)") && out.contains("1 failed"), "{out}");
    assert_eq!(project.run(&["connector", "test", &target, "--write"]).0, Exit::Data);
    let (exit, out, _) = project.run(&["connector", "test", "whatsapp"]);
    assert_eq!(exit, Exit::Ok, "{out}");
    project.write("connectors/whatsapp/connector.toml", "[connector]\nnam = 1\n");
    let (exit, out, _) = project.run(&["connector", "test", &target]);
    assert!(exit == Exit::Config && out.contains("whatsapp/connector.toml:2:"), "{out}");
    assert_eq!(project.run(&["connector", "list"]).0, Exit::Config);
    assert_eq!(project.run(&["connector", "show", "whatsapp"]).0, Exit::Config);
}

#[test]
fn a_policy_is_tested_run_and_described() {
    let project = Project::new(&[("scripts/a.lua", POLICY), ("scripts/tests/a.lua", TESTS)]);
    let (exit, out, err) = project.run(&["policy", "test", "--json"]);
    assert_eq!(exit, Exit::Ok, "{out}{err}");
    assert_eq!(json(&out)[0]["passed"], true);

    let text = fs::read_to_string(samples().join("text.expect.json")).unwrap();
    let lines: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut interaction = lines[0]["interaction"].clone();
    interaction["text"] = "well, hello".into();
    let normalized = serde_json::json!({ "outcome": "interaction", "interaction": interaction }).to_string();
    let ignored = "{\"outcome\":\"ignored\",\"reason\":\"r\"}";
    let bare = project.write("bare.json", &serde_json::to_string_pretty(&interaction).unwrap());
    let both = project.write("lines.jsonl", &format!("{normalized}\n{ignored}\n"));
    let (exit, out, err) = project.run(&["policy", "run", "--json", &bare, &both]);
    assert_eq!(exit, Exit::Ok, "{err}");
    let decisions = json(&out);
    assert_eq!(decisions.len(), 2);
    for decision in decisions {
        assert_eq!((&decision["queue"], &decision["priority"]), (&"vip".into(), &90.into()));
        assert_eq!((&decision["rules"][0], &decision["because"][0]), (&"a.lua:vip".into(), &"a greeting".into()));
    }
    let (_, out, _) = project.run(&["policy", "run", &bare]);
    assert!(out.contains("queue     vip") && out.contains("rule      a.lua:vip"), "{out}");
    let wrong = project.write("wrong.json", "{\"schema\":1}");
    assert_eq!(project.run(&["policy", "run", &wrong]).0, Exit::Data);

    let stubs = project.path("stubs.lua").display().to_string();
    assert_eq!(project.run(&["policy", "stubs", "--out", &stubs]).0, Exit::Ok);
    assert!(fs::read_to_string(&stubs).unwrap().contains("\"general\"|\"vip\""));

    project.write("scripts/tests/a.lua", &TESTS.replace("\"vip\"", "\"general\""));
    let (exit, out, _) = project.run(&["policy", "test"]);
    assert!(exit == Exit::Data && out.contains("greets"), "{out}");
    assert_eq!(project.run(&["policy", "test", "--filter", "other"]).0, Exit::Ok);
    let scripts = project.path("scripts").display().to_string();
    assert_eq!(segue(&["policy", "test", &scripts, "--config", "no-such-project/segue.toml"]).0, Exit::Data);
    project.write("scripts/a.lua", "rule(");
    assert_eq!(project.run(&["policy", "test"]).0, Exit::Config);
}

#[test]
fn check_tells_everything_at_once() {
    let project = Project::new(&[("scripts/a.lua", POLICY), ("scripts/tests/a.lua", TESTS)]);
    let (exit, out, err) = project.run(&["check"]);
    assert!(exit == Exit::Ok && out.contains("1 channel,") && out.contains("1 rule,"), "{out}{err}");
    project.write("scripts/b.lua", "rule(\"b\", function(e, d)\n  d:queue(\"vpi\")\nend)\n");
    project.write("connectors/mine/connector.toml", "[connector]\nnonsense = 1\n");
    project.write("segue.toml", &CHANNEL.replace("\"whatsapp\"", "\"whatsap\""));
    let (exit, out, _) = project.run(&["check", "--json"]);
    assert_eq!(exit, Exit::Config);
    let report = &json(&out)[0];
    assert_eq!(report["ok"], false);
    let problems = report["problems"].as_array().unwrap();
    let told = |file: &str, line: u64| {
        problems.iter().any(|p| p["file"].as_str().unwrap().ends_with(file) && p["line"] == line)
    };
    assert!(told("segue.toml", 3) && told("scripts/b.lua", 2) && told("mine/connector.toml", 2), "{problems:#?}");
    project.write("segue.toml", "lgo = 1\n");
    let (_, out, _) = project.run(&["check", "--json"]);
    assert!(out.contains("nonsense") && out.contains("lgo"), "{out}");
}

/// What options need of each other is told at the channel, as is what is wrong with one of them.
#[test]
fn check_tells_of_options_that_do_not_fit() {
    let project = Project::new(&[]);
    project.write(
        "channels/mail.toml",
        "# Mails.\n[[channel]]\nname = \"mail\"\nconnector = \"email\"\n[channel.options]\naddress = \"us@shop.example\"\n\
         smtp_host = \"smtp.shop.example\"\nsmtp_login = \"none\"\nreply_base = \"answers1@shop.example\"\n",
    );
    let (exit, out, _) = project.run(&["check", "--json"]);
    assert_eq!(exit, Exit::Config);
    let report = &json(&out)[0];
    let problems = report["problems"].as_array().unwrap().iter();
    let told = |problem: &&Value| problem["reason"].as_str().unwrap().contains("has 8 characters before its `@`");
    let [problem] = &problems.filter(told).collect::<Vec<_>>()[..] else { panic!("{report:#}") };
    assert!(problem["file"].as_str().unwrap().ends_with("mail.toml") && problem["line"] == 2, "{problem:#}");
}

#[test]
fn tokens_are_made_listed_and_revoked_without_a_gateway() {
    let project = Project::new(&[]);
    assert_eq!(project.run(&["token", "list"]).0, Exit::NoInput);
    let (exit, out, _) =
        project.run(&["token", "create", "--name", "desk", "--scope", "write", "--scope", "read", "--json"]);
    assert_eq!(exit, Exit::Ok);
    let made = &json(&out)[0];
    assert!(made["token"].as_str().unwrap().starts_with(&format!("sg_{}_", made["id"].as_str().unwrap())));
    let (_, out, _) = project.run(&["token", "list", "--json"]);
    assert!(!out.contains(made["token"].as_str().unwrap()));
    let listed = &json(&out)[0];
    assert_eq!((&listed["id"], &listed["scopes"]), (&made["id"], &serde_json::json!(["read", "write"])));
    assert_eq!(listed["revoked_at"], Value::Null);
    let id = made["id"].as_str().unwrap();
    assert_eq!(project.run(&["token", "revoke", id]).0, Exit::Ok);
    assert_eq!(project.run(&["token", "revoke", id]).0, Exit::NoInput);
    assert!(json(&project.run(&["token", "list", "--json"]).1)[0]["revoked_at"].is_string());
    assert!(Cli::try_parse_from(["segue", "token", "create", "--name", "x", "--scope", "everything"]).is_err());
    assert_eq!(project.run(&["quarantine", "list"]), (Exit::Ok, String::new(), "nothing is quarantined\n".to_owned()));
    assert_eq!(project.run(&["deadletter", "list", "--json"]), (Exit::Ok, String::new(), String::new()));
    let event = "ev_01jn4000000000000000000000";
    assert_eq!(project.run(&["deadletter", "retry", event]).0, Exit::NoInput);
    assert_eq!(project.run(&["deadletter", "show", event]).0, Exit::NoInput);
    assert_eq!(project.run(&["quarantine", "show", "en_01jn4000000000000000000000"]).0, Exit::NoInput);
    assert_eq!(project.run(&["quarantine", "retry", "nonsense"]).0, Exit::Data);
}

/// A request as it came over the wire: its head in lower case, and its body.
type Seen = (String, Vec<u8>);

/// Answers one request after another with these statuses and bodies, and gives what was asked.
fn server(answers: Vec<(u16, &'static str)>) -> (u16, JoinHandle<Vec<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let answer = |(status, body): (u16, &str)| {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                length =
                    line.to_lowercase().strip_prefix("content-length:").map_or(length, |n| n.trim().parse().unwrap());
                head.push_str(&line);
            }
            let mut content = vec![0; length];
            reader.read_exact(&mut content).unwrap();
            let length = body.len();
            write!(
                reader.get_mut(),
                "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
            .unwrap();
            (head, content)
        };
        answers.into_iter().map(answer).collect()
    };
    (port, std::thread::spawn(serve))
}

#[test]
fn a_running_gateway_is_asked_with_a_token() {
    let project = Project::new(&[]);
    let global = Global { config: project.0.path().to_owned(), log: None, log_format: log::Format::Text };
    let held = Gateway::find(&global, &Reach::default(), true).ok().unwrap();
    let (port, asked) = server(vec![
        (
            200,
            "{\"items\":[{\"entry\":\"en_1\",\"channel\":\"a\",\"reason\":\"r\"},{\"entry\":\"en_2\",\"channel\":\"b\"}]}",
        ),
        (201, "{\"id\":\"tk_1\",\"token\":\"sg_tk_1_x\"}"),
        (200, "{\"revived\":3}"),
        (403, "{\"title\":\"Forbidden\",\"detail\":\"scope `admin` is needed\"}"),
    ]);
    project.write("segue.toml", &format!("[[listen]]\naddress = \"127.0.0.1:{port}\"\n"));
    assert_eq!(project.run(&["quarantine", "list"]).0, Exit::Unavailable, "no token is given");
    let with = |args: &[&str]| project.run(&[args, &["--token", "sg_tk_0_secret"]].concat());
    let (exit, out, err) = with(&["quarantine", "list", "--channel", "a", "--json"]);
    assert_eq!((exit, json(&out).len()), (Exit::Ok, 1), "{err}");
    let (exit, out, _) = with(&["token", "create", "--name", "x", "--scope", "feed"]);
    assert_eq!((exit, out.as_str()), (Exit::Ok, "sg_tk_1_x\n"));
    let (exit, out, _) = with(&["deadletter", "retry", "--all", "--helpdesk", "main"]);
    assert!(exit == Exit::Ok && out.contains('3'), "{out}");
    let (exit, _, err) = with(&["token", "list"]);
    assert!(exit == Exit::Unavailable && err.contains("scope `admin` is needed") && !err.contains("secret"), "{err}");
    let asked = asked.join().unwrap();
    assert!(asked.iter().all(|(head, _)| head.to_lowercase().contains("authorization: bearer sg_tk_0_secret")));
    let lines: Vec<&str> = asked.iter().map(|(head, _)| head.lines().next().unwrap()).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/quarantine?limit=100 HTTP/1.1",
            "POST /v1/tokens HTTP/1.1",
            "POST /v1/dead-letters/retry HTTP/1.1",
            "GET /v1/tokens HTTP/1.1",
        ]
    );
    assert!(asked[1].0.to_lowercase().contains("idempotency-key: "));
    drop(held);
}

#[test]
fn a_help_desk_is_sent_an_event_that_it_can_verify() {
    let key = [7u8; 32];
    let project = Project::new(&[]);
    let (port, asked) = server(vec![(204, ""), (401, "")]);
    let settings = format!(
        "[[helpdesk]]\nname = \"main\"\nurl = \"http://127.0.0.1:{port}/hidden-path\"\nsecrets = [\"whsec_{}\"]\n\
         [outbound]\nallow = [\"127.0.0.0/8\"]\n",
        BASE64.encode(&key)
    );
    project.write("segue.toml", &settings);
    let (exit, out, err) = project.run(&["helpdesk", "test", "main"]);
    assert!(exit == Exit::Ok && out.contains("204") && !out.contains("hidden-path"), "{out}{err}");
    let (exit, out, _) = project.run(&["helpdesk", "test", "main", "--json"]);
    assert_eq!(exit, Exit::Unavailable);
    assert!(json(&out)[0]["status"] == 401 && json(&out)[0]["mend"].as_str().unwrap().contains("secret"), "{out}");
    let asked = asked.join().unwrap();
    let (head, body) = &asked[0];
    let field = |name: &str| {
        let line = head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:"))).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    let event: Value = serde_json::from_slice(body).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&"dev.segue.helpdesk.test.v1".into(), &field("webhook-id").into()));
    let signed = [format!("{}.{}.", field("webhook-id"), field("webhook-timestamp")).as_bytes(), body].concat();
    let tag = BASE64.decode(field("webhook-signature").strip_prefix("v1,").unwrap().as_bytes()).unwrap();
    ring::hmac::verify(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key), &signed, &tag).unwrap();

    let (exit, out, _) = project.run(&["helpdesk", "test", "main", "--json"]);
    assert!(exit == Exit::Unavailable && json(&out)[0]["mend"].as_str().unwrap().contains("listening"), "{out}");
    let (exit, _, err) = project.run(&["helpdesk", "test", "mian"]);
    assert!(exit == Exit::Config && err.contains("`main`"), "{err}");
    let hidden = settings.replace("127.0.0.0/8", "10.0.0.0/8").replace("http://", "https://");
    project.write("segue.toml", &hidden);
    let (_, out, err) = project.run(&["helpdesk", "test", "main"]);
    assert!(out.contains("`allow` in [outbound]"), "{out}{err}");
}

/// The published line, under a name that does not meet the one of commands.
mod model_of {
    pub(super) use crate::model::Outcome;
}
