CREATE TABLE IF NOT EXISTS taxi.notes (name text PRIMARY KEY, note text NOT NULL)
