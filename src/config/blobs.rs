//! `[blobs]`: where large content is kept, such as the files of messages.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Outbound;
use super::helpdesk::read_destination;
use super::reader::{Field, Section};
use super::secret::{self, Origin};
use crate::base::Secret;

/// Where large content is kept, and for how long without being named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blobs {
    /// `url` and what belongs to it. Default: the folder `blobs` within `data`.
    pub place: BlobPlace,
    /// `unused`: how long a file stays that no interaction names. Default: `1d`.
    pub unused: Duration,
}

/// Where large content is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobPlace {
    /// `file:PATH`: in a folder on this machine.
    Folder(PathBuf),
    /// `s3://BUCKET/PREFIX`: in an S3-compatible bucket.
    Bucket(Bucket),
}

/// An S3-compatible bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What all names in it begin with; may be empty.
    pub prefix: String,
    /// `endpoint`: the server, without a slash at its end. Default: that of AWS for the region.
    pub endpoint: Option<String>,
    /// `region`: what requests are signed for. Default: `us-east-1`.
    pub region: String,
    /// `access_key_id`.
    pub access_key_id: Secret,
    /// `secret_access_key`.
    pub secret_access_key: Secret,
}

/// The keys that only a bucket has.
const OF_BUCKETS: [&str; 4] = ["endpoint", "region", "access_key_id", "secret_access_key"];

impl Blobs {
    /// Reads the table; `data` is the data folder.
    pub(super) fn read(section: Section<'_>, on: &secret::Place<'_>, outbound: &Outbound, data: &Path) -> Self {
        let range = Duration::from_secs(3600)..=Duration::from_secs(90 * 86_400);
        let unused = section.get("unused").and_then(|field| field.duration(range));
        let url = section.get("url").and_then(|field| read_place(&field, on));
        let place = match url {
            Some(Url::Bucket { name, prefix }) => read_bucket(&section, on, outbound, name, prefix),
            Some(Url::Folder(folder)) => refuse(&section).map(|()| BlobPlace::Folder(folder)),
            None => refuse(&section).map(|()| BlobPlace::Folder(data.join("blobs"))),
        };
        section.finish();
        Blobs {
            place: place.unwrap_or_else(|| BlobPlace::Folder(data.join("blobs"))),
            unused: unused.unwrap_or(Duration::from_secs(86_400)),
        }
    }
}

/// What `url` names.
enum Url {
    Folder(PathBuf),
    Bucket { name: String, prefix: String },
}

fn read_place(field: &Field<'_>, on: &secret::Place<'_>) -> Option<Url> {
    field.parse("\"file:PATH\" or \"s3://BUCKET/PREFIX\"", |text| {
        if let Some(path) = text.strip_prefix("file:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return (!path.is_empty()).then(|| Url::Folder(on.root.join(path)));
        }
        let (name, prefix) = text.strip_prefix("s3://").map(|rest| rest.split_once('/').unwrap_or((rest, "")))?;
        let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        let prefix = prefix.trim_matches('/');
        let fits = (3..=63).contains(&name.len()) && name.chars().all(named) && prefix.chars().all(plain);
        fits.then(|| Url::Bucket { name: name.to_owned(), prefix: prefix.to_owned() })
    })
}

/// Reports what only a bucket has, where there is none.
fn refuse(section: &Section<'_>) -> Option<()> {
    let mut fine = Some(());
    for field in OF_BUCKETS.into_iter().filter_map(|key| section.get(key)) {
        field.add(field.problem("only a bucket has this").expected("`url = \"s3://BUCKET/PREFIX\"` beside it"));
        fine = None;
    }
    fine
}

fn read_bucket(
    section: &Section<'_>,
    on: &secret::Place<'_>,
    outbound: &Outbound,
    name: String,
    prefix: String,
) -> Option<BlobPlace> {
    let endpoint = section.get("endpoint").map(|field| read_destination(&field, outbound));
    let region = section.get("region").and_then(|field| {
        field.parse("the name of a region, such as \"eu-central-1\"", |text| {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
            ((1..=64).contains(&text.len()) && text.chars().all(plain)).then(|| text.to_owned())
        })
    });
    let secret = |key| {
        let expected = "a secret, such as \"env:NAME\" or \"file:PATH\"";
        section.need(key, expected).and_then(|field| read_secret(&field, on))
    };
    let (access_key_id, secret_access_key) = (secret("access_key_id"), secret("secret_access_key"));
    let endpoint = match endpoint {
        Some(read) => Some(read?.as_str().trim_end_matches('/').to_owned()),
        None => None,
    };
    Some(BlobPlace::Bucket(Bucket {
        name,
        prefix,
        endpoint,
        region: region.unwrap_or_else(|| "us-east-1".to_owned()),
        access_key_id: access_key_id?,
        secret_access_key: secret_access_key?,
    }))
}

fn read_secret(field: &Field<'_>, on: &secret::Place<'_>) -> Option<Secret> {
    let (secret, origin) = on.resolve(field)?;
    if origin == Origin::Literal && field.is_open_to_all() {
        field.add(secret::exposed(field.place(), field.path()));
    }
    Some(secret)
}
