-- The events of one day, in the order of their time.
INSERT INTO {table} (key_id, at, nonce, outcome, address, user_agent, method, path, scope)
SELECT key_id, at, row_number() OVER (),
    CASE WHEN dice < 0.97 THEN 'valid' WHEN dice < 0.985 THEN 'rate_limited' WHEN dice < 0.995 THEN 'scope_missing'
        ELSE 'network_denied' END,
    '10.0.0.0'::inet + (key_id %% 4000 * 3000 + caller),
    (ARRAY['python-requests/2.32.5','okhttp/5.1.0','Go-http-client/2.0','curl/8.14.1','axios/1.12.2','Java-http-client/21.0.8',
        'node','shop-sync/4.2 (+https://example.org/sync)'])[1 + (key_id + caller) %% 8],
    CASE WHEN path < 0.7 THEN 'GET' ELSE 'POST' END,
    '/v1/' || (ARRAY['orders','orders/search','customers','stock','prices','shipments','invoices','reports/daily'])[1 + (key_id + floor(3 * path)::int) %% 8],
    COALESCE(scopes[1 + floor(path * cardinality(scopes))::int], '')
FROM (
    SELECT key_id, scopes, start + random() * interval '59 minutes' AS at, since, until, random() AS dice, path, caller
    FROM (
        SELECT u.*, %(day)s::timestamptz + interval '1 hour' * CASE WHEN random() < 0.5 THEN floor(24 * random())
            ELSE 7 + floor(11 * random()) END AS start, random() AS path,
            floor(u.callers * power(random(), 3))::int AS caller
        FROM benchmark.used u, generate_series(1, floor(u.bursts_a_day + random())::int)
        WHERE u.since < %(day)s::timestamptz + interval '1 day' AND u.until >= %(day)s
    ) bursts, generate_series(1, per_burst)
    UNION ALL
    SELECT key_id, scopes, until, since, until, 0, random(), 0 FROM benchmark.used
    WHERE until >= %(day)s AND until < %(day)s::timestamptz + interval '1 day'
) drawn
WHERE at >= since AND at <= until
UNION ALL
SELECT key_id, at, row_number() OVER () + 1000000000, outcome, '10.99.0.1', 'curl/8.14.1', 'GET', '/v1/orders', ''
FROM (
    SELECT t.*, %(day)s::timestamptz + interval '12 hours' * (place + random()) AS at
    FROM benchmark.tried t, generate_series(0, 1) place
) tries
WHERE at >= since AND at <= until
ORDER BY 2;
