-- Those of the named tables that are there, with all their partitions and the bytes that each has on disk.
WITH RECURSIVE tables AS (
    SELECT to_regclass(name)::oid AS oid, true AS named FROM unnest({names}::text[]) AS name
    UNION ALL
    SELECT inhrelid, false FROM pg_inherits JOIN tables ON inhparent = tables.oid
)
SELECT nspname, relname, named, pg_total_relation_size(tables.oid)
FROM tables JOIN pg_class ON pg_class.oid = tables.oid JOIN pg_namespace ON pg_namespace.oid = relnamespace
