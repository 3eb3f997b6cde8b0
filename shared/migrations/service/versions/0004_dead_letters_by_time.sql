-- How many of the last hour there are is asked all the time.
CREATE INDEX dead_letters_by_time ON dead_letters (buried_at);
