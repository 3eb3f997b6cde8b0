-- Imports of offers (OF24 creates, OF01 changes), prices (PRI01) and products (P41). `sending`: noted before the call.
CREATE TABLE imports (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    marketplace text NOT NULL,
    shop text NOT NULL,
    operation text NOT NULL CHECK (operation IN ('OF24', 'OF01', 'PRI01', 'P41')),
    state text NOT NULL DEFAULT 'sending'
        CHECK (state IN ('sending', 'submitted', 'complete', 'failed', 'unknown', 'not-sent')),
    import_id text,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    CHECK (state <> 'submitted' OR import_id IS NOT NULL)
);
CREATE INDEX imports_open ON imports (marketplace, shop) WHERE state IN ('sending', 'submitted');
CREATE INDEX imports_by_import_id ON imports (marketplace, shop, operation, import_id);

-- The last thing that was sent of every offer, or product, by operation; `digest` says what it was.
CREATE TABLE sent (
    marketplace text NOT NULL,
    shop text NOT NULL,
    operation text NOT NULL,
    sku text NOT NULL,
    product_id text NOT NULL,
    digest text NOT NULL,
    import bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'done', 'rejected', 'unknown')),
    at timestamptz NOT NULL,
    PRIMARY KEY (marketplace, shop, operation, sku)
);
CREATE INDEX sent_by_import ON sent (import);
