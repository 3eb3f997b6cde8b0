-- The context in which a payout was last reported: its comparison with the lines goes on in it.
ALTER TABLE cycles ADD COLUMN traceparent text;
