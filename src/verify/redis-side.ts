import { differenceOf } from "./discrepancy.ts";
import { compareEmails } from "./emails.ts";
import { compareLogEntries } from "./log-entries.ts";
import { type LookOptions, Looks } from "./looks.ts";
import { compareRecent } from "./recent.ts";
import { pageCount, type Run } from "./run.ts";
import { type Expected, type Section, sections } from "./sections.ts";

/** How often a thing that changed between two looks is looked at again before the rest is left to the next verification. */
const maxLooks = 20;

/**
 * Compares the live state with the model while the shop sells, look by look.
 */
export async function verifyRedis(run: Run, options: LookOptions): Promise<void> {
  const looks = new Looks(run, options);
  for (const section of sections) {
    await compareKey(run, section.name, async () => {
      await findUnexpected(run, looks, section);
      await compareExpected(run, looks, section);
    });
  }
  await compareKey(run, "emails", () => compareEmails(run, looks));
  await compareKey(run, "recent", () => compareRecent(run, looks));
  await compareLogEntries(run, looks);
}

/** A key of another type holds nothing of what it has to hold: that is told, and the other keys are compared. */
async function compareKey(run: Run, name: string, compare: () => Promise<void>): Promise<void> {
  try {
    await compare();
  } catch (error) {
    if (!(error instanceof Error && error.message.startsWith("WRONGTYPE"))) {
      throw error;
    }
    const { position } = run.model;
    const [expected, found] = ["the type of this key", "another type"];
    run.report({ kind: "KEY", subject: `key:${name}`, position, store: "REDIS", expected, found });
  }
}

/** Reports what stands in a key and should not. */
async function findUnexpected(run: Run, looks: Looks, section: Section): Promise<void> {
  for await (const { payload, position } of looks.scan(section.name)) {
    const expected = new Map<string, readonly Expected[]>();
    for (const [field, value] of payload) {
      const { id, kind, subject } = section.owner(field);
      const fields = expected.get(id) ?? section.expected(run.model, id);
      expected.set(id, fields);
      run.checkedCount += 1;
      const wanted = fields.find((each) => each.field === field);
      if (wanted === undefined && section.ignores?.(run.model, field) !== true) {
        run.report({ kind, subject, position, store: "REDIS", expected: "", found: `${field}=${value}` });
      }
    }
  }
}

/** Compares all that a key has to hold of the things there are now. */
async function compareExpected(run: Run, looks: Looks, section: Section): Promise<void> {
  let ids = section.ids(run.model);
  for (let attempt = 0; ids.length > 0 && attempt < maxLooks; attempt += 1) {
    const changed: string[] = [];
    for (const asked of pagesOf(ids, (id) => section.expected(run.model, id))) {
      const fields = [...asked.values()].flatMap((each) => each.map(({ field }) => field));
      if (fields.length === 0) {
        continue; // All of them ended in between.
      }
      const { values } = await looks.read(section.name, fields);
      const found = new Map(fields.map((field, index) => [field, values[index]]));
      for (const [id, before] of asked) {
        const now = section.expected(run.model, id);
        if (now.some(({ field }) => !found.has(field))) {
          changed.push(id);
        } else {
          compareThing(run, before, now, found);
        }
      }
    }
    ids = changed;
  }
}

/** Things with what is expected of them, in pages of about so many fields together. */
function* pagesOf(
  ids: readonly string[],
  expected: (id: string) => readonly Expected[],
): Generator<Map<string, readonly Expected[]>> {
  let page = new Map<string, readonly Expected[]>();
  let count = 0;
  for (const id of ids) {
    const fields = expected(id);
    if (count > 0 && count + fields.length > pageCount) {
      yield page;
      page = new Map();
      count = 0;
    }
    page.set(id, fields);
    count += fields.length;
  }
  if (page.size > 0) {
    yield page;
  }
}

/** Compares the fields of one thing; what was asked for and is not expected any more must be gone. */
function compareThing(
  run: Run,
  before: readonly Expected[],
  now: readonly Expected[],
  found: ReadonlyMap<string, string | undefined>,
): void {
  const wanted = new Map(now.map((each) => [each.field, each]));
  const wrong = new Map<
    string,
    { about: Expected; expected: Record<string, string | undefined>; found: Record<string, string | undefined> }
  >();
  for (const { field, ...about } of before) {
    run.checkedCount += 1;
    const expected = wanted.get(field);
    const value = found.get(field);
    if (value === expected?.value || expected?.accepts?.(value) === true) {
      continue;
    }
    const { kind, subject } = expected ?? about;
    const group = wrong.get(`${kind} ${subject}`) ?? {
      about: expected ?? { field, ...about },
      expected: {},
      found: {},
    };
    group.expected[field] = expected?.value;
    group.found[field] = value;
    wrong.set(`${kind} ${subject}`, group);
  }
  for (const { about, ...sides } of wrong.values()) {
    const difference = differenceOf(sides.expected, sides.found);
    if (difference !== undefined) {
      const { kind, subject, position } = about;
      run.report({ kind, subject, position, store: "REDIS", ...difference });
    }
  }
}
