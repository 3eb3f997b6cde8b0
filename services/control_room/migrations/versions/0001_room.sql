-- What is shown is made of events alone and could be made again by reading the topics from their start.
-- Every event is kept once (source and id), so that repeats and strange orders of arrival change nothing.
-- All names begin with `room_`, because the mechanism has tables of its own in this schema.

CREATE TABLE room_case_events (
    case_id     text        NOT NULL,
    source      text        NOT NULL,
    id          text        NOT NULL,
    type        text        NOT NULL,
    sequence    bigint      NOT NULL,
    at          timestamptz NOT NULL,
    payload     jsonb       NOT NULL,
    traceparent text,
    PRIMARY KEY (case_id, source, id)
);

CREATE TABLE room_cases (
    case_id       text PRIMARY KEY,
    code          text,
    service       text,
    about         text,
    title         text,
    what_to_do    text,
    owner_team    text,
    severity      text,
    rank          smallint NOT NULL DEFAULT 0,
    opened_at     timestamptz,
    due_at        timestamptz,
    risk          numeric,
    risk_currency text,
    marketplace   text,
    shop          text,
    cause         text,
    facts         jsonb   NOT NULL DEFAULT '{}',
    step          text,
    taken_by      text,
    is_open       boolean NOT NULL DEFAULT false,
    closed_at     timestamptz,
    outcome       text,
    explanation   text,
    closed_by     text,
    CHECK ((risk IS NULL) = (risk_currency IS NULL)),
    CHECK (NOT is_open OR (opened_at IS NOT NULL AND closed_at IS NULL))
);
CREATE INDEX room_cases_open ON room_cases (due_at, rank DESC, opened_at) WHERE is_open;
CREATE INDEX room_cases_closed ON room_cases (closed_at DESC) WHERE NOT is_open;
CREATE INDEX room_cases_about ON room_cases (about);
CREATE INDEX room_cases_cause ON room_cases (cause) WHERE is_open;

CREATE TABLE room_order_events (
    marketplace text        NOT NULL,
    order_id    text        NOT NULL,
    source      text        NOT NULL,
    id          text        NOT NULL,
    type        text        NOT NULL,
    sequence    bigint      NOT NULL,
    at          timestamptz NOT NULL,
    payload     jsonb       NOT NULL,
    traceparent text,
    PRIMARY KEY (marketplace, order_id, source, id)
);

CREATE TABLE room_orders (
    marketplace   text NOT NULL,
    order_id      text NOT NULL,
    shop          text,
    commercial_id text,
    state         text,
    stage         text NOT NULL DEFAULT 'unknown',
    answer        text,
    problem       text,
    created_at    timestamptz,
    captured_at   timestamptz,
    answered_at   timestamptz,
    due_at        timestamptz,
    ship_by       timestamptz,
    shipped_at    timestamptz,
    currency      text,
    total         numeric,
    net           numeric,
    sfcc_order_no text,
    sfcc_at       timestamptz,
    parcels       integer NOT NULL DEFAULT 0,
    announced     integer NOT NULL DEFAULT 0,
    held          integer NOT NULL DEFAULT 0,
    last_at       timestamptz,
    PRIMARY KEY (marketplace, order_id)
);
CREATE INDEX room_orders_stage ON room_orders (stage, due_at);
CREATE INDEX room_orders_captured ON room_orders (captured_at DESC NULLS LAST, order_id);
CREATE INDEX room_orders_answered ON room_orders (answered_at);
CREATE INDEX room_orders_created ON room_orders (sfcc_at);
CREATE INDEX room_orders_shipped ON room_orders (shipped_at);
CREATE INDEX room_orders_by_id ON room_orders (order_id text_pattern_ops);
CREATE INDEX room_orders_by_basket ON room_orders (commercial_id text_pattern_ops);
CREATE INDEX room_orders_by_number ON room_orders (sfcc_order_no text_pattern_ops);

-- One line per offer: which product it sells, and how far its number has come. `catalog_sequence`,
-- `mapping_sequence` and `stock_sequence` guard their own columns.
CREATE TABLE room_offers (
    marketplace      text   NOT NULL,
    shop             text   NOT NULL,
    shop_sku         text   NOT NULL,
    mapping_sequence bigint NOT NULL DEFAULT -1,
    product_id       text,
    pack_quantity    integer,
    mapped_by        text,
    mapped_at        timestamptz,
    catalog_sequence bigint NOT NULL DEFAULT -1,
    catalog_state    text,
    catalog_note     text,
    catalog_at       timestamptz,
    stock_sequence   bigint NOT NULL DEFAULT -1,
    stock_state      text,
    quantity         integer,
    as_of            timestamptz,
    stock_at         timestamptz,
    import_id        text,
    stock_note       text,
    hold_case        text,
    computed         jsonb,
    submitted_at     timestamptz,
    shown            integer,
    shown_as_of      timestamptz,
    confirmed_at     timestamptz,
    PRIMARY KEY (marketplace, shop, shop_sku)
) WITH (fillfactor = 70);
CREATE INDEX room_offers_by_sku ON room_offers (shop_sku text_pattern_ops);
CREATE INDEX room_offers_by_product ON room_offers (product_id text_pattern_ops);
CREATE INDEX room_offers_read ON room_offers (catalog_at);
CREATE INDEX room_offers_confirmed ON room_offers (confirmed_at);
CREATE INDEX room_offers_not_confirmed ON room_offers (stock_state, as_of) WHERE stock_state <> 'confirmed';
CREATE INDEX room_offers_held ON room_offers (hold_case, shop_sku) WHERE hold_case IS NOT NULL;
CREATE INDEX room_offers_troubled ON room_offers (catalog_state) WHERE catalog_state IN ('rejected', 'removed');
CREATE INDEX room_offers_unmapped ON room_offers (marketplace, shop) WHERE product_id IS NULL;

CREATE TABLE room_products (
    product_id text   PRIMARY KEY,
    sequence   bigint NOT NULL,
    name       text,
    online     boolean,
    changed_at timestamptz,
    removed    boolean NOT NULL DEFAULT false
);
CREATE TABLE room_product_imports (
    product_id  text   NOT NULL,
    marketplace text   NOT NULL,
    shop        text   NOT NULL,
    sequence    bigint NOT NULL,
    state       text   NOT NULL CHECK (state IN ('submitted', 'published', 'rejected')),
    reasons     text[] NOT NULL DEFAULT '{}',
    at          timestamptz NOT NULL,
    PRIMARY KEY (product_id, marketplace, shop)
);
CREATE INDEX room_product_imports_state ON room_product_imports (state);

CREATE TABLE room_payouts (
    marketplace         text   NOT NULL,
    billing_cycle       text   NOT NULL,
    shop                text   NOT NULL,
    reported_sequence   bigint NOT NULL DEFAULT -1,
    reported            jsonb,
    reconciled_sequence bigint NOT NULL DEFAULT -1,
    reconciled          jsonb,
    residual            numeric,
    cycle_closed_at     timestamptz,
    PRIMARY KEY (marketplace, billing_cycle)
);
CREATE INDEX room_payouts_closed ON room_payouts (cycle_closed_at DESC);

CREATE TABLE room_suspense (
    marketplace text        NOT NULL,
    entry_id    text        NOT NULL,
    shop        text        NOT NULL,
    type        text        NOT NULL,
    order_id    text,
    amount      numeric     NOT NULL,
    currency    text        NOT NULL,
    booked_at   timestamptz NOT NULL,
    settled     boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (marketplace, entry_id)
);

-- What all services told; the bytes stay with the one that gave the record up.
CREATE TABLE room_letters (
    topic            text    NOT NULL,
    partition        integer NOT NULL,
    "offset"         bigint  NOT NULL,
    consumer         text    NOT NULL,
    reason           text,
    rule             text,
    field            text,
    event_type       text,
    event_id         text,
    sha256           text,
    size_bytes       integer,
    dead_lettered_at timestamptz,
    settled          text CHECK (settled IN ('replayed', 'discarded')),
    settled_by       text,
    settled_at       timestamptz,
    PRIMARY KEY (topic, partition, "offset", consumer)
);
CREATE INDEX room_letters_standing ON room_letters (dead_lettered_at DESC) WHERE settled IS NULL;

-- What people did to single objects; mappings and rules stand in the mechanism's tables, version by version.
-- The version is drawn under a lock of its object and is the sequence of its event. Never updated.
CREATE TABLE room_actions (
    about   text        NOT NULL,
    version bigint      NOT NULL,
    type    text        NOT NULL,
    by      text        NOT NULL,
    at      timestamptz NOT NULL,
    reason  text,
    payload jsonb       NOT NULL,
    PRIMARY KEY (about, version)
);
CREATE INDEX room_actions_newest ON room_actions (at DESC);
