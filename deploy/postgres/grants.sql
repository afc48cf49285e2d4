-- What a server may do that runs with HOLDFAST_MIGRATE_ON_START=0; run by holdfast_owner in the database, after every migration.
-- It deletes nothing, and commits, ledger entries and changes of tier it can only add to.
grant usage on schema public to holdfast_server;
grant select on all tables in schema public to holdfast_server;
grant insert on commits, ledger_entries, tier_changes to holdfast_server;
grant insert, update on shops, products, stock, holds, orders, users, tiers, subscriptions, refunds, consumers, verifications to holdfast_server;
-- What holdfast_owner makes later may be read, added to and changed, so that a server runs before this was run again. A table that
-- may only be added to has to be named above then, and its update revoked.
alter default privileges in schema public grant select, insert, update on tables to holdfast_server;
