-- tier_limits_json: the limits of a tier as they stand in events.
local function tier_limits_json(item)
  return string.format('{"max_projects":%d,"max_storage_mb":%d,"max_api_calls":%d}', item.max_projects, item.max_storage_mb, item.max_api_calls)
end
