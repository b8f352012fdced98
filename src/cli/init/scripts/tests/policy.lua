-- `segue policy test` runs these. What is left out of an interaction gets a sensible value.

test("urgent words go to the urgent queue", function(t)
  local r = t:given { ix = { text = "This is URGENT, please call me" } }
  t:equal(r.queue, "urgent")
  t:equal(r.priority, 80)
end)

test("everything else goes to the general queue", function(t)
  local r = t:given { ix = { text = "When do you open?" } }
  t:equal(r.queue, "general")
end)
