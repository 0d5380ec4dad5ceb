-- Asks keyadmin's verifier whether a request may pass; see haproxy.cfg beside this file, whose section keyadmin knows
-- where the verifier is. The scope that the route needs is in txn.key_scope, "" for any good key. Sets txn.key_passed
-- and what the verifier told of the key, or answers the client itself. HAProxy goes on after an error in a script:
-- so what lets a request through is that variable alone.

local VERIFIER = "abns@keyadmin"  -- where the section keyadmin listens
local TIMEOUT_MS = 10000  -- longer than that section's own: a question that it gives up is not to be asked again
local REFUSALS = { [401] = true, [403] = true, [429] = true, [503] = true }
local SENT = { "authorization", "x-api-key", "user-agent" }
local TOLD_TO_CLIENT = { "www-authenticate", "retry-after", "ratelimit", "ratelimit-policy", "content-type" }
local VARIABLES = {
    ["x-key-id"] = "txn.key_id",
    ["x-key-organization"] = "txn.key_organization",
    ["x-key-environment"] = "txn.key_environment",
    ["x-key-scopes"] = "txn.key_scopes",
    ["ratelimit"] = "txn.key_ratelimit",
    ["ratelimit-policy"] = "txn.key_ratelimit_policy",
}

-- HAProxy counts the values of a header from 0, Lua's own lists from 1.
local function values(header)
    local list = {}
    for index = 0, 99 do
        if header == nil or header[index] == nil then break end
        list[#list + 1] = header[index]
    end
    return list
end

local function question(txn)
    local given = txn.http:req_get_headers()
    local headers = {
        ["x-forwarded-for"] = { txn.f:src() },
        ["x-original-method"] = { txn.f:method() },
        ["x-original-uri"] = { txn.f:pathq() },
    }
    for _, name in ipairs(SENT) do
        local list = values(given[name])
        if #list > 0 then headers[name] = list end
    end
    return headers
end

-- The verifier's own 503 says when to come back; when HAProxy made it, because nobody listens, we say so.
local function refuse(txn, response)
    local headers, status, body = {}, 503, ""
    if response and REFUSALS[response.status] then
        status, body = response.status, response.body
        for _, name in ipairs(TOLD_TO_CLIENT) do headers[name] = values(response.headers[name]) end
    end
    if status == 503 and not (headers["retry-after"] and headers["retry-after"][1]) then
        headers["retry-after"] = { "1" }
    end
    headers["cache-control"] = { "no-store" }
    txn:done(txn:reply{ status = status, headers = headers, body = body })
end

core.register_action("keyadmin", { "http-req" }, function(txn)
    local url = "http://keyadmin/?scope=" .. txn:get_var("txn.key_scope")
    local response = core.httpclient():get{
        url = url, dst = VERIFIER, headers = question(txn), timeout = TIMEOUT_MS
    }
    if not response or response.status ~= 200 then
        return refuse(txn, response)
    end
    for header, variable in pairs(VARIABLES) do
        local value = values(response.headers[header])[1]
        if value then txn:set_var(variable, value) end
    end
    txn:set_var("txn.key_passed", true)
end, 0)
