-- One row where the table exists: its columns, and whether this project made its partitions.
SELECT
    (SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute
      WHERE attrelid = class.oid AND attnum > 0 AND NOT attisdropped) AS columns,
    class.relkind = 'p' AND pg_get_partkeydef(class.oid) = {partition_key} AND NOT EXISTS (
        SELECT FROM pg_inherits JOIN pg_class AS partition ON partition.oid = inhrelid
        WHERE inhparent = class.oid AND partition.relnamespace <> to_regnamespace('partitions')
    ) AS partitioned_by_us
FROM pg_class AS class
WHERE class.oid = to_regclass({table})
