-- When on hand was counted, as OCI says.
ALTER TABLE levels ADD COLUMN counted_at timestamptz;

-- When we saw that a line had left the warehouse: a read after that shows that SFCC's stock lacks it.
ALTER TABLE order_lines ADD COLUMN gone_at timestamptz;
CREATE INDEX order_lines_gone ON order_lines (gone_at) WHERE gone_at IS NOT NULL;
