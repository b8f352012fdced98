//! The API described in [OpenAPI 3.1](https://spec.openapis.org/oas/v3.1.0), made from the table of routes, and the
//! JSON Schemas of the formats.

use axum::body::Body;
use http::StatusCode;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator, schema_for};
use serde_json::{Map, Value, json};

use super::call::{Answer, Call, missing, typed};
use super::problem::Document;
use super::route::{ROUTES, Route, Verb};
use crate::model::{Conversation, Customer, Decision, Event, EventData, Interaction};

/// A published format: its name, and its schema.
struct Format {
    name: &'static str,
    schema: fn() -> Schema,
}

/// The formats.
const FORMATS: [Format; 6] = [
    Format { name: "interaction", schema: || schema_for!(Interaction) },
    Format { name: "customer", schema: || schema_for!(Customer) },
    Format { name: "conversation", schema: || schema_for!(Conversation) },
    Format { name: "decision", schema: || schema_for!(Decision) },
    Format { name: "event", schema: || schema_for!(Event) },
    Format { name: "event-data", schema: || schema_for!(EventData) },
];

/// The document as indented JSON with a line end. `server` is where the API is reached.
pub fn document(server: Option<&str>) -> String {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Document>();
    let mut paths = Map::new();
    for route in ROUTES {
        let operation = operation(route, &mut generator);
        let verb = match route.verb {
            Verb::Get => "get",
            Verb::Post => "post",
        };
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(verb.to_owned(), operation);
        }
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Segue",
            "version": "v1",
            "summary": "Customers, conversations, events and upkeep of a Segue gateway",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": server.unwrap_or("/") }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": {
                "Problem": {
                    "description": "A problem document (RFC 9457)",
                    "content": { "application/problem+json": { "schema": problem } },
                },
                "Pending": {
                    "description": "In the journal, not yet applied; `Location` tells where to ask",
                    "headers": { "Location": { "schema": { "type": "string" } } },
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/CommandState" } } },
                },
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`sg_`, the token's id, `_` and its secret, as `segue token create` prints it",
                },
            },
        },
    });
    // A value of strings, numbers and lists: writing it cannot fail.
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut operation = Map::new();
    operation.insert("operationId".to_owned(), json!(route.name));
    operation.insert("summary".to_owned(), json!(route.summary));
    match route.scope {
        None => operation.insert("security".to_owned(), json!([])),
        Some(scope) => {
            operation.insert("description".to_owned(), json!(format!("Needs the scope `{}`.", scope.name())))
        }
    };
    let parameters = parameters(route);
    if !parameters.is_empty() {
        operation.insert("parameters".to_owned(), Value::Array(parameters));
    }
    if let Some(takes) = route.takes {
        let schema = takes(generator);
        let body = json!({ "content": { "application/json": { "schema": schema } } });
        operation.insert("requestBody".to_owned(), body);
    }
    let (status, kinds) = route.gives;
    let mut content = Map::new();
    for (media, shape) in kinds {
        let about = shape.map_or_else(|| json!({}), |shape| json!({ "schema": shape(generator) }));
        content.insert((*media).to_owned(), about);
    }
    let mut responses = Map::new();
    responses.insert(status.to_string(), json!({ "description": "Done", "content": content }));
    if route.command {
        responses.insert("202".to_owned(), json!({ "$ref": "#/components/responses/Pending" }));
    }
    responses.insert("default".to_owned(), json!({ "$ref": "#/components/responses/Problem" }));
    operation.insert("responses".to_owned(), Value::Object(responses));
    Value::Object(operation)
}

fn parameters(route: &Route) -> Vec<Value> {
    let text = json!({ "type": "string" });
    let in_path = route.path.split('/').filter_map(|step| step.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> =
        in_path.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": text })).collect();
    for param in route.query {
        parameters.push(json!({
            "name": param.name, "in": "query", "description": param.about, "schema": { "type": param.kind },
        }));
    }
    if route.verb == Verb::Post {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "schema": text,
            "description": "A repeat under the same key, 1 to 255 visible ASCII characters, hears the first answer",
        }));
    }
    parameters
}

/// `GET /v1/openapi.json`
pub(super) async fn serve(call: Call) -> Answer {
    Ok(typed(StatusCode::OK, "application/json", Body::from(call.api.document.clone())))
}

/// `GET /v1/schemas/{name}`
pub(super) async fn schema(call: Call) -> Answer {
    let asked = call.param("name");
    // Events name the schema of their data with its version; people leave it out.
    let name = asked.strip_suffix(".json").map(|name| name.strip_suffix(".v1").unwrap_or(name));
    let format = FORMATS.iter().find(|format| name == Some(format.name)).ok_or_else(|| {
        let names: Vec<String> = FORMATS.iter().map(|format| format!("{}.json", format.name)).collect();
        missing("schema of this name; known:", names.join(", "))
    })?;
    let text = serde_json::to_string_pretty(&(format.schema)())
        .map_err(|e| crate::base::Error::internal("failed to write a schema").because(e))?;
    Ok(typed(StatusCode::OK, "application/schema+json", text + "\n"))
}
