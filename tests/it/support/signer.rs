//! A domain that signs its mails.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use super::environment;
use super::gateway::Project;

/// Signs mails of a domain, whose key and policy stand in the DNS.
pub(crate) struct Signer {
    folder: tempfile::TempDir,
    domain: String,
}

impl Signer {
    /// One for `signed.example`, as a project sees it.
    pub(crate) fn new(project: &Project) -> Signer {
        Signer::of("signed.example", &[project])
    }

    /// One for a domain, as these projects see it.
    pub(crate) fn of(domain: &str, projects: &[&Project]) -> Signer {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer { folder, domain: domain.to_owned() };
        openssl(&["genrsa", "-traditional", "-out", signer.key().to_str().unwrap(), "2048"]);
        projects.iter().for_each(|project| signer.publish(project));
        signer
    }

    /// Has a project see it.
    pub(crate) fn publish(&self, project: &Project) {
        let public = openssl(&["rsa", "-in", self.key().to_str().unwrap(), "-pubout", "-outform", "DER"]);
        let public = data_encoding::BASE64.encode(&public);
        project.dns().add(&format!("s1._domainkey.{}", self.domain), &format!("v=DKIM1; k=rsa; p={public}"));
        project.dns().add(&format!("_dmarc.{}", self.domain), "v=DMARC1; p=reject");
    }

    /// The file of the private key, in PEM; its selector is `s1`.
    pub(crate) fn key(&self) -> std::path::PathBuf {
        self.folder.path().join("key.pem")
    }

    /// The mail with a signature on top.
    pub(crate) fn sign(&self, mail: &[u8]) -> Vec<u8> {
        self.sign_all([mail].into_iter()).remove(0)
    }

    /// Mails, each with a signature on top.
    pub(crate) fn sign_all<'m>(&self, mails: impl Iterator<Item = &'m [u8]>) -> Vec<Vec<u8>> {
        let key = self.key();
        let mut command = environment::python();
        command.arg("tests/peers/sign_mail.py").args(["s1", &self.domain, key.to_str().unwrap()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut all = Vec::new();
        for mail in mails {
            writeln!(input, "{}", mail.len()).unwrap();
            input.write_all(mail).unwrap();
            input.flush().unwrap();
            let mut length = String::new();
            output.read_line(&mut length).unwrap();
            let mut signed = vec![0; length.trim().parse().unwrap()];
            output.read_exact(&mut signed).unwrap();
            all.push(signed);
        }
        drop(input);
        child.wait().unwrap();
        all
    }
}

fn openssl(arguments: &[&str]) -> Vec<u8> {
    let run = Command::new("openssl").args(arguments).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    run.stdout
}
