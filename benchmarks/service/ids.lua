-- wrk ... URL -- SEED FIRST_ID PRODUCTS PATH: ask for PATH, each "{id}" of it a random id. What was
-- counted is printed as one line of JSON.

local first, products, path

function init(args)
    math.randomseed(tonumber(args[1]))
    first, products, path = tonumber(args[2]), tonumber(args[3]), args[4]
end

local function random_id()
    return string.format("%d", first + math.random(0, products - 1))
end

function request()
    return wrk.format(nil, (path:gsub("{id}", random_id)))
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "max": %d, '
            .. '"status": %d, "socket": %d}\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
        latency.max, errors.status, errors.connect + errors.read + errors.write + errors.timeout
    ))
end
