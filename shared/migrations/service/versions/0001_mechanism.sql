-- The mechanism's tables, one set per service schema.

-- Where each consumer stands. The epoch is the fence: it grows with every assignment, and a batch is
-- applied only under the epoch and from the offset that its owner holds.
CREATE TABLE consumer_positions (
    consumer    text        NOT NULL,
    topic       text        NOT NULL,
    partition   integer     NOT NULL CHECK (partition >= 0),
    cluster_id  text        NOT NULL,
    epoch       bigint      NOT NULL CHECK (epoch > 0),
    next_offset bigint      NOT NULL CHECK (next_offset >= 0),
    holder      text        NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, topic, partition)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);

-- Claimed event ids, partitioned by the day of the event's own time, so that an id that returns after
-- midnight finds its first claim; days are dropped after the topics' retention.
CREATE TABLE inbox (
    day      date NOT NULL,
    consumer text NOT NULL,
    source   text NOT NULL,
    id       text NOT NULL,
    PRIMARY KEY (day, consumer, source, id)
) PARTITION BY RANGE (day);

-- The newest sequence applied per key, for topics that are kept for ever: never dropped.
CREATE TABLE applied_sequences (
    consumer text   NOT NULL,
    topic    text   NOT NULL,
    source   text   NOT NULL,
    key      text   NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (consumer, topic, source, key)
) WITH (fillfactor = 80);

-- Keys that wait, and the records queued behind them in their order.
CREATE TABLE parked_keys (
    consumer  text        NOT NULL,
    topic     text        NOT NULL,
    partition integer     NOT NULL,
    key       bytea       NOT NULL,
    rule      text        NOT NULL,
    reason    text        NOT NULL,
    attempts  integer     NOT NULL DEFAULT 0,
    since     timestamptz NOT NULL DEFAULT clock_timestamp(),
    retry_at  timestamptz NOT NULL,
    PRIMARY KEY (consumer, topic, partition, key)
);

CREATE TABLE parked_records (
    consumer     text    NOT NULL,
    topic        text    NOT NULL,
    partition    integer NOT NULL,
    key          bytea   NOT NULL,
    "offset"     bigint  NOT NULL,
    value        bytea,
    headers      bytea   NOT NULL,
    timestamp_ms bigint  NOT NULL,
    PRIMARY KEY (consumer, topic, partition, key, "offset"),
    FOREIGN KEY (consumer, topic, partition, key) REFERENCES parked_keys ON DELETE CASCADE
);

-- Bytes that no retry can save. They stay here; the topic gets reason, origin and hash.
CREATE TABLE dead_letters (
    consumer     text        NOT NULL,
    topic        text        NOT NULL,
    partition    integer     NOT NULL,
    "offset"     bigint      NOT NULL,
    key          bytea,
    value        bytea,
    headers      bytea       NOT NULL,
    timestamp_ms bigint      NOT NULL,
    rule         text        NOT NULL,
    field        text        NOT NULL,
    reason       text        NOT NULL,
    sha256       text        NOT NULL,
    event_type   text        NOT NULL,
    event_id     text        NOT NULL,
    buried_at    timestamptz NOT NULL,
    PRIMARY KEY (consumer, topic, partition, "offset")
);

-- A consumer that met its limits stays stopped until a person lifts it, whatever restarts.
CREATE TABLE consumer_stops (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer   text        NOT NULL,
    topic      text        NOT NULL,
    reason     text        NOT NULL,
    stopped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lifted_at  timestamptz,
    lifted_by  text,
    CHECK ((lifted_at IS NULL) = (lifted_by IS NULL))
);
CREATE UNIQUE INDEX consumer_stops_standing ON consumer_stops (consumer, topic) WHERE lifted_at IS NULL;

-- Events written with the state they belong to. A bucket is a partition of a topic. Three slots are
-- used in turn and truncated when empty, so that somebody's long transaction cannot bloat them.
CREATE SEQUENCE outbox_position;
CREATE TABLE outbox (
    slot       smallint    NOT NULL,
    topic      text        NOT NULL,
    partition  integer     NOT NULL,
    position   bigint      NOT NULL DEFAULT nextval('outbox_position'),
    key        text        NOT NULL,
    value      bytea       NOT NULL,
    headers    bytea       NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, partition, position, slot)
) PARTITION BY LIST (slot);
CREATE TABLE outbox_0 PARTITION OF outbox FOR VALUES IN (0);
CREATE TABLE outbox_1 PARTITION OF outbox FOR VALUES IN (1);
CREATE TABLE outbox_2 PARTITION OF outbox FOR VALUES IN (2);
CREATE TABLE outbox_slot (
    only_row boolean  PRIMARY KEY DEFAULT true CHECK (only_row),
    current  smallint NOT NULL CHECK (current BETWEEN 0 AND 2)
);
INSERT INTO outbox_slot (current) VALUES (0);

-- Who relays which bucket, until when by PostgreSQL's own clock, and which bucket is stuck on what.
CREATE TABLE relays (
    holder     text        PRIMARY KEY,
    seen_until timestamptz NOT NULL
);
CREATE TABLE relay_buckets (
    topic        text    NOT NULL,
    partition    integer NOT NULL,
    holder       text,
    leased_until timestamptz,
    stuck_since  timestamptz,
    stuck_reason text,
    PRIMARY KEY (topic, partition),
    CHECK ((holder IS NULL) = (leased_until IS NULL)),
    CHECK ((stuck_since IS NULL) = (stuck_reason IS NULL))
) WITH (fillfactor = 50);
