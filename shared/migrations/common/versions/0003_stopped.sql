-- Consumers that stand still until a person lets them go on. Why is in their service's `consumer_stops`; here it is
-- because the stopped service's processes end with it, so that the others have to tell.
CREATE TABLE bridge.stopped_consumers (
    schema   text NOT NULL,
    consumer text NOT NULL,
    PRIMARY KEY (schema, consumer)
);
