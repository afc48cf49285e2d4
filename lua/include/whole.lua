-- whole: what `loaded` in `meta` says of a shop that is loaded to the end, with the layout of its keys: a shop that an older
-- version left behind with another layout is rebuilt.
local whole = "all, layout 4"
