ALTER TABLE {month_partition} ATTACH PARTITION {file_partition} FOR VALUES IN ({filename})
