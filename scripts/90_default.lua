-- Whatever no other rule has sent anywhere.
rule("default", { fallback = true }, function(e, d)
  d:queue("general")
  d:because("no other rule applies")
end)
