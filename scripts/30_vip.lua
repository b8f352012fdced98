-- Customers in data/vip.csv go ahead. A number that is only claimed is not proof enough for that.
local vip = table("vip", "identifier")

rule("vip lane", function(e, d)
  local from = e.ix.author.identifier
  local row = from and vip[from.value]
  if not row then return end
  d:tag("vip")
  if e.ix.author:trusted("verified") then
    d:queue("vip")
    d:priority(90)
    d:because("%s, proven by the channel", row.tier)
  else
    d:because("%s by a number that is only claimed", row.tier)
  end
end)
