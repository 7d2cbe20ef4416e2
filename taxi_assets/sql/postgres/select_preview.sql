SELECT {names} FROM {table} WHERE filename = {filename} LIMIT 10
