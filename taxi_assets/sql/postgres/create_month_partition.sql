-- Made apart and attached afterwards: CREATE TABLE ... PARTITION OF would lock readers out of the whole table.
CREATE TABLE {month_partition} (LIKE {table} INCLUDING COMMENTS) PARTITION BY LIST (filename)
