-- For wrk: each request presents the next key of a file, from a random one on.
local keys = {}
local position = 0

function init(arguments)
  for line in io.lines(arguments[1]) do keys[#keys + 1] = "Bearer " .. line end
  math.randomseed(os.time())
  position = math.random(#keys)
end

function request()
  position = position % #keys + 1
  return wrk.format("GET", nil, { Authorization = keys[position] })
end
