import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator, type Violation } from "@bufbuild/protovalidate";
import { type FieldViolation, Refusal } from "../refusal.ts";
import type { Interceptor } from "./interceptors.ts";

/** Refuses requests that break a rule of their schema; names every field that does. */
export function createValidationInterceptor(): Interceptor {
  const validator = createValidator({ regexMatch: createPatternMatcher() });
  return (call, req) => {
    const result = validator.validate(call.method.input, req);
    if (result.kind === "invalid") {
      throw validationFailed(result.violations.map(toFieldViolation));
    }
    if (result.kind === "error") {
      throw result.error;
    }
  };
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
