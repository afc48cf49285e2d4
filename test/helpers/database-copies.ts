import { expect } from "vitest";
import { administrate, type TestDatabase } from "./servers.ts";

/** Earlier copies of a database, and their return in its place. Whoever is connected meanwhile loses the connection. */
export interface DatabaseCopies {
  /** Copies the database as it is; returns the copy's name. */
  take(): Promise<string>;
  /** Puts a copy in the database's place: what was committed since is lost. Returns the name of what was there. */
  putBack(copy: string): Promise<string>;
  drop(): Promise<void>;
}

/** Ends all sessions of a database but this one. */
export const endSessions = (name: string): string =>
  `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${name}' and pid <> pg_backend_pid()`;

/** Makes copies of one database; `drop` removes them all. */
export function createDatabaseCopies({ name }: TestDatabase): DatabaseCopies {
  const copies: string[] = [];
  const newName = (kind: string): string => {
    copies.push(`${name}_${kind}${copies.length}`);
    return copies.at(-1) as string;
  };
  return {
    take: async () => {
      const copy = newName("copy");
      await withoutSessions(name, `create database ${copy} template ${name}`);
      return copy;
    },
    putBack: async (copy) => {
      const lost = newName("lost");
      await withoutSessions(
        name,
        `alter database ${name} rename to ${lost}`,
        `alter database ${copy} rename to ${name}`,
      );
      await administrate(`alter database ${lost} allow_connections true`);
      return lost;
    },
    drop: async () => {
      await administrate(...copies.splice(0).map((each) => `drop database if exists ${each} with (force)`));
    },
  };
}

/** Runs statements that need a database to be alone; none of them is done twice. */
async function withoutSessions(name: string, ...statements: string[]): Promise<void> {
  await administrate(`alter database ${name} allow_connections false`, endSessions(name));
  for (const statement of statements) {
    await expect
      .poll(
        () =>
          // A session that was being opened when the others were ended has to go as well.
          administrate(endSessions(name), statement).then(
            () => true,
            () => false,
          ),
        { timeout: 5000, interval: 20 },
      )
      .toBe(true);
  }
  await administrate(`alter database ${name} allow_connections true`);
}
