-- wrk ... URL -- [SEED FIRST_ID PRODUCTS BEFORE AFTER]: ask BEFORE <id> AFTER for random ids, or,
-- without them, the URL itself. What was counted is printed as one line of JSON.

local first, products, before, after

function init(args)
    if args[1] then
        math.randomseed(tonumber(args[1]))
        first, products = tonumber(args[2]), tonumber(args[3])
        before, after = args[4], args[5]
    end
end

function request()
    if not first then
        return wrk.format()
    end
    return wrk.format(nil, before .. first + math.random(0, products - 1) .. after)
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
