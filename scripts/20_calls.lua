-- A caller waits on the line: what `d:answer` says is heard at once.
local greeting = param("greeting", "Thank you for calling. We call you back within the hour.")

rule("calls", { only = "voice" }, function(e, d)
  d:queue("phone")
  d:because("somebody is on the phone")
  -- Later states of a call come through here too; only one that still rings can be answered.
  local state = e.ix.call and e.ix.call.state
  if state == nil or state == "queued" or state == "initiated" or state == "ringing" then
    d:answer("say", { text = greeting })
  end
end)
