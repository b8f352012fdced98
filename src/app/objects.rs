//! The bucket's way out: what the object store wants to send goes through the guarded client, and nothing else does.
//!
//! An answer is read whole, which is at most a range or a page of a listing, since that is what is asked for.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};

use crate::base::{self, Secret};
use crate::config::{BlobPlace, Blobs as Settings, Config};
use crate::net::client::Request;
use crate::net::{Client, ClientError, Fault, Phase};
use crate::store::archive::{Finding, Progress, View, check_files};
use crate::store::blob::place::{Bucket, Place};

/// The most bytes of an answer: more than a range of an object and than a page of a listing.
const ANSWER_BYTES: usize = 8 << 20;
/// The time for one request: a part of an object is up to 5 MiB.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Sends through the guarded client.
#[derive(Clone)]
pub(super) struct Guarded(pub(super) Client);

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guarded")
    }
}

impl HttpConnector for Guarded {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

type Answered<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Guarded {
    fn call<'life0, 'async_trait>(&'life0 self, request: HttpRequest) -> Answered<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let request = Request::new(head.method, head.uri.to_string()).headers(head.headers).body(body);
            let sent = self.0.send(request.timeout(TIMEOUT).response_bytes(ANSWER_BYTES)).await;
            let answer = sent.map_err(|error| HttpError::new(kind(&error), error))?;
            let mut response = HttpResponse::new(answer.body.into());
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}

/// What may be tried again: what surely was not sent, and what broke off, where the request may be repeated.
fn kind(error: &ClientError) -> HttpErrorKind {
    match (error.fault(), error.phase()) {
        (Fault::Refused(_) | Fault::TooLarge | Fault::Taken, _) => HttpErrorKind::Unknown,
        (Fault::Timeout, _) => HttpErrorKind::Timeout,
        (_, Phase::BeforeSend) => HttpErrorKind::Connect,
        (_, Phase::Uncertain) => HttpErrorKind::Interrupted,
    }
}

/// Looks whether every file that a store names is where the configuration says.
///
/// # Errors
///
/// If the store, the folder or the bucket cannot be read.
pub async fn check(config: &Config, view: &dyn View, progress: &mut (dyn Progress + Send)) -> base::Result<Finding> {
    let connector = Guarded(super::client_of(config)?);
    check_files(view, &place(&config.blobs), connector, progress).await
}

/// Where objects are, as the store takes it.
pub(super) fn place(settings: &Settings) -> Place {
    match &settings.place {
        BlobPlace::Folder(folder) => Place::Folder(folder.clone()),
        BlobPlace::Bucket(bucket) => Place::Bucket(Bucket {
            name: bucket.name.clone(),
            prefix: bucket.prefix.clone(),
            endpoint: bucket.endpoint.clone(),
            region: bucket.region.clone(),
            access_key_id: Secret::clone(&bucket.access_key_id),
            secret_access_key: Secret::clone(&bucket.secret_access_key),
        }),
    }
}
