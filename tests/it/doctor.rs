//! `segue doctor` finds nothing where all is well, and what is wrong where it is not; beside a running gateway.

use std::process::Command;

use serde_json::Value;

use crate::support::gateway::{Gateway, Project, SEGUE};
use crate::support::helpdesk::HelpDesk;
use crate::support::provider;

/// What it found, and its exit code.
fn doctor(project: &Project, arguments: &[&str]) -> (Vec<Value>, i32) {
    let mut command = Command::new(SEGUE);
    let run =
        command.arg("--config").arg(project.folder()).args(["doctor", "--json"]).args(arguments).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    let findings = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (findings, run.status.code().unwrap())
}

/// Findings of an area that are not good.
fn wrong<'f>(findings: &'f [Value], area: &str) -> Vec<&'f str> {
    let found = findings.iter().filter(|finding| finding["area"] == area && finding["level"] != "good");
    found.map(|finding| finding["found"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_found_with_what_to_do() {
    let desk = HelpDesk::start().await;
    let project = Project::new().helpdesk("desk", &desk, &["interaction.received"]);
    let project = project.whatsapp("whatsapp", "http://127.0.0.1:9");
    let gateway = Gateway::start(&project).await;
    for number in 0..3 {
        let id = format!("wamid.{number}");
        gateway.accept(&provider::whatsapp_text("whatsapp", "15550000001", &id, "hello")).await;
    }
    desk.wait_for(3).await;
    gateway.settled(&project).await;
    let (findings, code) = doctor(&project, &[]);
    // The room on this disk, and how this server was set up, are not the project's.
    assert!([0, 74, 75].contains(&code), "{findings:?}");
    for area in ["integrity", "lag", "clock"] {
        let wrong = wrong(&findings, area);
        assert!(wrong.iter().all(|found| found.contains("were not compared")), "{area}: {wrong:?}");
        assert!(findings.iter().any(|finding| finding["area"] == area), "nothing is told of {area}");
    }
    // What does not understand itself.
    gateway.accept(&provider::meta("whatsapp", "{\"object\":\"whatsapp_business_account\",\"entry\":7}")).await;
    gateway.settled(&project).await;
    gateway.stop().await;
    let (findings, _) = doctor(&project, &["--quick"]);
    assert_eq!(wrong(&findings, "lag"), ["1 requests could not be understood"]);
    assert!(findings.iter().any(|finding| finding["advice"].as_str().is_some_and(|a| a.contains("segue quarantine"))));
    // Rows that others refer to go.
    project.database().change("DELETE FROM customer");
    let (findings, code) = doctor(&project, &[]);
    assert_eq!(code, 65, "{findings:?}");
    let wrong = wrong(&findings, "integrity");
    for column in ["conversation.customer", "interaction.customer", "identifier.customer"] {
        assert!(wrong.iter().any(|found| found.contains(column)), "{column}: {wrong:?}");
    }
    project.database().change("DELETE FROM applied WHERE position = (SELECT min(position) FROM applied)");
    let (findings, _) = doctor(&project, &[]);
    assert!(findings.iter().any(|finding| finding["found"] == "1 entries that are neither applied nor pending"));
}
