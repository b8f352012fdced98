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

test("a VIP is known by any identifier of the delivery, each with its own trust", function(t)
  local function given(trust)
    return t:given { ix = { channel = { kind = "whatsapp" }, author = {
      trust = "verified", identifier = { type = "whatsapp_bsuid", value = "DE.77", trust = "verified" },
      also = { { type = "external:shop", value = "77" }, { type = "tel", value = "+4915112345678", trust = trust } },
    } } }
  end
  t:equal(given("verified").queue, "vip")
  t:equal(given("claimed").queue, "general")
  t:equal(given("claimed").tags, { "vip" })
  t:equal(given(nil).queue, "general")
end)

test("a proven identifier counts before a claimed one", function(t)
  local r = t:given { ix = { author = {
    trust = "claimed", identifier = { type = "tel", value = "+15550100" },
    also = { { type = "tel", value = "+4915112345678", trust = "verified" } },
  } } }
  t:equal(r.queue, "vip")
  t:contains(r.because[1], "gold")
end)

test("everything else goes to the general queue", function(t)
  local r = t:given { ix = { text = "Hello" } }
  t:equal(r.queue, "general")
  t:equal(r.rules, { "90_default.lua:default" })
end)
