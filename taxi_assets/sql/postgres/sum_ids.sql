SELECT count(*), coalesce(sum(('x' || left(unique_row_id, 8))::bit(32)::bigint), 0)::bigint
FROM {table} WHERE filename = {filename}
