-- Since when the marketplace's list is to be read again: it refused a carrier that the list has, or a warehouse wrote
-- a name that the list does not explain. `in_vain`: that was tried, and could not be done yet.
ALTER TABLE platforms
    ADD COLUMN doubted_at timestamptz,
    ADD COLUMN in_vain boolean NOT NULL DEFAULT false;
