-- Every marketplace order as far as its answer is concerned. `version` is the sequence of its events on
-- order-decisions; `document` holds the order's facts, its reservation and its answer, without the buyer.
-- `look_at` is when the watch looks at it next: a step of the alert ladder, the cliff, or stock that may have come.
CREATE TABLE orders (
    marketplace text        NOT NULL,
    order_id    text        NOT NULL,
    shop        text        NOT NULL,
    version     bigint      NOT NULL DEFAULT 0,
    stage       text        NOT NULL DEFAULT 'new' CHECK (stage IN
                ('new', 'open', 'observed', 'decided', 'accepted', 'refused', 'timed-out', 'left')),
    due_at      timestamptz,
    look_at     timestamptz,
    waits_for   text[]      NOT NULL DEFAULT '{}',
    document    jsonb,
    PRIMARY KEY (marketplace, order_id),
    CHECK (stage NOT IN ('open', 'decided') OR due_at IS NOT NULL)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX orders_look ON orders (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX orders_waiting ON orders USING gin (waits_for) WHERE waits_for <> '{}';
CREATE INDEX orders_observed ON orders (marketplace, shop) WHERE stage = 'observed';

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

-- What the topic `offer-stocks` says of each offer's stock; the newest word counts.
CREATE TABLE offer_stocks (
    marketplace text        NOT NULL,
    shop        text        NOT NULL,
    shop_sku    text        NOT NULL,
    sequence    bigint      NOT NULL,
    product_id  text        NOT NULL,
    ats         numeric     NOT NULL,
    as_of       timestamptz NOT NULL,
    computed_at timestamptz NOT NULL,
    buffer      numeric     NOT NULL,
    open_units  numeric     NOT NULL,
    PRIMARY KEY (marketplace, shop, shop_sku)
) WITH (fillfactor = 70);

-- SFCC units of orders that were accepted on ATS alone, until OCI holds them or the order is over: what one order
-- was promised proves nothing for the next.
CREATE TABLE promises (
    marketplace text        NOT NULL,
    order_id    text        NOT NULL,
    product_id  text        NOT NULL,
    units       bigint      NOT NULL CHECK (units > 0),
    promised_at timestamptz NOT NULL,
    PRIMARY KEY (marketplace, order_id, product_id),
    FOREIGN KEY (marketplace, order_id) REFERENCES orders ON DELETE CASCADE
);
CREATE INDEX promises_product ON promises (product_id);
