test("a public comment goes to the social queue", function(t)
  local r = t:given { ix = { visibility = "public", channel = { kind = "social_public" }, text = "Where is my order?" } }
  t:equal(r.queue, "social-public")
  t:equal(r.tags, { "public" })
  t:equal(r.priority, nil)
end)

test("a public threat is pressing", function(t)
  local r = t:given { ix = { visibility = "public", text = "My Lawyer will write to you." } }
  t:equal(r.priority, 80)
  t:contains(r.tags, "pressing")
  t:contains(r.because[1], "lawyer")
end)

test("a call is answered and goes to the phone queue", function(t)
  local r = t:given { ix = { kind = "call", channel = { kind = "voice" }, call = { state = "ringing" } } }
  t:equal(r.queue, "phone")
  t:equal(r.answer.name, "say")
  t:ok(r.answer.vars.text)
end)

test("a call that is over is not answered", function(t)
  local r = t:given { ix = { kind = "call", channel = { kind = "voice" }, call = { state = "completed" } } }
  t:equal(r.queue, "phone")
  t:equal(r.answer, nil)
end)

test("a proven VIP goes ahead", function(t)
  local r = t:given {
    ix = { channel = { kind = "whatsapp" },
           author = { trust = "verified", identifier = { type = "tel", value = "+4915112345678" } } },
  }
  t:equal(r.queue, "vip")
  t:equal(r.priority, 90)
end)

test("a claimed VIP is only labeled", function(t)
  local r = t:given {
    ix = { channel = { kind = "sms" },
           author = { trust = "claimed", identifier = { type = "tel", value = "+4915112345678" } } },
  }
  t:equal(r.queue, "general")
  t:equal(r.tags, { "vip" })
end)

test("everything else goes to the general queue", function(t)
  local r = t:given { ix = { text = "Hello" } }
  t:equal(r.queue, "general")
  t:equal(r.rules, { "90_default.lua:default" })
end)
