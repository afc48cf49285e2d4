import { create, type DescMessage, type DescMethod, getOption, type Message } from "@bufbuild/protobuf";
import { type Path, pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator, type Violation } from "@bufbuild/protovalidate";
import { field as fieldRules } from "../../gen/buf/validate/validate_pb.js";
import { type FieldViolation, Refusal } from "../refusal.ts";
import type { Call } from "./call.ts";
import type { Interceptor } from "./interceptors.ts";

const NO_VIOLATIONS: readonly Violation[] = [];

/** Refuses requests that break a rule of their schema; names every field that does. */
export function createValidationInterceptor(): Interceptor {
  const validator = createValidator({ regexMatch: createPatternMatcher() });
  const boundedLists = new Map<DescMessage, readonly BoundedList[]>();

  function validate(schema: DescMessage, req: Message): readonly Violation[] {
    const result = validator.validate(schema, req);
    if (result.kind === "error") {
      throw result.error;
    }
    return result.kind === "invalid" ? result.violations : NO_VIOLATIONS;
  }

  return Object.assign(
    (call: Call, req: Message): void => {
      shortenLists(req, boundedLists.get(call.method.input));
      const violations = validate(call.method.input, req);
      if (violations.length > 0) {
        throw validationFailed(violations.map((violation) => toFieldViolation(violation, req)));
      }
    },
    // The first rule in CEL takes 60 ms to compile, and a rule that does not compile must not wait for its first call.
    {
      prepare: ({ input }: DescMethod): void => {
        boundedLists.set(input, boundedListsOf(input));
        validate(input, create(input));
      },
    },
  );
}

/** A list whose rules say how many items it may have. */
interface BoundedList {
  readonly name: string;
  readonly maxCount: number;
}

function boundedListsOf({ fields }: DescMessage): BoundedList[] {
  return fields.flatMap((field) => {
    const { type } = getOption(field, fieldRules);
    const maxCount = type.case === "repeated" ? Number(type.value.maxItems) : 0;
    return maxCount > 0 ? [{ name: field.localName, maxCount }] : [];
  });
}

/**
 * Leaves one item too many of a list that is too long. protovalidate looks at every item of it all the same: at 32,000, which go into
 * a request, for 190 ms (November 2026), in which nobody is answered.
 */
function shortenLists(req: Message, lists: readonly BoundedList[] = []): void {
  for (const { name, maxCount } of lists) {
    const list = (req as unknown as Readonly<Record<string, unknown[]>>)[name] as unknown[];
    if (list.length > maxCount) {
      list.length = maxCount + 1;
    }
  }
}

/** A refusal of a request for what it says, whatever the state of the shop. There is at least one violation. */
export function validationFailed(violations: readonly FieldViolation[]): Refusal {
  const [first] = violations.map(({ field, description }) => (field === "" ? description : `${field}: ${description}`));
  const rest = violations.length > 1 ? ` (and ${violations.length - 1} more)` : "";
  return new Refusal("VALIDATION_FAILED", `${first}${rest}`, { fieldViolations: violations });
}

function toFieldViolation(violation: Violation, req: Message): FieldViolation {
  return { field: pathToString(violation.field), description: describe(violation, valueAt(req, violation.field)) };
}

/** What callers are told where protovalidate's own words say little: it knows our patterns as text, not what they are for. */
function describe({ ruleId, message }: Violation, value: unknown): string {
  if (ruleId === "enum.not_in" || ((ruleId === "string.pattern" || ruleId === "string.min_len") && value === "")) {
    return "is required";
  }
  if (ruleId === "int64.not_in") {
    return "must not be 0";
  }
  if (ruleId === "string.pattern") {
    return patterns.find(({ pattern }) => message.includes(pattern))?.description ?? message;
  }
  return message;
}

/** Every pattern of a request's field, but for the number of characters an id may have at least. */
const patterns: readonly { readonly pattern: string; readonly description: string }[] = [
  { pattern: "^[A-Za-z0-9._-]{", description: "must be 1 to 64 of A-Z a-z 0-9 . _ -" },
  { pattern: "^[^\\x00-\\x1f\\x7f-\\x9f]*$", description: "must be text without control characters" },
  { pattern: "^[a-z]{1,16}:[A-Za-z0-9._-]{1,64}$", description: 'must be a kind and an id, such as "order:o-1"' },
  { pattern: "^[A-Z]{3}$", description: "must be 3 letters A-Z" },
];

/** The value of a request's field; undefined where there is none. */
function valueAt(req: Message, path: Path): unknown {
  return path.reduce<unknown>((value, step) => {
    const key = step.kind === "field" ? step.localName : step.kind === "list_sub" ? step.index : "";
    return (value as Readonly<Record<string | number, unknown>> | undefined)?.[key];
  }, req);
}

/**
 * Matches with the platform's RegExp: validating a PlaceOrderRequest then takes 1.3 us instead of 3.8 us (November 2026).
 * The patterns are our own character classes: RE2 and RegExp agree on them, and nothing in them backtracks.
 */
function createPatternMatcher(): (pattern: string, against: string) => boolean {
  const compiled = new Map<string, RegExp>();
  return (pattern, against) => {
    let expression = compiled.get(pattern);
    if (expression === undefined) {
      expression = new RegExp(pattern, "u");
      compiled.set(pattern, expression);
    }
    return expression.test(against);
  };
}
