-- The sum of the ids' first eight digits tells, with the number of rows, whether another warehouse has the same.
SELECT
    COALESCE(SUM(n), 0) AS row_count,
    COALESCE(SUM(outside), 0) AS outside_month,
    COALESCE(SUM(IF(n > 1, n, 0)), 0) AS sharing_an_id,
    COALESCE(SUM(n * CAST(CONCAT('0x', SUBSTR(unique_row_id, 1, 8)) AS INT64)), 0) AS id_sum
FROM (
    SELECT unique_row_id, COUNT(*) AS n, COUNTIF({pickup} < {first_day} OR {pickup} >= {next_month}) AS outside
    FROM {table}
    WHERE filename = {filename} AND ({days})
    GROUP BY unique_row_id
)
