import type { Redis } from "ioredis";

/** What Redis itself gives to every script. */
const given = [
  "ARGV",
  "KEYS",
  "cjson",
  "ipairs",
  "math",
  "next",
  "pairs",
  "redis",
  "string",
  "table",
  "tonumber",
  "unpack",
];

/**
 * The names that a script reads or writes although nothing binds them, found on every path by the compiler itself: Redis
 * compiles the script, and what it compiled to names each global.
 */
export async function globalsOf(redis: Redis, source: string): Promise<string[]> {
  const body = source.replace(/^#!.*\n/, "");
  const dump = await redis.callBuffer("EVAL", "return string.dump(assert(loadstring(ARGV[1])))", "0", body);
  const reader = new Reader(dump as Buffer);
  const names = new Set<string>();
  readFunction(reader, names);
  return [...names].filter((name) => !given.includes(name)).sort();
}

/** Reads what Lua 5.1 dumps: numbers are little-endian, `int` has 4 bytes and `size_t` 8. */
class Reader {
  readonly #bytes: Buffer;
  /** Behind the header of 12 bytes. */
  #at = 12;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    if (!bytes.subarray(0, 12).equals(Buffer.from("1b4c75615100010408040800", "hex"))) {
      throw new Error("this is not the bytecode of Lua 5.1 on a 64-bit machine");
    }
  }

  skip(count: number): void {
    this.#at += count;
  }

  byte(): number {
    return this.#bytes.readUInt8(this.#at++);
  }

  int(): number {
    this.#at += 4;
    return this.#bytes.readUInt32LE(this.#at - 4);
  }

  text(): string {
    const length = Number(this.#bytes.readBigUInt64LE(this.#at));
    this.#at += 8 + length;
    return this.#bytes.toString("utf8", this.#at - length, this.#at - 1);
  }

  list<Item>(read: () => Item): Item[] {
    return Array.from({ length: this.int() }, read);
  }
}

const getGlobal = 5;
const setGlobal = 7;

function readFunction(reader: Reader, names: Set<string>): void {
  reader.text();
  reader.skip(12);
  const instructions = reader.list(() => reader.int());
  const constants = reader.list(() => readConstant(reader));
  for (const instruction of instructions) {
    if ([getGlobal, setGlobal].includes(instruction & 63)) {
      names.add(constants[instruction >>> 14] as string);
    }
  }
  reader.list(() => readFunction(reader, names));
  reader.list(() => reader.int());
  reader.list(() => {
    reader.text();
    reader.skip(8);
  });
  reader.list(() => reader.text());
}

function readConstant(reader: Reader): string | undefined {
  const type = reader.byte();
  if (type === 4) {
    return reader.text();
  }
  // A boolean has one byte, a number eight, nil none.
  reader.skip(type === 1 ? 1 : type === 3 ? 8 : 0);
  return undefined;
}
