CREATE OR REPLACE EXTERNAL TABLE {external} ({columns})
OPTIONS (
    format = 'CSV', uris = [{uri}], compression = {compression}, skip_leading_rows = 1, ignore_unknown_values = TRUE,
    description = {description},
    expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {expiration_seconds} SECOND)
)
