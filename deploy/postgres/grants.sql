-- What a server may do that runs with HOLDFAST_MIGRATE_ON_START=0; run by holdfast_owner in the database, after every migration.
-- It deletes nothing, and what is recorded of the past it cannot change.
grant usage on schema public to holdfast_server;
grant select on all tables in schema public to holdfast_server;
grant insert on commits, ledger_entries, tier_changes to holdfast_server;
grant insert, update on shops, products, stock, holds, orders, users, tiers, subscriptions, refunds, consumers to holdfast_server;
-- For the tables of a migration, until this has been run again.
alter default privileges in schema public grant select, insert, update on tables to holdfast_server;
