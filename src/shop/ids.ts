import { v7 } from "uuid";

/** Makes a UUIDv7: unique, and sorted by the time it was made. */
export const makeId: () => string = () => v7();

const uuidV7 = /^([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i;

/** The time an id carries, in milliseconds since the epoch; 0 when it is not a UUIDv7. */
export function idTimeMs(id: string): number {
  const match = uuidV7.exec(id);
  return match === null ? 0 : Number.parseInt(`${match[1]}${match[2]}`, 16);
}
