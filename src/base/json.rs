//! Reading JSON from people one does not know.
//!
//! `serde_json` serves everything that has a type of its own. A provider's payload has none, and four things about it
//! matter that a general reader does not give together: numbers keep every digit (an id of 19 digits never touches a
//! float), a repeated key is an error (it is how signed payloads are made to say two things), a lone surrogate from a
//! text cut in the middle of an emoji becomes U+FFFD instead of losing the message, and depth and size are bounded.
//! Form and multipart bodies are turned into the same [`Value`].

use std::borrow::Cow;

use super::{Error, Result};

/// How deep a payload may nest.
pub const MAX_DEPTH: usize = 64;
/// How many values a payload may hold.
pub const MAX_NODES: usize = 200_000;

/// A JSON value that borrows from the text it was read from.
#[derive(Clone, PartialEq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, exactly as written.
    Number(Cow<'a, str>),
    /// A string.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Value<'a>>),
    /// An object, its keys in the order of the text, each once.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

impl<'a> Value<'a> {
    /// Reads one JSON text.
    ///
    /// # Errors
    ///
    /// An error of kind `Invalid` that says what is wrong and at which byte; it never quotes the payload.
    ///
    /// # Example
    ///
    /// ```
    /// use segue::base::json::Value;
    /// let value = Value::parse(br#"{"id": 12345678901234567890123, "text": "a\ud83d"}"#).unwrap();
    /// assert_eq!(value.get("id").unwrap().scalar().unwrap(), "12345678901234567890123");
    /// assert_eq!(value.get("text").unwrap().as_str(), Some("a\u{fffd}"));
    /// ```
    pub fn parse(text: &'a [u8]) -> Result<Value<'a>> {
        let text =
            std::str::from_utf8(text).map_err(|e| Error::invalid(format!("not UTF-8 at byte {}", e.valid_up_to())))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader = Reader { text, at: 0, nodes: 0 };
        let value = reader.value(0)?;
        reader.space();
        if reader.at < text.len() {
            return Err(reader.wrong("text after the end of the JSON value"));
        }
        Ok(value)
    }

    /// The member of this name, if this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        match self {
            Value::Object(members) => members.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The element at this place, if this is an array that has it.
    pub fn index(&self, at: usize) -> Option<&Value<'a>> {
        match self {
            Value::Array(items) => items.get(at),
            _ => None,
        }
    }

    /// The string, if this is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A string's content, a number's digits, or `true`/`false`: what an id or a name may be written as.
    pub fn scalar(&self) -> Option<&str> {
        match self {
            Value::String(text) | Value::Number(text) => Some(text),
            Value::Bool(true) => Some("true"),
            Value::Bool(false) => Some("false"),
            _ => None,
        }
    }

    /// Whether this is `null`, or an empty string, array or object.
    pub fn is_empty(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Bool(_) | Value::Number(_) => false,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
        }
    }

    /// The same value as `serde_json` has it. Integers beyond 64 bits become strings, so that no digit is lost.
    pub fn to_serde(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(b) => (*b).into(),
            Value::Number(digits) => number(digits),
            Value::String(text) => text.as_ref().into(),
            Value::Array(items) => items.iter().map(Value::to_serde).collect(),
            Value::Object(members) => members
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_serde()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    /// The same value, borrowing nothing.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Bool(b) => Value::Bool(b),
            Value::Number(digits) => Value::Number(Cow::Owned(digits.into_owned())),
            Value::String(text) => Value::String(Cow::Owned(text.into_owned())),
            Value::Array(items) => Value::Array(items.into_iter().map(Value::into_owned).collect()),
            Value::Object(members) => Value::Object(
                members.into_iter().map(|(key, value)| (Cow::Owned(key.into_owned()), value.into_owned())).collect(),
            ),
        }
    }
}

fn number(digits: &str) -> serde_json::Value {
    if let Ok(n) = digits.parse::<i64>() {
        return n.into();
    }
    if let Ok(n) = digits.parse::<u64>() {
        return n.into();
    }
    let integer = !digits.contains(['.', 'e', 'E']);
    match digits.parse::<f64>().ok().filter(|_| !integer).and_then(serde_json::Number::from_f64) {
        Some(n) => serde_json::Value::Number(n),
        None => digits.into(),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, what: &str) -> Error {
        Error::invalid(format!("{what} at byte {}", self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>> {
        if self.rest().starts_with(word) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.wrong("unknown word in JSON"))
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Error::new(super::Kind::Limit, format!("JSON holds more than {MAX_NODES} values")));
        }
        if depth > MAX_DEPTH {
            return Err(Error::new(super::Kind::Limit, format!("JSON nests deeper than {MAX_DEPTH} levels")));
        }
        self.space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.wrong("unexpected character in JSON")),
            None => Err(self.wrong("JSON ends too early")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>> {
        self.at += 1;
        let mut members: Vec<(Cow<'a, str>, Value<'a>)> = Vec::new();
        let mut seen: Option<std::collections::HashSet<Cow<'a, str>>> = None;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.wrong("expected a key in JSON object"));
            }
            let key = self.string()?;
            if repeats(&members, &mut seen, key.as_ref()) {
                return Err(self.wrong("repeated key in JSON object"));
            }
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.wrong("expected `:` in JSON object"));
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            members.push((key, value));
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Object(members));
                }
                Some(_) => return Err(self.wrong("expected `,` or `}` in JSON object")),
                None => return Err(self.wrong("JSON ends too early")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value<'a>> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::Array(items));
                }
                Some(_) => return Err(self.wrong("expected `,` or `]` in JSON array")),
                None => return Err(self.wrong("JSON ends too early")),
            }
        }
    }

    fn digits(&mut self) -> usize {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - from
    }

    fn number(&mut self) -> Result<Value<'a>> {
        let from = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return Err(self.wrong("malformed number in JSON"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.wrong("malformed number in JSON"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.wrong("malformed number in JSON"));
            }
        }
        Ok(Value::Number(Cow::Borrowed(self.text.get(from..self.at).unwrap_or_default())))
    }

    fn string(&mut self) -> Result<Cow<'a, str>> {
        self.at += 1;
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let plain = bytes.iter().position(|b| *b == b'"' || *b == b'\\' || *b < 0x20).unwrap_or(bytes.len());
        let head = rest.get(..plain).unwrap_or_default();
        self.at += plain;
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(head));
        }
        let mut text = String::with_capacity(plain + 32);
        text.push_str(head);
        loop {
            match self.peek() {
                None => return Err(self.wrong("JSON ends inside a string")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => self.escape(&mut text)?,
                Some(byte) if byte < 0x20 => return Err(self.wrong("control character in JSON string")),
                Some(_) => {
                    let rest = self.rest();
                    let run = rest.bytes().position(|b| b == b'"' || b == b'\\' || b < 0x20).unwrap_or(rest.len());
                    text.push_str(rest.get(..run).unwrap_or_default());
                    self.at += run;
                }
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<()> {
        self.at += 1;
        let plain = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                let unit = self.hex4()?;
                text.push(self.scalar_of(unit));
                return Ok(());
            }
            _ => return Err(self.wrong("unknown escape in JSON string")),
        };
        self.at += 1;
        text.push(plain);
        Ok(())
    }

    /// The character of a UTF-16 unit, taking its second half from the text; U+FFFD for a half alone.
    fn scalar_of(&mut self, unit: u32) -> char {
        if (0xd800..0xdc00).contains(&unit) && self.rest().starts_with("\\u") {
            let before = self.at;
            self.at += 2;
            match self.hex4() {
                Ok(low) if (0xdc00..0xe000).contains(&low) => {
                    let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                    return char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                }
                _ => self.at = before,
            }
        }
        char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    fn hex4(&mut self) -> Result<u32> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|d| u32::from_str_radix(d, 16).ok()) {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => Err(self.wrong("malformed \\u escape in JSON string")),
        }
    }
}

/// Whether `key` is among `members`; remembers the keys of large objects, so that a hostile one costs linear time.
fn repeats<'a>(
    members: &[(Cow<'a, str>, Value<'a>)],
    seen: &mut Option<std::collections::HashSet<Cow<'a, str>>>,
    key: &str,
) -> bool {
    const FEW: usize = 32;
    if members.len() < FEW {
        return members.iter().any(|(name, _)| name == key);
    }
    let seen = seen.get_or_insert_with(|| members.iter().map(|(name, _)| name.clone()).collect());
    !seen.insert(Cow::Owned(key.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(5, 60, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..40)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_what_both_read(value in any_json(), pretty: bool) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            prop_assert!(Value::parse(&text).unwrap().to_serde() == value);
        }

        #[test]
        fn refuses_whatever_serde_json_refuses_but_lone_surrogates(text in "[\\[\\]{}\",:0-9a-f\\\\utrnl .eE+-]{0,24}") {
            let ours = Value::parse(text.as_bytes());
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            if theirs.is_err() && !text.contains("\\u") {
                prop_assert!(ours.is_err() || text.contains('e') || text.contains('E'), "{}", text);
            }
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = Value::parse(&bytes);
        }
    }

    #[test]
    fn refuses_repeated_keys_in_small_and_large_objects() {
        assert!(Value::parse(br#"{"a":1,"b":2,"a":3}"#).is_err());
        assert!(Value::parse(br#"{"a":1,"\u0061":3}"#).is_err());
        let many: Vec<String> = (0..100).map(|i| format!("\"k{i}\":0")).collect();
        assert!(Value::parse(format!("{{{}}}", many.join(",")).as_bytes()).is_ok());
        assert!(Value::parse(format!("{{{},\"k7\":1}}", many.join(",")).as_bytes()).is_err());
    }

    #[test]
    fn bounds_depth_and_size() {
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert_eq!(Value::parse(&deep).err().unwrap().kind(), crate::base::Kind::Limit);
        let wide = [b"[".to_vec(), b"0,".repeat(MAX_NODES + 1), b"0]".to_vec()].concat();
        assert_eq!(Value::parse(&wide).err().unwrap().kind(), crate::base::Kind::Limit);
    }

    #[test]
    fn pairs_surrogates_and_replaces_lone_ones() {
        let text = |json: &str| Value::parse(json.as_bytes()).unwrap().as_str().unwrap().to_owned();
        assert_eq!(text(r#""\ud83d\ude00""#), "😀");
        assert_eq!(text(r#""\ud83dx""#), "\u{fffd}x");
        assert_eq!(text(r#""\ud83d\u0041""#), "\u{fffd}A");
        assert_eq!(text(r#""\ude00""#), "\u{fffd}");
        assert_eq!(text(r#""\u0000""#), "\0");
    }
}
