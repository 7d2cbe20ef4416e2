CREATE TABLE IF NOT EXISTS {table} ({columns})
PARTITION BY DATE({pickup})
CLUSTER BY PULocationID, DOLocationID
OPTIONS (description = {description}, labels = {labels})
