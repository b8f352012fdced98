//! A store is moved from one backend to the other and back, killed on the way; nothing is lost, and it goes on.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::database::Database;
use crate::support::gateway::{Gateway, Project, SEGUE};
use crate::support::helpdesk::HelpDesk;
use crate::support::{Random, provider, seed, size};

/// Runs `segue` with the root key of a project.
fn segue(project: &Project) -> Command {
    let mut command = Command::new(SEGUE);
    command.env("SEGUE_ROOT_KEY_FILE", project.folder().join("secrets/root.key"));
    command
}

fn migrate(project: &Project, from: &str, to: &str) -> Command {
    let mut command = segue(project);
    command.args(["migrate", "--from", from, "--to", to]).stdin(Stdio::null());
    command
}

/// Moves, killed again and again on the way.
fn moved(project: &Project, from: &str, to: &str, random: &mut Random) {
    let (mut killed, kills) = (0, size(5, 30));
    for _ in 0..kills {
        let mut child = migrate(project, from, to).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.below(200) as u64));
        killed += usize::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        if child.wait().unwrap().success() {
            break;
        }
    }
    println!("killed {killed} times");
    let run = migrate(project, from, to).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    // Where one of those came to its end, the target is as any other that holds something.
    assert!(run.status.success() || (run.status.code() == Some(69) && said.contains("holds data")), "{said}");
}

fn dumped(project: &Project, place: &str) -> String {
    let run = segue(project).args(["dump", "--canonical", "--from", place]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_moves_to_the_other_backend_and_back() {
    let mut random = Random(seed());
    let desk = HelpDesk::start().await;
    let project = || {
        let project = Project::new().helpdesk("desk", &desk, &["interaction.received"]);
        project.whatsapp("whatsapp", "http://127.0.0.1:9")
    };
    let (old, new) = (project(), project());
    let gateway = Gateway::start(&old).await;
    let people = size(50, 1000);
    for from in 0..people {
        let (from, id) = (format!("1555{from:07}"), format!("wamid.{from}"));
        gateway.accept(&provider::whatsapp_text("whatsapp", &from, &id, "hello")).await;
    }
    desk.wait_for(people).await;
    gateway.settled(&old).await;
    let folder = tempfile::tempdir().unwrap();
    let between = Database::of_the_other_kind(&folder.path().join("between")).place();
    let (from, to) = (old.database().place(), new.database().place());
    // Not while a gateway runs.
    let run = migrate(&old, &from, &between).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(78), "{said}");
    assert!(said.contains("stop it first"), "{said}");
    gateway.stop().await;
    let state = dumped(&old, &from);
    moved(&old, &from, &between, &mut random);
    assert!(state == dumped(&old, &between), "what was moved is not what was there");
    moved(&old, &between, &to, &mut random);
    assert!(state == dumped(&old, &to), "what was moved back is not what was there");
    std::fs::create_dir_all(new.folder().join("secrets")).unwrap();
    std::fs::copy(old.folder().join("secrets/root.key"), new.folder().join("secrets/root.key")).unwrap();
    let gateway = Gateway::start(&new).await;
    let told = desk.attempts().len();
    for id in ["wamid.0", "wamid.new"] {
        gateway.accept(&provider::whatsapp_text("whatsapp", "15550000000", id, "hello")).await;
    }
    desk.wait_until("the story goes on", |delivery| delivery.provider_id() == "wamid.new").await;
    assert_eq!(desk.attempts().len(), told + 1, "what was told before is told again");
    assert_eq!(new.number("SELECT count(*) FROM customer"), people as i64);
    gateway.stop().await;
}
