-- Calls wait for an answer: it must be given at once.

rule("calls are greeted", { on = "interaction.received" }, function(e, d)
  if e.ix.channel.kind ~= "voice" then return end
  d:queue("phone")
  d:priority(70)
  d:answer("say", { text = "Thank you for calling. Please hold, somebody will be with you soon." })
end)
