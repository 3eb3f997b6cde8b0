-- A breaker is of an account, of a key, or of one kind of work; `account` holds its name. Those of keys and
-- works count `refusals` instead of `failures`: a process of the release before looks at `failures` alone
-- and takes no probe of them. `proof` is what an answer must grant to lift it; without, any answer does.
-- `reopened_at` (business time) is when an outage ended: few calls go out at first.
ALTER TABLE bridge.breakers
    ADD COLUMN refusals    integer NOT NULL DEFAULT 0 CHECK (refusals >= 0),
    ADD COLUMN proof       text,
    ADD COLUMN reopened_at timestamptz;

-- What SFCC says of its load, per account: how far apart calls leave that add to it (seconds of business
-- time, 0 when all is well), and from when the next one may. `urgent_at` is for readings that others wait for.
CREATE TABLE bridge.loads (
    account    text             PRIMARY KEY,
    gap        double precision NOT NULL DEFAULT 0 CHECK (gap >= 0),
    changed_at timestamptz      NOT NULL,
    next_at    timestamptz      NOT NULL,
    urgent_at  timestamptz      NOT NULL
) WITH (fillfactor = 50);
