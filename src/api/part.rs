//! Files that were fetched with an interaction, opened and checked as they are streamed.
//!
//! A file is what a stranger sent: it goes out as an attachment that no browser guesses about or runs.

use axum::body::Body;
use axum::response::Response;
use futures_util::TryStreamExt;
use http::header::{
    CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue,
};
use http::{HeaderName, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::apart;
use super::call::{Answer, Call, bad, missing};
use super::problem::Problem;
use super::story::parse;
use crate::base::id::InteractionId;
use crate::base::{Error, Kind};
use crate::model::part::FetchState;
use crate::model::{Blob, Part};
use crate::store::blob::Reading;

/// What may stand in `filename*` as it is (RFC 8187, `attr-char`).
const ATTR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// `GET /v1/interactions/{id}/parts/{part}`
pub(super) async fn fetch(call: Call) -> Answer {
    let id: InteractionId = call.id("id")?;
    let number: usize = call.param("part").parse().map_err(|_| bad("parts are counted from 0"))?;
    let context = call.api.context().clone();
    let row = apart(async move { context.store.state.interaction_by_id(id).await }).await?;
    let row = row.ok_or_else(|| missing("interaction", id))?;
    let no = row.no;
    let part = parse(&row)?.parts.into_iter().nth(number);
    let part = part.ok_or_else(|| missing("part", format_args!("{number} in {id}")))?;
    let blob = part.blob.as_ref().ok_or_else(|| missing("file", format_args!("in part {number} of {id}")))?;
    let name = here(blob)?;
    let file =
        call.api.context().blobs.as_ref().ok_or_else(gone)?.of_part(no, number, &name).await?.ok_or_else(gone)?;
    stream_file(file, &part, number).await
}

fn gone() -> Problem {
    Problem::new(StatusCode::GONE, "the file is not kept any more")
}

/// The id of the file, if it is here.
fn here(blob: &Blob) -> Result<String, Problem> {
    match blob.fetch {
        Some(FetchState::Fetched) => {}
        Some(FetchState::Failed) => {
            let why = blob.fetch_error.clone().unwrap_or_else(|| "the provider does not give it".to_owned());
            return Err(Problem::new(StatusCode::GONE, format!("the file could not be fetched: {why}")));
        }
        Some(FetchState::Pending) => {
            return Err(Problem::new(StatusCode::CONFLICT, "the file is not here yet").retry_after(5));
        }
        None => return Err(Problem::new(StatusCode::NOT_FOUND, "the file stays with whoever gave its address")),
    }
    // It is made of digests; anything else would be of somebody's choice.
    let name =
        blob.id.clone().filter(|id| id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    name.ok_or_else(|| Problem::from(Error::internal("a fetched file has no name")))
}

async fn stream_file(file: Reading, part: &Part, number: usize) -> Answer {
    let (name, size) = (file.name().to_string(), file.size());
    let content = match file.open().await {
        Ok(content) => content,
        Err(error) if error.kind() == Kind::NotFound => return Err(gone()),
        Err(error) => return Err(error.into()),
    };
    // An error ends the connection before all that was announced is sent, so that nobody takes the file for whole.
    let told = |error: &Error| tracing::error!(target: "segue::api", error = %error.full(), "a file broke off");
    let mut response = Response::new(Body::from_stream(content.inspect_err(told)));
    headers(response.headers_mut(), part, &name, number, size);
    Ok(response)
}

fn headers(headers: &mut HeaderMap, part: &Part, name: &str, number: usize, size: u64) {
    let media = part.mediatype.as_deref().and_then(|media| HeaderValue::from_str(media).ok());
    headers.insert(CONTENT_TYPE, media.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    let set = |headers: &mut HeaderMap, name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set(headers, ETAG, format!("\"{name}\""));
    let given = part.blob.as_ref().and_then(|blob| blob.filename.as_ref()).map(|name| name.expose().as_str());
    set(headers, CONTENT_DISPOSITION, disposition(given, number));
}

/// RFC 6266: always an attachment; the sender's own name for it in the form that carries any character.
fn disposition(given: Option<&str>, number: usize) -> String {
    match given.filter(|name| !name.is_empty()) {
        None => format!("attachment; filename=\"part-{number}\""),
        Some(name) => {
            // Whatever the sender called it, it names a file and no path.
            let name: String = name.chars().map(|c| if matches!(c, '/' | '\\') { '_' } else { c }).take(200).collect();
            format!("attachment; filename=\"part-{number}\"; filename*=UTF-8''{}", utf8_percent_encode(&name, ATTR))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PartType;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_name_breaks_out_of_its_header(name in ".{0,300}") {
            let text = disposition(Some(&name), 3);
            prop_assert!(text.starts_with("attachment; filename=\"part-3\""));
            prop_assert!(text.bytes().all(|b| (0x20..0x7f).contains(&b)));
            prop_assert!(!text.contains("%2F") && !text.contains("%5C"));
            prop_assert_eq!(text.matches('"').count(), 2);
        }
    }

    #[test]
    fn only_a_digest_names_a_file() {
        let blob = |id: &str| Blob { id: Some(id.to_owned()), fetch: Some(FetchState::Fetched), ..Blob::default() };
        assert!(here(&blob(&"a1".repeat(32))).is_ok());
        for id in ["", "../../etc/passwd", &"A".repeat(64), &"a".repeat(63), &format!("/{}", "a".repeat(63))] {
            assert!(here(&blob(id)).is_err(), "{id}");
        }
        assert!(here(&Blob { fetch: None, ..blob(&"a1".repeat(32)) }).is_err());
    }

    #[test]
    fn a_media_type_that_is_no_header_is_no_type() {
        let part = Part { mediatype: Some("text/html\r\nx: y".to_owned()), ..Part::new(PartType::File) };
        let mut map = HeaderMap::new();
        headers(&mut map, &part, "x", 0, 1);
        assert_eq!(map.get(CONTENT_TYPE).unwrap(), "application/octet-stream");
        assert_eq!(map.get(CONTENT_DISPOSITION).unwrap(), "attachment; filename=\"part-0\"");
    }
}
