-- The newest word on each product and place, by (as_of, sequence): whatever arrives later but is older is dropped.
CREATE TABLE levels (
    product_id      text           NOT NULL,
    place_kind      text           NOT NULL,
    place           text           NOT NULL,
    as_of           timestamptz    NOT NULL,
    sequence        bigint         NOT NULL,
    ats             numeric(15, 3) NOT NULL,
    perpetual       boolean        NOT NULL,
    removed         boolean        NOT NULL,
    read_started_at timestamptz,
    PRIMARY KEY (product_id, place_kind, place)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- How far each OCI place was read. Without a token, or when `base_due_at` has come, a full export is the base.
CREATE TABLE feeds (
    place_kind  text NOT NULL,
    place       text NOT NULL,
    token       text,
    read_at     timestamptz,
    export_id   text,
    export_link text,
    export_at   timestamptz,
    base_due_at timestamptz,
    PRIMARY KEY (place_kind, place)
);

-- What we said last of each product and place; `missed` counts complete snapshots in a row that lacked it.
CREATE TABLE reported (
    product_id  text           NOT NULL,
    place_kind  text           NOT NULL,
    place       text           NOT NULL,
    ats         numeric(15, 3) NOT NULL,
    gone        boolean        NOT NULL,
    as_of       timestamptz    NOT NULL,
    snapshot_id text,
    missed      integer        NOT NULL DEFAULT 0,
    PRIMARY KEY (place_kind, place, product_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX reported_missed ON reported (place_kind, place, product_id) WHERE missed > 0 AND NOT gone;

-- The sequence of a product's events on stock-levels.
CREATE TABLE product_versions (
    product_id text   PRIMARY KEY,
    version    bigint NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- Lines of marketplace orders whose units nobody has taken from SFCC's stock for good.
CREATE TABLE order_lines (
    marketplace text    NOT NULL,
    order_id    text    NOT NULL,
    line_id     text    NOT NULL,
    shop        text    NOT NULL,
    shop_sku    text    NOT NULL,
    product_id  text,
    pack        integer NOT NULL,
    quantity    integer NOT NULL,
    PRIMARY KEY (marketplace, order_id, line_id)
);
CREATE INDEX order_lines_product ON order_lines (product_id);
CREATE INDEX order_lines_unmapped ON order_lines (marketplace, shop, shop_sku) WHERE product_id IS NULL;

-- Orders that SFCC had before us: none of their lines asks for stock.
CREATE TABLE adopted_orders (
    marketplace text NOT NULL,
    order_id    text NOT NULL,
    PRIMARY KEY (marketplace, order_id)
);

-- What OCI reserved for them. Absorbed: a read that started after the answer has been seen. It may arrive
-- before the order itself.
CREATE TABLE reservations (
    marketplace text           NOT NULL,
    order_id    text           NOT NULL,
    line_id     text           NOT NULL,
    place       text           NOT NULL,
    product_id  text           NOT NULL,
    reserved    numeric(15, 3) NOT NULL,
    answered_at timestamptz    NOT NULL,
    absorbed    boolean        NOT NULL DEFAULT false,
    PRIMARY KEY (marketplace, order_id, line_id, place)
);
CREATE INDEX reservations_open ON reservations (place, product_id) WHERE NOT absorbed;

-- Each shop: the terms its numbers were computed under, how far a new computation has come, its guard.
CREATE TABLE shops (
    marketplace     text NOT NULL,
    shop            text NOT NULL,
    terms           text,
    recompute_after text,
    held_at         timestamptz,
    approved_until  timestamptz,
    PRIMARY KEY (marketplace, shop)
);

-- Each offer: what it sells (`said` is the sequence of that word), the number it is to show, whether that has to go
-- out, what keeps it back, and what went out last. `version` is the sequence of its events on offer-stocks.
CREATE TABLE offers (
    marketplace  text    NOT NULL,
    shop         text    NOT NULL,
    shop_sku     text    NOT NULL,
    said         bigint  NOT NULL DEFAULT 0,
    product_id   text,
    pack         integer NOT NULL DEFAULT 1,
    creating     boolean NOT NULL DEFAULT false,
    version      bigint  NOT NULL DEFAULT 0,
    quantity     integer CHECK (quantity >= 0),
    ats          numeric(15, 3),
    open_units   numeric(15, 3),
    as_of        timestamptz,
    rule         text,
    dirty        boolean NOT NULL DEFAULT false,
    rejected     boolean NOT NULL DEFAULT false,
    hold_case    text,
    resend_at    timestamptz,
    shown        integer,
    shown_import bigint,
    confirmed_at timestamptz,
    PRIMARY KEY (marketplace, shop, shop_sku)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX offers_product ON offers (product_id);
CREATE INDEX offers_dirty ON offers (marketplace, shop, shop_sku) WHERE dirty AND hold_case IS NULL AND NOT creating;
CREATE INDEX offers_held ON offers (hold_case) WHERE hold_case IS NOT NULL;
CREATE INDEX offers_resend ON offers (marketplace, shop, resend_at) WHERE resend_at IS NOT NULL;
CREATE INDEX offers_on_show ON offers (marketplace, shop) WHERE shown > 0;

-- Falls to zero that were let through, for the mass-zero guard.
CREATE TABLE falls (
    marketplace text        NOT NULL,
    shop        text        NOT NULL,
    shop_sku    text        NOT NULL,
    at          timestamptz NOT NULL,
    units       integer     NOT NULL,
    PRIMARY KEY (marketplace, shop, shop_sku)
);
CREATE INDEX falls_at ON falls (marketplace, shop, at);

-- Stock imports (STO01), noted before they are sent. `announced` lines have their submitted event.
CREATE TABLE imports (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    marketplace  text        NOT NULL,
    shop         text        NOT NULL,
    state        text        NOT NULL DEFAULT 'sending' CHECK (state IN
                 ('sending', 'submitted', 'ended', 'unknown', 'not-sent')),
    digest       text        NOT NULL DEFAULT '',
    lines        integer     NOT NULL DEFAULT 0,
    announced    integer     NOT NULL DEFAULT 0,
    asked        integer     NOT NULL DEFAULT 0,
    import_id    text,
    started_at   timestamptz NOT NULL,
    submitted_at timestamptz,
    look_at      timestamptz,
    ended_at     timestamptz,
    CHECK ((state IN ('submitted', 'ended')) <= (import_id IS NOT NULL))
);
CREATE UNIQUE INDEX imports_theirs ON imports (marketplace, shop, import_id) WHERE import_id IS NOT NULL;
CREATE INDEX imports_shop ON imports (marketplace, shop, id);
CREATE INDEX imports_alike ON imports (marketplace, shop, digest, started_at);

CREATE TABLE import_lines (
    import   bigint      NOT NULL REFERENCES imports ON DELETE CASCADE,
    line     integer     NOT NULL,
    shop_sku text        NOT NULL,
    quantity integer     NOT NULL,
    as_of    timestamptz NOT NULL,
    reason   text,
    PRIMARY KEY (import, line)
);
CREATE INDEX import_lines_sku ON import_lines (import, shop_sku);
