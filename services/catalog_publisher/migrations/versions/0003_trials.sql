CREATE TABLE trials (
    marketplace text PRIMARY KEY,
    shop text NOT NULL,
    shop_sku text NOT NULL,
    quantity int NOT NULL CHECK (quantity > 0),
    at timestamptz NOT NULL,
    left_alone boolean
);
COMMENT ON COLUMN trials.left_alone IS 'Whether the offer kept its stock; nothing while its import runs.';
