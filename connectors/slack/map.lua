-- Slack's markup and forms as plain text. connector.toml does everything else.

--- Text in Slack's mrkdwn as people read it: https://docs.slack.dev/messaging/formatting-message-text
local function token(inside)
  local target, label = inside:match("^([^|]*)|(.*)$")
  target = target or inside
  if label == "" then label = nil end
  local first = target:sub(1, 1)
  if first == "@" or first == "#" then
    return first .. (label or target:sub(2))
  end
  if first == "!" then
    if label then return label end
    local name = target:match("^!subteam%^(.+)$") or target:match("^!([^%^]+)")
    return "@" .. (name or target:sub(2))
  end
  if label == nil then return target end
  local bare = target:gsub("^%a[%w+.-]*:/*", "")
  if label == target or label == bare or label == bare:gsub("/$", "") then return label end
  return label .. " (" .. target .. ")"
end

local function plain(text)
  if type(text) ~= "string" then return nil end
  text = text:gsub("<([^<>]+)>", token)
  text = text:gsub("&lt;", "<"):gsub("&gt;", ">"):gsub("&amp;", "&")
  return text
end

-- A list of lines that leaves out what is not there.
local function add(lines, line)
  if type(line) == "string" and line:match("%S") then
    lines[#lines + 1] = line
  end
end

local function each(list)
  if type(list) ~= "table" then return ipairs({}) end
  return ipairs(list)
end

-- A text object of Block Kit, or a plain string.
local function object(value)
  if type(value) == "string" then return plain(value) end
  if type(value) ~= "table" then return nil end
  if value.type == "mrkdwn" then return plain(value.text) end
  return value.text
end

local rich = {}

function rich.inline(element)
  if element.type == "text" then return element.text or "" end
  if element.type == "link" then
    if element.text == nil or element.text == element.url then return element.url or "" end
    return element.text .. " (" .. (element.url or "") .. ")"
  end
  if element.type == "user" then return "@" .. (element.user_id or "") end
  if element.type == "usergroup" then return "@" .. (element.usergroup_id or "") end
  if element.type == "channel" then return "#" .. (element.channel_id or "") end
  if element.type == "broadcast" then return "@" .. (element.range or "") end
  if element.type == "emoji" then return ":" .. (element.name or "") .. ":" end
  return element.fallback or element.text or element.value or ""
end

function rich.section(section)
  local pieces = {}
  for _, element in each(section.elements) do
    if type(element) == "table" then pieces[#pieces + 1] = rich.inline(element) end
  end
  return table.concat(pieces)
end

function rich.block(block, lines)
  for _, section in each(block.elements) do
    if type(section) == "table" then
      if section.type == "rich_text_list" then
        for place, item in each(section.elements) do
          local mark = section.style == "ordered" and (place .. ". ") or "• "
          add(lines, mark .. rich.section(item))
        end
      elseif section.type == "rich_text_quote" then
        add(lines, "> " .. rich.section(section))
      else
        add(lines, rich.section(section))
      end
    end
  end
end

local blocks_into

-- A block that holds others: cards side by side, a plan with its tasks.
local function nested(block, lines)
  for _, name in ipairs({ "details", "output" }) do
    if type(block[name]) == "table" and block[name].type == "rich_text" then rich.block(block[name], lines) end
  end
  blocks_into(block.tasks, lines)
  blocks_into(block.blocks or block.child_blocks, lines)
  if block.type == "carousel" then blocks_into(block.elements, lines) end
end

--- What stands in blocks: https://docs.slack.dev/reference/block-kit/blocks
blocks_into = function(blocks, lines)
  for _, block in each(blocks) do
    if type(block) == "table" then
      if block.type == "rich_text" then
        rich.block(block, lines)
      elseif block.type == "actions" then
        for _, element in each(block.elements) do
          local label = object(element.text) or object(element.placeholder)
          add(lines, label and label:match("%S") and ("[" .. label .. "]"))
        end
      elseif block.type == "context" then
        local said = {}
        for _, element in each(block.elements) do
          add(said, element.alt_text or object(element))
        end
        add(lines, table.concat(said, " "))
      elseif type(block.rows) == "table" then
        for _, row in each(block.rows) do
          local cells = {}
          for _, cell in each(row) do
            local inner = {}
            if type(cell) == "table" then
              if cell.type == "rich_text" then rich.block(cell, inner) else add(inner, tostring(cell.text or cell.value or "")) end
            end
            cells[#cells + 1] = table.concat(inner, " ")
          end
          add(lines, table.concat(cells, " | "))
        end
      else
        -- section, header, markdown, image, video, input, alert, card, task, plan and what Slack may add
        add(lines, block.type == "markdown" and block.text or object(block.text))
        for _, field in each(block.fields) do add(lines, object(field)) end
        add(lines, object(block.label))
        add(lines, object(block.title) or block.alt_text)
        add(lines, object(block.subtitle))
        add(lines, object(block.body))
        add(lines, object(block.description))
        nested(block, lines)
      end
    end
  end
end

-- An attachment that is only the preview of a link in the text says nothing new; a forwarded message does.
local function preview(attachment)
  if attachment.is_share then return false end
  return attachment.from_url ~= nil or attachment.original_url ~= nil or attachment.is_msg_unfurl or attachment.is_app_unfurl
end

local function attachment_into(attachment, lines)
  local before = #lines
  add(lines, plain(attachment.pretext))
  add(lines, plain(attachment.title))
  add(lines, plain(attachment.text))
  for _, field in each(attachment.fields) do
    add(lines, table.concat({ plain(field.title) or "", plain(field.value) or "" }, ": "))
  end
  if #lines == before then blocks_into(attachment.blocks, lines) end
  if #lines == before then
    for _, shared in each(attachment.message_blocks) do
      if type(shared) == "table" and type(shared.message) == "table" then blocks_into(shared.message.blocks, lines) end
    end
  end
  if #lines == before then add(lines, plain(attachment.fallback)) end
end

--- The whole of a message; its blocks only where it has no text, since Slack repeats the one in the other.
local function said(message)
  if type(message) ~= "table" then return nil end
  local lines = {}
  add(lines, plain(message.text))
  if #lines == 0 then blocks_into(message.blocks, lines) end
  for _, attachment in each(message.attachments) do
    if type(attachment) == "table" and not preview(attachment) then attachment_into(attachment, lines) end
  end
  if #lines == 0 and type(message.comment) == "table" then add(lines, plain(message.comment.comment)) end
  if #lines == 0 then return nil end
  return table.concat(lines, "\n")
end

-- Users among the elements of a rich text, however deep: rows of lists and quotes hold sections of their own.
local function users_into(elements, found)
  for _, element in each(elements) do
    if type(element) == "table" then
      if element.type == "user" and type(element.user_id) == "string" then found[#found + 1] = element.user_id end
      users_into(element.elements, found)
    end
  end
end

local function named_into(text, found)
  if type(text) ~= "string" then return end
  for id in text:gmatch("<@(%w+)[|>]") do found[#found + 1] = id end
end

--- Whom a message names, as ids of users; its blocks only where it has no text, as in `said`.
local function mentioned(message)
  if type(message) ~= "table" then return nil end
  local found = {}
  if type(message.text) == "string" and message.text:match("%S") then
    named_into(message.text, found)
  else
    for _, block in each(message.blocks) do
      if type(block) == "table" and block.type == "rich_text" then users_into(block.elements, found) end
      if type(block) == "table" and type(block.text) == "table" and block.text.type == "mrkdwn" then
        named_into(block.text.text, found)
      end
    end
  end
  if #found == 0 then return nil end
  return found
end

local SINGLE = {
  "value", "selected_user", "selected_conversation", "selected_channel", "selected_date", "selected_time",
  "selected_date_time",
}
local MANY = { "selected_users", "selected_conversations", "selected_channels" }

--- What was chosen or written in one element, as text and as value.
local function chosen(element)
  if type(element) ~= "table" then return nil end
  local texts, values = {}, {}
  local function take(option)
    if type(option) ~= "table" then return end
    add(texts, object(option.text) or option.value)
    add(values, option.value)
  end
  take(element.selected_option)
  for _, option in each(element.selected_options) do take(option) end
  for _, name in ipairs(MANY) do
    for _, one in each(element[name]) do
      add(texts, one)
      add(values, one)
    end
  end
  if type(element.rich_text_value) == "table" then
    rich.block(element.rich_text_value, texts)
  end
  for _, file in each(element.files) do
    if type(file) == "table" then
      add(texts, file.name or file.id)
      add(values, file.id)
    end
  end
  if #texts == 0 then
    for _, name in ipairs(SINGLE) do
      local value = element[name]
      if value ~= nil and type(value) ~= "table" and #values == 0 then add(values, tostring(value)) end
    end
    -- What stands on a button, of whatever kind; a field has no text of its own.
    add(texts, object(element.text))
  end
  if #texts == 0 then texts = values end
  local given = {}
  if #texts > 0 then given.text = table.concat(texts, ", ") end
  if #values > 0 then given.value = table.concat(values, ", ") end
  if next(given) == nil then return nil end
  return given
end

-- The keys of a table in an order that does not change from one reading to the next.
local function sorted(fields)
  local names = {}
  for name in pairs(fields) do names[#names + 1] = tostring(name) end
  table.sort(names)
  return names
end

--- The answers in a view, each with the label that the person saw: `text` to read, `fields` by action.
local function form(view)
  if type(view) ~= "table" or type(view.state) ~= "table" then return nil end
  local values = type(view.state.values) == "table" and view.state.values or {}
  local lines, fields, done = {}, {}, {}
  local function block(id, label)
    local answers = values[id]
    if type(answers) ~= "table" or done[id] then return end
    done[id] = true
    for _, action in ipairs(sorted(answers)) do
      local answer = chosen(answers[action])
      if answer then
        fields[fields[action] == nil and action or (id .. "." .. action)] = answer.value or answer.text
        add(lines, (label or action) .. ": " .. (answer.text or answer.value))
      end
    end
  end
  for _, one in each(view.blocks) do
    if type(one) == "table" and one.block_id then block(one.block_id, object(one.label)) end
  end
  for _, id in ipairs(sorted(values)) do block(id, nil) end
  local given = {}
  if #lines > 0 then
    given.text = table.concat(lines, "\n")
    given.fields = fields
  end
  return given
end

--- The answers of an old dialog.
local function submission(answers)
  if type(answers) ~= "table" then return nil end
  local lines = {}
  for _, name in ipairs(sorted(answers)) do
    if answers[name] ~= nil and type(answers[name]) ~= "table" then
      add(lines, name .. ": " .. tostring(answers[name]))
    end
  end
  if #lines == 0 then return nil end
  return table.concat(lines, "\n")
end

return { plain = plain, said = said, mentioned = mentioned, chosen = chosen, form = form, submission = submission }
