-- OFFSET 0 keeps the planner from folding the subquery into the join, where it would compute each id twice.
SELECT * FROM ({rows} OFFSET 0) AS new_rows
WHERE NOT EXISTS (SELECT FROM {merged} AS merged WHERE merged.unique_row_id = new_rows.unique_row_id)
