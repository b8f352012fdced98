//! Integration tests: the release binary as its users meet it, with real sockets, real files and real peers.
//!
//! One program, one file for each behavior. `SEGUE_TEST_FULL=1` (`tests/run --full`) runs the long forms. Nothing here
//! uses the gateway's own code for what it checks: signatures, payloads and the help desk's side are written anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

// What the tests share: the gateway as a child process, the peers it talks to, waiting with a deadline.
mod support;

// What holds for the code as it lies there.
mod docs; // what the documentation shows works
mod floors; // who may import whom
mod journey_first; // somebody chats, mails and calls, and tells it once
mod journey_mail; // two hundred mails as they really come find their stories
mod licenses; // what may stand behind the binary
mod names; // no code names a connector

// What the running gateway does.
mod backup; // made while the gateway runs, whole or refused
mod blobs; // files of messages are sealed, given out and collected
mod bundles; // what one node publishes, all of them run
mod call; // a call is answered in time, whatever waits
mod crash; // killed anywhere, nothing acknowledged is lost, nothing is told twice
mod delivery; // to help desks: retries, order, dead letters, filtered subscribers
mod doctor; // finds what is wrong and says what to do
mod flood; // peers that dribble, or flood a connection with frames, hold nothing up and make nothing grow
mod intake; // bad input gets its documented answer and leaves nothing behind
mod mail_answers; // answers leave by mail, and what comes back finds its story
mod mail_bombs; // mails made to do harm cost little and are kept whole
mod mail_handover; // mails that a mail server hands over are taken once each
mod mail_loops; // machines fall silent, and forged mails bring their victim nothing
mod mail_many; // a large mailbox keeps none of many others from being heard
mod mail_providers; // mails in providers' requests are read and kept like those of a mailbox
mod mail_reports; // what servers give back shows on what was sent, and what people say reaches somebody
mod mail_sending; // where no mail gets out the operator hears why
mod mail_spoof; // mails that pretend join nothing and learn nothing
mod mail_tokens; // access tokens are renewed, and what needs a person is told in time
mod mail_torture; // a mail leaves once or is uncertain, whatever its server does and whoever is killed
mod mail_trust; // who sent a mail decides what it may do
mod mailboxes; // mails are fetched once each, whatever breaks, and nothing in the mailbox is lost
mod migrate; // a store moves to the other backend and back, killed on the way
mod nodes; // several on one database: order, takeover, one of each effect
mod order; // whatever the order of arrival, the outcome is the same
mod peers; // official libraries of providers and standards, in Python and Node
mod policy_breach; // a script beyond its budget costs its own decision and nothing else
mod reload; // changes take effect in the running gateway, broken ones do not
mod replay; // the journal applied again gives the same state
mod restart; // a large journal makes no start slow
mod sealed; // nothing that people said is readable in any file
mod torture_postgres; // several nodes on one PostgreSQL, whatever is done to them and to it
mod torture_sqlite; // SQLite on a disk that is full, or that cannot sync
