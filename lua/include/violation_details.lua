-- violation_details: the names and values of a violation, which come after its reason.
local function violation_details(violation)
  local details = {}
  for index = 2, #violation do
    details[index - 1] = violation[index]
  end
  return details
end
