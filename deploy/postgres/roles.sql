-- The two roles of a Holdfast and its database; run once, by a superuser. Then give both a password: psql's \password, which sends it
-- hashed. On PostgreSQL 14 also, in the database: revoke create on schema public from public;
create role holdfast_owner login;
create role holdfast_server login;
create database holdfast owner holdfast_owner;
revoke all on database holdfast from public;
grant connect on database holdfast to holdfast_server;
