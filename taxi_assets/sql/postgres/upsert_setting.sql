-- now() is the same throughout a transaction: a row that has it as changed_at was changed by this statement.
INSERT INTO taxi.settings AS old (name, type, value) VALUES ({name}, {type}, {value})
ON CONFLICT (name) DO UPDATE SET
    type = excluded.type,
    value = excluded.value,
    changed_at = CASE
        WHEN (old.type, old.value) = (excluded.type, excluded.value) THEN old.changed_at
        ELSE now()
    END
RETURNING changed_at, changed_at = now() AS changed
