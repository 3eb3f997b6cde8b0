"""Real Apache Kafka and real PostgreSQL for a machine that has neither, from Python wheels.

    with EmbeddedKafka.start() as kafka, EmbeddedPostgres.start() as postgres:
        kafka.bootstrap_servers, postgres.url

Both listen on loopback only. They end with the block, with Ctrl-C, and also when this process is
killed: a small guard process waits for its end and cleans up behind it.
"""

from bridge.embedded.kafka import EmbeddedKafka
from bridge.embedded.postgres import EmbeddedPostgres

__all__ = ["EmbeddedKafka", "EmbeddedPostgres"]
