//! Floor 2: mail, from bytes to what it says.
//!
//! Pure: no sockets, no clock, no store. [`read`] gives the whole of a mail; [`reply`] tells what is new in its text from what
//! it quotes; [`dsn`], [`auto`], [`calendar`] and [`tnef`] read what programs wrote; [`dkim`], [`dmarc`] and
//! [`auth_results`] tell who vouches for its sender; [`canon`] knows a mail again. [`write`] makes mails of ours,
//! [`dkim_sign`] signs them, and [`token`] marks them so that answers are known. The invariants: nothing panics and
//! everything is linear in the size of the mail, whoever wrote it.

pub mod address;
pub mod attachment;
pub mod auth_results;
pub mod auto;
mod body;
pub mod calendar;
pub mod canon;
pub mod charset;
mod content;
#[cfg(test)]
mod corpus_tests;
pub mod date;
pub mod dkim;
mod dkim_canon;
pub(crate) mod dkim_key;
pub mod dkim_sign;
pub mod dmarc;
pub mod dsn;
pub mod fields;
mod flowed;
pub mod html_clean;
mod html_gate;
pub mod html_text;
mod html_tokens;
pub mod ids;
pub mod oauth;
pub mod params;
mod quote_facts;
mod quote_header;
pub mod read;
pub mod reply;
mod reply_words;
mod signature;
mod signature_words;
mod tags;
pub mod tnef;
pub mod token;
pub mod transfer;
mod tree;
pub mod words;
pub mod write;
