SELECT coalesce(sum(n), 0)::bigint FROM (
    SELECT count(*) AS n FROM {table} WHERE filename = {filename} GROUP BY unique_row_id HAVING count(*) > 1
) AS shared
