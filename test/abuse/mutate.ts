import type { Dice } from "../crash/dice.ts";

/** What can be done to bytes. None of it knows what they mean. */
const operators: readonly ((bytes: Buffer, dice: Dice) => Buffer)[] = [
  // Changes a bit.
  (bytes, dice) => changed(bytes, dice, (byte) => byte ^ (1 << dice.between(0, 7))),
  // Changes a byte to one that is often a limit.
  (bytes, dice) => changed(bytes, dice, () => dice.from([0x00, 0x01, 0x7f, 0x80, 0xff, 0x22, 0x5b, 0x7b])),
  // Cuts the end off.
  (bytes, dice) => bytes.subarray(0, dice.between(0, bytes.length)),
  // Puts something in.
  (bytes, dice) => {
    const at = dice.between(0, bytes.length);
    const inserted = Buffer.from(Array.from({ length: dice.between(1, 16) }, () => dice.between(0, 255)));
    return Buffer.concat([bytes.subarray(0, at), inserted, bytes.subarray(at)]);
  },
  // Repeats a part of it, now and then very often.
  (bytes, dice) => {
    const from = dice.between(0, bytes.length);
    const part = bytes.subarray(from, from + dice.between(1, 32));
    const count = dice.between(0, 9) === 0 ? 500 : dice.between(1, 4);
    return Buffer.concat([bytes.subarray(0, from), ...Array.from({ length: count }, () => part), bytes.subarray(from)]);
  },
  // Takes a part of it out.
  (bytes, dice) => {
    const from = dice.between(0, bytes.length);
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + dice.between(1, 16))]);
  },
];

/** Changes bytes in one to four ways; the ones that were given stay. */
export function mutate(bytes: Buffer, dice: Dice): Buffer {
  let result = Buffer.from(bytes);
  for (let count = dice.between(1, 4); count > 0; count -= 1) {
    result = Buffer.from(dice.from(operators)(result, dice));
  }
  return result;
}

/** Bytes that are nothing at all. */
export function randomBytes(dice: Dice): Buffer {
  return Buffer.from(Array.from({ length: dice.between(0, 200) }, () => dice.between(0, 255)));
}

function changed(bytes: Buffer, dice: Dice, change: (byte: number) => number): Buffer {
  const result = Buffer.from(bytes);
  if (result.length === 0) return result;
  const at = dice.between(0, result.length - 1);
  result[at] = change(result[at] as number);
  return result;
}
