-- The rows of a file with their id and the file's name. concat() takes null for the empty text and writes each value
-- as Postgres prints it, which is how the id is defined.
SELECT md5(concat({row_id})) AS unique_row_id, {filename}::text AS filename, {names}
FROM {source}
WHERE {pickup} >= {first_day} AND {pickup} < {next_month}
