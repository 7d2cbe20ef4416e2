CREATE TABLE {table} ({columns}) PARTITION BY RANGE ({pickup})
