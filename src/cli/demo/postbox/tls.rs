//! The postbox's certificate.

use std::sync::Arc;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use crate::base::{Error, Result};

/// Makes a certificate of its own root for `localhost` and `127.0.0.1`; gives what accepts with it, and its PEM.
///
/// It holds without an end, but its key is nowhere than in the memory of this process.
///
/// # Errors
///
/// [`Kind::Internal`](crate::base::Kind) if the libraries refuse.
pub(super) fn certify() -> Result<(TlsAcceptor, String)> {
    let made = |error| Error::internal("the postbox's certificate cannot be made").because(error);
    let key = KeyPair::generate().map_err(made)?;
    let mut wanted = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).map_err(made)?;
    wanted.distinguished_name.push(DnType::CommonName, "postbox of segue demo");
    wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = wanted.self_signed(&key).map_err(made)?;
    let failed = |error| Error::internal("the postbox's certificate cannot be used").because(error);
    let secret = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], secret)
        .map_err(failed)?;
    Ok((TlsAcceptor::from(Arc::new(config)), certificate.pem()))
}
