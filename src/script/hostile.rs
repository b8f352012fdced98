//! Scripts that mean harm, or are wrong in the worst way: each ends within its budget as a breach or harmlessly, and the
//! next decision is fine.

use std::time::{Duration, Instant};

use super::tests::{ask, build, build_with, message};
use super::*;

/// Bodies of a rule that must end in a breach.
const BREACHES: &[(&str, &str)] = &[
    ("endless loop", "while true do end"),
    ("endless repeat", "repeat local x = 1 until false"),
    ("endless numeric loop", "for i = 1, math.huge do end"),
    ("endless recursion", "local function f() return 1 + f() end f()"),
    ("mutual recursion", "local a, b function a() return 1 + b() end function b() return 1 + a() end a()"),
    ("tail calls", "local function f() return f() end f()"),
    ("coroutine loop", "coroutine.wrap(function() while true do end end)()"),
    (
        "endless yields",
        "local c = coroutine.wrap(function() while true do coroutine.yield() end end) while true do c() end",
    ),
    ("coroutine bomb", "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end"),
    ("nested coroutines", "local function f() coroutine.wrap(f)() end f()"),
    ("string.rep bomb", "local s = ('x'):rep(1e9)"),
    ("string.rep in a loop", "local t = {} while true do t[#t + 1] = ('x'):rep(4e6) .. #t end"),
    ("doubling in a line", "local s = 'xxxxxxxx' for i = 1, 60 do s = s .. s end"),
    (
        "doubling without a loop",
        "local s = ('x'):rep(4e6) s = s .. s s = s .. s s = s .. s s = s .. s s = s .. s s = s .. s",
    ),
    ("table growth", "local t = {} for i = 1, 1e9 do t[i] = i end"),
    ("nested tables", "local t = {} while true do t = { t, {} } end"),
    ("table.create", "table.create(1e9, 1)"),
    ("buffer.create", "buffer.create(1e9)"),
    ("memory bomb in pcall", "while true do pcall(function() local t = {} for i = 1, 1e8 do t[i] = {} end end) end"),
    ("memory bomb swallowed once", "pcall(function() local t = {} for i = 1, 1e8 do t[i] = {} end end) d:queue('vip')"),
    ("memory bomb in xpcall", "xpcall(function() local t = {} for i = 1, 1e8 do t[i] = {} end end, function() end)"),
    (
        "memory bomb in a coroutine",
        "coroutine.resume(coroutine.create(function() local t = {} for i = 1, 1e8 do t[i] = {} end end))",
    ),
    ("backtracking", "string.find(('a'):rep(40), ('.-'):rep(20) .. 'b')"),
    ("backtracking in pcall", "while true do pcall(string.find, ('a'):rep(40), ('.-'):rep(20) .. 'b') end"),
    ("quadratic gsub", "string.gsub(('a'):rep(1e6), '.-b', '')"),
    ("gmatch", "for _ in string.gmatch(('a'):rep(1e6), '.-.-.-b') do end"),
    ("pattern recursion", "string.match(('('):rep(3e5), '%b()') while true do end"),
    ("table.move", "table.move({}, 1, 2e9, 2)"),
    ("table.move in pcall", "while true do pcall(table.move, {}, 1, 2e9, 2) end"),
    ("long separator", "string.split(('a'):rep(2e6), ('a'):rep(1e6) .. 'b')"),
    ("pcall loop", "while true do pcall(function() while true do end end) end"),
    ("pcall once", "pcall(function() while true do end end) d:queue('vip')"),
    ("pcall recursion", "local function f() pcall(f) pcall(f) end f() while true do end"),
    ("xpcall with a looping handler", "xpcall(function() error('x') end, function() while true do end end)"),
    ("xpcall that swallows", "xpcall(function() while true do end end, function() return 1 end) d:queue('vip')"),
    ("xpcall handler that fails", "while true do xpcall(error, error) end"),
    ("resume that swallows", "while true do coroutine.resume(coroutine.create(function() while true do end end)) end"),
    ("wrap in pcall", "while true do pcall(coroutine.wrap(function() while true do end end)) end"),
    ("error in a loop", "while true do pcall(error, {}) end"),
    (
        "sort with a bad comparator",
        "local t = {} for i = 1, 1e4 do t[i] = i % 7 end while true do pcall(table.sort, t, function() return true end) end",
    ),
    (
        "sort that never ends",
        "local t = {} for i = 1, 1e3 do t[i] = i end table.sort(t, function(a, b) while true do end end)",
    ),
    (
        "sorts in a loop",
        "local t = {} while true do for i = 1, 1e5 do t[i] = (i * 7919) % 100003 end table.sort(t) end",
    ),
    ("inserts in front", "local t = {} while true do table.insert(t, 1, 1) end"),
    (
        "__index recursion",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(_, k) return t[k] end local x = t.y",
    ),
    ("__index loop", "local t = setmetatable({}, { __index = function() while true do end end }) local x = t.y"),
    ("__tostring loop", "tostring(setmetatable({}, { __tostring = function() while true do end end }))"),
    ("__concat loop", "local x = setmetatable({}, { __concat = function() while true do end end }) .. 'a'"),
    (
        "__eq loop",
        "local m = { __eq = function() while true do end end } local x = setmetatable({}, m) == setmetatable({}, m)",
    ),
    ("gsub with a looping function", "string.gsub('a', 'a', function() while true do end end)"),
    ("many results", "local t = {} for i = 1, 1e6 do t[i] = 1 end string.char(table.unpack(t))"),
    ("huge variables", "local t = {} for i = 1, 30 do t = { t, t } end d:answer('say', { x = t })"),
    ("endless variables", "local t = {} t.t = t d:answer('say', t)"),
    ("many tags", "for i = 1, 1e6 do d:tag('t' .. i) end"),
    ("many replies", "for i = 1, 1e6 do d:reply('hello there') end"),
    ("many reasons", "for i = 1, 1e6 do d:because('x') end"),
    ("keys that are tables", "d:answer('say', { [{}] = 1 })"),
    ("writes to libraries", "string.format = nil"),
    ("writes to globals", "rule = nil"),
    ("poisoned strings", "getmetatable('').__index = nil"),
    ("weak tables", "setmetatable({}, { __mode = 'k' })"),
    ("raw writes", "rawset(table, 'x', 1)"),
];

/// Bodies that must end and do no harm.
const HARMLESS: &[(&str, &str)] = &[
    ("plain find on huge input", "string.find(('a'):rep(2e6), ('a'):rep(1e6) .. 'b', 1, true) d:queue('vip')"),
    ("long find without magic", "string.find(('a'):rep(2e6), ('a'):rep(1e6) .. 'b') d:queue('vip')"),
    ("repeating nothing", "string.rep('', 1e15) d:queue('vip')"),
    ("errors caught", "for i = 1, 100 do pcall(error, 'x') end d:queue('vip')"),
    ("infinite and nan", "local x = 1/0 - 1/0 d:tag(tostring(x ~= x)) d:queue('vip')"),
];

/// What no budget ends runs for ever; what one ends may wait for its turn on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

fn source(body: &str) -> String {
    format!("rule('hostile', function(e, d)\nif e.ix.text ~= 'evil' then d:queue('general') return end\n{body}\nend)")
}

#[test]
fn the_corpus_is_large_enough() {
    assert!(BREACHES.len() + HARMLESS.len() >= 40);
}

#[test]
fn every_hostile_rule_ends_within_its_budget_and_the_next_is_fine() {
    let mut wrong = Vec::new();
    for (name, body) in BREACHES {
        let bundle = build(&[("a.lua", &source(body))]).unwrap_or_else(|w| panic!("{name}: {}", w[0]));
        let begun = Instant::now();
        let verdict = ask(&bundle, message("evil"));
        let took = begun.elapsed();
        match verdict {
            Verdict::Decided(_) => wrong.push(format!("{name}: no breach")),
            Verdict::Breach(breach) if breach.rule.as_deref() != Some("hostile") => {
                wrong.push(format!("{name}: no rule named"))
            }
            Verdict::Breach(_) => {}
        }
        if took > LIMIT {
            wrong.push(format!("{name}: took {took:?}"));
        }
        match ask(&bundle, message("calm")) {
            Verdict::Decided(opinion) if opinion.queue.as_deref() == Some("general") => {}
            _ => wrong.push(format!("{name}: the next decision failed")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn harmless_extremes_do_no_harm() {
    // Time enough for a busy machine and a build for development.
    let budget = Budget { wall: LIMIT, ..Budget::default() };
    for (name, body) in HARMLESS {
        let bundle = build_with(budget, &[("a.lua", &source(body))]).unwrap_or_else(|w| panic!("{name}: {}", w[0]));
        let verdict = ask(&bundle, message("evil"));
        match verdict {
            Verdict::Decided(opinion) => assert_eq!(opinion.queue.as_deref(), Some("vip"), "{name}"),
            Verdict::Breach(breach) => panic!("{name}: {}", breach.message()),
        }
    }
}

#[test]
fn hostile_maps_end_too() {
    let null = crate::base::json::Value::Null;
    for (name, body) in BREACHES.iter().filter(|(_, body)| !body.contains("d:")) {
        let text = format!("return {{ f = function()\n{body}\nend }}");
        let map =
            MapScript::build("map.lua", &text, Budget::default(), &[]).unwrap_or_else(|w| panic!("{name}: {}", w[0]));
        let begun = Instant::now();
        assert!(map.call("f", &[&null], &serde_json::Value::Null).is_err(), "{name}");
        assert!(begun.elapsed() < LIMIT, "{name}: {:?}", begun.elapsed());
    }
    let text = "return { f = function() local t = {} for i = 1, 30 do t = { t, t } end return t end }";
    let map = MapScript::build("map.lua", text, Budget::default(), &[]).unwrap();
    assert!(map.call("f", &[&null], &serde_json::Value::Null).is_err());
}
