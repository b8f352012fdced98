-- Rules run in the order of files and lines. A rule reads the event `e` and writes to the decision `d`;
-- one that calls nothing has no opinion. The first rule that names a queue wins.

policy { name = "first-steps", version = 1, owner = "you@example.org" }

rule("urgent words", { on = "interaction.received" }, function(e, d)
  local hit = e.ix:mentions { "urgent", "emergency" }
  if hit == nil then return end
  d:queue("urgent")
  d:priority(80)
  d:tag("urgent")
  d:because("the message says %q", hit)
end)

-- Runs only if no rule before it named a queue.
rule("everything else", { on = "interaction.received", fallback = true }, function(e, d)
  d:queue("general")
end)
