-- Who can help: skills by what is said.

rule("billing needs somebody who knows it", { on = "interaction.received" }, function(e, d)
  if e.ix:mentions { "invoice", "refund", "charged" } == nil then return end
  d:need { billing = 3 }
  d:tag("billing")
end)
