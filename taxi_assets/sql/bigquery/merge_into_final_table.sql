-- Bounds as constants, so that only the partitions that the file touches are read: an id contains the pickup time, so
-- it can only be found there.
MERGE {table} AS merged
USING {staging} AS staged
ON merged.unique_row_id = staged.unique_row_id AND ({merged_days})
WHEN NOT MATCHED THEN INSERT ({all_names}) VALUES ({all_names})
