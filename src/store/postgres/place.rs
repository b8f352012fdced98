//! Where the database is: the URL of the `store` setting, taken apart.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{Config, Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::base::hash::key16;
use crate::base::{Error, Result, Secret};

/// How a server is found and spoken to.
///
/// The URL is that of libpq (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING>) with two
/// parameters of our own: `search_path` names the schema that the tables lie in, `sslrootcert` a PEM file that is trusted
/// instead of the system's authorities. A certificate is always checked, whatever `sslmode` says.
#[derive(Clone)]
pub struct Place {
    pub(super) config: Config,
    /// The schema of the tables.
    pub(super) schema: String,
    roots: Option<PathBuf>,
}

impl Place {
    /// Reads a URL such as `postgres://segue@db.example.org/segue?sslmode=require`.
    ///
    /// # Errors
    ///
    /// `Config` if it is none, without the password that it may hold.
    pub fn parse(url: &Secret) -> Result<Place> {
        let (base, query) = url.expose().split_once('?').unwrap_or((url.expose(), ""));
        let (mut left, mut schema, mut roots) = (Vec::new(), "public".to_owned(), None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
            match (name, value.as_ref()) {
                ("search_path", name) => schema = name.to_owned(),
                ("sslrootcert", path) => roots = Some(PathBuf::from(path)),
                // Both ask for what is done anyway.
                ("sslmode", "verify-ca" | "verify-full") => left.push("sslmode=require".to_owned()),
                _ => left.push(pair.to_owned()),
            }
        }
        if schema.is_empty() || schema.contains(['"', ',', '\0']) {
            return Err(Error::config("`search_path` in the URL of `store` is not the name of one schema"));
        }
        // The parser names what it cannot read, never the value that it read there.
        let mut config: Config = format!("{base}?{}", left.join("&"))
            .parse()
            .map_err(|error| Error::config("the URL of `store` is not one of PostgreSQL").because(Told::of(&error)))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(Error::config("the URL of `store` names no host"));
        }
        // Whatever decides is read from the primary; of several hosts the one that takes writes is used.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        config.keepalives_idle(Duration::from_secs(10));
        config.tcp_user_timeout(Duration::from_secs(15));
        if config.get_application_name().is_none() {
            config.application_name("segue");
        }
        Ok(Place { config, schema, roots })
    }

    /// The advisory lock that whoever uses the store shares, and that whoever moves it has alone. Several stores may lie in
    /// one database, each in its own schema.
    pub(super) fn node_lock(&self) -> i64 {
        let [a, b, c, d, e, f, g, h, ..] = key16(&[b"segue node", self.schema.as_bytes()]);
        i64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Server and database as a message may name them.
    pub fn shown(&self) -> String {
        let hosts: Vec<String> = self
            .config
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        format!("PostgreSQL at {}, database {}", hosts.join(","), self.config.get_dbname().unwrap_or("of the user"))
    }

    /// What TLS connections are made with.
    ///
    /// # Errors
    ///
    /// `Config` if the authorities cannot be read.
    pub(super) fn tls(&self) -> Result<MakeRustlsConnect> {
        let mut trusted = RootCertStore::empty();
        let wanted = self.config.get_ssl_mode() != SslMode::Disable
            && self.config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)));
        match &self.roots {
            Some(path) => {
                let failed = |error: rustls::pki_types::pem::Error| {
                    Error::config(format!("`sslrootcert` {} cannot be read", path.display())).because(error)
                };
                for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
                    let certificate = certificate.map_err(failed)?;
                    trusted.add(certificate).map_err(|error| {
                        Error::config(format!("`sslrootcert` {} holds no certificate", path.display())).because(error)
                    })?;
                }
            }
            None if wanted => {
                trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            None => {}
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal("failed to set TLS up").because(error))?
            .with_root_certificates(trusted)
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(tls))
    }
}

/// What the server or the driver said, without the rows and values that its details may quote.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Told(String);

impl Told {
    pub(super) fn of(error: &tokio_postgres::Error) -> Told {
        if let Some(db) = error.as_db_error() {
            return Told(format!("{} ({})", db.message(), db.code().code()));
        }
        let mut line = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            line = format!("{line}: {cause}");
            source = cause.source();
        }
        Told(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Place> {
        Place::parse(&Secret::new(url))
    }

    #[test]
    fn takes_its_own_parameters_out_of_the_url() {
        let place =
            parse("postgres://u:p@h.example/d?search_path=desk&sslmode=verify-full&sslrootcert=%2Fa.pem").unwrap();
        assert_eq!((place.schema.as_str(), place.roots), ("desk", Some(PathBuf::from("/a.pem"))));
        assert_eq!(place.config.get_ssl_mode(), SslMode::Require);
        assert_eq!(parse("postgresql://u@h/d").unwrap().schema, "public");
        let socket = parse("postgres://u@%2Frun%2Fpostgresql/d").unwrap();
        assert_eq!(socket.shown(), "PostgreSQL at /run/postgresql, database d");
    }

    #[test]
    fn a_mistake_is_told_without_the_password() {
        for url in [
            "postgres://u:hunter2@h/d?sslmode=perhaps",
            "postgres://u:hunter2@h:port/d",
            "postgres://u:hunter2@h/d?nonsense=1",
            "postgres://u:hunter2@h/d?search_path=a,b",
            "postgres://",
        ] {
            let error = parse(url).err().unwrap_or_else(|| panic!("{url} is taken"));
            assert_eq!(error.kind(), crate::base::Kind::Config);
            assert!(!error.full().contains("hunter2"), "{}", error.full());
        }
    }
}
