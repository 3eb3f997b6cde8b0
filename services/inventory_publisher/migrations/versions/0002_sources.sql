-- Each source of stock: the places it speaks for (kind/name), when it was last read or heard, or first expected, and
-- since when it is stale. Offers of a stale source's places keep twice their buffer back. `read_at` is when the last
-- complete read of a place of OCI began: what it did not tell to have changed was still true then.
CREATE TABLE stock_sources (
    source      text        PRIMARY KEY,
    places      text[]      NOT NULL,
    heard_at    timestamptz NOT NULL,
    read_at     timestamptz,
    stale_since timestamptz
);
