SELECT count(*) FROM {table} WHERE filename = {filename}
