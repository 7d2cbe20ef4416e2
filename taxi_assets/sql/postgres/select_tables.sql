SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace({schema}) AND relkind IN ('r', 'p')
