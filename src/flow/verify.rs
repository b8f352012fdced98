//! Stage 2: whether a request is really the provider's.
//!
//! Takes what intake received, gives it verified, or a refusal with its reason. Over the raw bytes, in constant time,
//! and mandatory: a channel without verification has to say so in its connector's manifest.

use super::ChannelSetup;
use super::intake::Received;
use crate::base::Timestamp;
use crate::base::hash::key16;
use crate::connector::{Refusal, Request};

/// A request that is the provider's. Only [`step`] makes one.
pub(crate) struct Verified {
    pub(crate) channel: String,
    pub(crate) request: Request,
    pub(crate) at: Timestamp,
    pub(crate) verified_by: String,
    /// The headers that the connector asked to keep.
    pub(crate) kept_headers: Vec<(String, String)>,
    /// What makes a repeat of this request recognizable.
    pub(crate) delivery_key: [u8; 16],
    /// Whether the provider waits for an answer that policy decides on.
    pub(crate) waits: bool,
}

/// Checks a request.
pub(crate) fn step(channel: &ChannelSetup, received: Received) -> Result<Verified, Refusal> {
    let Received { channel: name, request, at } = received;
    let verified = channel.connector.verify(&request, &channel.account, at)?;
    let key = channel.connector.delivery_key(&request, &channel.account);
    let kept =
        |header: &(String, String)| header.0 == "content-type" || channel.connector.keep_headers().contains(&header.0);
    let kept_headers = request.headers.iter().filter(|header| kept(header)).cloned().collect();
    let waits = channel.connector.waits(&request, &channel.account).is_some();
    Ok(Verified {
        delivery_key: key16(&[b"delivery", name.as_bytes(), &key]),
        channel: name,
        request,
        at,
        verified_by: verified.0,
        kept_headers,
        waits,
    })
}
