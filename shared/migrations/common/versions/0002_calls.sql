-- What all replicas of all services share about calling remote systems. Business time is a parameter of
-- ours; columns named `…_until` are real time by PostgreSQL's own clock, unless said otherwise.

-- One row per rate that is counted; its lock is the queue. `blocked_before` is business time: what
-- `Retry-After` asked for.
CREATE TABLE bridge.call_budgets (
    operation      text NOT NULL,
    account        text NOT NULL,
    about          text NOT NULL DEFAULT '',
    blocked_before timestamptz,
    PRIMARY KEY (operation, account, about)
) WITH (fillfactor = 50);

-- Calls that were let through. One without an answer counts as under way until its holder is given up.
CREATE TABLE bridge.calls (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operation   text        NOT NULL,
    account     text        NOT NULL,
    about       text        NOT NULL,
    granted_at  timestamptz NOT NULL,
    answered_at timestamptz,
    dead_until  timestamptz NOT NULL,
    FOREIGN KEY (operation, account, about) REFERENCES bridge.call_budgets
);
CREATE INDEX calls_of_budget ON bridge.calls (operation, account, about, id);

-- Who waits for a slot: first by rank (0 is first served), then by number. One that does not look again
-- in time is gone.
CREATE TABLE bridge.call_waiters (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operation  text        NOT NULL,
    account    text        NOT NULL,
    about      text        NOT NULL,
    rank       smallint    NOT NULL CHECK (rank >= 0),
    seen_until timestamptz NOT NULL,
    FOREIGN KEY (operation, account, about) REFERENCES bridge.call_budgets
);
CREATE INDEX call_waiters_of_budget ON bridge.call_waiters (operation, account, about, rank, id);

-- Accounts that failed lately. `retry_at` is business time: from then on one probe may go out.
CREATE TABLE bridge.breakers (
    account      text        PRIMARY KEY,
    failures     integer     NOT NULL DEFAULT 0 CHECK (failures >= 0),
    reason       text        NOT NULL DEFAULT '',
    opened_at    timestamptz,
    retry_at     timestamptz,
    openings     integer     NOT NULL DEFAULT 0,
    probe_holder text,
    probe_until  timestamptz,
    case_service text,
    CHECK ((opened_at IS NULL) = (retry_at IS NULL)),
    CHECK ((probe_holder IS NULL) = (probe_until IS NULL))
) WITH (fillfactor = 50);

-- Who does what only one replica may do at a time. `taken` counts the holders, so that a later one can
-- be told from an earlier.
CREATE TABLE bridge.leases (
    name         text        PRIMARY KEY,
    holder       text        NOT NULL,
    taken        bigint      NOT NULL DEFAULT 1,
    leased_until timestamptz NOT NULL
) WITH (fillfactor = 50);
