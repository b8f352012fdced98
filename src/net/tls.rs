//! TLS by rustls: certificates that are replaced while connections go on, and trust roots for the client.
//!
//! TLS 1.2 and 1.3 with the `ring` provider, which is passed explicitly so that nothing depends on a process-wide
//! default. The invariant: a listener that once had a good certificate always has one; a bad file changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::base::{Error, Kind, Result};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificate of a listener, from two PEM files that may be renewed at any time.
#[derive(Debug)]
pub struct ServerTls {
    certificate: PathBuf,
    key: PathBuf,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ServerTls {
    /// Reads the certificate chain (leaf first) and its private key (PKCS #8, PKCS #1 or SEC 1), both PEM.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`] naming the file and what is wrong with it.
    pub fn load(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self> {
        let (certificate, key) = (certificate.into(), key.into());
        let current = Arc::new(Current(ArcSwap::from_pointee(read_pair(&certificate, &key)?)));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal("the TLS provider lacks a protocol version").because(error))?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(ServerTls { certificate, key, current, config: Arc::new(config) })
    }

    /// The settings for protocols that are not negotiated (ALPN), such as those of mail. The certificate is renewed with this.
    pub fn without_protocols(&self) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols.clear();
        Arc::new(config)
    }

    /// Reads both files again. New connections get the new certificate, open ones keep theirs.
    ///
    /// # Errors
    ///
    /// As [`ServerTls::load`]; then the old certificate stays in use.
    pub fn reload(&self) -> Result<()> {
        self.current.0.store(Arc::new(read_pair(&self.certificate, &self.key)?));
        Ok(())
    }

    /// The two files, certificate first: what to watch for changes.
    pub fn files(&self) -> [&Path; 2] {
        [&self.certificate, &self.key]
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

fn read_pair(certificate: &Path, key: &Path) -> Result<CertifiedKey> {
    let chain = read_certificates(certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| Error::config(format!("`{}`: no private key in PEM", key.display())).because(error))?;
    // Checks too that the key belongs to the leaf.
    CertifiedKey::from_der(chain, secret, &provider()).map_err(|error| {
        let what = "the private key is of no supported kind or does not belong to the certificate";
        Error::config(format!("`{}` with `{}`: {what}", key.display(), certificate.display())).because(error)
    })
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |what: &str| Error::config(format!("`{}`: {what}", file.display()));
    let chain = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong("no certificates in PEM").because(error))?;
    if chain.is_empty() { Err(wrong("no certificate in it")) } else { Ok(chain) }
}

/// Trust roots from PEM files, for the client.
///
/// # Errors
///
/// [`Kind::Config`] naming the file.
pub(super) fn read_roots(files: &[PathBuf]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for file in files {
        for certificate in read_certificates(file)? {
            roots.add(certificate).map_err(|error| {
                Error::config(format!("`{}`: a certificate cannot be a trust root", file.display())).because(error)
            })?;
        }
    }
    Ok(roots)
}

/// The client's side: the system's roots and `extra` ones. Reads many files: call it where blocking is
/// allowed.
///
/// # Errors
///
/// [`Kind::Unavailable`] if there is no root at all.
pub(super) fn client_config(extra: &RootCertStore) -> Result<Arc<ClientConfig>> {
    let mut roots = extra.clone();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(target: "segue::net", %error, "part of the system's trust roots cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        let what = "the system has no trust roots, so no HTTPS peer can be checked";
        return Err(Error::new(Kind::Unavailable, what).on_side(crate::base::Side::Operator));
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("the TLS provider lacks a protocol version").because(error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(folder: &Path, name: &str) {
        let pair = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        std::fs::write(folder.join("cert.pem"), pair.cert.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), pair.signing_key.serialize_pem()).unwrap();
    }

    fn leaf(tls: &ServerTls) -> Vec<u8> {
        tls.current.0.load().cert[0].to_vec()
    }

    #[test]
    fn a_bad_certificate_never_replaces_a_good_one() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        write_pair(folder.path(), "one.example");
        let tls = ServerTls::load(&cert, &key).unwrap();
        let first = leaf(&tls);

        let good_key = std::fs::read(&key).unwrap();
        let foreign = rcgen::generate_simple_self_signed(vec!["x".into()]).unwrap().signing_key.serialize_pem();
        for (file, bytes, named) in [
            (&cert, b"nonsense".to_vec(), "cert.pem"),
            (&cert, Vec::new(), "cert.pem"),
            (&key, b"nonsense".to_vec(), "key.pem"),
            (&key, foreign.into_bytes(), "key.pem"),
        ] {
            let good = std::fs::read(file).unwrap();
            std::fs::write(file, bytes).unwrap();
            let error = tls.reload().unwrap_err();
            assert_eq!(error.kind(), Kind::Config);
            assert!(error.to_string().contains(named), "{error}");
            assert_eq!(leaf(&tls), first);
            std::fs::write(file, good).unwrap();
        }
        assert_eq!(std::fs::read(&key).unwrap(), good_key);

        write_pair(folder.path(), "two.example");
        tls.reload().unwrap();
        assert_ne!(leaf(&tls), first);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = ServerTls::load("/nonexistent/cert.pem", "/nonexistent/key.pem").unwrap_err();
        assert!(error.to_string().contains("/nonexistent/cert.pem"), "{error}");
    }
}
