//! The engine as the decide stage and an admin see it.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::base::{Pii, Timestamp};
use crate::model::{ChannelKind, Interaction};

fn facts() -> PolicyFacts {
    PolicyFacts {
        queues: ["vip", "general", "phone", "social-public"].map(str::to_owned).to_vec(),
        default_queue: "general".into(),
        templates: vec!["closed_notice".into()],
        skills: vec!["billing".into(), "lang:en".into()],
        params: [("limit".to_owned(), serde_json::json!(7))].into(),
    }
}

pub(super) fn build(files: &[(&str, &str)]) -> Result<Bundle, Vec<Diagnostic>> {
    build_with(Budget::default(), files)
}

pub(super) fn build_with(budget: Budget, files: &[(&str, &str)]) -> Result<Bundle, Vec<Diagnostic>> {
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
    Bundle::build(PolicyFiles::from_memory(files), facts(), budget)
}

pub(super) fn message(text: &str) -> Interaction {
    let mut ix = Interaction::blank(ChannelKind::Whatsapp, "whatsapp", "+1");
    ix.text = Pii::from(text);
    ix
}

pub(super) fn ask(bundle: &Bundle, ix: Interaction) -> Verdict {
    bundle.decide(&PolicyInput {
        now: Timestamp::from_seconds(1_767_600_000),
        kind: "interaction.received",
        interaction: Arc::new(ix),
        conversation: None,
        customer: None,
    })
}

fn opinion(body: &str) -> Opinion {
    let source = format!("rule('r', function(e, d)\n{body}\nend)");
    match ask(&build(&[("a.lua", &source)]).unwrap_or_else(|w| panic!("{}", w[0])), message("my Invoice 42")) {
        Verdict::Decided(opinion) => *opinion,
        Verdict::Breach(breach) => panic!("{}", breach.message()),
    }
}

fn breach(body: &str) -> String {
    let source = format!("rule('r', function(e, d)\n{body}\nend)");
    match ask(&build(&[("a.lua", &source)]).unwrap_or_else(|w| panic!("{}", w[0])), message("secret 42")) {
        Verdict::Decided(_) => panic!("no breach"),
        Verdict::Breach(breach) => {
            assert_eq!((breach.rule.as_deref(), breach.what), (Some("r"), BreachKind::Error));
            breach.message()
        }
    }
}

#[test]
fn the_shipped_policy_passes_its_own_tests_and_every_rule_is_covered() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let bundle = Bundle::build(PolicyFiles::read(&dir).unwrap(), facts(), Budget::default())
        .unwrap_or_else(|wrong| panic!("{}", wrong[0]));
    let report = bundle.run_tests(None);
    for result in &report.results {
        assert_eq!(result.failure, None, "{}", result.name);
    }
    assert!(report.results.len() >= 7 && report.passed());
    assert_eq!(report.uncovered, Vec::<String>::new());
    assert_eq!(bundle.run_tests(Some("public")).results.len(), 2);
}

#[test]
fn first_writer_wins_and_lists_add_up() {
    let source = "rule('a', function(e, d) d:queue('vip') d:priority(60) d:tag('x', 'y') d:need { billing = 2 } end)\n\
        rule('quiet', function() end)\n\
        rule('b', function(e, d) d:queue('general') d:priority(10) d:priority_add(15) d:tag { 'y', 'z' } d:need { billing = 4, ['lang:en'] = 1 }\n\
          d:notify('ann') d:reply('closed_notice', { n = 3, ok = true }, { once_per = '2h' }) d:because('%s of %d', 'x', 2) d:stop() end)\n\
        rule('c', function(e, d) d:tag('never') end)\n\
        rule('f', { fallback = true }, function(e, d) d:tag('never') end)";
    let Verdict::Decided(opinion) = ask(&build(&[("a.lua", source)]).unwrap(), message("x")) else { panic!() };
    assert_eq!(opinion.queue.as_deref(), Some("vip"));
    assert_eq!(opinion.priority, Some(75));
    assert_eq!(opinion.tags, ["x", "y", "z"]);
    assert_eq!(opinion.needs, [("billing".to_owned(), 4), ("lang:en".to_owned(), 1)].into());
    assert_eq!(opinion.rules, ["a.lua:a", "a.lua:b"]);
    assert_eq!(opinion.replies[0].once_per_seconds, Some(7200));
    assert_eq!(opinion.replies[0].vars["n"].expose(), "3");
    assert_eq!(opinion.because[0].expose(), "x of 2");
    assert_eq!(opinion.notify, ["ann"]);
}

#[test]
fn rules_read_the_published_names() {
    let opinion = opinion(
        "d:tag(e.kind, e.now, e.ix.channel.kind, e.ix.direction, e.ix.author.trust, tostring(#e.ix.parts), type(e.conv))\n\
         d:tag(e.ix:mentions { 'bill', 'invoice' }, tostring(e.ix.subject), tostring(e.ix.author:trusted('claimed')))\n\
         for _, part in ipairs(e.ix.parts) do d:tag(part.type) end\n\
         d:tag('limit' .. param('limit', 1) .. param('other', 2), tostring(table), tostring(e))",
    );
    let expected = [
        "interaction.received",
        "2026-01-05T08:00:00.000Z",
        "whatsapp",
        "inbound",
        "anonymous",
        "0",
        "nil",
        "invoice",
        "false",
        "limit72",
        "table",
        "userdata",
    ];
    assert_eq!(opinion.tags, expected);
}

#[test]
fn mistakes_are_told_with_place_and_suggestion() {
    assert_eq!(breach("local q = 'vi' .. 'pp' d:queue(q)"), "a.lua:2: queue `...` does not exist; did you mean `vip`?");
    assert_eq!(
        breach("local x = e.ix local y = x.txet"),
        "a.lua:2: `txet` is not a field of interaction; did you mean `text`?"
    );
    assert_eq!(breach("local x = d x:escalate {}"), "a.lua:2: `d:escalate` is not available in this version");
    assert_eq!(breach("local x = e.ix.author x.trust = 1"), "a.lua:2: `e` is read-only; a rule writes to its decision");
    assert!(breach("d:priority(101)").starts_with("a.lua:2: a priority is a whole number"));
    assert!(breach("\nlocal x = nil + 1").starts_with("a.lua:3: attempt to perform arithmetic"));
    assert!(breach("counter = 1").contains("readonly"));
    assert!(breach("string.x = 1").contains("readonly"));
    assert!(breach("d.queue('vip')").contains("colon"));
    assert!(breach("d:reply('closed_notice', { t = {} })").contains("text, a number or a boolean"));
}

#[test]
fn a_breach_never_quotes_the_customer() {
    for body in [
        "error('no: ' .. e.ix.text)",
        "assert(false, e.ix.text)",
        "local t = nil local x = t[e.ix.text]",
        "error(e.ix.text, 0)",
        "local x = d d:queue(e.ix.text)",
        "local x = d x[e.ix.text](d)",
        "d[e.ix.text] = 1",
        "error({ e.ix.text })",
        "table(e.ix.text)",
        "local t = nil local x = t[\"x'\" .. e.ix.text .. \"'y\"]",
        "local x = e.ix local y = x[e.ix.text]",
    ] {
        let message = breach(body);
        assert!(!message.contains("secret"), "{message}");
    }
    assert_eq!(breach("error('out of hours')"), "a.lua:2: out of hours");
}

#[test]
fn nothing_outlives_a_call() {
    let source = "local n, seen = 0, {}\nlocal function count() n = n + 1 return n end\n\
        rule('r', function(e, d) seen[#seen + 1] = true d:tag('n' .. count() .. #seen) local ok = pcall(function() x = 1 end) d:tag(tostring(ok)) end)";
    let bundle = build(&[("a.lua", source)]).unwrap();
    for _ in 0..3 {
        let Verdict::Decided(opinion) = ask(&bundle, message("x")) else { panic!() };
        assert_eq!(opinion.tags, ["n11", "false"]);
    }
}

#[test]
fn what_reaches_outside_or_differs_is_not_there() {
    for name in [
        "loadstring",
        "load",
        "getfenv",
        "setfenv",
        "newproxy",
        "require",
        "collectgarbage",
        "print",
        "os",
        "io",
        "debug",
        "package",
        "gcinfo",
        "_G",
        "dofile",
    ] {
        assert_eq!(opinion(&format!("d:tag(type({name}))")).tags, ["nil"], "{name}");
    }
    let same =
        "d:tag(tostring({}), string.format('%s %s', {}, function() end), `{d}`, type(math.random), type(string.dump))";
    assert_eq!(opinion(same).tags, ["table", "table function", "userdata", "nil"]);
    let found = "d:tag('p' .. string.find('a.b.c', '.', 3, true), 'q' .. ('x'):rep(40):find(('x'):rep(39)))";
    assert_eq!(opinion(found).tags, ["p4", "q1"]);
}

#[test]
fn a_broken_policy_is_refused_with_every_mistake() {
    let wrong = |text: &str| {
        build(&[("a.lua", text)]).err().unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(wrong("rule('x', function(e, d)\n d:queue('vipp')\n d:qeue('vip') end)").len(), 2);
    assert!(wrong("rule('x'")[0].starts_with("a.lua:1:1: "));
    assert!(wrong("x = 1")[0].contains("write `local`"));
    assert!(
        wrong("rule('x', { on = 'interaction.recieved' }, function() end)")[0]
            .contains("did you mean `interaction.received`?")
    );
    assert!(wrong("rule('x', { fallbak = true }, function() end)")[0].contains("did you mean `fallback`?"));
    assert!(wrong("local t = table('vipp')")[0].contains("no data file"));
    let csv = [("a.lua", "local t = table('vip', 'fone')"), ("data/vip.csv", "phone\n+1"), ("fixtures/x.json", "{")];
    assert!(build(&csv).err().unwrap().iter().any(|w| w.file == "fixtures/x.json"));
    assert!(build(&csv[..2]).err().unwrap()[0].reason.contains("column"));
    assert!(build(&[("tests/a.lua", "rule('x', function() end)")]).is_err());
    assert!(wrong("while true do end")[0].contains("budget"));
    assert!(wrong("\u{1b}Lua")[0].starts_with("a.lua:1"));
    let two = build(&[("a.lua", "x ="), ("b.lua", "y =")]).err().unwrap();
    assert_eq!(two.len(), 2);
}

#[test]
fn a_failed_test_says_what_was_expected() {
    let files = [
        (
            "a.lua",
            "rule('r', function(e, d) d:queue('vip') end)\nrule('s', { on = 'delivery.failed' }, function() end)",
        ),
        (
            "tests/a.lua",
            "test('t', function(t)\n  local r = t:given {}\n  t:equal(r.queue, 'general')\nend)\ntest('u', function(t) t:given { ix = { chanel = 1 } } end)\ntest('v', function(t) while true do end end)",
        ),
    ];
    let report = build(&files).unwrap().run_tests(None);
    assert_eq!(report.results[0].failure.as_deref(), Some("tests/a.lua:3: expected \"general\", got \"vip\""));
    assert!(report.results[1].failure.as_deref().unwrap().contains("did you mean `channel`?"));
    assert!(report.results[2].failure.as_deref().unwrap().contains("budget"));
    assert_eq!(report.uncovered, ["a.lua:s"]);
}

#[test]
fn many_threads_may_ask_at_once() {
    let bundle = build(&[("a.lua", "rule('r', function(e, d) d:tag(e.ix.text) end)")]).unwrap();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let bundle = &bundle;
            scope.spawn(move || {
                for k in 0..50 {
                    let text = format!("{n}-{k}");
                    let Verdict::Decided(opinion) = ask(bundle, message(&text)) else { panic!() };
                    assert_eq!(opinion.tags, [text]);
                }
            });
        }
    });
}
