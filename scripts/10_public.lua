-- What everybody can read goes to the people who answer in public.
policy { name = "quickstart", version = 1, owner = "you@example.test" }

local PRESSING = { "lawyer", "lawsuit", "ombudsman", "regulator", "journalist" }

rule("public messages", function(e, d)
  if e.ix.visibility ~= "public" then return end
  d:queue("social-public")
  d:tag("public")
  local word = e.ix:mentions(PRESSING)
  if word then
    d:priority(80)
    d:tag("pressing")
    d:because("a public message mentions %q", word)
  else
    d:because("the message is public")
  end
end)
