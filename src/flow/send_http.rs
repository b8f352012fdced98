//! Stage 9, the other way, for providers: the requests of one message, and what each answer means.
//!
//! The invariant: once one of the requests was taken, nothing of the message is sent again by itself.

use super::ChannelSetup;
use super::send::Tried;
use super::sending::Cause;
use crate::base::{Error, Result, Timestamp};
use crate::connector::{HttpCall, SendReading};
use crate::model::entry::SendResult;
use crate::net::{Client, Phase, client};

/// How much of a provider's words is kept.
const TITLE: usize = 200;

/// Makes the requests of one message in order. Once one of them was taken, the message is out.
pub(super) async fn try_all(client: &Client, channel: &ChannelSetup, calls: Vec<HttpCall>, now: Timestamp) -> Tried {
    let mut ids = Vec::new();
    let total = calls.len();
    for (done, call) in calls.into_iter().enumerate() {
        let begun = done > 0;
        let part = |title: String| if total > 1 { format!("part {} of {total}: {title}", done + 1) } else { title };
        match try_one(client, channel, call, now).await {
            Tried::Ended(SendResult::Accepted { provider_ids }) => ids.extend(provider_ids),
            Tried::Ended(SendResult::Refused { code, title }) => {
                return Tried::Ended(SendResult::Refused { code, title: part(title) });
            }
            Tried::Ended(SendResult::Uncertain { title, .. }) => return uncertain(part(title)),
            Tried::NotSent { reason, .. } if begun => return uncertain(part(reason)),
            other => return other,
        }
    }
    Tried::Ended(SendResult::Accepted { provider_ids: ids })
}

fn uncertain(title: String) -> Tried {
    Tried::Ended(SendResult::Uncertain { title, provider_ids: Vec::new() })
}

async fn try_one(client: &Client, channel: &ChannelSetup, call: HttpCall, now: Timestamp) -> Tried {
    let request = match to_request(&call) {
        Ok(request) => request,
        Err(error) => {
            return Tried::Ended(SendResult::Refused { code: None, title: error.message().to_owned() });
        }
    };
    let response = match client.send(request).await {
        Ok(response) => response,
        Err(error) if error.phase() == Phase::BeforeSend => {
            return Tried::NotSent { reason: error.to_string(), after_ms: None, cause: Cause::of_request(&error) };
        }
        Err(error) => return uncertain(error.to_string()),
    };
    let headers: Vec<(String, String)> = response
        .headers
        .iter()
        .filter_map(|(name, value)| value.to_str().ok().map(|value| (name.as_str().to_owned(), value.to_owned())))
        .collect();
    match channel.connector.read_response(response.status.as_u16(), &headers, &response.body) {
        SendReading::Accepted { ids } => Tried::Ended(SendResult::Accepted { provider_ids: ids }),
        SendReading::Refused { code, mut title } => {
            super::event::shorten(&mut title, TITLE);
            Tried::Ended(SendResult::Refused { code, title })
        }
        SendReading::RetryLater { after_ms } => Tried::NotSent {
            reason: format!("the provider answered {}", response.status.as_u16()),
            after_ms: after_ms.or_else(|| super::attempt::retry_after(&response.headers, now)),
            cause: Cause::of_answer(response.status.as_u16()),
        },
        SendReading::Uncertain { mut title } => {
            super::event::shorten(&mut title, TITLE);
            uncertain(title)
        }
    }
}

/// The client's request of a connector's.
pub(super) fn to_request(call: &HttpCall) -> Result<client::Request> {
    let method = call.method.parse().map_err(|_| Error::internal("a connector rendered no HTTP method"))?;
    let mut request = client::Request::new(method, call.url.expose()).body(call.body.clone());
    for (name, value) in &call.headers {
        let name =
            http::HeaderName::try_from(name.as_str()).map_err(|_| Error::internal("a header name is malformed"))?;
        let mut value =
            http::HeaderValue::from_str(value.expose()).map_err(|_| Error::internal("a header value is malformed"))?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    Ok(request)
}
