SELECT {pickup}::date AS day, count(*) AS trips
FROM {table}
WHERE filename = {filename} AND {pickup} >= {first_day} AND {pickup} < {next_month}
GROUP BY day ORDER BY day
