-- The role of Dagster's history: it owns its database and sees no other. Run in that database by whoever may make roles;
-- run again, it sets the password anew.
--   \set dagster_password ...
\set ON_ERROR_STOP 1

SELECT 'CREATE ROLE dagster LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'dagster') \gexec
ALTER ROLE dagster PASSWORD :'dagster_password';
GRANT dagster TO CURRENT_USER;  -- who gives a database away must be able to become its new owner
REVOKE ALL ON DATABASE dagster FROM PUBLIC;
ALTER DATABASE dagster OWNER TO dagster;
