-- The id is made of the values as Postgres prints them, null as the empty text.
CREATE OR REPLACE TABLE {staging}
OPTIONS (
    description = {description}, labels = {labels},
    expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {expiration_seconds} SECOND)
)
AS SELECT TO_HEX(MD5(CONCAT({row_id}))) AS unique_row_id, {filename} AS filename, {names}
FROM {external}
