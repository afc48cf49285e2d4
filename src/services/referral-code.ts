import { randomBytes } from "node:crypto";

/** 32 characters that people do not mistake for one another: no 0, 1, I and O. */
const alphabet = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ";

/** Makes a referral code that nobody can guess: 16 characters, 80 random bits. */
export function makeReferralCode(): string {
  return Array.from(randomBytes(16), (byte) => alphabet[byte % 32]).join("");
}
