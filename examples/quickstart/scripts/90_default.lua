-- Runs only if no rule before it named a queue.

rule("everything else", { on = "interaction.received", fallback = true }, function(e, d)
  d:queue("general")
end)
