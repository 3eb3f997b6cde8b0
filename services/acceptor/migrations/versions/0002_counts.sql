-- When the shelf was last counted, as OCI says: what has left before that is not on hand for SFCC any more.
ALTER TABLE offer_stocks ADD COLUMN counted_at timestamptz;
