-- SFCC's products, whichever site they were seen on. `version` is the sequence of their events.
CREATE TABLE products (
    product_id text PRIMARY KEY,
    version bigint NOT NULL DEFAULT 0,
    digest text NOT NULL DEFAULT '',
    ean text,
    sellable boolean NOT NULL DEFAULT true,
    content jsonb NOT NULL DEFAULT '{}',
    gone boolean NOT NULL DEFAULT false
);
CREATE INDEX products_by_ean ON products (ean) WHERE ean IS NOT NULL AND NOT gone;

-- What a site adds: whether it offers the product, and for how much. `reading` is the full reading that saw it last.
CREATE TABLE site_products (
    site text NOT NULL,
    product_id text NOT NULL,
    online boolean NOT NULL,
    reading bigint NOT NULL,
    PRIMARY KEY (site, product_id)
);
CREATE INDEX site_products_of ON site_products (product_id);

-- Prices of one piece, from the price book of a currency or as the site computes them.
CREATE TABLE prices (
    site text NOT NULL,
    currency text NOT NULL,
    product_id text NOT NULL,
    amount numeric NOT NULL CHECK (amount > 0),
    reading bigint NOT NULL,
    PRIMARY KEY (site, currency, product_id)
);

CREATE SEQUENCE readings;

-- Every offer there is or was. `version` is the sequence of its events; `shown` is what the marketplace said of it.
CREATE TABLE offers (
    marketplace text NOT NULL,
    shop text NOT NULL,
    shop_sku text NOT NULL,
    version bigint NOT NULL DEFAULT 0,
    there boolean NOT NULL DEFAULT false,
    offer_id bigint,
    product_sku text,
    price numeric,
    currency text,
    shown jsonb NOT NULL DEFAULT '{}',
    digest text NOT NULL DEFAULT '',
    reading bigint NOT NULL DEFAULT 0,
    product_id text,
    pack_quantity int NOT NULL DEFAULT 1 CHECK (pack_quantity > 0),
    mapped_by text,
    asked boolean NOT NULL DEFAULT false,
    PRIMARY KEY (marketplace, shop, shop_sku),
    CHECK ((product_id IS NULL) = (mapped_by IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX offers_unmapped ON offers (marketplace, shop, shop_sku) WHERE product_id IS NULL AND there;
CREATE INDEX offers_of_product ON offers (marketplace, shop, product_id) WHERE product_id IS NOT NULL;
CREATE INDEX offers_by_sku ON offers (marketplace, shop_sku);
CREATE INDEX offers_by_product_sku ON offers (marketplace, product_sku) WHERE product_id IS NULL AND there;

-- What a marketplace answered when it was asked for our products by EAN (P31).
CREATE TABLE listings (
    marketplace text NOT NULL,
    product_id text NOT NULL,
    ean text NOT NULL,
    product_sku text,
    asked_at timestamptz NOT NULL,
    PRIMARY KEY (marketplace, product_id)
);
CREATE INDEX listings_by_product_sku ON listings (marketplace, product_sku) WHERE product_sku IS NOT NULL;
