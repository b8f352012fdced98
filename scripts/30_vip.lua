-- Customers in data/vip.csv go ahead. A number that is only claimed is not proof enough for that.
local vip = table("vip", "identifier")

-- The row of the first identifier that is in the table, proven ones first, and whether it is proven. One delivery may name
-- its sender in several ways, each with a trust of its own: WhatsApp tells a user id, and the number in `also`.
local function find(author)
  local own = author.identifier and vip[author.identifier.value]
  if own and author:trusted("verified") then return own, true end
  local claimed = own
  for _, identifier in ipairs(author.also) do
    local row = vip[identifier.value]
    if row and (identifier.trust == "verified" or identifier.trust == "asserted") then return row, true end
    claimed = claimed or row
  end
  return claimed, false
end

rule("vip lane", function(e, d)
  local row, proven = find(e.ix.author)
  if not row then return end
  d:tag("vip")
  if proven then
    d:queue("vip")
    d:priority(90)
    d:because("%s, proven by the channel", row.tier)
  else
    d:because("%s by a number that is only claimed", row.tier)
  end
end)
