-- What nests deeper than paths reach: rich messages and rows of buttons. connector.toml does everything else.

local function each(list)
  if type(list) ~= "table" then return ipairs({}) end
  return ipairs(list)
end

-- A line that holds something to read.
local function add(lines, line)
  if type(line) == "string" and line:match("%S") then
    lines[#lines + 1] = line
  end
end

--- Rich text: a string, a list of rich texts, or an object that formats one: https://core.telegram.org/bots/api#richtext
local function plain(text)
  if type(text) == "string" then return text end
  if type(text) ~= "table" then return "" end
  if #text > 0 then
    local pieces = {}
    for _, piece in ipairs(text) do pieces[#pieces + 1] = plain(piece) end
    return table.concat(pieces)
  end
  local said = plain(text.text)
  if said == "" then said = text.alternative_text or text.expression or "" end
  if type(said) ~= "string" then return "" end
  if text.type == "url" and type(text.url) == "string" and text.url ~= said and said ~= "" then
    return said .. " (" .. text.url .. ")"
  end
  return said
end

local blocks_into

-- One block: https://core.telegram.org/bots/api#richblock
local function block_into(block, lines)
  if type(block) ~= "table" then return end
  add(lines, plain(block.summary))
  add(lines, plain(block.text))
  if type(block.expression) == "string" then add(lines, block.expression) end
  blocks_into(block.blocks, lines)
  for place, item in each(block.items) do
    if type(item) == "table" then
      local inner = {}
      block_into(item, inner)
      local mark = type(item.label) == "string" and item.label or "•"
      if item.has_checkbox or item.is_checked ~= nil then mark = item.is_checked and "[x]" or "[ ]" end
      if #inner > 0 then add(lines, mark .. " " .. table.concat(inner, "\n")) end
    end
  end
  for _, row in each(block.cells) do
    local cells = {}
    for _, cell in each(row) do
      if type(cell) == "table" then cells[#cells + 1] = plain(cell.text) end
    end
    add(lines, table.concat(cells, " | "))
  end
  if type(block.caption) == "table" then
    -- The caption of a table is a text, that of a picture has a text and a credit.
    add(lines, plain(block.caption))
    add(lines, plain(block.caption.credit))
  elseif type(block.caption) == "string" then
    add(lines, block.caption)
  end
  add(lines, plain(block.credit))
end

blocks_into = function(blocks, lines)
  for _, block in each(blocks) do block_into(block, lines) end
end

--- All words of a rich message, a line for each block.
local function rich(message)
  if type(message) ~= "table" then return nil end
  local lines = {}
  blocks_into(message.blocks, lines)
  if #lines == 0 then return nil end
  return table.concat(lines, "\n")
end

--- What stands on the button that sent this data.
local function title(markup, data)
  if type(markup) ~= "table" or type(data) ~= "string" then return nil end
  for _, row in each(markup.inline_keyboard) do
    for _, button in each(row) do
      if type(button) == "table" and button.callback_data == data and type(button.text) == "string" then
        return button.text
      end
    end
  end
  return nil
end

return { rich = rich, title = title }
