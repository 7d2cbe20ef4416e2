CREATE TABLE IF NOT EXISTS taxi.settings (
    name text PRIMARY KEY,
    type text NOT NULL,
    value text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
)
