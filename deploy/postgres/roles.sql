-- The roles that the trips database is used by, on any Postgres 15 or later; run again, it changes their passwords alone:
--   psql -v loader_password=... -v reader_password=... -f deploy/postgres/roles.sql URL_OF_THE_DATABASE_AS_ITS_OWNER
-- taxi_loader makes schemas and tables here, and owns what it makes: it can neither drop nor read what is others'.
-- taxi_reader reads the trips, and nothing else.
\set ON_ERROR_STOP on
SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY['taxi_loader', 'taxi_reader']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE taxi_loader PASSWORD :'loader_password';
ALTER ROLE taxi_reader PASSWORD :'reader_password' CONNECTION LIMIT 20;

SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database()) \gexec
SELECT format('GRANT CONNECT, CREATE, TEMPORARY ON DATABASE %I TO taxi_loader', current_database()) \gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO taxi_reader', current_database()) \gexec
GRANT USAGE, CREATE ON SCHEMA public TO taxi_loader;
GRANT USAGE ON SCHEMA public TO taxi_reader;
-- For tables that the loader will make; the right to say so is only the loader's and its members'.
GRANT taxi_loader TO CURRENT_USER;
ALTER DEFAULT PRIVILEGES FOR ROLE taxi_loader IN SCHEMA public GRANT SELECT ON TABLES TO taxi_reader;
