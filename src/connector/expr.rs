//! The expressions of a manifest: how they are written, and their compiled form.
//!
//! An expression says where a value is found and how it is read: `msg.text.body ?? msg.caption`,
//! `unix(msg.timestamp)`, `'[unsupported: {msg.type}]'`, `msg.type in ['image', 'video']`. It is compiled when the
//! connector is loaded, so a misspelt scope, function or table is refused before any payload is read. It has no loops
//! of its own and no access to anything but its scopes, so its cost is bounded by the payload.

use std::cell::RefCell;

use super::diagnostic::nearest;

/// A compiled expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    /// Literal text.
    Text(String),
    /// Text with placeholders; absent as soon as one placeholder that is not optional is absent.
    Template(Vec<Piece>),
    /// A place within a named scope.
    Path { slot: usize, steps: Vec<Step> },
    /// A function of the values of its arguments.
    Call(Function, Vec<Expr>),
    /// `a == b`, or `a != b` where the last member is set.
    Same(Box<Expr>, Box<Expr>, bool),
    /// `a in ['x', 'y']`.
    In(Box<Expr>, Vec<String>),
    /// All hold.
    And(Vec<Expr>),
    /// One holds.
    Or(Vec<Expr>),
    /// It does not hold.
    Not(Box<Expr>),
    /// `a ?? b`: the first that is present.
    First(Vec<Expr>),
}

/// One placeholder or run of literal text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) expr: Expr,
    /// `{x?}`: nothing where the value is absent.
    pub(super) optional: bool,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// A member by name.
    Key(String),
    /// An element by place; negative counts from the end.
    At(i64),
}

/// Declares the functions: name, least and most number of arguments.
macro_rules! functions {
    ($($name:literal $variant:ident $least:literal ..= $most:literal $help:literal,)*) => {
        /// The functions that an expression can call.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Function {
            $(#[doc = $help] $variant,)*
        }

        /// Name, help and number of arguments of each function.
        pub(super) const FUNCTIONS: &[(&str, Function, usize, usize)] =
            &[$(($name, Function::$variant, $least, $most),)*];
    };
}

functions! {
    "unix" Unix 1..=1 "A time from seconds since the Unix epoch, with or without a fraction.",
    "millis" Millis 1..=1 "A time from milliseconds since the Unix epoch.",
    "iso" Iso 1..=1 "A time from ISO 8601 / RFC 3339 text.",
    "rfc2822" Rfc2822 1..=1 "A time from RFC 2822 text, as Twilio writes it.",
    "plus" Plus 2..=2 "A time moved by a duration such as `'24h'`.",
    "e164" E164 1..=1 "A telephone number in E.164; absent if it is none.",
    "lower" Lower 1..=1 "Text in lower case.",
    "upper" Upper 1..=1 "Text in upper case.",
    "trim" Trim 1..=1 "Text without white space around it; absent if nothing is left.",
    "cut" Cut 2..=2 "At most so many characters of a text.",
    "before" Before 2..=2 "What stands before the first separator; all of it if there is none.",
    "after" After 2..=2 "What stands after the first separator; absent if there is none.",
    "starts" Starts 2..=2 "Whether a text starts with another.",
    "contains" Contains 2..=2 "Whether a text holds another, or a list holds a value.",
    "exists" Exists 1..=1 "Whether it is there at all, even empty or null.",
    "if" If 3..=3 "The second argument if the first holds, else the third.",
    "when" When 2..=2 "The second argument if the first holds, else nothing.",
    "find" Find 3..=3 "The first element of a list whose member of this name has this value.",
    "pluck" Pluck 3..=3 "One member of each element of a list, joined.",
    "join" Join 2..=12 "The present arguments after the first, joined by the first.",
    "table" Table 2..=2 "The value's entry in a `[tables.NAME]` of the manifest.",
    "get" Get 2..=2 "The member of an object whose name is computed.",
    "numbered" Numbered 2..=2 "The members NAME0, NAME1 ... of an object, as a list.",
    "other_key" OtherKey 2..=64 "The first member of an object that is none of the names given.",
    "list" List 1..=12 "Its present arguments, as a list.",
    "count" Count 1..=1 "How many elements a list or object has.",
    "number" Number 1..=1 "A number, for JSON bodies.",
    "json" Json 1..=1 "The JSON value that a text holds.",
    "replace" Replace 3..=3 "A text with every occurrence of the second replaced by the third.",
    "text" Text 1..=1 "A number or boolean as text.",
    "path" Path 1..=1 "A path for a URL, whose slashes stay.",
    "script" Script 1..=8 "What a function of `map.lua` gives for the other arguments; absent if it fails.",
}

/// A name that an expression may start with.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) scopes: Vec<String>,
    /// The declared options, each with whether it is secret.
    pub(super) options: Vec<(String, bool)>,
    /// Whether secret options may be read: true only for what is sent to the provider.
    pub(super) secrets: bool,
    /// The names of the manifest's tables.
    pub(super) tables: Vec<String>,
    /// The functions of `map.lua` that expressions call, as they are found; absent where none may be called.
    pub(super) scripts: Option<RefCell<Vec<String>>>,
}

impl Names {
    pub(super) fn slot(&self, name: &str) -> Option<usize> {
        // The innermost scope of a name wins.
        self.scopes.iter().rposition(|scope| scope == name)
    }

    /// Adds a scope and gives its slot.
    pub(super) fn add(&mut self, name: &str) -> usize {
        self.scopes.push(name.to_owned());
        self.scopes.len() - 1
    }
}

/// What is wrong with an expression, and at which byte of it.
#[derive(Debug, PartialEq)]
pub(super) struct Wrong {
    pub(super) at: usize,
    pub(super) reason: String,
    pub(super) suggestion: Option<String>,
}

/// Compiles an expression.
pub(super) fn compile(source: &str, names: &Names) -> Result<Expr, Wrong> {
    let mut parser = Parser { source, at: 0, depth: 0, names };
    let expr = parser.or()?;
    parser.space();
    match parser.peek() {
        None => Ok(expr),
        Some(c) => Err(parser.wrong(format!("unexpected `{c}`"))),
    }
}

/// Compiles a template: text with `{placeholders}`; `{{` and `}}` stand for the braces themselves.
pub(super) fn compile_template(source: &str, names: &Names) -> Result<Expr, Wrong> {
    let mut parser = Parser { source, at: 0, depth: 0, names };
    parser.template(None)
}

const MAX_DEPTH: usize = 32;

struct Parser<'s> {
    source: &'s str,
    at: usize,
    depth: usize,
    names: &'s Names,
}

impl Parser<'_> {
    fn wrong(&self, reason: impl Into<String>) -> Wrong {
        Wrong { at: self.at, reason: reason.into(), suggestion: None }
    }

    fn rest(&self) -> &str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        self.space();
        let rest = self.rest();
        let found =
            rest.strip_prefix(word).is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        if found {
            self.at += word.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), Wrong> {
        if self.eat(token) { Ok(()) } else { Err(self.wrong(format!("expected `{token}`"))) }
    }

    fn or(&mut self) -> Result<Expr, Wrong> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.wrong("the expression nests too deep"));
        }
        let mut all = vec![self.and()?];
        while self.eat_word("or") {
            all.push(self.and()?);
        }
        self.depth -= 1;
        Ok(one_or(all, Expr::Or))
    }

    fn and(&mut self) -> Result<Expr, Wrong> {
        let mut all = vec![self.not()?];
        while self.eat_word("and") {
            all.push(self.not()?);
        }
        Ok(one_or(all, Expr::And))
    }

    fn not(&mut self) -> Result<Expr, Wrong> {
        let mut negated = false;
        while self.eat_word("not") {
            negated = !negated;
        }
        let inner = self.comparison()?;
        Ok(if negated { Expr::Not(Box::new(inner)) } else { inner })
    }

    fn comparison(&mut self) -> Result<Expr, Wrong> {
        let left = self.first()?;
        if self.eat("==") {
            return Ok(Expr::Same(Box::new(left), Box::new(self.first()?), false));
        }
        if self.eat("!=") {
            return Ok(Expr::Same(Box::new(left), Box::new(self.first()?), true));
        }
        if self.eat_word("in") {
            self.expect("[")?;
            let mut members = Vec::new();
            while !self.eat("]") {
                self.space();
                match self.primary()? {
                    Expr::Text(text) => members.push(text),
                    _ => return Err(self.wrong("`in` takes a list of literal texts")),
                }
                if !self.eat(",") {
                    self.expect("]")?;
                    break;
                }
            }
            return Ok(Expr::In(Box::new(left), members));
        }
        Ok(left)
    }

    fn first(&mut self) -> Result<Expr, Wrong> {
        let mut all = vec![self.primary()?];
        while self.eat("??") {
            all.push(self.primary()?);
        }
        Ok(one_or(all, Expr::First))
    }

    fn primary(&mut self) -> Result<Expr, Wrong> {
        if self.eat("(") {
            let inner = self.or()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.eat("'") {
            return self.template(Some('\''));
        }
        let from = self.at;
        let name = self.name();
        if name.is_empty() {
            return Err(self.wrong("expected a path, a function or a text in single quotes"));
        }
        if self.peek() == Some('(') {
            return self.call(&name, from);
        }
        self.path(&name, from)
    }

    fn name(&mut self) -> String {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or_default().to_owned();
        self.at += end;
        name
    }

    fn call(&mut self, name: &str, from: usize) -> Result<Expr, Wrong> {
        let Some((_, function, least, most)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else {
            let suggestion = nearest(name, FUNCTIONS.iter().map(|(known, ..)| *known));
            return Err(Wrong { at: from, reason: format!("unknown function `{name}`"), suggestion });
        };
        self.expect("(")?;
        let mut arguments = Vec::new();
        while !self.eat(")") {
            arguments.push(self.or()?);
            if !self.eat(",") {
                self.expect(")")?;
                break;
            }
        }
        if arguments.len() < *least || arguments.len() > *most {
            let reason = format!("`{name}` takes {least} to {most} arguments, not {}", arguments.len());
            return Err(Wrong { at: from, reason, suggestion: None });
        }
        if *function == Function::Table
            && let Some(Expr::Text(table)) = arguments.first()
            && !self.names.tables.contains(table)
        {
            let suggestion = nearest(table, self.names.tables.iter().map(String::as_str));
            return Err(Wrong { at: from, reason: format!("there is no `[tables.{table}]`"), suggestion });
        }
        if *function == Function::Script {
            self.note_script(arguments.first(), from)?;
        }
        Ok(Expr::Call(*function, arguments))
    }

    /// Notes which function of `map.lua` is called, so that loading can tell whether it is there.
    fn note_script(&self, function: Option<&Expr>, from: usize) -> Result<(), Wrong> {
        let wrong = |reason: &str| Wrong { at: from, reason: reason.to_owned(), suggestion: None };
        let called = self.names.scripts.as_ref().ok_or_else(|| wrong("`script` can only be called in the mapping"))?;
        match function {
            Some(Expr::Text(name)) => called.borrow_mut().push(name.clone()),
            _ => return Err(wrong("`script` takes the name of the function as a literal text first")),
        }
        Ok(())
    }

    fn path(&mut self, name: &str, from: usize) -> Result<Expr, Wrong> {
        let Some(slot) = self.names.slot(name) else {
            let suggestion = nearest(name, self.names.scopes.iter().map(String::as_str));
            return Err(Wrong { at: from, reason: format!("unknown name `{name}`"), suggestion });
        };
        let mut steps = Vec::new();
        loop {
            if self.rest().starts_with('.') {
                self.at += 1;
                let key = self.name();
                if key.is_empty() {
                    return Err(self.wrong("expected a name after `.`"));
                }
                steps.push(Step::Key(key));
            } else if self.rest().starts_with('[') {
                self.at += 1;
                steps.push(self.bracket()?);
            } else {
                break;
            }
        }
        if name == "option" {
            self.check_option(&steps, from)?;
        }
        Ok(Expr::Path { slot, steps })
    }

    fn bracket(&mut self) -> Result<Step, Wrong> {
        if self.eat("'") {
            let Expr::Text(key) = self.template(Some('\''))? else {
                return Err(self.wrong("a name in brackets cannot hold placeholders; use get()"));
            };
            self.expect("]")?;
            return Ok(Step::Key(key));
        }
        let digits: String = self.rest().chars().take_while(|c| c.is_ascii_digit() || *c == '-').collect();
        self.at += digits.len();
        let at = digits.parse().map_err(|_| self.wrong("expected a place such as [0] or a name such as ['a.b']"))?;
        self.expect("]")?;
        Ok(Step::At(at))
    }

    fn check_option(&self, steps: &[Step], from: usize) -> Result<(), Wrong> {
        let Some(Step::Key(option)) = steps.first() else {
            return Err(Wrong { at: from, reason: "name an option: `option.NAME`".to_owned(), suggestion: None });
        };
        match self.names.options.iter().find(|(name, _)| name == option) {
            None => {
                let suggestion = nearest(option, self.names.options.iter().map(|(name, _)| name.as_str()));
                Err(Wrong { at: from, reason: format!("there is no option `{option}`"), suggestion })
            }
            Some((_, true)) if !self.names.secrets => {
                let reason = format!("option `{option}` is secret and can only be used towards the provider");
                Err(Wrong { at: from, reason, suggestion: None })
            }
            Some(_) => Ok(()),
        }
    }

    /// Reads literal text and placeholders up to `end`, or to the end of the source.
    fn template(&mut self, end: Option<char>) -> Result<Expr, Wrong> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        loop {
            let Some(c) = self.peek() else {
                if end.is_some() {
                    return Err(self.wrong("the text is not closed"));
                }
                break;
            };
            self.at += c.len_utf8();
            let doubled = self.peek() == Some(c);
            match c {
                '{' | '}' | '\'' if doubled && (c != '\'' || end.is_some()) => {
                    self.at += 1;
                    literal.push(c);
                }
                c if Some(c) == end => break,
                '}' => return Err(self.wrong("`}` without `{`; write `}}` for the brace itself")),
                '{' => {
                    if !literal.is_empty() {
                        pieces.push(Piece { expr: Expr::Text(std::mem::take(&mut literal)), optional: false });
                    }
                    let expr = self.or()?;
                    let optional = self.eat("?");
                    self.expect("}")?;
                    pieces.push(Piece { expr, optional });
                }
                c => literal.push(c),
            }
        }
        if pieces.is_empty() {
            return Ok(Expr::Text(literal));
        }
        if !literal.is_empty() {
            pieces.push(Piece { expr: Expr::Text(literal), optional: false });
        }
        Ok(Expr::Template(pieces))
    }
}

fn one_or(mut all: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    match all.len() {
        1 => all.pop().unwrap_or(Expr::Text(String::new())),
        _ => many(all),
    }
}

impl Expr {
    /// Whether it reads the scope in this slot.
    pub(super) fn mentions(&self, wanted: usize) -> bool {
        let any = |all: &[Expr]| all.iter().any(|expr| expr.mentions(wanted));
        match self {
            Expr::Text(_) => false,
            Expr::Template(pieces) => pieces.iter().any(|piece| piece.expr.mentions(wanted)),
            Expr::Path { slot, .. } => *slot == wanted,
            Expr::Call(_, all) | Expr::And(all) | Expr::Or(all) | Expr::First(all) => any(all),
            Expr::Same(left, right, _) => left.mentions(wanted) || right.mentions(wanted),
            Expr::In(inner, _) | Expr::Not(inner) => inner.mentions(wanted),
        }
    }
}
