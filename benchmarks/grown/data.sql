-- Keys of one organization as they come about over three years: "%(keys)s" of them. Each column's distribution is the
-- same at every size, so that only the number of rows differs between two databases.
SELECT setseed(0.42);

INSERT INTO apikeys_user (password, email, name, is_active, date_joined, time_zone)
    SELECT '!', 'person' || n || '@example.org',
        (ARRAY['Ada','Ben','Chloé','Dmitri','Emeka','Fatima','Göran','Hana','Ivo','Jun'])[1 + n %% 10] || ' '
        || (ARRAY['Archer','Bianchi','Costa','Dubois','Eriksen','Fischer'])[1 + n / 10 %% 6],
        n %% 20 > 0, now() - interval '3 years', ''
    FROM generate_series(1, 60) n;
INSERT INTO apikeys_organization (name, slug, key_prefix, max_key_age, created_at)
    VALUES ('Grown', 'grown', 'ka', 1000, now() - interval '3 years');
INSERT INTO apikeys_environment (organization_id, code, name, kind)
    SELECT o.id, e.code, e.name, e.kind FROM apikeys_organization o, (VALUES
        ('prod', 'production', 'production'), ('stag', 'staging', 'staging'), ('dev', 'development', 'development'),
        ('eu', 'europe', 'production'), ('lab', 'laboratory', 'other')) e(code, name, kind);
INSERT INTO apikeys_member (organization_id, user_id, role, alert_mail, joined_at)
    SELECT o.id, u.id, CASE WHEN u.email = 'person1@example.org' THEN 'admin' ELSE 'operator' END, 'all', now()
    FROM apikeys_organization o, apikeys_user u;
INSERT INTO apikeys_scope (organization_id, name, description)
    SELECT o.id, area || ':' || verb, initcap(verb) || ' ' || area
    FROM apikeys_organization o, unnest(ARRAY['orders','refunds','customers','catalogue','prices','shipments','invoices',
        'reports']) area, unnest(ARRAY['read','write','delete']) verb;

CREATE TEMP TABLE chosen AS
SELECT id, ARRAY(SELECT e.id FROM apikeys_environment e ORDER BY id) AS environments,
    ARRAY(SELECT m.id FROM apikeys_member m ORDER BY id) AS members,
    ARRAY(SELECT s.id FROM apikeys_scope s ORDER BY id) AS scopes
FROM apikeys_organization;

CREATE TEMP TABLE draft AS
SELECT n, random() AS of_environment, random() AS of_owner, random() AS of_expiry, random() AS of_end, random() AS of_use,
    random() AS of_pause, random() AS of_refusal, random() AS of_name,
    -- The organization grows: half of its keys are younger than ten months.
    now() - interval '1095 days' * power(1 - (n - random()) / %(keys)s, 1.6) AS created_at,
    (SELECT string_agg(substr('0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz', 1 + (62 * random())::int %% 62, 1), '')
        FROM generate_series(1, 12) WHERE n > 0) AS public_id
FROM generate_series(1, %(keys)s) n;

INSERT INTO apikeys_apikey (organization_id, environment_id, name, purpose, owner_id, owner_contact, networks,
    rate_period, prefix, public_id, digest, pepper_number, created_at, created_by_label, revoked_by_label,
    revoked_reason, revoked_note, version, expires_at, paused_at, revoked_at)
SELECT o.id,
    o.environments[CASE WHEN of_environment < 0.55 THEN 1 WHEN of_environment < 0.77 THEN 2 WHEN of_environment < 0.95 THEN 3
        WHEN of_environment < 0.9995 THEN 4 ELSE 5 END],
    (ARRAY['checkout','warehouse','mobile app','partner','load test','reporting','billing','search','price feed',
        'newsletter','returns','stock export','status page','payroll','ci','analytics'])[1 + (of_name * 16)::int %% 16]
        || ' ' || (ARRAY['Ålesund','Bremen','Córdoba','Dublin','Espoo','Faro','Graz','Hull'])[1 + (of_owner * 800)::int %% 8]
        || ' ' || n,
    (ARRAY['Reads orders for the nightly report','Pushes stock levels to shops','Takes payments at the checkout',
        'Sends parcels to the carrier','Feeds the search index','Counts visits for the dashboard',
        'Lists products on marketplaces','Closes the books each month'])[1 + (of_name * 160)::int %% 8]
        || CASE WHEN n %% 20000 = 7 THEN '; see zanzibar-' || n ELSE '; kept in the vault under services/' || n %% 997 END,
    CASE WHEN of_owner < 0.7 THEN o.members[1 + (60 * power(of_owner / 0.7, 3))::int %% 60] END,
    CASE WHEN of_owner >= 0.7
        THEN 'team' || 1 + (120 * power((of_owner - 0.7) / 0.3, 3))::int %% 120 || '@example.org' ELSE '' END,
    '[]', 1, 'ka', public_id, sha256(n::text::bytea), 1, created_at, 'person1@example.org',
    CASE WHEN of_end < 0.12 THEN 'person2@example.org' ELSE '' END,
    CASE WHEN of_end < 0.12 THEN (ARRAY['unused','replaced','leaked','owner_left'])[1 + (of_end * 400)::int %% 4] ELSE '' END,
    '', 1,
    CASE WHEN of_expiry > 0.4 THEN created_at + interval '1 day' * CASE WHEN of_expiry < 0.44 THEN 30 WHEN of_expiry < 0.52 THEN 90
        WHEN of_expiry < 0.6 THEN 180 WHEN of_expiry < 0.9 THEN 365 ELSE 730 END END,
    CASE WHEN of_pause < 0.006 THEN now() - (now() - created_at) * of_end END,
    CASE WHEN of_end < 0.12 THEN now() - (now() - created_at) * of_use * 0.999 END
FROM draft, chosen o
ORDER BY n;

INSERT INTO apikeys_keyscope (key_id, scope_id)
SELECT k.id, s.scopes[1 + (place * 3 + 24 * power(random(), 3))::int %% 24]
FROM apikeys_apikey k, chosen s,
    generate_series(0, (k.id %% 3)::int) place
ON CONFLICT DO NOTHING;

-- One key in eight was never used; the others' last use is a minute to 300 days back, evenly on a logarithmic scale, from
-- now or, for a dead key, from its end.
INSERT INTO apikeys_keyactivity (key_id, first_used_at, last_used_at, last_address, last_refused_at)
SELECT k.id, CASE WHEN used < 0.88 THEN last_at - (last_at - k.created_at) * 0.99 END, CASE WHEN used < 0.88 THEN last_at END,
    CASE WHEN used < 0.88 THEN '192.0.2.1'::inet END,
    CASE WHEN refused < 0.02 THEN now() - (now() - k.created_at) * power(random(), 6) END
FROM (
    SELECT k.*, random() AS used, random() AS refused, GREATEST(created_at + (ended - created_at) * 0.001,
        ended - interval '1 day' * power(10, 5.5 * random() - 3)) AS last_at
    FROM (SELECT *, LEAST(now(), revoked_at, expires_at) AS ended FROM apikeys_apikey) k
) k
WHERE used < 0.88 OR refused < 0.02
ON CONFLICT (key_id) DO UPDATE SET first_used_at = excluded.first_used_at, last_used_at = excluded.last_used_at,
    last_address = excluded.last_address, last_refused_at = excluded.last_refused_at;

-- One silent key in a hundred may be silent: a dead one is not silent, and cannot be exempted.
INSERT INTO apikeys_keyexemption (key_id, owner_id, reason, until, changed_at, changed_by_label)
SELECT k.id, o.members[1], 'Stands by', now() + interval '1 year', now(), 'person1@example.org'
FROM apikeys_apikey k JOIN apikeys_keyactivity a ON a.key_id = k.id, chosen o
WHERE k.id %% 100 = 1 AND a.last_used_at < now() - interval '90 days'
    AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now());
