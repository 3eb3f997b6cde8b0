-- What a service owes remote systems, the questions it asks people, and how far it has read.

-- Times are business time. `next_…` is what replaces an overwriting obligation once the attempt under
-- way has ended. `unsure_at` is when the last call without an answer ended, or was given up.
CREATE TABLE obligations (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind            text        NOT NULL,
    key             text        NOT NULL,
    account         text        NOT NULL,
    about           text        NOT NULL,
    payload         jsonb       NOT NULL,
    state           text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'unknown', 'done', 'given-up')),
    step            text        NOT NULL DEFAULT 'call' CHECK (step IN ('call', 'read', 'settle')),
    due_at          timestamptz NOT NULL,
    not_before      timestamptz NOT NULL,
    owed_at         timestamptz NOT NULL,
    since           timestamptz NOT NULL,
    unsure_at       timestamptz,
    attempts        integer     NOT NULL DEFAULT 0,
    failures        integer     NOT NULL DEFAULT 0,
    outcome         jsonb,
    closed_at       timestamptz,
    traceparent     text,
    next_payload    jsonb,
    next_due_at     timestamptz,
    next_not_before timestamptz,
    CHECK ((closed_at IS NULL) = (state IN ('open', 'unknown'))),
    CHECK (closed_at IS NULL OR outcome IS NOT NULL)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX obligations_standing ON obligations (key, id) WHERE closed_at IS NULL;
CREATE INDEX obligations_due ON obligations (key, due_at) WHERE closed_at IS NULL;
CREATE INDEX obligations_unknown ON obligations (id) WHERE state = 'unknown';
CREATE INDEX obligations_closed ON obligations (closed_at) WHERE closed_at IS NOT NULL;

-- One row per key that holds something: its head, the earliest due time of all it holds, and who has it.
-- A key is `ready` when its head may run; whose time has come is made ready before every claim, so that
-- a claim reads one index in order and never passes over what only waits. The lease is real time.
CREATE TABLE obligation_keys (
    key          text        PRIMARY KEY,
    head         bigint      NOT NULL DEFAULT 0,
    kind         text        NOT NULL DEFAULT '',
    account      text        NOT NULL DEFAULT '',
    due_at       timestamptz NOT NULL,
    not_before   timestamptz NOT NULL DEFAULT 'infinity',
    ready        boolean     NOT NULL DEFAULT false,
    holder       text,
    leased_until timestamptz,
    CHECK ((holder IS NULL) = (leased_until IS NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX obligation_keys_ready ON obligation_keys (account, due_at, key) WHERE ready AND holder IS NULL;
CREATE INDEX obligation_keys_waiting ON obligation_keys (not_before) WHERE NOT ready AND holder IS NULL;
CREATE INDEX obligation_keys_leased ON obligation_keys (leased_until) WHERE holder IS NOT NULL;

-- Every attempt, for a person to read.
CREATE TABLE obligation_attempts (
    obligation_id bigint      NOT NULL REFERENCES obligations ON DELETE CASCADE,
    number        integer     NOT NULL,
    step          text        NOT NULL,
    holder        text        NOT NULL,
    started_at    timestamptz NOT NULL,
    ended_at      timestamptz,
    result        text,
    reason        text,
    PRIMARY KEY (obligation_id, number),
    CHECK ((ended_at IS NULL) = (result IS NULL))
);

-- Exception cases. The version is the sequence of their events; `steps` are the rungs announced.
CREATE TABLE cases (
    case_id     text        PRIMARY KEY,
    code        text        NOT NULL,
    about       text        NOT NULL,
    cause       text,
    severity    text        NOT NULL,
    steps       text[]      NOT NULL DEFAULT '{}',
    opened      jsonb       NOT NULL,
    opened_at   timestamptz NOT NULL,
    closed_at   timestamptz,
    closed      jsonb,
    version     bigint      NOT NULL DEFAULT 1 CHECK (version > 0),
    CHECK ((closed_at IS NULL) = (closed IS NULL))
);
CREATE INDEX cases_open_by_cause ON cases (cause) WHERE closed_at IS NULL;
CREATE INDEX cases_open_by_about ON cases (about) WHERE closed_at IS NULL;

-- How far something was read, and what exactly was asked: another question needs another cursor.
CREATE TABLE cursors (
    name       text        PRIMARY KEY,
    covers     text        NOT NULL,
    since      timestamptz NOT NULL,
    until      timestamptz NOT NULL,
    place      text,
    updated_at timestamptz NOT NULL,
    CHECK (since <= until)
) WITH (fillfactor = 50);
