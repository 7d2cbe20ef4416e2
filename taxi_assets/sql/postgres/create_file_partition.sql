-- CREATE TABLE AS writes whole pages and, where wal_level is minimal, no log of them; INSERT does neither.
CREATE TABLE {file_partition} AS {new_rows}
