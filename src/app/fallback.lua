-- The policy of a project without scripts: no rule sends anything anywhere, so the host's guarantee does.
rule("no policy", { fallback = true }, function(e, d)
  d:because("this project has no scripts")
end)
