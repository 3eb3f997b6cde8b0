-- Every marketplace order, once. `version` is the sequence of its events; `last_updated` is Mirakl's own
-- version, and `read_at` Mirakl's clock when it was read. `facts` is the order without its buyer, `told` what its
-- events said of parts, `sfcc` what the SFCC order is to show beside that.
CREATE TABLE orders (
    marketplace   text        NOT NULL,
    order_id      text        NOT NULL,
    shop          text        NOT NULL,
    version       bigint      NOT NULL DEFAULT 0,
    last_updated  timestamptz,
    read_at       timestamptz,
    created_at    timestamptz,
    state         text        NOT NULL DEFAULT '',
    facts         jsonb,
    told          jsonb       NOT NULL DEFAULT '{}',
    stage         text        NOT NULL DEFAULT 'captured' CHECK (stage IN
                  ('captured', 'held', 'observed', 'owed', 'created', 'left', 'refused')),
    problems      jsonb       NOT NULL DEFAULT '[]',
    waits_for     text[]      NOT NULL DEFAULT '{}',
    accepted      boolean     NOT NULL DEFAULT false,
    sfcc          jsonb       NOT NULL DEFAULT '{}',
    site          text,
    sfcc_order_no text,
    link_sent_at  timestamptz,
    linked_at     timestamptz,
    ended_at      timestamptz,
    erased_at     timestamptz,
    traceparent   text,
    PRIMARY KEY (marketplace, order_id),
    CHECK ((stage = 'created') = (sfcc_order_no IS NOT NULL)),
    CHECK ((stage = 'held') = (problems <> '[]'))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX orders_sfcc ON orders (site, sfcc_order_no) WHERE sfcc_order_no IS NOT NULL;
CREATE INDEX orders_waiting ON orders USING gin (waits_for) WHERE stage = 'held';
CREATE INDEX orders_held ON orders (stage, marketplace, order_id) WHERE stage IN ('held', 'observed');
CREATE INDEX orders_unlinked ON orders (marketplace, shop, order_id) WHERE stage = 'created' AND linked_at IS NULL;
CREATE INDEX orders_by_creation ON orders (marketplace, shop, created_at);
CREATE INDEX orders_ended ON orders (marketplace, ended_at) WHERE ended_at IS NOT NULL AND erased_at IS NULL;

-- Personal data: names, addresses, the e-mail alias. Erased by DELETE; nothing else holds any of it.
CREATE TABLE buyers (
    marketplace text  NOT NULL,
    order_id    text  NOT NULL,
    data        bytea NOT NULL,
    PRIMARY KEY (marketplace, order_id),
    FOREIGN KEY (marketplace, order_id) REFERENCES orders ON DELETE CASCADE
);

-- Orders that could not be read, as they came: personal data too.
CREATE TABLE unreadable_orders (
    marketplace text        NOT NULL,
    order_id    text        NOT NULL,
    shop        text        NOT NULL,
    reason      text        NOT NULL,
    raw         bytea       NOT NULL,
    seen_at     timestamptz NOT NULL,
    PRIMARY KEY (marketplace, order_id)
);

-- Which SFCC product an offer sells, as the topic `offers` says.
CREATE TABLE offer_products (
    marketplace   text    NOT NULL,
    shop          text    NOT NULL,
    shop_sku      text    NOT NULL,
    sequence      bigint  NOT NULL,
    product_id    text,
    pack_quantity integer NOT NULL DEFAULT 1,
    PRIMARY KEY (marketplace, shop, shop_sku)
);
