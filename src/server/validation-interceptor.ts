import { create, type DescMessage, type DescMethod, type Message } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator, type Violation } from "@bufbuild/protovalidate";
import { type FieldViolation, Refusal } from "../refusal.ts";
import type { Call } from "./call.ts";
import type { Interceptor } from "./interceptors.ts";

const NO_VIOLATIONS: readonly Violation[] = [];

/** Refuses requests that break a rule of their schema; names every field that does. */
export function createValidationInterceptor(): Interceptor {
  const validator = createValidator({ regexMatch: createPatternMatcher() });

  function validate(schema: DescMessage, req: Message): readonly Violation[] {
    const result = validator.validate(schema, req);
    if (result.kind === "error") {
      throw result.error;
    }
    return result.kind === "invalid" ? result.violations : NO_VIOLATIONS;
  }

  return Object.assign(
    (call: Call, req: Message): void => {
      const violations = validate(call.method.input, req);
      if (violations.length > 0) {
        throw validationFailed(violations.map(toFieldViolation));
      }
    },
    // The first rule in CEL takes 60 ms to compile, and a rule that does not compile must not wait for its first call.
    { prepare: ({ input }: DescMethod): void => void validate(input, create(input)) },
  );
}

/** A refusal of a request for what it says, whatever the state of the shop. There is at least one violation. */
export function validationFailed(violations: readonly FieldViolation[]): Refusal {
  const [first] = violations.map(({ field, description }) => (field === "" ? description : `${field}: ${description}`));
  const rest = violations.length > 1 ? ` (and ${violations.length - 1} more)` : "";
  return new Refusal("VALIDATION_FAILED", `${first}${rest}`, { fieldViolations: violations });
}

function toFieldViolation({ field, message }: Violation): FieldViolation {
  return { field: pathToString(field), description: message };
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
