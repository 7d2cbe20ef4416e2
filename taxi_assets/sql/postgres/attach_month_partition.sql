ALTER TABLE {table} ATTACH PARTITION {month_partition} FOR VALUES FROM ({first_day}) TO ({next_month})
