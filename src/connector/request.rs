//! A provider's request as a connector sees it, and the reading of its body.
//!
//! Signatures are checked over `body` as it came. Everything else reads the one [`Value`] that JSON, form and multipart
//! bodies alike are turned into.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use futures_util::FutureExt;

use super::eval::{Env, Tables, Val};
use super::options::Account;
use crate::base::json::{MAX_NODES, Value};
use crate::base::{Error, Kind, Result};

/// A provider's request.
#[derive(Clone, Default)]
pub struct Request {
    /// The method in upper case.
    pub method: String,
    /// The public URL as the provider called it, with its query.
    pub url: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: Bytes,
    /// What lies where [`super::Connector::signer`] says, as it was fetched: PEM.
    pub signer: Option<Bytes>,
}

/// What a provider is answered.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The media type of the body.
    pub content_type: String,
    /// The body.
    pub body: String,
}

impl Request {
    /// The first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The URL's query, raw, without its question mark.
    pub(super) fn query(&self) -> &str {
        let url = self.url.split('#').next().unwrap_or_default();
        url.split_once('?').map_or("", |(_, query)| query)
    }

    /// The media type of the body in lower case, without parameters.
    pub(super) fn media_type(&self) -> String {
        let value = self.header("content-type").unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }
}

/// Reads form-encoded text into an object; a repeated name becomes a list.
pub(super) fn read_form(text: &[u8]) -> Result<Value<'_>> {
    fields(url::form_urlencoded::parse(text))
}

fn fields<'a>(pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>) -> Result<Value<'a>> {
    let mut members: Vec<(Cow<'a, str>, Value<'a>)> = Vec::new();
    // Where each name stands: this is read before a signature is checked, of whoever sends a form.
    let mut places: HashMap<Cow<'a, str>, usize> = HashMap::new();
    // Forms of providers have some thirty fields.
    const MOST_NAMES: usize = 1000;
    for (count, (name, value)) in pairs.enumerate() {
        if members.len() > MOST_NAMES || count > MAX_NODES {
            return Err(Error::new(Kind::Limit, format!("form holds more than {MOST_NAMES} names")));
        }
        let value = Value::String(value);
        match places.get(&name).and_then(|place| members.get_mut(*place)) {
            None => {
                places.insert(name.clone(), members.len());
                members.push((name, value));
            }
            Some((_, Value::Array(items))) => items.push(value),
            Some((_, single)) => {
                let first = std::mem::replace(single, Value::Null);
                *single = Value::Array(vec![first, value]);
            }
        }
    }
    Ok(Value::Object(members))
}

/// Reads a multipart form; a file becomes an object of `filename`, `content_type` and `size`.
fn read_multipart<'a>(body: &Bytes, content_type: &str) -> Result<Value<'a>> {
    let broken = |error: multer::Error| Error::invalid("body is not the multipart form it says it is").because(error);
    let boundary = multer::parse_boundary(content_type).map_err(broken)?;
    let whole = body.clone();
    let stream = futures_util::stream::once(async move { Ok::<_, std::convert::Infallible>(whole) });
    let mut form = multer::Multipart::new(stream, boundary);
    let read = async {
        let mut members = Vec::new();
        while let Some(field) = form.next_field().await? {
            let name = field.name().unwrap_or_default().to_owned();
            let file = field.file_name().map(str::to_owned);
            let media = field.content_type().map(ToString::to_string).unwrap_or_default();
            let content = field.bytes().await?;
            let value = match file {
                None => Value::String(Cow::Owned(String::from_utf8_lossy(&content).into_owned())),
                Some(file) => Value::Object(vec![
                    (Cow::Borrowed("filename"), Value::String(Cow::Owned(file))),
                    (Cow::Borrowed("content_type"), Value::String(Cow::Owned(media))),
                    (Cow::Borrowed("size"), Value::Number(Cow::Owned(content.len().to_string()))),
                ]),
            };
            members.push((Cow::Owned(name), value));
            if members.len() > 1000 {
                break;
            }
        }
        Ok(Value::Object(members))
    };
    // The whole body is in memory, so the reader never has to wait.
    read.now_or_never().unwrap_or_else(|| Ok(Value::Null)).map_err(broken)
}

/// The bytes of the first field of this name in a form, as they came: what is in it need not be text. Nothing if the body is no
/// form or has no such field.
pub(super) fn form_field(request: &Request, name: &str) -> Option<Bytes> {
    match request.media_type().as_str() {
        "application/x-www-form-urlencoded" => {
            let decoded = |piece: &[u8]| -> Vec<u8> {
                let spaced: Vec<u8> = piece.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
                percent_encoding::percent_decode(&spaced).collect()
            };
            let pairs = request.body.split(|byte| *byte == b'&').map(|pair| {
                let end = memchr::memchr(b'=', pair).unwrap_or(pair.len());
                let (held, value) = pair.split_at_checked(end).unwrap_or((pair, &[]));
                (held, value.get(1..).unwrap_or_default())
            });
            let mut found = pairs.filter(|(held, _)| held.len() <= 3 * name.len() && decoded(held) == name.as_bytes());
            found.next().map(|(_, value)| Bytes::from(decoded(value)))
        }
        "multipart/form-data" => multipart_field(request, name),
        _ => None,
    }
}

fn multipart_field(request: &Request, name: &str) -> Option<Bytes> {
    let boundary = multer::parse_boundary(request.header("content-type")?).ok()?;
    let whole = request.body.clone();
    let stream = futures_util::stream::once(async move { Ok::<_, std::convert::Infallible>(whole) });
    let mut form = multer::Multipart::new(stream, boundary);
    let read = async {
        while let Some(field) = form.next_field().await? {
            if field.name() == Some(name) {
                return field.bytes().await.map(Some);
            }
        }
        Ok::<_, multer::Error>(None)
    };
    // The whole body is in memory, so the reader never has to wait.
    read.now_or_never()?.ok()?
}

/// Reads the body by its content type; `json_in` names the form field that holds JSON, if there is one.
pub(super) fn read_body<'r>(request: &'r Request, json_in: Option<&str>) -> Result<Value<'r>> {
    let media_type = request.media_type();
    let form = match media_type.as_str() {
        "application/x-www-form-urlencoded" => read_form(&request.body)?,
        "multipart/form-data" => read_multipart(&request.body, request.header("content-type").unwrap_or_default())?,
        // Anything else is read as JSON: providers send it as text/plain, application/octet-stream or nothing at all.
        _ if request.body.is_empty() && request.method == "GET" => return Ok(Value::Null),
        _ => return Value::parse(&request.body),
    };
    if let Some(inner) = json_in.and_then(|name| form.get(name)) {
        let text = inner.as_str().ok_or_else(|| Error::invalid("form field with JSON is repeated"))?;
        return Value::parse(text.as_bytes()).map(Value::into_owned);
    }
    Ok(form)
}

/// The slots that every expression about a request can name, in this order.
pub(super) const REQUEST_SCOPES: [&str; 9] =
    ["body", "query", "headers", "method", "option", "account", "channel", "received_at", "form"];

/// The slot of `body`.
pub(super) const BODY: usize = 0;
/// The slot of `form`: the fields of a form wherever they come, which by GET is the query.
pub(super) const FORM: usize = 8;

/// A request with everything expressions may ask of it read out.
pub(super) struct Opened<'r> {
    pub(super) body: Value<'r>,
    query: Value<'r>,
    headers: Value<'r>,
    method: Value<'r>,
    /// There is no body, so that the fields of a form can only stand in the query.
    bare: bool,
}

impl<'r> Opened<'r> {
    /// Reads query and headers, and takes the body as read.
    pub(super) fn with_body(request: &'r Request, body: Value<'r>) -> Opened<'r> {
        let header = |(name, value): &'r (String, String)| {
            (Cow::Borrowed(name.as_str()), Value::String(Cow::Borrowed(value.as_str())))
        };
        Opened {
            body,
            query: read_form(request.query().as_bytes()).unwrap_or(Value::Null),
            headers: Value::Object(request.headers.iter().map(header).collect()),
            method: Value::String(Cow::Borrowed(&request.method)),
            bare: request.body.is_empty(),
        }
    }

    /// Reads all of it; a body that cannot be read is `null`.
    pub(super) fn leniently(request: &'r Request, json_in: Option<&str>) -> Opened<'r> {
        Opened::with_body(request, read_body(request, json_in).unwrap_or(Value::Null))
    }

    /// The scopes of [`REQUEST_SCOPES`] over this request.
    pub(super) fn env<'v>(&'v self, account: &'v Account, tables: &'v Tables, secrets: bool) -> Env<'v> {
        let mut env = Env::new(tables, account.default_country.as_deref());
        let scopes = [&self.body, &self.query, &self.headers, &self.method, account.options.scope(secrets)];
        for (at, value) in scopes.into_iter().enumerate() {
            env.set(at, Some(Val::Node(value)));
        }
        env.set(5, account.address.as_deref().map(|address| Val::Text(Cow::Borrowed(address))));
        env.set(6, Some(Val::Text(Cow::Borrowed(&account.channel))));
        env.set(FORM, Some(Val::Node(if self.bare { &self.query } else { &self.body })));
        env
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(content_type: &str, body: &str) -> Request {
        Request {
            method: "POST".to_owned(),
            url: "https://gate.example/in/x?a=1&a=2&b=%20c".to_owned(),
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: Bytes::from(body.to_owned()),
            signer: None,
        }
    }

    #[test]
    fn forms_repeat_names_as_lists() {
        let form = request("application/x-www-form-urlencoded; charset=UTF-8", "From=%2B1415&Digits=1&Digits=2");
        let value = read_body(&form, None).unwrap();
        assert_eq!(value.get("From").unwrap().as_str(), Some("+1415"));
        assert_eq!(value.get("Digits").unwrap().index(1).unwrap().as_str(), Some("2"));
    }

    #[test]
    fn many_names_and_repeats_keep_their_order_and_their_bounds() {
        let names = |count: usize| (0..count).map(|name| format!("n{name}=&")).collect::<String>();
        let form = names(1000) + &"n999=x&".repeat(199_000);
        let value = read_form(form.as_bytes()).unwrap();
        let Value::Object(members) = &value else { panic!("no object") };
        assert!(members.iter().enumerate().all(|(place, (name, _))| *name == format!("n{place}")));
        let Some(Value::Array(last)) = value.get("n999") else { panic!("no list") };
        assert_eq!((members.len(), last.len()), (1000, 199_001));
        assert!(last.iter().skip(1).all(|item| item.as_str() == Some("x")));
        assert!(read_form((names(1001) + "n0=x&").as_bytes()).is_err());
        assert!(read_form("a=&".repeat(MAX_NODES + 2).as_bytes()).is_err());
    }

    #[test]
    fn json_inside_a_form_is_the_body() {
        let form = request("application/x-www-form-urlencoded", "payload=%7B%22id%22%3A12345678901234567890%7D");
        let value = read_body(&form, Some("payload")).unwrap();
        assert_eq!(value.get("id").unwrap().scalar(), Some("12345678901234567890"));
    }

    #[test]
    fn multipart_fields_and_files() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"From\"\r\n\r\n+1415\r\n--b\r\nContent-Disposition: \
                    form-data; name=\"f\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b--\r\n";
        let value = read_body(&request("multipart/form-data; boundary=b", body), None).map(Value::into_owned).unwrap();
        assert_eq!(value.get("From").unwrap().as_str(), Some("+1415"));
        assert_eq!(value.get("f").unwrap().get("size").unwrap().scalar(), Some("2"));
        assert!(read_body(&request("multipart/form-data", body), None).is_err());
    }

    #[test]
    fn a_field_of_a_form_is_had_byte_for_byte() {
        let form = "b%2Dx=1&a=%E4+%2B%0D%0A%00&a=second&c";
        let mut request = request("application/x-www-form-urlencoded", form);
        let field = |request: &Request, name: &str| form_field(request, name).map(|bytes| bytes.to_vec());
        assert_eq!(field(&request, "a").unwrap(), b"\xe4 +\r\n\0");
        assert_eq!(field(&request, "b-x").unwrap(), b"1");
        assert_eq!((field(&request, "c"), field(&request, "d")), (Some(Vec::new()), None));
        let whole = b"\xe4 +\r\n--x\r\n\0\r\n";
        let head = b"--cut\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n";
        let parts: [&[u8]; 5] =
            [head, whole, b"\r\n--cut\r\nContent-Disposition: form-data; name=\"b\"", b"\r\n\r\n2\r\n", b"--cut--\r\n"];
        request.body = parts.concat().into();
        request.headers = vec![("content-type".to_owned(), "multipart/form-data; boundary=cut".to_owned())];
        assert_eq!((field(&request, "a").unwrap(), field(&request, "b").unwrap()), (whole.to_vec(), b"2".to_vec()));
        request.headers.clear();
        assert_eq!(field(&request, "a"), None);
    }

    #[test]
    fn a_form_stands_in_the_query_where_there_is_no_body() {
        use crate::connector::expr::{Names, compile};
        let scopes = REQUEST_SCOPES.map(str::to_owned).to_vec();
        let names = Names { scopes, options: Vec::new(), secrets: false, tables: Vec::new(), scripts: None };
        let expr = compile("form.a[-1] ?? form.b", &names).unwrap();
        assert!(expr.mentions(FORM) && !expr.mentions(BODY));
        let (tables, options) = (Tables::new(), crate::connector::options::fill(&[], &serde_json::Map::new()).0);
        let account = Account { channel: "x".to_owned(), options, default_country: None, address: None };
        let read = |method: &str, body: &str| {
            let mut request = request("application/x-www-form-urlencoded", body);
            request.method = method.to_owned();
            let opened = Opened::leniently(&request, None);
            expr.string(&opened.env(&account, &tables, false))
        };
        assert_eq!(read("GET", "").as_deref(), Some("2"));
        assert_eq!(read("POST", "b=3").as_deref(), Some("3"));
    }

    #[test]
    fn anything_else_is_json() {
        assert!(read_body(&request("text/plain", "{\"a\":1}"), None).is_ok());
        assert!(read_body(&request("application/json", "{\"a\":1,\"a\":2}"), None).is_err());
    }
}
