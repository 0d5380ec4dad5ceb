-- What the events of each day are drawn from: every key that was used in the last days, the busiest first. The number of
-- a key's events falls with its rank, so that the busiest key has one in fourteen of all. They come in bursts, as jobs
-- make them, and the last of them is when the key was used last.
SELECT setseed(0.42);

CREATE SCHEMA IF NOT EXISTS benchmark;
CREATE UNLOGGED TABLE benchmark.used AS
WITH ranked AS (
    SELECT a.key_id, a.last_used_at AS until, GREATEST(a.first_used_at, %(since)s) AS since,
        -- The busiest are keys that have been used for long: one that was made a minute ago has no room for many.
        row_number() OVER (
            ORDER BY a.last_used_at - GREATEST(a.first_used_at, %(since)s) > interval '60 days' DESC, a.last_used_at DESC, a.key_id
        ) AS rank, count(*) OVER () AS keys
    FROM apikeys_keyactivity a JOIN apikeys_apikey k ON k.id = a.key_id WHERE a.last_used_at > %(since)s
), counted AS (
    -- The sum of 1 / rank is close to ln(keys) + 0.577.
    SELECT *, (%(events)s - keys) / (ln(keys) + 0.577) / rank AS more FROM ranked
)
SELECT key_id, since, until, more,
    CASE WHEN more > 24 THEN 8 ELSE 4 END AS per_burst,
    more / CASE WHEN more > 24 THEN 8 ELSE 4 END / GREATEST(1, EXTRACT(epoch FROM until - since) / 86400) AS bursts_a_day,
    1 + LEAST(3000, power(more, 0.5)::int) AS callers,
    ARRAY(SELECT s.name FROM apikeys_keyscope ks JOIN apikeys_scope s ON s.id = ks.scope_id WHERE ks.key_id = c.key_id) AS scopes
FROM counted c;

-- Dead keys that are still tried: twice a day.
CREATE UNLOGGED TABLE benchmark.tried AS
SELECT k.id AS key_id, GREATEST(LEAST(k.revoked_at, k.expires_at), %(since)s) AS since, a.last_refused_at AS until,
    CASE WHEN k.revoked_at IS NOT NULL THEN 'revoked' ELSE 'expired' END AS outcome
FROM apikeys_apikey k JOIN apikeys_keyactivity a ON a.key_id = k.id
WHERE a.last_refused_at > %(since)s AND a.last_refused_at > LEAST(k.revoked_at, k.expires_at)
    AND (k.revoked_at IS NULL OR k.expires_at IS NULL OR k.revoked_at < k.expires_at);
