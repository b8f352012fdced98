//! Texts with places to fill: `Hello {name}, we are back at {opens_at}.`

use std::collections::BTreeMap;

use crate::base::Pii;

/// Fills the places of a text. A place without a value stays empty; `{{` and `}}` stand for the braces themselves.
///
/// # Example
///
/// ```
/// use segue::rules::template::fill;
/// let vars = [("name".to_owned(), "Ana".into())].into();
/// assert_eq!(fill("Hello {name}{{}}", &vars), "Hello Ana{}");
/// ```
pub fn fill(template: &str, vars: &BTreeMap<String, Pii<String>>) -> String {
    let mut text = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        if let Some(after) = from.strip_prefix("{{") {
            text.push('{');
            rest = after;
        } else if let Some(after) = from.strip_prefix("}}") {
            text.push('}');
            rest = after;
        } else if let Some((name, after)) = from.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            text.push_str(vars.get(name.trim()).map_or("", |value| value.expose()));
            rest = after;
        } else {
            let mut characters = from.chars();
            text.extend(characters.next());
            rest = characters.as_str();
        }
    }
    text.push_str(rest);
    text
}
