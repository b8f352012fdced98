test("a public question about an order is moved to private", function(t)
  local r = t:given {
    ix = { visibility = "public", channel = { kind = "social_public" }, text = "Where is my order?",
           author = { display_name = "Ana" } },
  }
  t:equal(r.queue, "social-public")
  t:contains(r.tags, "public")
  t:equal(r.replies[1].template, "move_private")
end)

test("a call is greeted and goes to the phone queue", function(t)
  local r = t:given { ix = { kind = "call", channel = { kind = "voice" }, text = "[call]" } }
  t:equal(r.queue, "phone")
  t:equal(r.answer.name, "say")
end)

test("a refund needs the billing skill", function(t)
  local r = t:given { ix = { channel = { kind = "whatsapp" }, text = "I want a refund" } }
  t:equal(r.queue, "general")
  t:equal(r.needs.billing, 3)
end)
