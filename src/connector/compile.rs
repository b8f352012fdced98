//! From a manifest's tables to compiled expressions, with every mistake placed.

use serde::de::DeserializeOwned;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as WordError, StrDeserializer};

use super::expr::{Expr, Names, compile, compile_template};
use super::tree::{Node, Notes, Raw, Table};

/// A field that is a fixed word of a closed set, or an expression that gives one.
#[derive(Debug, Clone)]
pub(super) enum Word<T> {
    Fixed(T),
    By(Expr),
}

/// The word of this name, by its serde name.
pub(super) fn word<T: DeserializeOwned>(name: &str) -> Option<T> {
    let deserializer: StrDeserializer<'_, WordError> = name.into_deserializer();
    T::deserialize(deserializer).ok()
}

/// Compiles the expressions of one manifest.
pub(super) struct Compiler<'n, 's> {
    pub(super) names: Names,
    pub(super) notes: &'n mut Notes<'s>,
}

impl Compiler<'_, '_> {
    /// Compiles one expression that stands at byte `at` of the file.
    pub(super) fn expr_of(&mut self, source: &str, at: usize) -> Option<Expr> {
        self.note(compile(source, &self.names), at, source)
    }

    /// Compiles one template.
    pub(super) fn template_of(&mut self, source: &str, at: usize) -> Option<Expr> {
        self.note(compile_template(source, &self.names), at, source)
    }

    fn note(&mut self, result: Result<Expr, super::expr::Wrong>, at: usize, source: &str) -> Option<Expr> {
        match result {
            Ok(expr) => Some(expr),
            Err(wrong) => {
                // The opening quote stands at `at`; escapes before the place make it point a little early, never late.
                self.notes.wrong(at + 1 + wrong.at, format!("{} in `{source}`", wrong.reason));
                if let Some(last) = self.notes.found.last_mut() {
                    last.suggestion = wrong.suggestion;
                }
                None
            }
        }
    }

    /// The expression under `key`, if there is one.
    pub(super) fn expr(&mut self, table: &mut Table, key: &'static str) -> Option<Expr> {
        let (source, at) = table.text(key, self.notes)?;
        self.expr_of(&source, at)
    }

    /// The template under `key`, if there is one.
    pub(super) fn template(&mut self, table: &mut Table, key: &'static str) -> Option<Expr> {
        let (source, at) = table.text(key, self.notes)?;
        self.template_of(&source, at)
    }

    /// The word or expression under `key`, if there is one.
    pub(super) fn word<T: DeserializeOwned>(&mut self, table: &mut Table, key: &'static str) -> Option<Word<T>> {
        let (source, at) = table.text(key, self.notes)?;
        if let Some(fixed) = word(&source) {
            return Some(Word::Fixed(fixed));
        }
        if source.chars().all(|c| c.is_ascii_lowercase() || c == '_') && self.names.slot(&source).is_none() {
            // serde names what it would have taken; that is the best hint there is.
            let deserializer: StrDeserializer<'_, WordError> = source.as_str().into_deserializer();
            let hint = T::deserialize(deserializer).err().map(|error| error.to_string()).unwrap_or_default();
            self.notes.wrong(at, format!("`{key}` in {}: {hint}", table.what()));
            return None;
        }
        self.expr_of(&source, at).map(Word::By)
    }

    /// A table of the author's own names, each an expression.
    pub(super) fn exprs(&mut self, table: &mut Table, key: &'static str) -> Vec<(String, Expr)> {
        let Some(mut inner) = table.table(key, self.notes) else { return Vec::new() };
        let mut exprs = Vec::new();
        for (name, at, node) in inner.take_all() {
            if let Some(expr) = self.expr_of_node(&node, at) {
                exprs.push((name, expr));
            }
        }
        exprs
    }

    /// An expression; `true` is the expression that always holds.
    pub(super) fn expr_of_node(&mut self, node: &Node, at: usize) -> Option<Expr> {
        match &node.value {
            Raw::Text(source) => self.expr_of(source, node.at),
            Raw::Truth(true) => Some(Expr::Not(Box::new(Expr::Text(String::new())))),
            Raw::Truth(false) => Some(Expr::Text(String::new())),
            _ => {
                self.notes.wrong(at, format!("expected an expression in a string, not {}", node.kind()));
                None
            }
        }
    }
}

impl Compiler<'_, '_> {
    /// A table of the author's own names, each a literal text.
    pub(super) fn exprs_plain(
        &mut self,
        table: &mut Table,
        key: &'static str,
    ) -> std::collections::BTreeMap<String, crate::base::Pii<String>> {
        let mut texts = std::collections::BTreeMap::new();
        let Some(mut inner) = table.table(key, self.notes) else { return texts };
        for (name, at, node) in inner.take_all() {
            match node.value {
                Raw::Text(text) => {
                    texts.insert(name, crate::base::Pii::new(text));
                }
                _ => self.notes.wrong(at, format!("`{name}` must be a string, not {}", node.kind())),
            }
        }
        texts
    }
}
