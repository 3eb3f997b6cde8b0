-- The schema `bridge`: what all services share and none owns.

-- Business time: when PostgreSQL's clock said `real`, it was `business`, and runs `speed` times as fast.
CREATE TABLE bridge.clock (
    only_row boolean          PRIMARY KEY DEFAULT true CHECK (only_row),
    real     timestamptz      NOT NULL,
    business timestamptz      NOT NULL,
    speed    double precision NOT NULL CHECK (speed > 0)
);
INSERT INTO bridge.clock (real, business, speed)
SELECT n.now, n.now, 1 FROM (SELECT clock_timestamp() AS now) AS n;
