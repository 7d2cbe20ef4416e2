-- What a merge takes before it looks at the table.
SELECT pg_advisory_xact_lock(hashtextextended({name}, 0))
