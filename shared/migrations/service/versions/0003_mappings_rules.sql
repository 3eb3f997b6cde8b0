-- What people decided, as each service read it from the topics `mappings` and `rules`: every version of
-- every line is kept, the newest holds. In the control room's own schema the writer keeps them first.
CREATE TABLE mapping_versions (
    marketplace text        NOT NULL,
    kind        text        NOT NULL,
    "left"      text        NOT NULL,
    version     bigint      NOT NULL CHECK (version > 0),
    "right"     text,                 -- NULL: mapped to nothing from then on
    extras      jsonb       NOT NULL,
    old_right   text,
    old_extras  jsonb       NOT NULL,
    by          text        NOT NULL,
    at          timestamptz NOT NULL,
    reason      text,
    PRIMARY KEY (marketplace, kind, "left", version)
);
CREATE TABLE rule_versions (
    marketplace  text        NOT NULL,
    shop         text        NOT NULL,
    rule         text        NOT NULL,
    version      bigint      NOT NULL CHECK (version > 0),
    settings     jsonb,                -- NULL: no longer holds
    old_settings jsonb,
    by           text        NOT NULL,
    at           timestamptz NOT NULL,
    reason       text,
    PRIMARY KEY (marketplace, shop, rule, version)
);
