-- `settled`: a person closed it by hand, and the trouble itself has not ended since.
ALTER TABLE cases ADD COLUMN settled boolean NOT NULL DEFAULT false;
CREATE INDEX cases_settled ON cases (about) WHERE settled;
