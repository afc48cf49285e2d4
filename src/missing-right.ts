import { StartError } from "./start-error.ts";

/**
 * What a store says of a right that Holdfast's user lacks there, as one sentence for the operator with where the rights are
 * described; every other error as it is.
 */
export function explainMissingRight(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  if ((error as { code?: unknown }).code === insufficientPrivilege) return refusedByPostgres(error.message, error);
  return error.message.startsWith("NOPERM") ? refusedByRedis(error.message, error) : error;
}

/** SQLSTATE 42501, insufficient_privilege. */
const insufficientPrivilege = "42501";

/** The role of DATABASE_URL may not do what `what` names. */
export function refusedByPostgres(what: string, cause?: unknown): StartError {
  return new StartError(
    `PostgreSQL refuses the role of DATABASE_URL: ${what}. deploy/postgres/grants.sql has the rights of a server, to be granted ` +
      "after every migration; only the owner of the tables migrates, and others start with HOLDFAST_MIGRATE_ON_START=0",
    { cause },
  );
}

function refusedByRedis(what: string, cause: unknown): StartError {
  return new StartError(
    `Redis refuses the user of REDIS_URL: ${what}. deploy/redis/users.acl has the rights of a server`,
    { cause },
  );
}
