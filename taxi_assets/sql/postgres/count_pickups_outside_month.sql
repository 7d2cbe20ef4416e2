SELECT count(*), count(*) FILTER (WHERE {pickup} < {first_day} OR {pickup} >= {next_month})
FROM {table} WHERE filename = {filename}
