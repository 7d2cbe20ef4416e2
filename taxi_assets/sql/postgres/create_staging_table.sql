-- Unlogged: a file can always be copied again, so its rows need no write-ahead log.
CREATE UNLOGGED TABLE {staging} ({columns})
