-- Every order, and the parcels that warehouses spoke of. `waits_for` are the mapping lines that would let a parcel
-- go on, `look_at` is when the order is to be looked at again, `open_since` since when the marketplace has been told
-- something that it has not shown yet. No name and no address.
CREATE TABLE orders (
    marketplace   text        NOT NULL,
    order_id      text        NOT NULL,
    shop          text,
    data          jsonb       NOT NULL,
    waits_for     text[]      NOT NULL DEFAULT '{}',
    dispatched_at timestamptz,
    look_at       timestamptz,
    open_since    timestamptz,
    PRIMARY KEY (marketplace, order_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX orders_waiting ON orders USING gin (waits_for) WHERE waits_for <> '{}';
CREATE INDEX orders_to_look_at ON orders (look_at, dispatched_at) WHERE look_at IS NOT NULL;
CREATE INDEX orders_open ON orders (marketplace, shop, open_since) WHERE open_since IS NOT NULL;

-- What SFCC has shown of an order's shipments: what is news is a dispatch. `sequence` is that of its events.
CREATE TABLE sfcc_orders (
    marketplace text   NOT NULL,
    order_id    text   NOT NULL,
    sequence    bigint NOT NULL,
    seen        jsonb  NOT NULL,
    PRIMARY KEY (marketplace, order_id)
);

-- What a marketplace's own configuration says (PC01) and its carriers (SH21), as read last.
CREATE TABLE platforms (
    marketplace      text        PRIMARY KEY,
    several          boolean     NOT NULL,
    carriers         jsonb       NOT NULL,
    read_at          timestamptz NOT NULL
);

-- Which words of warehouses were sent as which carrier: what a change of the list would break.
CREATE TABLE carriers_used (
    marketplace text        NOT NULL,
    word        text        NOT NULL,
    code        text        NOT NULL,
    used_at     timestamptz NOT NULL,
    PRIMARY KEY (marketplace, word)
);
