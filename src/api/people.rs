//! Customers: found by an exact identifier, shown with their stories, their interactions over all channels.

use axum::response::Response;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::call::{Answer, Call, bad, json, missing};
use super::problem::Problem;
use super::story::Timeline;
use super::{Api, apart};
use crate::base::Result;
use crate::base::id::{CustomerId, InteractionId};
use crate::flow::Context;
use crate::model::{Customer, Identifier, IdentifierType, OpenIssue};
use crate::store::{CustomerRow, IdentifierKey};

/// How many open stories a customer is shown with.
const OPEN: usize = 50;

/// Customers that were found.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Customers")]
pub(super) struct Customers {
    /// One or none: an identifier belongs to one customer.
    customers: Vec<Customer>,
}

/// `GET /v1/customers?identifier=`
pub(super) async fn find(call: Call) -> Answer {
    let asked = call.query("identifier").and_then(|text| text.split_once(':'));
    let (kind, value) = asked.ok_or_else(|| bad("`identifier` is a type and a value, such as `tel:+4930123456`"))?;
    let identifier = Identifier::new(kind, canonical(kind, value));
    let context = call.api.context().clone();
    let found = apart(async move {
        let state = &context.store.state;
        let mut customers = Vec::new();
        for (_, no) in state.holders(&[IdentifierKey::of(&identifier)]).await? {
            if let Some(row) = state.customer(no).await? {
                customers.push(view(&context, row).await?);
            }
        }
        Ok(customers)
    });
    json(StatusCode::OK, &Customers { customers: found.await? })
}

/// The value as it is stored, for the types whose form is well known.
fn canonical(kind: &str, value: &str) -> String {
    match kind {
        // A plus sign that was not percent-encoded arrives as a space.
        IdentifierType::TEL => match value.strip_prefix(' ') {
            Some(digits) => format!("+{digits}"),
            None => value.to_owned(),
        },
        IdentifierType::MAILTO => match value.rsplit_once('@') {
            Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()),
            None => value.to_owned(),
        },
        _ => value.to_owned(),
    }
}

/// `GET /v1/customers/{id}`
pub(super) async fn show(call: Call) -> Answer {
    let row = row(&call).await?;
    let context = call.api.context().clone();
    json(StatusCode::OK, &apart(async move { view(&context, row).await }).await?)
}

/// `GET /v1/customers/{id}/timeline`
pub(super) async fn timeline(call: Call) -> Answer {
    let limit = call.limit()?;
    let customer = row(&call).await?;
    // A page begins where the one before ended: the chain is never walked from its end again.
    let (latest, before) = match call.query("before") {
        None => (customer.latest, i64::MAX),
        Some(text) => {
            let id: InteractionId = text.parse().map_err(Problem::from)?;
            let no = before(&call.api, id, customer.no).await?;
            let no = no.ok_or_else(|| bad("`before` names no interaction of this customer"))?;
            (no, no)
        }
    };
    let found = call.api.context().store.catalog.customer_timeline(latest, before, Timeline::most(limit)).await?;
    answer(&Timeline::of(found, |last| last.id.to_string())?)
}

async fn before(api: &Api, id: InteractionId, customer: i64) -> Result<Option<i64>> {
    let context = api.context().clone();
    let row = apart(async move { context.store.state.interaction_by_id(id).await }).await?;
    Ok(row.filter(|row| row.customer == customer).map(|row| row.no))
}

fn answer(timeline: &Timeline) -> Result<Response, Problem> {
    json(StatusCode::OK, timeline)
}

async fn row(call: &Call) -> Result<CustomerRow, Problem> {
    let id: CustomerId = call.id("id")?;
    let row = call.api.context().store.catalog.customer_by_id(id).await?;
    row.ok_or_else(|| missing("customer", id))
}

async fn view(context: &Context, row: CustomerRow) -> Result<Customer> {
    let state = &context.store.state;
    let open = state.open_conversations(row.no, row.version, OPEN).await?;
    Ok(Customer {
        id: row.id,
        names: row.profile.names,
        identifiers: row.profile.identifiers,
        open_issues: open
            .into_iter()
            .map(|story| OpenIssue {
                conversation_id: story.id,
                opened_at: story.opened_at,
                queue: story.queue,
                owner: story.owner,
            })
            .collect(),
        recent: row.recent,
        created_at: row.created_at,
    })
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn a_plus_that_became_a_space_is_a_plus_again() {
        assert_eq!(canonical("tel", " 4930123456"), "+4930123456");
        assert_eq!(canonical("tel", "+4930123456"), "+4930123456");
        assert_eq!(canonical("mailto", "Ana@Example.COM"), "Ana@example.com");
        assert_eq!(canonical("other", " x"), " x");
    }
}
