-- The few rows whose pickup lies outside the file's month, set apart in one scan of the many.
CREATE TEMPORARY TABLE strays ON COMMIT DROP AS
SELECT * FROM {staging} WHERE {pickup} < {first_day} OR {pickup} >= {next_month}
