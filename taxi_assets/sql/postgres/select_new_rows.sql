SELECT * FROM ({rows}) AS new_rows
WHERE NOT EXISTS (SELECT FROM {merged} AS merged WHERE merged.unique_row_id = new_rows.unique_row_id)
