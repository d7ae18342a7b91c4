-- Limits and budgets shared by all processes: one call is one step, by the clock of Redis. gateway/redis_meter.py calls it.
--
-- KEYS[1]: the prefix. ARGV[1]: the step. ARGV[2]: its arguments, MessagePack; so is the reply. `none` stands for what is not limited.
--   s:SCOPE   hash   rl, ra, tl, ta: what is in the buckets of requests and tokens, and when; for each budget's window F ("month:START"):
--                    s:F spent, v:F reserved, e:F the epoch in which s:F was read from the ledger, k:F who is reading it, until when
--   l:SCOPE   zset   what is reserved there -> when its lease ends (microseconds)
--   d:SCOPE:F hash   what was settled while s:F was being read -> its cost
--   r:ID      string a reservation: {cost, {{SCOPE, {F, …}}, …}}
--   leases    zset   every reservation -> when its lease ends
--   procs     zset   every process -> when it was last heard of
--   epoch     string the run of Redis that the counters were made in: another one may have lost some

local P, none = KEYS[1], -1
local args = cmsgpack.unpack(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local MINUTE, DAY, SLACK = 60000000, 86400, 0.000001
local LIMITS_KEPT_MS, BUDGETS_KEPT_MS = 600000, 691200000

-- The same arithmetic as policy/gcra.py.
local function window_start(window)
  local day = math.floor(time[1] / DAY)
  if window == 'total' then return 0 end
  if window == 'day' then return day * DAY end
  if window == 'week' then return (day - (day + 3) % 7) * DAY end
  local shifted = day + 719468
  local era = math.floor(shifted / 146097)
  local of_era = shifted - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  return (day - of_year + math.floor((153 * month + 2) / 5)) * DAY
end

local function drained(level, at, limit)
  return math.max(0, (tonumber(level) or 0) - math.max(0, now - (tonumber(at) or now)) * limit / MINUTE)
end

local function pour(key, level, at, units, limit)
  local held = redis.call('HMGET', key, level, at)
  redis.call('HSET', key, level, math.max(0, drained(held[1], held[2], limit) + units), at, now)
end

-- Counters of another run of Redis may lack what was written last: they are read from the ledger again.
local function epoch_now()
  local run = redis.call('INFO', 'server'):match('run_id:(%w+)')
  if redis.call('GET', P .. 'epoch') ~= run then redis.call('SET', P .. 'epoch', run) end
end

local function reservation(id)
  local found = redis.call('GET', P .. 'r:' .. id)
  return found and cmsgpack.unpack(found)
end

-- What was read from the ledger is not to be relied on any more, nor is what is being read.
local function stale(scope)
  local key = P .. 's:' .. scope
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local kind = field:sub(1, 2)
    if kind == 'e:' or kind == 'k:' then redis.call('HDEL', key, field) end
  end
end

local function register(id, cost, fields, scopes, lease_ms)
  local ends = now + lease_ms * 1000
  for index, scope in ipairs(scopes) do
    redis.call('ZADD', P .. 'l:' .. scope[1], ends, id)
    for _, field in ipairs(fields[index]) do
      if cost > 0 then redis.call('HINCRBY', P .. 's:' .. scope[1], 'v:' .. field, cost) end
    end
  end
  local record = {}
  for index, scope in ipairs(scopes) do record[index] = {scope[1], fields[index]} end
  redis.call('SET', P .. 'r:' .. id, cmsgpack.pack({cost, record}))
  redis.call('ZADD', P .. 'leases', ends, id)
end

local function fields_of(scope)
  local fields = {}
  for index, budget in ipairs(scope[5]) do fields[index] = budget[1] .. ':' .. window_start(budget[1]) end
  return fields
end

-- {id, tokens, cost, lease_ms, {{SCOPE, rpm, tpm, concurrency, {{window, nusd}, …}}, …}}; an empty id only looks.
-- -> {1 granted | 0 refused, now, {{requests, tokens, running, {{start, spent, reserved}, …}}, …}} as it was before;
-- {2, {{which scope, window, start}, …}}: what was spent in these is not known
local function reserve()
  local id, tokens, cost, lease_ms, scopes = unpack(args)
  local epoch = redis.call('GET', P .. 'epoch') or ''
  local fits, all_fields, seen, unknown = true, {}, {}, {}
  for index, scope in ipairs(scopes) do
    local name, rpm, tpm, concurrency, budgets = unpack(scope)
    local fields, wanted = fields_of(scope), {'rl', 'ra', 'tl', 'ta'}
    for _, field in ipairs(fields) do
      wanted[#wanted + 1], wanted[#wanted + 2], wanted[#wanted + 3] = 's:' .. field, 'v:' .. field, 'e:' .. field
    end
    local held = redis.call('HMGET', P .. 's:' .. name, unpack(wanted))
    local requests = rpm ~= none and drained(held[1], held[2], rpm) or 0
    local in_tokens = tpm ~= none and drained(held[3], held[4], tpm) or 0
    local running = (concurrency ~= none or id == '') and redis.call('ZCOUNT', P .. 'l:' .. name, now, '+inf') or 0
    if rpm ~= none and requests + 1 - rpm > SLACK then fits = false end
    if tpm ~= none and in_tokens + tokens - tpm > SLACK then fits = false end
    if concurrency ~= none and running >= concurrency then fits = false end
    local accounts = {}
    for place, budget in ipairs(budgets) do
      local at, start = 2 + 3 * place, window_start(budget[1])
      if held[at + 2] ~= epoch or epoch == '' then unknown[#unknown + 1] = {index - 1, budget[1], start} end
      local spent, reserved = tonumber(held[at]) or 0, tonumber(held[at + 1]) or 0
      if cost > 0 and spent + reserved + cost > budget[2] then fits = false end
      accounts[place] = {start, spent, reserved}
    end
    all_fields[index], seen[index] = fields, {requests, in_tokens, running, accounts}
  end
  if #unknown > 0 then return {2, unknown} end
  if id == '' then return {0, now / 1000000, seen} end
  if redis.call('EXISTS', P .. 'r:' .. id) == 1 then return {1, now / 1000000, seen} end
  if not fits then return {0, now / 1000000, seen} end
  for index, scope in ipairs(scopes) do
    local key, state = P .. 's:' .. scope[1], seen[index]
    if scope[2] ~= none or scope[3] ~= none then
      redis.call('HSET', key, 'rl', state[1] + 1, 'ra', now, 'tl', state[2] + tokens, 'ta', now)
    end
    redis.call('PEXPIRE', key, #scope[5] > 0 and BUDGETS_KEPT_MS or LIMITS_KEPT_MS)
  end
  register(id, cost, all_fields, scopes, lease_ms)
  return {1, now / 1000000, seen}
end

-- {{id, cost, answered, {{SCOPE, rpm, tpm, tokens too many, has budgets}, …}}, …} -> the ids that nobody knows
local function settle()
  local unknown = {}
  for _, one in ipairs(args) do
    local id, cost, answered, scopes = unpack(one)
    local record = reservation(id)
    if not record then
      unknown[#unknown + 1] = id
      for _, scope in ipairs(scopes) do if scope[5] then stale(scope[1]) end end
    else
      for _, scope in ipairs(scopes) do
        local key = P .. 's:' .. scope[1]
        if scope[2] ~= none and not answered then pour(key, 'rl', 'ra', -1, scope[2]) end
        if scope[3] ~= none and scope[4] ~= 0 then pour(key, 'tl', 'ta', -scope[4], scope[3]) end
      end
      for _, part in ipairs(record[2]) do
        local name, key = part[1], P .. 's:' .. part[1]
        redis.call('ZREM', P .. 'l:' .. name, id)
        for _, field in ipairs(part[2]) do
          local held = redis.call('HMGET', key, 's:' .. field, 'v:' .. field, 'k:' .. field)
          if held[2] and record[1] > 0 then redis.call('HINCRBY', key, 'v:' .. field, -record[1]) end
          if held[3] then
            local done = P .. 'd:' .. name .. ':' .. field
            redis.call('HSET', done, id, cost)
            redis.call('PEXPIRE', done, LIMITS_KEPT_MS)
          elseif held[1] and cost ~= 0 then
            redis.call('HINCRBY', key, 's:' .. field, cost)
          end
        end
      end
      redis.call('DEL', P .. 'r:' .. id)
      redis.call('ZREM', P .. 'leases', id)
    end
  end
  return unknown
end

-- {SCOPE, F, token, patience_ms} -> {0 it is known | 1 another one reads it | 2 read it without these, ids}
local function begin()
  local name, field, token, patience_ms = unpack(args)
  local key = P .. 's:' .. name
  epoch_now()
  local held = redis.call('HMGET', key, 'e:' .. field, 'k:' .. field)
  if held[1] and held[1] == redis.call('GET', P .. 'epoch') then return {0, {}} end
  if held[2] then
    local reader = cmsgpack.unpack(held[2])
    if reader[2] > now and reader[1] ~= token then return {1, {}} end
  end
  redis.call('HSET', key, 'k:' .. field, cmsgpack.pack({token, now + patience_ms * 1000}))
  redis.call('DEL', P .. 'd:' .. name .. ':' .. field)
  return {2, redis.call('ZRANGE', P .. 'l:' .. name, 0, -1)}
end

-- {SCOPE, F, token, spent} -> 1 it is known now | 0 something came between, read it again
local function finish()
  local name, field, token, spent = unpack(args)
  local key = P .. 's:' .. name
  local held = redis.call('HGET', key, 'k:' .. field)
  local epoch = redis.call('GET', P .. 'epoch')
  if not held or not epoch or cmsgpack.unpack(held)[1] ~= token then return 0 end
  local window = field:match('^(%a+:)')
  for _, other in ipairs(redis.call('HKEYS', key)) do
    if other:sub(3, 2 + #window) == window and other:sub(2, 2) == ':' and other:sub(3) ~= field then redis.call('HDEL', key, other) end
  end
  local reserved = 0
  for _, id in ipairs(redis.call('ZRANGE', P .. 'l:' .. name, 0, -1)) do
    local record = reservation(id)
    for _, part in ipairs(record and record[2] or {}) do
      if part[1] == name then
        for _, its in ipairs(part[2]) do if its == field then reserved = reserved + record[1] end end
      end
    end
  end
  redis.call('HSET', key, 's:' .. field, spent, 'v:' .. field, reserved, 'e:' .. field, epoch)
  local done = P .. 'd:' .. name .. ':' .. field
  for _, cost in ipairs(redis.call('HVALS', done)) do redis.call('HINCRBY', key, 's:' .. field, cost) end
  redis.call('DEL', done)
  redis.call('HDEL', key, 'k:' .. field)
  redis.call('PEXPIRE', key, BUDGETS_KEPT_MS)
  return 1
end

-- {process, lease_ms, {{id, cost, {SCOPE as in reserve, …}}, …}, {stale SCOPE, …}} -> how many processes there are
local function renew()
  local process, lease_ms, live, forgotten = unpack(args)
  epoch_now()
  for _, scope in ipairs(forgotten) do stale(scope) end
  local ends = now + lease_ms * 1000
  for _, one in ipairs(live) do
    local id, cost, scopes = unpack(one)
    if redis.call('EXISTS', P .. 'r:' .. id) == 1 then
      redis.call('ZADD', P .. 'leases', ends, id)
      for _, scope in ipairs(scopes) do redis.call('ZADD', P .. 'l:' .. scope[1], ends, id) end
    else
      local fields = {}
      for index, scope in ipairs(scopes) do fields[index] = fields_of(scope) end
      register(id, cost, fields, scopes, lease_ms)
      for _, scope in ipairs(scopes) do if #scope[5] > 0 then stale(scope[1]) end end
    end
  end
  redis.call('ZADD', P .. 'procs', now, process)
  redis.call('ZREMRANGEBYSCORE', P .. 'procs', '-inf', now - lease_ms * 1000)
  return redis.call('ZCARD', P .. 'procs')
end

-- {lease_ms, at most} -> ids whose lease has ended; they are the caller's for another lease
local function expired()
  local ids = redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', now, 'LIMIT', 0, args[2])
  for _, id in ipairs(ids) do redis.call('ZADD', P .. 'leases', now + args[1] * 1000, id) end
  return ids
end

-- {process} -> whether it is known: not after a flush
local function pulse()
  epoch_now()
  return redis.call('ZSCORE', P .. 'procs', args[1]) and true or false
end

-- {process}
local function leave()
  return redis.call('ZREM', P .. 'procs', args[1])
end

local steps = {reserve = reserve, settle = settle, begin = begin, finish = finish, renew = renew, expired = expired, pulse = pulse, leave = leave}
return cmsgpack.pack(steps[ARGV[1]]())
