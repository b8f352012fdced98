-- What everybody can read has an owner, and accounts are not discussed in public.

policy { name = "quickstart", version = 1, owner = "support@example.org" }

rule("public messages are owned", { on = "interaction.received" }, function(e, d)
  if e.ix.visibility ~= "public" then return end
  d:queue("social-public")
  d:tag("public")
  local hit = e.ix:mentions { "account", "order", "invoice" }
  if hit ~= nil then
    d:reply("move_private", { name = e.ix.author.display_name or "there" }, { once_per = "24h" })
    d:because("%q is not discussed in public", hit)
  end
end)
