//! A backup made beside a running gateway holds everything; a damaged one is refused; a restored store goes on.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::gateway::{Gateway, Project, SEGUE};
use crate::support::helpdesk::HelpDesk;
use crate::support::provider;

/// Runs `segue` in a project to its end.
fn segue(project: &Project, arguments: &[&str]) -> Output {
    Command::new(SEGUE).arg("--config").arg(project.folder()).args(arguments).output().unwrap()
}

fn refused(project: &Project, arguments: &[&str], code: i32) -> String {
    let run = segue(project, arguments);
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

async fn say(gateway: &Gateway, from: usize, number: usize) {
    let (from, id) = (format!("1555000{from:04}"), format!("wamid.{from}.{number}"));
    gateway.accept(&provider::whatsapp_text("whatsapp", &from, &id, &format!("no. {number}"))).await;
}

fn project(desk: &HelpDesk) -> Project {
    let project = Project::new().helpdesk("desk", desk, &["interaction.received"]);
    project.whatsapp("whatsapp", "http://127.0.0.1:9")
}

/// Gives a project the root key of another: what was sealed with it opens there.
fn same_root_key(from: &Project, to: &Project) {
    std::fs::create_dir_all(to.folder().join("secrets")).unwrap();
    std::fs::copy(from.folder().join("secrets/root.key"), to.folder().join("secrets/root.key")).unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_backed_up_while_it_ran_goes_on_elsewhere() {
    let desk = HelpDesk::start().await;
    let (old, new) = (project(&desk), project(&desk));
    let gateway = Gateway::start(&old).await;
    for from in 0..20 {
        say(&gateway, from, 1).await;
    }
    desk.wait_for(20).await;
    // Else it may tell again what was taken a moment ago.
    gateway.delivered(&old).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    let said = old.run(&["backup", "--to", text(&file)]);
    assert!(said.contains("sha256"), "{said}");
    let state = old.run(&["dump", "--canonical"]);
    assert!(state.contains("\"text\":\"no. 1\"") && state.matches("\"record\":\"customer\"").count() == 20, "{state}");
    // Nobody else can read it, and no other file is left.
    for name in ["backup", "backup.keys"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    refused(&old, &["backup", "--to", text(&file)], 78);
    // Under load it is as of one moment.
    let busy = folder.path().join("busy");
    let (_, ()) =
        tokio::join!(async { tokio::task::block_in_place(|| old.run(&["backup", "--to", text(&busy)])) }, async {
            for from in 0..40 {
                say(&gateway, from, 2).await;
            }
        });
    new.write_config();
    new.run(&["restore", "--from", text(&busy), "--verify"]);
    refused(&old, &["restore", "--from", text(&file)], 78);
    gateway.stop().await;
    // Without the root key it stays closed.
    assert!(!segue(&new, &["restore", "--from", text(&file)]).status.success());
    same_root_key(&old, &new);
    new.run(&["restore", "--from", text(&file)]);
    assert_eq!(new.run(&["dump", "--canonical"]), state);
    // A store that holds something is not filled.
    refused(&new, &["restore", "--from", text(&busy)], 69);
    let gateway = Gateway::start(&new).await;
    let told = desk.attempts().len();
    say(&gateway, 0, 1).await;
    say(&gateway, 0, 3).await;
    desk.wait_until("the story goes on", |delivery| delivery.provider_id().ends_with(".3")).await;
    assert_eq!(desk.attempts().len(), told + 1, "what was told before is told again");
    assert_eq!(new.number("SELECT count(*) FROM customer"), 20);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_backup_fills_nothing() {
    let desk = HelpDesk::start().await;
    let (old, new) = (project(&desk), project(&desk));
    let gateway = Gateway::start(&old).await;
    say(&gateway, 0, 1).await;
    gateway.settled(&old).await;
    gateway.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    old.run(&["backup", "--to", text(&file)]);
    new.write_config();
    same_root_key(&old, &new);
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    for content in [&damaged[..], &whole[..middle], b"something else"] {
        std::fs::write(&file, content).unwrap();
        refused(&new, &["restore", "--from", text(&file)], 65);
        refused(&new, &["restore", "--from", text(&file), "--verify"], 65);
    }
    std::fs::write(&file, &whole).unwrap();
    let keys = folder.path().join("backup.keys");
    let of_another = std::fs::read(&keys).unwrap();
    std::fs::remove_file(&keys).unwrap();
    refused(&new, &["restore", "--from", text(&file)], 66);
    let other = folder.path().join("other");
    old.run(&["checkpoint", "--to", text(&other)]);
    std::fs::write(folder.path().join("other.keys"), of_another).unwrap();
    let said = refused(&new, &["restore", "--from", text(&other)], 65);
    assert!(said.contains("checkpoint"), "{said}");
}
