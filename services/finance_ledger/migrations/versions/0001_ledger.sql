-- The versions of keys on the topic ledger-entries: one row per order, billing cycle or shop without a cycle.
CREATE TABLE books (
    key     text   PRIMARY KEY,
    version bigint NOT NULL
) WITH (fillfactor = 80);

-- What Mirakl books, line by line as it stands now (TL02). `account` is the one that its entry stands on beside the
-- receivable, `booking` counts the line's entries: a correction takes the old one back and is a new one.
CREATE TABLE lines (
    marketplace    text        NOT NULL,
    shop           text        NOT NULL,
    transaction_id text        NOT NULL,
    type           text        NOT NULL,
    amount         numeric     NOT NULL,
    currency       text        NOT NULL,
    order_id       text,
    line_id        text,
    refund_id      text,
    state          text        NOT NULL,
    cycle          text,
    document       text,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    account        text        NOT NULL,
    figure         text        NOT NULL,
    booking        integer     NOT NULL DEFAULT 1,
    PRIMARY KEY (marketplace, shop, transaction_id)
) WITH (fillfactor = 80);
CREATE INDEX lines_by_order ON lines (marketplace, order_id) WHERE order_id IS NOT NULL;
CREATE INDEX lines_by_cycle ON lines (marketplace, cycle) WHERE cycle IS NOT NULL;
CREATE INDEX lines_without_cycle ON lines (marketplace, shop, created_at) WHERE cycle IS NULL;
CREATE INDEX lines_in_suspense ON lines (marketplace, type) WHERE account = 'suspense';

-- The journal. Every row has one amount and both its sides, so none can be out of balance, and nothing is ever changed.
CREATE TABLE journal (
    marketplace    text        NOT NULL,
    entry_id       text        NOT NULL,
    number         integer     NOT NULL,
    shop           text        NOT NULL,
    type           text        NOT NULL,
    order_id       text,
    debit_account  text        NOT NULL,
    credit_account text        NOT NULL,
    amount         numeric     NOT NULL CHECK (amount >= 0),
    currency       text        NOT NULL,
    booked_at      timestamptz NOT NULL,
    PRIMARY KEY (marketplace, entry_id, number)
);
CREATE INDEX journal_by_time ON journal (marketplace, booked_at);

-- Orders: what is expected of them, from their capture on until Mirakl books, and the figures told last.
CREATE TABLE orders (
    marketplace text        NOT NULL,
    order_id    text        NOT NULL,
    shop        text        NOT NULL,
    captured    boolean     NOT NULL DEFAULT false,
    currency    text,
    gross       numeric,
    commission  numeric,
    expectation integer     NOT NULL DEFAULT 0,
    standing    boolean     NOT NULL DEFAULT false,
    figures     jsonb,
    traceparent text,
    PRIMARY KEY (marketplace, order_id)
) WITH (fillfactor = 70);

-- Billing cycles (SBC11). `version` is the sequence of their events; `covered` says that all lines were read after the
-- cycle was seen; `carried_over` is what it left to later ones, `recovered` what it took from earlier ones.
CREATE TABLE cycles (
    marketplace  text        NOT NULL,
    cycle        text        NOT NULL,
    shop         text        NOT NULL,
    currency     text        NOT NULL,
    version      bigint      NOT NULL DEFAULT 0,
    reported     jsonb       NOT NULL,
    closed_at    timestamptz NOT NULL,
    seen_at      timestamptz NOT NULL,
    paid_out     boolean     NOT NULL,
    covered      boolean     NOT NULL DEFAULT false,
    dirty        boolean     NOT NULL DEFAULT true,
    reconciled   jsonb,
    residual     numeric,
    carried_over numeric     NOT NULL DEFAULT 0 CHECK (carried_over <= 0),
    recovered    numeric     NOT NULL DEFAULT 0 CHECK (recovered <= 0),
    PRIMARY KEY (marketplace, cycle)
);
CREATE INDEX cycles_of_shop ON cycles (marketplace, shop, closed_at);
